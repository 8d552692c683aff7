"""Long work: done beside the event loop, in order, and short work at once."""

import asyncio
import threading

import pytest

from medreward.offload import SMALL, Offloader

pytestmark = pytest.mark.anyio


async def test_a_little_work_is_done_at_once() -> None:
    """Handing it over would take longer than doing it."""
    assert await Offloader().run(threading.current_thread, SMALL) is threading.current_thread()


async def test_long_work_leaves_the_event_loop_free() -> None:
    """Others get their turn while it is done."""
    offload, others_turn = Offloader(), threading.Event()

    async def other() -> None:
        others_turn.set()

    def work() -> str:
        assert others_turn.wait(60)
        return "done"

    made, _ = await asyncio.gather(offload.run(work, SMALL + 1), other())

    assert made == "done"
    offload.close()


async def test_long_works_are_done_one_after_another() -> None:
    """More threads would only hold one another up."""
    offload, running = Offloader(), threading.Lock()

    def alone() -> bool:
        with_nobody = running.acquire(blocking=False)
        if with_nobody:
            running.release()
        return with_nobody

    found = await asyncio.gather(*(offload.run(alone, SMALL + 1) for _ in range(50)))

    assert all(found)
    offload.close()


async def test_what_goes_wrong_in_it_reaches_the_caller() -> None:
    """An error is raised where the result was awaited."""

    def fail() -> None:
        raise ValueError("on purpose")

    offload = Offloader()
    for size in (1, SMALL + 1):
        with pytest.raises(ValueError, match="on purpose"):
            await offload.run(fail, size)
    offload.close()
