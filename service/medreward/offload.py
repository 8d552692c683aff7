"""Long work beside the event loop: a request may hold thousands of samples, and others wait meanwhile.

One thread does it for all large requests, in the order they came. Python lets the event loop in
every half a millisecond (`SWITCH_S`), so that what a probe or a single sample waits for is that,
however many large requests there are. Two threads would gain nothing: the work is Python's.
"""

import asyncio
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

SMALL = 48
"""Samples worked on in less time than it takes to hand them over and back."""
SWITCH_S = 0.0005


class Offloader:
    """Where long work is done."""

    def __init__(self) -> None:
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="long-work")

    async def run(self, work: Callable[[], R], size: int) -> R:
        """Do *work* on about *size* samples: at once where they are few, else in the thread."""
        if size <= SMALL:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    async def map(self, make: Callable[[T], R], things: Sequence[T]) -> list[R]:
        """Make one of each."""
        return await self.run(lambda: [make(thing) for thing in things], len(things))

    def close(self) -> None:
        """Begin nothing more."""
        self._worker.shutdown(wait=False, cancel_futures=True)


def switch_often() -> None:
    """Let the event loop of this process in as often as `SWITCH_S` says."""
    sys.setswitchinterval(SWITCH_S)
