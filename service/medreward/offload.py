"""A worker thread for the long computations of large requests, which would block the event loop.

One thread serves all large requests in order. The interpreter switches to the event loop every half
millisecond (`SWITCH_S`), so probes and small requests wait that long at most. A second thread would
add nothing, since the work holds the interpreter's lock.
"""

import asyncio
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

R = TypeVar("R")

SMALL = 48
"""Samples up to which the work takes less time than the way to the thread and back."""
BYTES_PER_SAMPLE = 1024
"""Typical size of a sample: a few long ones are as much work as many."""
SWITCH_S = 0.0005


class Offloader:
    """Runs long work in one thread, and short work at once."""

    def __init__(self) -> None:
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="long-work")

    async def run(self, work: Callable[[], R], size: int) -> R:
        """Run *work* on about *size* samples: in the thread, or at once if they are few."""
        if size <= SMALL:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    def close(self) -> None:
        """Cancel work that has not started; work in progress ends by itself."""
        self._worker.shutdown(wait=False, cancel_futures=True)


def switch_often() -> None:
    """Set the interpreter's switch interval of this process to `SWITCH_S`."""
    sys.setswitchinterval(SWITCH_S)
