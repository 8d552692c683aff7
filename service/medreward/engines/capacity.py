"""The batches that suit an engine, and engines whose life is that of their object."""

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


class Resident:
    """An engine that is ready once it is built, and has nothing to release."""

    async def start(self) -> None:
        """Return at once."""

    async def aclose(self) -> None:
        """Return at once: memory is freed with the object."""
