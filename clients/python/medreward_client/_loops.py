"""Objects that live as long as their event loop, and a background loop for blocking calls."""

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine
from concurrent.futures import Future, wait
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from medreward_client._errors import TimedOut

T = TypeVar("T")

GRACE_S, GRACE_SHARE = 5.0, 0.1
"""Time for work to end after its time is over, before its loop is taken to stand still: twice the
margin of a request, and some for a busy machine."""
STANDS_STILL = "no answer by the deadline: the client's event loop stands still"


class PerLoop(Generic[T]):
    """One T for each event loop, made on first use and closed before the loop is.

    *make* is a generator that yields a T and closes it in the end, since `asyncio.run` closes open
    generators before it closes its loop.
    """

    def __init__(self, make: Callable[[], AsyncGenerator[T]]) -> None:
        self._make = make
        self._opened: WeakKeyDictionary[
            asyncio.AbstractEventLoop, tuple[int, T, AsyncGenerator[T]]
        ] = WeakKeyDictionary()

    async def get(self) -> T:
        """Return the T of the running loop."""
        loop, pid = asyncio.get_running_loop(), os.getpid()
        # A fork inherits the parent's sockets: using them would mix the traffic of two processes.
        if loop not in self._opened or self._opened[loop][0] != pid:
            # A value refers to its loop, its weak key, so closed loops would never be freed.
            for closed in [one for one in self._opened if one.is_closed()]:
                self._opened.pop(closed, None)
            life = self._make()
            self._opened[loop] = (pid, await anext(life), life)
        return self._opened[loop][1]

    async def aclose(self) -> None:
        """Close the T of the running loop."""
        opened = self._opened.pop(asyncio.get_running_loop(), None)
        if opened is not None:
            await opened[2].aclose()


_loops: dict[int, asyncio.AbstractEventLoop] = {}
"""Background loops by process id: a fork inherits the loop, but not its thread."""


def start_in_background(work: Callable[[], Coroutine[Any, Any, T]]) -> Future[T]:
    """Start *work* on the process's background loop.

    It is a function, called on the loop: a coroutine made here would be lost, with a warning, if
    Ctrl-C came before the loop has it. `asyncio.run_coroutine_threadsafe` takes a coroutine.
    """
    loop = _background_loop()
    future: Future[T] = Future()

    async def run() -> T:
        # In a coroutine of its own, so that an error of the call is an outcome like any other.
        return await work()

    def start() -> None:
        # Before its task exists nobody else could cancel it.
        if future.cancelled():
            # Whoever waits for it is told.
            future.set_running_or_notify_cancel()
            return
        task = loop.create_task(run())
        running = {task}
        task.add_done_callback(lambda ended: _give(ended, future, running))
        # Its own argument, since a future keeps its callbacks: a cycle would keep the error, and
        # with it each frame that it went through.
        future.add_done_callback(
            lambda ended: loop.call_soon_threadsafe(_cancel, running) if ended.cancelled() else None
        )

    loop.call_soon_threadsafe(start)
    return future


def _give(task: asyncio.Task[T], future: Future[T], running: set[asyncio.Task[T]]) -> None:
    """Set the outcome of *task* on *future*, unless somebody cancelled it."""
    # The future refers to this set. So a task dies here, on the loop, and not with its future in the
    # main thread: callbacks of weak references run then, anyio's among them, and Python drops a
    # Ctrl-C that comes within one.
    running.clear()
    # Read in any case: an error that nobody reads is logged by asyncio.
    failure = None if task.cancelled() else task.exception()
    if task.cancelled():
        future.cancel()
    # From here on the future can no longer be cancelled, so that its result can be set.
    if not future.set_running_or_notify_cancel():
        return
    if failure is None:
        future.set_result(task.result())
    else:
        future.set_exception(failure)


def _cancel(running: set[asyncio.Task[T]]) -> None:
    for task in running:
        task.cancel()


def run_in_background(work: Callable[[], Coroutine[Any, Any, T]], longest_s: float) -> T:
    """Run *work* on the process's background loop, and wait for its result.

    *work* has to end by itself within *longest_s*. If it does not, the loop stands still (a fork may
    have copied a lock of some library while it was held), and its timeouts with it: then this
    raises TimedOut a little later.
    """
    future = start_in_background(work)
    try:
        if wait([future], timeout=end_s(longest_s)).not_done:
            raise TimedOut(STANDS_STILL)
        return future.result()
    finally:
        # If Ctrl-C ended the wait, the work would otherwise go on; after a result this does nothing.
        future.cancel()
        # An error's traceback holds this frame, which must not hold the error.
        del future


def end_s(longest_s: float) -> float:
    """Return the seconds after which a loop stands still if its work should end within *longest_s*."""
    return longest_s + GRACE_S + GRACE_SHARE * longest_s


def _background_loop() -> asyncio.AbstractEventLoop:
    pid = os.getpid()
    if pid in _loops:
        return _loops[pid]
    made = asyncio.new_event_loop()
    # `setdefault` is atomic: of two threads, both get the first one's loop. A lock would not do,
    # since a fork may copy it while it is held, by a thread that the child does not have.
    loop = _loops.setdefault(pid, made)
    if loop is made:
        threading.Thread(target=loop.run_forever, name="medreward-client", daemon=True).start()
    else:
        made.close()
    return loop
