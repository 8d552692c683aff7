"""How much an engine takes at once."""

from dataclasses import dataclass

CHARACTERS_PER_TOKEN = 4
"""About, in English; an estimate is all that a batch needs."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What suits an engine: how many inquiries at once, in how many batches side by side."""

    batch: int
    concurrency: int = 1
    tokens: int | None = None
    """The most tokens of a batch, as the engine's callers estimate them; None where only the number
    counts."""
