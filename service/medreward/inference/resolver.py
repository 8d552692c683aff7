"""Stages 4 to 6 for one engine: remembered, else asked once, and remembered then."""

import asyncio
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from medreward.admission import Caller
from medreward.cache.entries import Role
from medreward.cache.memory import MemoryTier
from medreward.cache.redis import Claimed, RedisTier
from medreward.engines.capacity import Capacity
from medreward.errors import Failures, NonsenseReply, Problem
from medreward.inference.batcher import PAST_DEADLINE, AskBatch, Batcher
from medreward.offload import Pace
from medreward.samples import Source
from medreward.telemetry.metrics import Metrics
from medreward.telemetry.tracing import batch_span

Q = TypeVar("Q", bound=Hashable)
A = TypeVar("A")


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

    @property
    def known(self) -> int:
        """How many questions have an answer."""
        return len(self._answers)

    def add(self, question: Q, value: A | Problem, source: Source) -> None:
        """Note an answer."""
        self._answers[question] = Answered(value, source)
        self.missing.pop(question, None)

    def look(self, question: Q) -> A | Problem:
        """Give the answer without taking it for a sample."""
        return self._answers[question].value

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

    source: Role
    identity: str
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


class _Asked(NamedTuple, Generic[Q]):
    """A question with what its caller has to do with it."""

    question: Q
    namespace: str


class Asker(Generic[Q, A]):
    """Answers questions by the cheapest way that gives the same answer."""

    def __init__(
        self,
        engine: Engine[Q, A],
        memory: MemoryTier,
        metrics: Metrics,
        shared: RedisTier | None = None,
        pace: Pace | None = None,
    ) -> None:
        self._engine = engine
        self._memory = memory
        self._metrics = metrics
        self._shared = shared
        self._pace = pace or Pace()
        self._batcher: Batcher[_Asked[Q], A] = Batcher(
            self._ask,
            remember=self._remember,
            drop=self._drop,
            note=engine.note,
            settle=lambda asked, answer: self._settle(asked.question, answer),
            group_of=lambda asked: engine.group_of(asked.question),
            tokens_of=lambda asked: engine.tokens_of(asked.question),
            failures=engine.failures,
            capacity=engine.capacity,
            timeout_s=engine.timeout_s,
            pace=self._pace,
        )
        metrics.watch_queue(engine.source, lambda: self._batcher.depth)

    async def recall(self, questions: Sequence[Q], caller: Caller, effort: Effort) -> Answers[Q, A]:
        """Give the answers that this process remembers; the others are `missing`."""
        started = time.perf_counter()
        answers = await self._pace.do(
            lambda: self._recall(questions, caller.namespace), len(questions)
        )
        effort.cache_s += time.perf_counter() - started
        missing = len(answers.missing)
        self._metrics.count_cache(self._engine.source, hits=answers.known, misses=missing)
        return answers

    async def find(self, answers: Answers[Q, A], caller: Caller, effort: Effort) -> None:
        """Answer what is missing: from what replicas share, else by asking the engine once."""
        if self._shared is not None and answers.missing:
            await self._recall_shared(self._shared, answers, caller, effort)
        if not answers.missing:
            return
        started = time.perf_counter()
        missing = {key: question for question, key in answers.missing.items()}
        if self._shared is None:
            await self._ask_once(missing, answers, caller, effort)
        else:
            await self._ask_among_replicas(self._shared, missing, answers, caller, effort)
        effort.engine_s += time.perf_counter() - started

    async def aclose(self) -> None:
        """Stop asking."""
        await self._batcher.aclose()

    def _recall(self, questions: Iterable[Q], namespace: str) -> Answers[Q, A]:
        answers: Answers[Q, A] = Answers()
        engine = self._engine
        keys = {q: engine.key_of(q, namespace) for q in dict.fromkeys(questions)}
        kept = self._memory.get_many(keys.values())
        for question, key in keys.items():
            value = kept.get(key)
            answer = None if value is None else engine.unpack(value, question)
            if answer is None:
                answers.missing[question] = key
            else:
                answers.add(question, answer, "cache")
        return answers

    async def _recall_shared(
        self, shared: RedisTier, answers: Answers[Q, A], caller: Caller, effort: Effort
    ) -> None:
        started = time.perf_counter()
        missing = {key: question for question, key in answers.missing.items()}
        found = await shared.get_many(list(missing), caller.namespace, role=self._engine.source)
        await self._take_in(found, missing, answers)
        effort.cache_s += time.perf_counter() - started

    async def _take_in(
        self, found: Mapping[bytes, bytes], missing: Mapping[bytes, Q], answers: Answers[Q, A]
    ) -> None:
        """Note what another process remembers; what is no answer stays missing."""
        sound = await self._pace.do(lambda: self._sound(found, missing), len(found))
        for key, answer in sound.items():
            answers.add(missing[key], answer, "cache")
        self._memory.put_many({key: found[key] for key in sound})

    def _sound(self, found: Mapping[bytes, bytes], missing: Mapping[bytes, Q]) -> dict[bytes, A]:
        """Believe another process as little as an engine."""
        engine, sound = self._engine, {}
        for key, value in found.items():
            question = missing[key]
            answer = engine.unpack(value, question)
            if answer is not None and engine.is_sound(answer, question):
                sound[key] = answer
        return sound

    async def _ask_among_replicas(
        self,
        shared: RedisTier,
        missing: Mapping[bytes, Q],
        answers: Answers[Q, A],
        caller: Caller,
        effort: Effort,
    ) -> None:
        """Ask what no other replica is asking; wait for the others, or take over what they lost."""
        role = self._engine.source
        try:
            claimed = await shared.claim(
                list(missing), caller.namespace, role=role, hold_s=self._hold_s(caller)
            )
            await self._ask_claimed(shared, claimed, missing, answers, caller=caller, effort=effort)
        finally:
            # Others may ask what is not asked here after all: it was known, or its caller has gone.
            unasked = [key for key in missing if not self._batcher.is_asking(key)]
            shared.release(unasked, caller.namespace, role=role)

    async def _ask_claimed(
        self,
        shared: RedisTier,
        claimed: Claimed,
        questions: Mapping[bytes, Q],
        answers: Answers[Q, A],
        *,
        caller: Caller,
        effort: Effort,
    ) -> None:
        await self._take_in(claimed.found, questions, answers)
        theirs = {key: questions[key] for key in claimed.theirs}
        # What was found but is no answer is nobody's lease: it is asked again.
        mine = {k: q for k, q in questions.items() if q in answers.missing and k not in theirs}
        await asyncio.gather(
            self._ask_once(mine, answers, caller, effort),
            self._await_theirs(shared, theirs, answers, caller, effort),
        )

    async def _await_theirs(
        self,
        shared: RedisTier,
        theirs: Mapping[bytes, Q],
        answers: Answers[Q, A],
        caller: Caller,
        effort: Effort,
    ) -> None:
        """Wait for what other replicas ask; what they lost is asked here."""
        if not theirs:
            return
        deadline, role = caller.deadline, self._engine.source
        if deadline.left_s <= 0:
            for question in theirs.values():
                answers.add(question, PAST_DEADLINE, role)
            return
        came = await shared.await_theirs(
            theirs, deadline.at_s, caller.namespace, role=role, hold_s=self._hold_s(caller)
        )
        await self._ask_claimed(shared, came, theirs, answers, caller=caller, effort=effort)

    def _hold_s(self, caller: Caller) -> float:
        """Until its answer is there, or nobody can want it any longer."""
        return caller.deadline.left_s + self._engine.timeout_s

    async def _ask_once(
        self, questions: Mapping[bytes, Q], answers: Answers[Q, A], caller: Caller, effort: Effort
    ) -> None:
        # Another request may have been answered since this one looked. Between here and the
        # batcher nothing is awaited, so what is asked is asked once.
        for key, packed in self._memory.get_many(questions).items():
            answer = self._engine.unpack(packed, questions[key])
            if answer is not None:
                answers.add(questions[key], answer, "cache")
        left = {key: q for key, q in questions.items() if q in answers.missing}
        asked = {key: _Asked(question, caller.namespace) for key, question in left.items()}
        replies = await self._batcher.answers(asked, caller.deadline)
        effort.queue_s = max(effort.queue_s, replies.waited_s)
        if asked:
            self._metrics.observe_queue_wait(self._engine.source, replies.waited_s)
        effort.asked += replies.asked
        for key, value in replies.answers.items():
            source = "coalesced" if key in replies.shared else self._engine.source
            answers.add(questions[key], value, source)

    async def _ask(self, asked: Sequence[_Asked[Q]]) -> Sequence[A | Problem]:
        engine = self._engine
        with (
            batch_span(engine.source, engine.identity, len(asked)),
            self._metrics.time_engine(engine.source, len(asked)),
        ):
            return await self._engine.ask([one.question for one in asked])

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

    def _remember(self, answers: Mapping[bytes, tuple[_Asked[Q], A | Problem]]) -> None:
        values = {
            key: self._engine.pack(answer)
            for key, (_, answer) in answers.items()
            if not isinstance(answer, Problem)
        }
        self._memory.put_many(values)
        if self._shared is None:
            return
        for namespace, keys in _by_namespace({k: asked for k, (asked, _) in answers.items()}):
            known = {key: values[key] for key in keys if key in values}
            self._shared.put_soon(known, namespace, role=self._engine.source)
            unknown = [key for key in keys if key not in values]
            self._shared.release(unknown, namespace, role=self._engine.source)

    def _drop(self, asked: Mapping[bytes, _Asked[Q]]) -> None:
        if self._shared is not None:
            for namespace, keys in _by_namespace(asked):
                self._shared.release(keys, namespace, role=self._engine.source)


def _by_namespace(asked: Mapping[bytes, _Asked[Q]]) -> Iterable[tuple[str, list[bytes]]]:
    keys: dict[str, list[bytes]] = {}
    for key, one in asked.items():
        keys.setdefault(one.namespace, []).append(key)
    return keys.items()
