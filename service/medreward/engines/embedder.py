"""The protocol of embedders, and the vectors that they return."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from medreward.engines.capacity import Capacity
from medreward.errors import Problem

LENGTH_TOLERANCE = 1e-3
"""Allowed distance of a length from 1: engines in half precision round."""

Vector = npt.NDArray[np.float32]
"""One text's embedding, of unit length."""


class Embedder(Protocol):
    """Turns texts into vectors, in order.

    An engine that fails as a whole raises an `EngineError`; a failure of one text alone is returned
    as a `Problem` in its place.
    """

    @property
    def identity(self) -> str:
        """Everything besides the text that can change a vector: model, revision, dtype."""
        ...

    @property
    def capacity(self) -> Capacity:
        """The batches that suit the engine."""
        ...

    async def start(self) -> None:
        """Prepare for the first text; called as `Judge.start` is."""
        ...

    async def embed(self, texts: Sequence[str]) -> Sequence[Vector | Problem]:
        """Embed each text."""
        ...

    async def aclose(self) -> None:
        """Release the engine's memory, connections and processes."""
        ...


def cosine(one: Vector, other: Vector) -> float:
    """Compute the cosine of two vectors of unit length, between -1 and 1."""
    return max(-1.0, min(1.0, float(np.dot(one, other))))


def unit(vector: Vector) -> Vector:
    """Scale *vector* to length 1; a zero vector stays zero, which `is_sound` refuses."""
    # In float32 the squares of very large and very small numbers are infinite or zero.
    exact = vector.astype(np.float64)
    length = float(np.linalg.norm(exact))
    return (exact / length).astype(np.float32) if length > 0 else vector


def pack_vector(vector: Vector) -> bytes:
    """Encode a vector for the cache as float16, which moves a cosine by some 1e-5."""
    return vector.astype(np.float16).tobytes()


def unpack_vector(packed: bytes, _text: str) -> Vector | None:
    """Decode the bytes of `pack_vector`; return None for bytes that cannot be a vector."""
    if not packed or len(packed) % np.dtype(np.float16).itemsize:
        return None
    return np.frombuffer(packed, dtype=np.float16).astype(np.float32)


def is_sound(vector: Vector, _text: str) -> bool:
    """Check that an embedding is one row of finite numbers, of length 1.

    A model that embeds a text as zeros has failed: its cosine with any text would be a 0.
    """
    if vector.ndim != 1 or not vector.size:
        return False
    # Infinities and NaN fail here too: with them the length is not near 1.
    return abs(float(np.dot(vector, vector)) - 1.0) <= 2 * LENGTH_TOLERANCE


def rounded(vector: Vector, text: str) -> Vector | None:
    """Return a vector as the cache returns it later; None if it is unsound."""
    return unpack_vector(pack_vector(vector), text) if is_sound(vector, text) else None
