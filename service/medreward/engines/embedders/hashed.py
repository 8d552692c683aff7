"""An embedder without a model, for demonstrations and tests: it compares letters, not meaning."""

import hashlib
from collections.abc import Sequence

import numpy as np

from medreward.engines.capacity import Capacity, Resident
from medreward.engines.embedder import Vector, unit
from medreward.errors import Problem


class HashedEmbedder(Resident):
    """Counts hashed three-letter pieces, so texts with the same pieces are near each other."""

    def __init__(self, *, dimensions: int = 256) -> None:
        self._dimensions = dimensions
        self.identity = f"hashed:{dimensions}"
        # It runs on the event loop, so batches are small and other tasks run between them.
        self.capacity = Capacity(batch=32)

    async def embed(self, texts: Sequence[str]) -> Sequence[Vector | Problem]:
        """Embed each text."""
        return [self._embed(text) for text in texts]

    def _embed(self, text: str) -> Vector:
        counts = np.zeros(self._dimensions, dtype=np.float32)
        padded = f"  {text.casefold()} ".encode("utf-8", "surrogatepass")
        for start in range(len(padded) - 2):
            digest = hashlib.blake2b(padded[start : start + 3], digest_size=4).digest()
            counts[int.from_bytes(digest) % self._dimensions] += 1.0
        return unit(counts)
