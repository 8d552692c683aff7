"""The time budget of a batch that several engines share."""

import asyncio
from collections.abc import Sequence

from medreward.admission import Deadline
from medreward.engines import timeouts
from medreward.engines.judge import Inquiry, Judge, Judgement
from medreward.errors import JUDGE_FAILURES, EngineError, NonsenseReply, Problem, ProblemKind

Answer = Judgement | Problem


class BatchBudget:
    """The time that one batch may take, however many engines answer parts of it."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._deadline = Deadline.after(timeouts.REMOTE * timeout_s)

    async def ask(self, judge: Judge, inquiries: Sequence[Inquiry]) -> Sequence[Answer]:
        """Ask one engine within the time that is left.

        Raises:
            EngineError: it fails, is late, or does not return one answer for each inquiry.
        """
        if not inquiries:
            return ()
        try:
            async with asyncio.timeout(self._deadline.left_s):
                answers = await judge.decide(inquiries)
        except TimeoutError as exc:
            raise timeouts.too_late(self._timeout_s) from exc
        if len(answers) != len(inquiries):
            raise NonsenseReply(f"{len(answers)} answers to {len(inquiries)} questions")
        return answers

    async def ask_if_possible(self, judge: Judge, inquiries: Sequence[Inquiry]) -> Sequence[Answer]:
        """Ask one engine; its error becomes a problem of each inquiry."""
        try:
            return await self.ask(judge, inquiries)
        except EngineError as exc:
            return problems(exc, len(inquiries))


def problems(error: EngineError, number: int) -> Sequence[Problem]:
    """Turn an engine's error into one problem for each of its inquiries."""
    return [JUDGE_FAILURES.problem(error)] * number


def has_abstained(answer: Answer) -> bool:
    """Return True if the answer is an abstention, between the thresholds of the judge."""
    return isinstance(answer, Problem) and answer.kind is ProblemKind.JUDGE_ABSTAINED
