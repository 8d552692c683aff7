"""Waits that end by a condition; their limits are for what never comes, not for what is slow."""

import asyncio
import time
from collections.abc import Awaitable, Callable

LIMIT_S = 120.0
"""A busy machine takes a hundred times as long as an idle one; a hang takes for ever."""
POLL_S = 0.01


def wait_until(is_so: Callable[[], object], *, seconds: float = LIMIT_S) -> None:
    """Wait until a condition holds."""
    gives_up_s = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < gives_up_s, f"the condition did not hold within {seconds} s"
        time.sleep(POLL_S)


async def until(is_so: Callable[[], object], *, seconds: float = LIMIT_S) -> None:
    """Wait until a condition holds, which may have to be awaited; the event loop goes on meanwhile."""
    async with asyncio.timeout(seconds):
        # What is waited for is seen from outside, as a probe sees it, and sets no event.
        while True:
            holds = is_so()
            if await holds if isinstance(holds, Awaitable) else holds:
                return
            await asyncio.sleep(POLL_S)
