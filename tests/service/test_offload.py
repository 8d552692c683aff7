"""Long work: done beside the event loop, in order, and short work at once."""

import asyncio
import threading

import pytest

from medreward.offload import FEW, Pace

pytestmark = pytest.mark.anyio


async def test_a_little_work_is_done_at_once() -> None:
    """Handing it over would take longer than doing it."""
    here = threading.current_thread()

    assert await Pace().map(lambda _: threading.current_thread(), range(FEW)) == [here] * FEW


async def test_long_work_leaves_the_event_loop_free() -> None:
    """Others get their turn while it is done, and its results keep their order."""
    pace, others_turn = Pace(), threading.Event()

    async def other() -> None:
        others_turn.set()

    def work(number: int) -> int:
        assert others_turn.wait(10)
        return number

    made, _ = await asyncio.gather(pace.map(work, range(FEW + 1)), other())

    assert made == list(range(FEW + 1))
    pace.close()


async def test_long_works_are_done_one_after_another() -> None:
    """More threads would only hold one another up."""
    pace, running = Pace(), threading.Lock()

    def alone() -> bool:
        with_nobody = running.acquire(blocking=False)
        if with_nobody:
            running.release()
        return with_nobody

    found = await asyncio.gather(*(pace.do(alone, FEW + 1) for _ in range(50)))

    assert all(found)
    pace.close()


async def test_what_goes_wrong_in_it_reaches_the_caller() -> None:
    """An error is raised where the result was awaited."""

    def fail() -> None:
        raise ValueError("on purpose")

    pace = Pace()
    for size in (1, FEW + 1):
        with pytest.raises(ValueError, match="on purpose"):
            await pace.do(fail, size)
    pace.close()
