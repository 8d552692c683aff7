"""Halve a batch that an engine refuses, until the items that it refuses alone are found."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from medreward.errors import Problem

Q = TypeVar("Q")
A = TypeVar("A")

AskBatch = Callable[[Sequence[Q]], Awaitable[Sequence[A | Problem] | Problem]]
"""Returns an answer for each item, or one problem if the batch is refused as a whole."""


async def bisect(items: Sequence[Q], ask: AskBatch[Q, A]) -> list[A | Problem]:
    """Ask about all items at once, and about both halves if they are refused together.

    An item that is refused alone gets the problem that *ask* returns for it; its neighbours get
    their answers. Exceptions of *ask* pass through.
    """
    answers = await ask(items)
    if not isinstance(answers, Problem):
        return list(answers)
    if len(items) <= 1:
        return [answers] * len(items)
    middle = len(items) // 2
    halves = await asyncio.gather(bisect(items[:middle], ask), bisect(items[middle:], ask))
    return [*halves[0], *halves[1]]
