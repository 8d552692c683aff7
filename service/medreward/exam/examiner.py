"""The exam of a service's judge: taken at the start, in the background, behind the requests."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, Literal, NamedTuple

import structlog

from medreward.admission import Caller, Deadline
from medreward.engines.judge import Inquiry, Judgement
from medreward.engines.judges.peer import RoleJudge
from medreward.engines.status import ExamScope, JudgeExam
from medreward.engines.templates import Template
from medreward.errors import EngineError, NotReady, Problem, SetupError
from medreward.exam.result import ExamPair, ExamResult, Mark, exam_pairs, faults
from medreward.inference.resolver import Resolver
from medreward.telemetry.metrics import Metrics

TEMPLATE: Final = "equivalence"
"""Template of the exam: the one that shows the question."""
BATCH: Final = 4
"""Pairs asked at once: a request that comes meanwhile waits for no more than these."""

log = structlog.get_logger(__name__)


class Examinee(NamedTuple):
    """A judge as requests ask it, with its calibration, its cascade and its cache."""

    scope: ExamScope
    template: Template
    resolver: Resolver[Inquiry, Judgement]


class Pauses(NamedTuple):
    """The waits of an exam, in seconds."""

    look_s: float = 0.2
    """Between two looks at whether requests are in flight."""
    longest_wait_s: float = 10.0
    """After which a few pairs are asked beside the requests: under a steady load the exam ends in
    minutes instead of never."""
    first_retry_s: float = 15.0
    """Before an exam without a result is repeated; twice as long each time."""
    longest_retry_s: float = 600.0


PAUSES: Final = Pauses()


class Examiner:
    """Examines the judge of one service, and keeps the outcome.

    The outcome is not stored: the judgements are, under the judge's identity, by the cache. With
    Redis a later start, or another replica, finds them there and asks only what is new in the exam.
    """

    def __init__(
        self,
        metrics: Metrics,
        *,
        is_required: bool,
        is_busy: Callable[[], bool],
        deadline_s: float,
        pauses: Pauses = PAUSES,
    ) -> None:
        self._metrics = metrics
        self._is_required = is_required
        self._is_busy = is_busy
        self._deadline_s = deadline_s
        self._pauses = pauses
        self.exam: JudgeExam | None = None
        """The exam as `/readyz` reports it; None if none is taken, or none was begun."""
        self.refusal = ""
        """The reason, in one line, for which the exam will not be passed; it counts if it is required."""

    @property
    def known(self) -> JudgeExam | None:
        """The exam as replies report it: once it has ended."""
        return None if self.exam is None or self.exam.status == "running" else self.exam

    @property
    def status(self) -> Literal["ready", "loading", "failed"]:
        """The readiness of the judge as far as its exam goes: loading until a required one is passed."""
        if not self._is_required or (self.exam is not None and self.exam.status == "passed"):
            return "ready"
        return "failed" if self.refusal else "loading"

    def check_passed(self) -> None:
        """Refuse a request while a required exam is not passed.

        Raises:
            NotReady: it has not ended, or was failed.
        """
        if self.status != "ready":
            raise NotReady(self.refusal or "the judge takes the exam that MEDREWARD_EXAM requires")

    async def examine(self, examinee: Examinee) -> None:
        """Put the exam to a judge, and again after a pause while verdicts that may come are missing."""
        self.exam = JudgeExam(status="running", scope=examinee.scope)
        pause_s = self._pauses.first_retry_s
        while (result := await self._take(examinee)).is_worth_repeating:
            self._report(result)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, self._pauses.longest_retry_s)
        self._report(result)
        self.refusal = "" if result.status == "passed" else refusal(result)

    async def follow(self, judge: RoleJudge) -> None:
        """Ask the judge's own process for its exam until that has a result."""
        pause_s = self._pauses.first_retry_s
        while (exam := judge.facts.judge_exam) is not None:
            self._set(exam)
            if exam.status in {"passed", "failed"}:
                break
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, self._pauses.longest_retry_s)
            # A process that is gone, or was replaced, is the supervisor's concern.
            with suppress(EngineError, SetupError):
                await judge.start()
        if exam is None:
            self.exam = None
            self.refusal = "the judge's process takes no exam: set MEDREWARD_EXAM=on there"
        elif exam.status == "failed":
            self.refusal = (
                "the judge failed its exam; the log of its process says what it gets wrong"
            )

    async def _take(self, examinee: Examinee) -> ExamResult:
        pairs = exam_pairs(examinee.scope)
        marks: list[Mark] = []
        for start in range(0, len(pairs), BATCH):
            await self._wait_for_requests()
            marks += await _ask(pairs[start : start + BATCH], examinee, self._deadline_s)
        return ExamResult(examinee.scope, tuple(marks))

    async def _wait_for_requests(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._pauses.longest_wait_s):
                # Requests come and go too often for each to set an event that only this waits for.
                while self._is_busy():  # noqa: ASYNC110
                    await asyncio.sleep(self._pauses.look_s)

    def _report(self, result: ExamResult) -> None:
        """Publish the outcome, and warn of a judge below the floor in words."""
        self._set(result.report)
        facts = result.report.model_dump(exclude={"status"})
        if limits := faults(result.uncounted):
            facts["of_whole_answers_it"] = limits
        if result.unanswered:
            facts["unanswered"] = dict(result.unanswered)
        if result.status == "passed":
            log.info("judge_exam_passed", **facts)
        elif result.status == "failed":
            log.warning("judge_exam_failed", **facts, advice=result.advice)
        else:
            log.warning("judge_exam_without_result", **facts)

    def _set(self, exam: JudgeExam) -> None:
        self.exam = exam
        if exam.balanced_accuracy is not None:
            self._metrics.judge_exam[exam.scope, exam.status].set(exam.balanced_accuracy)


async def take_exam(examinee: Examinee, deadline_s: float) -> ExamResult:
    """Ask a judge about every pair at once, as `/judge` does without rules."""
    marks = await _ask(exam_pairs(examinee.scope), examinee, deadline_s)
    return ExamResult(examinee.scope, tuple(marks))


def refusal(result: ExamResult) -> str:
    """Say in one line why a judge that did not pass is refused."""
    balanced = result.balanced_accuracy
    found = "has no result" if balanced is None else f"was failed with {balanced:.3f}"
    return f"the judge's exam {found} (MEDREWARD_EXAM=require). {result.advice}"


async def _ask(pairs: Sequence[ExamPair], examinee: Examinee, deadline_s: float) -> list[Mark]:
    template, resolver = examinee.template, examinee.resolver
    inquiries = [
        Inquiry(template, pair.answer, pair.reference, template.shown(pair.question))
        for pair in pairs
    ]
    caller = Caller(Deadline.after(deadline_s))
    answers = resolver.lookup(inquiries, caller)
    await resolver.resolve(answers, caller)
    values = [answers.look(inquiry) for inquiry in inquiries]
    return [
        Mark(pair, None, value.kind) if isinstance(value, Problem) else Mark(pair, value.verdict)
        for pair, value in zip(pairs, values, strict=True)
    ]
