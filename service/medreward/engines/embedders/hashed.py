"""An embedder without a model, for demonstrations and tests: it sees letters, not meaning."""

import hashlib
from collections.abc import Sequence

import numpy as np

from medreward.engines.capacity import Capacity
from medreward.engines.embedder import Vector, unit
from medreward.errors import Problem


class HashedEmbedder:
    """Counts hashed three-letter pieces, so texts that share letters are near each other."""

    def __init__(self, *, dimensions: int = 256) -> None:
        self._dimensions = dimensions
        self.identity = f"hashed:{dimensions}"
        # It runs on the event loop, so others get their turn between batches.
        self.capacity = Capacity(batch=32)

    async def start(self) -> None:
        """Nothing is left to do."""

    async def embed(self, texts: Sequence[str]) -> Sequence[Vector | Problem]:
        """Embed each text."""
        return [self._embed(text) for text in texts]

    async def aclose(self) -> None:
        """Nothing is held."""

    def _embed(self, text: str) -> Vector:
        counts = np.zeros(self._dimensions, dtype=np.float32)
        padded = f"  {text.casefold()} ".encode("utf-8", "surrogatepass")
        for start in range(len(padded) - 2):
            digest = hashlib.blake2b(padded[start : start + 3], digest_size=4).digest()
            counts[int.from_bytes(digest) % self._dimensions] += 1.0
        return unit(counts)
