"""A batch that is refused as a whole is halved until what is refused alone is found."""

from collections.abc import Sequence

import pytest

from medreward.engines.bisection import bisect
from medreward.errors import BackendDown, Problem, ProblemKind

pytestmark = pytest.mark.anyio


class Engine:
    """Doubles numbers; refuses a batch with a negative one."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    async def ask(self, numbers: Sequence[int]) -> list[int | Problem] | Problem:
        """Answer, or refuse the whole batch."""
        self.batches.append(list(numbers))
        if any(number < 0 for number in numbers):
            return Problem(ProblemKind.TOO_LONG, f"{len(numbers)} refused")
        return [2 * number for number in numbers]


async def test_what_is_refused_alone_costs_its_neighbours_nothing() -> None:
    """It gets the problem of its own refusal; the order of the items is kept."""
    answers = await bisect([1, 2, -3, 4, 5], Engine().ask)

    refused = Problem(ProblemKind.TOO_LONG, "1 refused")
    assert answers == [2, 4, refused, 8, 10]


async def test_a_batch_that_is_taken_is_asked_once() -> None:
    """An empty one too."""
    engine = Engine()

    assert await bisect([1, 2], engine.ask) == [2, 4]
    assert await bisect([], engine.ask) == []
    assert engine.batches == [[1, 2], []]


async def test_an_engine_that_is_down_is_no_refusal() -> None:
    """Its error passes through, and nothing is halved."""

    async def ask(_numbers: Sequence[int]) -> list[int | Problem]:
        raise BackendDown("refused")

    with pytest.raises(BackendDown):
        await bisect([1, 2], ask)
