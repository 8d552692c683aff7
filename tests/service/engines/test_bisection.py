"""A batch that is refused as a whole is halved until what is refused alone is found."""

from collections.abc import Sequence

import pytest

from medreward.engines.bisection import bisect
from medreward.errors import BackendDown, Problem, ProblemKind

pytestmark = pytest.mark.anyio


class Engine:
    """Doubles numbers; refuses a batch with a negative one, or with more than it takes."""

    def __init__(self, most: int = 100) -> None:
        self._most = most
        self.batches: list[list[int]] = []

    async def ask(self, numbers: Sequence[int]) -> list[int | Problem] | Problem:
        """Answer, or refuse the whole batch."""
        self.batches.append(list(numbers))
        if len(numbers) > self._most or any(number < 0 for number in numbers):
            return Problem(ProblemKind.TOO_LONG, f"{len(numbers)} refused")
        return [2 * number for number in numbers]


@pytest.mark.parametrize("side_by_side", [True, False])
async def test_what_is_refused_alone_costs_its_neighbours_nothing(side_by_side: bool) -> None:
    """It gets the problem of its own refusal; the order of the items is kept."""
    answers = await bisect([1, 2, -3, 4, 5], Engine().ask, side_by_side=side_by_side)

    refused = Problem(ProblemKind.TOO_LONG, "1 refused")
    assert answers == [2, 4, refused, 8, 10]


async def test_a_batch_that_is_taken_is_asked_once() -> None:
    """An empty one too."""
    engine = Engine()

    assert await bisect([1, 2], engine.ask) == [2, 4]
    assert await bisect([], engine.ask) == []
    assert engine.batches == [[1, 2], []]


async def test_halves_are_asked_in_order_where_an_engine_has_room_for_one_batch() -> None:
    """The second half is begun when the first is answered."""
    engine = Engine(most=1)

    assert await bisect([1, 2, 3, 4], engine.ask, side_by_side=False) == [2, 4, 6, 8]
    assert engine.batches == [[1, 2, 3, 4], [1, 2], [1], [2], [3, 4], [3], [4]]


async def test_an_engine_that_is_down_is_no_refusal() -> None:
    """Its error passes through, and nothing is halved."""

    async def ask(_numbers: Sequence[int]) -> list[int | Problem]:
        raise BackendDown("refused")

    with pytest.raises(BackendDown):
        await bisect([1, 2], ask)
