"""Two engines as one judge: the second answers what the first cannot, or abstains from."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace

import structlog

from medreward.engines.capacity import Capacity
from medreward.engines.judge import (
    Inquiry,
    Judge,
    Judgement,
    Reader,
    View,
    is_sound,
)
from medreward.engines.judges.calibrated import CalibratedJudge
from medreward.engines.judges.peer import RoleJudge
from medreward.engines.judges.terms import is_about_terms
from medreward.engines.judges.time_budget import Answer, BatchBudget, has_abstained, problems
from medreward.engines.keys import inquiry_key
from medreward.engines.templates import Template
from medreward.errors import EngineError, Problem, ProblemKind
from medreward.samples import AnsweredBy
from medreward.telemetry.metrics import Metrics

HASHES = 2**64

UNANSWERABLE = Problem(
    ProblemKind.JUDGE_REFUSED, "judge: the language model beside it cannot answer this template"
)

log = structlog.get_logger(__name__)


class Cascade:
    """Sends each inquiry to the first engine that can answer its template.

    With *escalates*, the second also answers the inquiries from which the first abstains, and with
    *only_terms* all that are not about terms. In the background it judges a share of the others, chosen by a hash of the inquiry, to measure how often
    both agree. `View.OTHER_ENGINE` goes to the second in any case.
    """

    def __init__(
        self,
        first: Judge,
        second: Judge,
        *,
        escalates: bool = False,
        only_terms: bool = False,
        shadow: float = 0.0,
        timeout_s: float = 120.0,
        metrics: Metrics | None = None,
    ) -> None:
        self.first = first
        self.second = second
        self._escalates = escalates
        self.is_for_terms = escalates and only_terms
        """True if the first engine is asked about terms alone, by `is_about_terms`."""
        self._shadow = shadow
        self._timeout_s = timeout_s
        self._metrics = metrics or Metrics()
        self._measuring: asyncio.Task[None] | None = None

    @property
    def has_other_engine(self) -> bool:
        """True if `View.OTHER_ENGINE` is answered by an engine that is trusted with verdicts.

        A second engine that only grades templates of its own is not.
        """
        return self._escalates

    @property
    def identity(self) -> str:
        """The identities of both engines, and their division of inquiries."""
        how = "cascade" if self._escalates else "beside"
        how += "/terms" if self.is_for_terms else ""
        return f"{how}[{self.first.identity}][{self.second.identity}]"

    @property
    def capacity(self) -> Capacity:
        """The larger batches of both: a batch is divided between them, and they run concurrently.

        If the second engine may get all of a batch, it has the size that suits the second.
        """
        first, second = self.first.capacity, self.second.capacity
        tokens = [c.tokens for c in (first, second) if c.tokens is not None]
        return Capacity(
            # A batch of the first's size would take a language model on a CPU half a minute.
            batch=second.batch if self._escalates else max(first.batch, second.batch),
            concurrency=max(first.concurrency, second.concurrency),
            tokens=min(tokens, default=None),
        )

    def can_answer(self, template: Template) -> bool:
        """Return True if one of the engines can answer *template*."""
        return self.first.can_answer(template) or self.second.can_answer(template)

    async def start(self) -> None:
        """Start both engines, the first one first."""
        await self.first.start()
        await self.second.start()

    async def decide(self, inquiries: Sequence[Inquiry]) -> Sequence[Answer]:
        """Judge each inquiry; a failure of one engine leaves the other's answers as they are.

        Raises:
            EngineError: no inquiry has an answer, because the engine that was asked has failed.
        """
        budget = BatchBudget(self._timeout_s)
        to_first = {n: i for n, i in enumerate(inquiries) if self._is_for_first(i)}
        to_second = {n: i for n, i in enumerate(inquiries) if n not in to_first}
        first, second = await self._ask_both(budget, to_first, to_second)
        unsure = {n: i for n, i in to_first.items() if self._may_escalate(i, first[n])}
        asking = budget.ask_if_possible(self.second, list(unsure.values()))
        looked = await self._timed("second", asking, len(unsure))
        second |= zip(unsure, looked, strict=True)
        self._count(first, second)
        self._measure({n: i for n, i in to_first.items() if n not in unsure}, first)
        answers = _signed(first, "first") | _signed(second, "second")
        return [answers[n] for n in range(len(inquiries))]

    async def aclose(self) -> None:
        """Release the resources of both engines."""
        if self._measuring is not None:
            self._measuring.cancel()
            await asyncio.gather(self._measuring, return_exceptions=True)
        try:
            await self.first.aclose()
        finally:
            await self.second.aclose()

    def _is_for_first(self, inquiry: Inquiry) -> bool:
        if inquiry.view is View.OTHER_ENGINE or not self.first.can_answer(inquiry.template):
            return False
        if not self._escalates or not self.second.can_answer(inquiry.template):
            return True
        is_suited = not self.is_for_terms or is_about_terms(inquiry)
        texts = (inquiry.shown_question, inquiry.reference, inquiry.answer, inquiry.second)
        (engine,) = engines_of(self.first)
        can_read = _reading(engine)
        return is_suited and all(can_read(text) for text in texts if text is not None)

    def _may_escalate(self, inquiry: Inquiry, answer: Answer) -> bool:
        return (
            self._escalates and has_abstained(answer) and self.second.can_answer(inquiry.template)
        )

    async def _ask_both(
        self, budget: BatchBudget, to_first: dict[int, Inquiry], to_second: dict[int, Inquiry]
    ) -> tuple[dict[int, Answer], dict[int, Answer]]:
        """Ask both engines concurrently; raise if neither answers, as a single engine does."""
        can = {n: i for n, i in to_second.items() if self.second.can_answer(i.template)}
        told = await asyncio.gather(
            self._timed("first", budget.ask(self.first, list(to_first.values())), len(to_first)),
            self._timed("second", budget.ask(self.second, list(can.values())), len(can)),
            return_exceptions=True,
        )
        is_answered = any(answers for answers in told if not isinstance(answers, BaseException))
        parts: list[dict[int, Answer]] = []
        for asked, answers in zip((to_first, can), told, strict=True):
            if not isinstance(answers, BaseException):
                parts.append(dict(zip(asked, answers, strict=True)))
            elif is_answered and isinstance(answers, EngineError):
                parts.append(dict(zip(asked, problems(answers, len(asked)), strict=True)))
            else:
                raise answers
        first, second = parts
        return first, dict.fromkeys(to_second, UNANSWERABLE) | second

    async def _timed(
        self, engine: AnsweredBy, asking: Awaitable[Sequence[Answer]], asked: int
    ) -> Sequence[Answer]:
        """Await the answers of one engine, and count the seconds that they took."""
        began_s = time.perf_counter()
        try:
            return await asking
        finally:
            if asked:
                self._metrics.cascade_seconds[engine].inc(time.perf_counter() - began_s)

    def _count(self, first: dict[int, Answer], second: dict[int, Answer]) -> None:
        by_second = sum(isinstance(answer, Judgement) for answer in second.values())
        by_first = sum(isinstance(a, Judgement) for n, a in first.items() if n not in second)
        self._metrics.cascade_inquiries["first"].inc(by_first)
        self._metrics.cascade_inquiries["second"].inc(by_second)

    def _measure(self, sure: dict[int, Inquiry], answers: dict[int, Answer]) -> None:
        """Start a comparison on a share of the sure answers, unless one is still running."""
        is_measuring = self._measuring is not None and not self._measuring.done()
        if not self._escalates or is_measuring:
            return
        chosen = {
            inquiry: answer
            for n, inquiry in sure.items()
            if isinstance(answer := answers[n], Judgement) and self._is_chosen(inquiry)
        }
        if chosen:
            self._measuring = asyncio.create_task(self._compare(chosen))

    def _is_chosen(self, inquiry: Inquiry) -> bool:
        is_verdict = inquiry.template.kind == "verdict"
        if not is_verdict or not self.second.can_answer(inquiry.template):
            return False
        digest = int.from_bytes(inquiry_key("shadow", inquiry)[:8], "big")
        return digest < self._shadow * HASHES

    async def _compare(self, chosen: dict[Inquiry, Judgement]) -> None:
        """Count the agreements of both engines, within the time of one batch."""
        try:
            told = await BatchBudget(self._timeout_s).ask(self.second, list(chosen))
        except Exception as exc:  # noqa: BLE001 - an engine may raise anything, and no request waits for this
            log.warning("shadow_failed", error=type(exc).__name__)
            return
        for (inquiry, first), second in zip(chosen.items(), told, strict=True):
            if isinstance(second, Judgement) and is_sound(second, inquiry):
                agrees = "yes" if first.verdict == second.verdict else "no"
                self._metrics.cascade_agreement[agrees].inc()


def _signed(answers: dict[int, Answer], engine: AnsweredBy) -> dict[int, Answer]:
    """Name the engine in its judgements."""
    return {
        number: replace(answer, answered_by=engine) if isinstance(answer, Judgement) else answer
        for number, answer in answers.items()
    }


def engines_of(judge: Judge) -> Iterator[Judge]:
    """Yield the engines of a judge without their calibrations, the first one first."""
    if isinstance(judge, Cascade):
        yield from engines_of(judge.first)
        yield from engines_of(judge.second)
    elif isinstance(judge, CalibratedJudge):
        yield judge.engine
    else:
        yield judge


def engine_for(judge: Judge, template: Template) -> Judge:
    """Return the engine, with its calibration, to which *template* is sent first."""
    if not isinstance(judge, Cascade):
        return judge
    return judge.first if judge.first.can_answer(template) else judge.second


def has_other_engine(judge: Judge) -> bool:
    """Return True if a second engine gives verdicts, here or in the process that holds the judge."""
    return isinstance(judge, Cascade | RoleJudge) and judge.has_other_engine


def is_for_terms(judge: Judge) -> bool:
    """Return True if the judge has a first engine that is asked about terms alone."""
    if isinstance(judge, RoleJudge):
        return judge.is_for_terms
    return isinstance(judge, Cascade) and judge.is_for_terms


def identity_for(judge: Judge, template: Template) -> str:
    """Return the identity of what answers *template*: a cascade that escalates, or one engine."""
    if isinstance(judge, RoleJudge):
        return judge.identity_for(template)
    return (judge if has_other_engine(judge) else engine_for(judge, template)).identity


def reader_for(judge: Judge, template: Template) -> Callable[[str], bool]:
    """Return the function that tells whether what answers *template* can read a text."""
    if isinstance(judge, RoleJudge):
        return judge.reader_for(template)
    # Once, not for each text: `isinstance` of a protocol takes longer than reading most texts.
    readings = [_reading(engine) for engine in readers_of(judge, template)]
    return lambda text: any(can_read(text) for can_read in readings)


def readers_of(judge: Judge, template: Template) -> list[Judge]:
    """Return the engines that answer *template*: one, or both of a cascade that escalates."""
    if not has_other_engine(judge):
        return list(engines_of(engine_for(judge, template)))
    return [engine for engine in engines_of(judge) if engine.can_answer(template)]


def _reading(engine: Judge) -> Callable[[str], bool]:
    """Return the function that tells whether an engine can read a text."""
    return engine.can_read if isinstance(engine, Reader) else lambda _: True
