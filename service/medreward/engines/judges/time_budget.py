"""Asking one engine on behalf of others, so that its trouble costs only what needed it."""

import asyncio
from collections.abc import Sequence

from medreward.engines.judge import Inquiry, Judge, Judgement
from medreward.errors import (
    JUDGE_FAILURES,
    DeadlinePassed,
    EngineError,
    NonsenseReply,
    Problem,
    ProblemKind,
)

Answer = Judgement | Problem

SHARE_OF_TIMEOUT = 0.95
"""What is not answered by then is given up, so that what was answered is not lost with it."""


class Patience:
    """The time that one batch may take, however many engines it is put to."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._until_s = asyncio.get_running_loop().time() + SHARE_OF_TIMEOUT * timeout_s

    async def ask(self, judge: Judge, inquiries: Sequence[Inquiry]) -> Sequence[Answer]:
        """Ask for as long as there is time.

        Raises:
            EngineError: it cannot be asked, answers too late, or not once for each.
        """
        if not inquiries:
            return ()
        try:
            async with asyncio.timeout_at(self._until_s):
                answers = await judge.decide(inquiries)
        except TimeoutError as exc:
            late = f"its batch could not be finished within {self._timeout_s:g} s"
            raise DeadlinePassed(late) from exc
        if len(answers) != len(inquiries):
            raise NonsenseReply(f"{len(answers)} answers to {len(inquiries)} questions")
        return answers

    async def ask_if_possible(self, judge: Judge, inquiries: Sequence[Inquiry]) -> Sequence[Answer]:
        """Ask, and turn an engine's error into what it means for those that needed it."""
        try:
            return await self.ask(judge, inquiries)
        except EngineError as exc:
            return problems(exc, len(inquiries))


def problems(error: EngineError, number: int) -> Sequence[Problem]:
    """Give what an engine's error means, once for each that needed it."""
    return [JUDGE_FAILURES.problem(error)] * number


def has_abstained(answer: Answer) -> bool:
    """Whether the engine looked, and would rather not say."""
    return isinstance(answer, Problem) and answer.kind is ProblemKind.JUDGE_ABSTAINED
