"""Long work in short stretches: a request may hold thousands of samples, and others wait meanwhile.

In each round of the event loop at most one stretch of one request is worked on. So what a probe or
a single sample waits for is one stretch a round, however many large requests there are.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

STRETCH = 64
"""Samples worked on at a stretch: a millisecond or less. A request of fewer never waits its turn."""


class Pace:
    """Whose turn it is."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def stretch(self, size: int) -> AsyncIterator[None]:
        """Work on *size* samples when it is their turn, then let others have theirs."""
        if size <= STRETCH:
            yield
            return
        async with self._turn:
            yield
        await asyncio.sleep(0)

    async def map(self, make: Callable[[T], R], things: Sequence[T]) -> list[R]:
        """Make one of each, a stretch at a time."""
        if len(things) <= STRETCH:
            return [make(thing) for thing in things]
        made: list[R] = []
        for start in range(0, len(things), STRETCH):
            async with self.stretch(len(things)):
                made += [make(thing) for thing in things[start : start + STRETCH]]
        return made
