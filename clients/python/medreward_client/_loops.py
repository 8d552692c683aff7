"""One of something for each event loop, and a loop for those who have none."""

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, Generic, Protocol, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")


class Closing(Protocol):
    """What must be closed on the loop where it was opened."""

    async def aclose(self) -> None:
        """Give back what it holds."""
        ...


C = TypeVar("C", bound=Closing)


class PerLoop(Generic[C]):
    """One C for each loop that asks, made on first use and closed before the loop is."""

    def __init__(self, make: Callable[[], C]) -> None:
        self._make = make
        self._opened: WeakKeyDictionary[
            asyncio.AbstractEventLoop, tuple[int, C, AsyncGenerator[C]]
        ] = WeakKeyDictionary()

    async def get(self) -> C:
        """Give the one of the running loop."""
        loop, pid = asyncio.get_running_loop(), os.getpid()
        # A fork takes the parent's sockets along: to use them would mix up two conversations.
        if loop not in self._opened or self._opened[loop][0] != pid:
            # What was opened holds on to its loop, so that neither would ever be forgotten.
            for closed in [one for one in self._opened if one.is_closed()]:
                self._opened.pop(closed, None)
            life = _life_of(self._make)
            self._opened[loop] = (pid, await anext(life), life)
        return self._opened[loop][1]

    async def aclose(self) -> None:
        """Close the one of the running loop."""
        opened = self._opened.pop(asyncio.get_running_loop(), None)
        if opened is not None:
            await opened[2].aclose()


async def _life_of(make: Callable[[], C]) -> AsyncGenerator[C]:
    """Hold one until it is closed: `asyncio.run` closes open generators before it closes its loop."""
    one = make()
    try:
        yield one
    finally:
        await one.aclose()


_loops: dict[int, asyncio.AbstractEventLoop] = {}
"""The loop of each process, by its number: a fork takes the loop along, but not its thread."""


def run_in_background(work: Coroutine[Any, Any, T]) -> T:
    """Wait for *work*, done by the process's own loop on a thread of its own."""
    doing = asyncio.run_coroutine_threadsafe(work, _background_loop())
    try:
        return doing.result()
    finally:
        # Of use where the wait was broken off, by Ctrl-C say.
        doing.cancel()
        # An error's traceback holds this frame, which must not hold the error.
        del doing


def _background_loop() -> asyncio.AbstractEventLoop:
    pid = os.getpid()
    if pid in _loops:
        return _loops[pid]
    made = asyncio.new_event_loop()
    # Of two threads that come at once, both get the loop of the first; a lock might be held by
    # nobody after a fork.
    loop = _loops.setdefault(pid, made)
    if loop is made:
        threading.Thread(target=loop.run_forever, name="medreward-client", daemon=True).start()
    else:
        made.close()
    return loop
