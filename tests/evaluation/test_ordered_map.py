"""Many at a time, in order."""

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medreward_eval.ordered_map import ordered_map

pytestmark = pytest.mark.anyio


async def answered(delays: list[float], at_once: int) -> tuple[list[int], int]:
    """The answers to 0, 1, 2 ..., each after its delay, and how many were asked at once at most."""
    running = most = 0

    async def ask(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(delays[number])
        running -= 1
        return number

    told = [one async for one in ordered_map(ask, range(len(delays)), at_once=at_once)]
    return told, most


@given(st.lists(st.sampled_from([0.0, 0.0001]), max_size=20), st.integers(1, 5))
def test_answers_come_in_order_and_no_more_than_so_many_are_asked_at_once(
    delays: list[float], at_once: int
) -> None:
    """Whatever the order in which they end."""
    told, most = asyncio.run(answered(delays, at_once))

    assert told == list(range(len(delays)))
    assert most <= at_once


async def test_questions_are_read_as_they_are_needed() -> None:
    """A slow first answer lets no more than the window in."""
    read: list[int] = []
    gate = asyncio.Event()

    def questions() -> Iterator[int]:
        for number in range(100):
            read.append(number)
            yield number

    async def ask(number: int) -> int:
        if number == 0:
            await gate.wait()
        return number

    answers = ordered_map(ask, questions(), at_once=2)
    first = asyncio.ensure_future(anext(answers))
    await asyncio.sleep(0.01)

    assert len(read) == 8
    gate.set()
    assert await first == 0
    await answers.aclose()


async def test_a_failure_comes_in_its_turn_and_ends_the_rest() -> None:
    """Earlier calls yield their answers, and calls in flight are cancelled."""
    cancelled: list[int] = []

    async def ask(number: int) -> int:
        if number == 1:
            raise ValueError("no")
        try:
            await asyncio.sleep(0 if number == 0 else 60)
        except asyncio.CancelledError:
            cancelled.append(number)
            raise
        return number

    answers = ordered_map(ask, range(4), at_once=4)

    assert await anext(answers) == 0
    with pytest.raises(ValueError, match="no"):
        await anext(answers)
    assert cancelled == [2, 3]
