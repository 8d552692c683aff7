"""Stages 4 to 6 for one engine: remembered, else asked once, and remembered then."""

import asyncio
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Generic, NamedTuple, TypeVar

from medreward.admission import Deadline
from medreward.batching import AskBatch, Batcher
from medreward.errors import Failures, NonsenseReply, Problem
from medreward.judging.judge import Capacity
from medreward.metrics import Metrics
from medreward.score_cache import MemoryTier
from medreward.wire import Source

Q = TypeVar("Q", bound=Hashable)
A = TypeVar("A")

SLICE = 512
"""Questions looked up at a stretch: a millisecond or two."""


class Answered(NamedTuple, Generic[A]):
    """An answer, or why there is none, and where it came from."""

    value: A | Problem
    source: Source


class Answers(Generic[Q, A]):
    """The answers to one request's questions, handed out to the samples that asked.

    The first sample to take an answer got it from the engine; the others shared it.
    """

    def __init__(self) -> None:
        self.missing: dict[Q, bytes] = {}
        """Questions without an answer yet, and their keys."""
        self._answers: dict[Q, Answered[A]] = {}
        self._taken: set[Q] = set()

    def add(self, question: Q, value: A | Problem, source: Source) -> None:
        """Note an answer."""
        self._answers[question] = Answered(value, source)
        self.missing.pop(question, None)

    def take(self, question: Q) -> Answered[A]:
        """Give the answer, and say where it came from for this sample."""
        answered = self._answers[question]
        if answered.source == "cache":
            return answered
        if question in self._taken:
            return answered._replace(source="coalesced")
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
    """One engine as the stages see it: how to ask, how to name and keep what was asked."""

    source: Source
    ask: AskBatch[Q, A]
    key_of: Callable[[Q, str], bytes]
    """Of a question and the namespace of its caller."""
    is_sound: Callable[[A, Q], bool]
    pack: Callable[[A], bytes]
    unpack: Callable[[bytes, Q], A | None]
    failures: Failures
    capacity: Capacity
    timeout_s: float
    note: Callable[[Problem | None], None]
    """Told after each batch why it got no answer at all, or None where it got one."""
    group_of: Callable[[Q], Hashable] = field(default=lambda _: None)
    """What questions have in common that go best side by side."""
    tokens_of: Callable[[Q], int] = field(default=lambda _: 1)


class Asker(Generic[Q, A]):
    """Answers questions by the cheapest way that gives the same answer."""

    def __init__(self, engine: Engine[Q, A], memory: MemoryTier, metrics: Metrics) -> None:
        self._engine = engine
        self._memory = memory
        self._metrics = metrics
        self._batcher = Batcher(
            self._ask,
            remember=self._remember,
            note=engine.note,
            settle=self._settle,
            group_of=engine.group_of,
            tokens_of=engine.tokens_of,
            failures=engine.failures,
            capacity=engine.capacity,
            timeout_s=engine.timeout_s,
        )
        metrics.watch_queue(engine.source, lambda: self._batcher.depth)

    async def recall(
        self, questions: Iterable[Q], effort: Effort, namespace: str = ""
    ) -> Answers[Q, A]:
        """Give the answers that this process remembers; the others are `missing`."""
        answers: Answers[Q, A] = Answers()
        remaining = iter(dict.fromkeys(questions))
        while part := list(islice(remaining, SLICE)):
            started = time.perf_counter()
            self._recall(part, answers, namespace)
            effort.cache_s += time.perf_counter() - started
            if len(part) == SLICE:
                await asyncio.sleep(0)
        return answers

    def _recall(self, questions: Sequence[Q], answers: Answers[Q, A], namespace: str) -> None:
        engine = self._engine
        keys = [engine.key_of(question, namespace) for question in questions]
        kept = self._memory.get_many(keys)
        misses = 0
        for question, key in zip(questions, keys, strict=True):
            value = kept.get(key)
            answer = None if value is None else engine.unpack(value, question)
            if answer is None:
                answers.missing[question] = key
                misses += 1
            else:
                answers.add(question, answer, "cache")
        self._metrics.count_cache(engine.source, hits=len(keys) - misses, misses=misses)

    async def find(self, answers: Answers[Q, A], deadline: Deadline, effort: Effort) -> None:
        """Answer what is missing, by asking the engine."""
        if not answers.missing:
            return
        started = time.perf_counter()
        by_key = {key: question for question, key in answers.missing.items()}
        replies = await self._batcher.answers(by_key, deadline)
        effort.engine_s += time.perf_counter() - started
        effort.queue_s = max(effort.queue_s, replies.waited_s)
        effort.asked += replies.asked
        for key, value in replies.answers.items():
            source = "coalesced" if key in replies.shared else self._engine.source
            answers.add(by_key[key], value, source)

    async def aclose(self) -> None:
        """Stop asking."""
        await self._batcher.aclose()

    async def _ask(self, questions: Sequence[Q]) -> Sequence[A | Problem]:
        with self._metrics.time_engine(self._engine.source, len(questions)):
            return await self._engine.ask(questions)

    def _settle(self, question: Q, answer: A) -> A | Problem:
        """Refuse nonsense; give the rest as the cache will, so that neither can differ."""
        try:
            settled = (
                self._engine.unpack(self._engine.pack(answer), question)
                if self._engine.is_sound(answer, question)
                else None
            )
        except Exception:  # noqa: BLE001 - not even of the right type; looking at it may raise anything
            settled = None
        if settled is None:
            return self._engine.failures.problem(NonsenseReply("what it said is no answer"))
        return settled

    def _remember(self, answers: Mapping[bytes, A | Problem]) -> None:
        self._memory.put_many(
            {
                key: self._engine.pack(answer)
                for key, answer in answers.items()
                if not isinstance(answer, Problem)
            }
        )
