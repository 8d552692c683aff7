"""The size and number of batches that suit an engine."""

from dataclasses import dataclass

CHARACTERS_PER_TOKEN = 4
"""An estimate for English, which suffices for dividing batches."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """The most items of a batch, and the number of batches that run concurrently."""

    batch: int
    concurrency: int = 1
    tokens: int | None = None
    """The most tokens of a batch, as the engine's callers estimate them; None for no such limit."""
