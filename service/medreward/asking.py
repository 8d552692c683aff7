"""Stages 4 to 6 for one engine: remembered, else asked once, and remembered then."""

import asyncio
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import structlog

from medreward.admission import Deadline
from medreward.batching import AskBatch, Batcher
from medreward.errors import Failures, Problem
from medreward.judging.judge import Capacity
from medreward.metrics import Metrics
from medreward.score_cache import ScoreCache
from medreward.wire import Source

Q = TypeVar("Q", bound=Hashable)
A = TypeVar("A")

CACHE_TIMEOUT_S = 0.2

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Answered(Generic[A]):
    """An answer, or why there is none, and where it came from."""

    value: A | Problem
    source: Source


class Answers(Generic[Q, A]):
    """The answers to one request's questions, handed out to the samples that asked.

    The first sample to take an answer got it from the engine; the others shared it.
    """

    def __init__(self, answers: Mapping[Q, Answered[A]]) -> None:
        self._answers = answers
        self._taken: set[Q] = set()

    def take(self, question: Q) -> Answered[A]:
        """Give the answer, and say where it came from for this sample."""
        answered = self._answers[question]
        if question in self._taken and answered.source != "cache":
            return Answered(answered.value, "coalesced")
        self._taken.add(question)
        return answered


@dataclass(slots=True)
class Effort:
    """What it took to answer one request's questions."""

    cache_s: float = 0.0
    queue_s: float = 0.0
    """The longest that one of its questions waited for its batch."""
    engine_s: float = 0.0
    """From the first question asked to the last answer, the wait included."""
    asked: int = 0


@dataclass(frozen=True, slots=True)
class Engine(Generic[Q, A]):
    """One engine as the stages see it: how to ask, how to name a question, how to tell nonsense."""

    source: Source
    ask: AskBatch[Q, A]
    key_of: Callable[[Q], str]
    is_sound: Callable[[A, Q], bool]
    failures: Failures
    capacity: Capacity
    timeout_s: float
    note: Callable[[Problem | None], None]
    """Told after each batch why it got no answer at all, or None where it got one."""


class Asker(Generic[Q, A]):
    """Answers questions by the cheapest way that gives the same answer."""

    def __init__(self, engine: Engine[Q, A], cache: ScoreCache[A], metrics: Metrics) -> None:
        self._engine = engine
        self._cache = cache
        self._metrics = metrics
        self._batcher = Batcher(
            self._ask,
            remember=self._remember,
            note=engine.note,
            is_sound=engine.is_sound,
            failures=engine.failures,
            capacity=engine.capacity,
            timeout_s=engine.timeout_s,
        )
        metrics.watch_queue(engine.source, lambda: self._batcher.depth)

    async def answer(
        self, questions: Iterable[Q], deadline: Deadline, effort: Effort
    ) -> Answers[Q, A]:
        """Answer each distinct question."""
        keys = {question: self._engine.key_of(question) for question in dict.fromkeys(questions)}
        remembered = await self._remembered(keys, effort)
        answered: dict[Q, Answered[A]] = {
            question: Answered(answer, "cache") for question, answer in remembered.items()
        }
        missing = [question for question in keys if question not in answered]
        return Answers(answered | await self._asked(missing, deadline, effort))

    async def aclose(self) -> None:
        """Stop asking."""
        await self._batcher.aclose()

    async def _remembered(self, keys: Mapping[Q, str], effort: Effort) -> dict[Q, A]:
        started = time.perf_counter()
        try:
            async with asyncio.timeout(CACHE_TIMEOUT_S):
                kept = await self._cache.get_many(list(keys.values()))
            # What another process wrote is looked at as closely as what an engine says.
            found = {
                question: kept[key]
                for question, key in keys.items()
                if key in kept and self._engine.is_sound(kept[key], question)
            }
        except Exception as exc:  # noqa: BLE001 - a broken cache, however broken, is a miss
            self._metrics.count_cache(self._engine.source, errors=len(keys))
            log.warning("cache_failed", operation="get", error=type(exc).__name__)
            found = {}
        else:
            self._metrics.count_cache(
                self._engine.source, hits=len(found), misses=len(keys) - len(found)
            )
        effort.cache_s += time.perf_counter() - started
        return found

    async def _asked(
        self, questions: list[Q], deadline: Deadline, effort: Effort
    ) -> dict[Q, Answered[A]]:
        started = time.perf_counter()
        replies = await self._batcher.answers(questions, deadline)
        effort.engine_s += time.perf_counter() - started
        effort.queue_s = max(effort.queue_s, replies.waited_s)
        effort.asked += replies.asked
        own = self._engine.source
        return {
            question: Answered(value, "coalesced" if question in replies.shared else own)
            for question, value in replies.answers.items()
        }

    async def _ask(self, questions: Sequence[Q]) -> Sequence[A | Problem]:
        with self._metrics.time_engine(self._engine.source, len(questions)):
            return await self._engine.ask(questions)

    async def _remember(self, answers: Mapping[Q, A]) -> None:
        keyed = {self._engine.key_of(question): answer for question, answer in answers.items()}
        try:
            async with asyncio.timeout(CACHE_TIMEOUT_S):
                await self._cache.put_many(keyed)
        except Exception as exc:  # noqa: BLE001 - what cannot be remembered is asked again
            log.warning("cache_failed", operation="put", error=type(exc).__name__)
