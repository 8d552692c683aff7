"""Resolution of questions to one engine: memory, then Redis, then another replica, then the engine.

1. `Resolver.lookup` reads this process's memory. Questions without an entry are `Answers.missing`.
2. `Resolver.recall` reads Redis, if it is configured.
3. `Resolver.resolve` recalls, then claims a lease on each missing question.
4. Questions with a lease of this process go to the batcher. For the others it waits until the
   replica that holds the lease stores the answer, or until this process takes the lease over.
5. Each answer of the engine is validated, then stored in memory, then in Redis. Problems are not.
6. The leases of questions without an answer are released, so that other replicas can ask them.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from typing import Generic, TypeVar

from medreward.admission import Caller
from medreward.cache.memory import MemoryTier
from medreward.cache.redis import RedisTier
from medreward.errors import Problem
from medreward.inference.answers import Answers
from medreward.inference.batcher import PAST_DEADLINE, Batcher, Room
from medreward.inference.bindings import Binding
from medreward.offload import Offloader
from medreward.telemetry.metrics import Metrics

Q = TypeVar("Q", bound=Hashable)
A = TypeVar("A")


class Resolver(Generic[Q, A]):
    """Resolves questions to one engine, from the cheapest source that has the answer."""

    def __init__(
        self,
        binding: Binding[Q, A],
        memory: MemoryTier,
        metrics: Metrics,
        redis: RedisTier | None = None,
        offload: Offloader | None = None,
        *,
        on_outcome: Callable[[Problem | None], None] = lambda _: None,
    ) -> None:
        self._binding = binding
        self._memory = memory
        self._metrics = metrics
        self._redis = redis
        self._offload = offload or Offloader()
        self.on_outcome = on_outcome
        """Called once a batch: with its first problem, or with None if any question got an answer."""
        self._batcher: Batcher[Q, A] = Batcher(binding, self, metrics, self._offload)

    def lookup(self, questions: Iterable[Q], caller: Caller) -> Answers[Q, A]:
        """Return the answers in this process's memory; the other questions are `missing`.

        It awaits nothing, so large requests run it in the worker thread.
        """
        started_s = time.perf_counter()
        answers: Answers[Q, A] = Answers()
        binding = self._binding
        keys = binding.keys(dict.fromkeys(questions), caller.namespace)
        stored = self._memory.get_many(keys.values())
        for question, key in keys.items():
            packed = stored.get(key)
            answer = None if packed is None else binding.unpack(packed, question)
            if answer is None:
                answers.missing[key] = question
            else:
                answers.add(question, answer, "cache")
        answers.cached = len(keys) - len(answers.missing)
        for result, count in (("hit", answers.cached), ("miss", len(answers.missing))):
            if count:
                self._metrics.cache[binding.role, "memory", result].inc(count)
        answers.timings.cache_s = time.perf_counter() - started_s
        return answers

    async def recall(self, answers: Answers[Q, A], caller: Caller) -> None:
        """Fill missing answers from Redis; it is read once for each request."""
        if self._redis is None or answers.is_recalled or not answers.missing:
            return
        started_s = time.perf_counter()
        keys, role = list(answers.missing), self._binding.role
        found = await self._redis.get_many(keys, caller.namespace, role=role)
        await self._accept(found, answers)
        answers.is_recalled = True
        answers.timings.cache_s += time.perf_counter() - started_s

    def room(self, answers: Answers[Q, A], caller: Caller) -> Room | None:
        """Return the questions that the engine has time for; None if it has for all missing ones."""
        return self._batcher.room(len(answers.missing), caller.deadline)

    def unasked(self, answers: Answers[Q, A]) -> set[Q]:
        """Return the missing questions that no other request has asked already."""
        is_asking = self._batcher.is_asking
        return {question for key, question in answers.missing.items() if not is_asking(key)}

    async def resolve(self, answers: Answers[Q, A], caller: Caller) -> None:
        """Fill the missing answers: from Redis, from other replicas, or by asking the engine."""
        await self.recall(answers, caller)
        if not answers.missing:
            return
        started_s = time.perf_counter()
        if self._redis is None:
            await self._ask_engine(dict(answers.missing), answers, caller)
        else:
            await self._ask_or_wait(self._redis, answers, caller)
        answers.timings.engine_s += time.perf_counter() - started_s

    async def aclose(self) -> None:
        """Cancel the batches; callers that still wait get a problem."""
        await self._batcher.aclose()

    def on_answers(self, namespace: str, answers: Mapping[bytes, A | Problem]) -> None:
        """Store the answers of a batch, and release the leases of questions that got none.

        Called by the batcher, as its `Listener`.
        """
        packed = {
            key: self._binding.pack(answer)
            for key, answer in answers.items()
            if not isinstance(answer, Problem)
        }
        self._memory.put_many(packed)
        if self._redis is not None:
            self._redis.put_soon(packed, namespace, role=self._binding.role)
            self.on_abandoned(namespace, answers.keys() - packed.keys())

    def on_abandoned(self, namespace: str, keys: Collection[bytes]) -> None:
        """Release the leases of questions without an answer, so that other replicas can ask now."""
        if self._redis is not None:
            self._redis.release(keys, namespace, role=self._binding.role)

    async def _accept(self, found: Mapping[bytes, bytes], answers: Answers[Q, A]) -> None:
        """Validate and take the answers of other replicas; invalid ones leave a question missing."""
        questions = {key: answers.missing[key] for key in found}
        valid = await self._offload.run(lambda: self._validated(found, questions), len(found))
        for key, answer in valid.items():
            answers.fill(key, answer, "cache")
        self._memory.put_many({key: found[key] for key in valid})

    def _validated(
        self, found: Mapping[bytes, bytes], questions: Mapping[bytes, Q]
    ) -> dict[bytes, A]:
        """Validate entries of other replicas as strictly as an engine's replies."""
        valid = {}
        for key, packed in found.items():
            answer = self._binding.unpack(packed, questions[key])
            if answer is not None and self._binding.check(answer, questions[key]):
                valid[key] = answer
        return valid

    async def _ask_or_wait(self, redis: RedisTier, answers: Answers[Q, A], caller: Caller) -> None:
        """Ask the questions leased here; wait for those leased elsewhere, or take them over."""
        every = keys = list(answers.missing)
        namespace, role = caller.namespace, self._binding.role
        try:
            async with asyncio.TaskGroup() as tasks:
                claimed = await redis.claim(keys, namespace, role=role, hold_s=self._hold_s(caller))
                while True:
                    await self._accept(claimed.answered, answers)
                    # An entry that is neither a lease nor a valid answer was written by an error;
                    # its question is asked here, and the answer overwrites it.
                    mine = {
                        key: answers.missing[key]
                        for key in keys
                        if key in answers.missing and key not in claimed.in_flight
                    }
                    # Not awaited: while the engine answers these, other replicas' answers may come.
                    tasks.create_task(self._ask_engine(mine, answers, caller))
                    keys = list(claimed.in_flight)
                    if not keys or not caller.deadline.left_s:
                        break
                    claimed = await redis.wait_for_others(
                        keys,
                        caller.deadline.at_s,
                        namespace,
                        role=role,
                        hold_s=self._hold_s(caller),
                    )
                for key in keys:
                    answers.fill(key, PAST_DEADLINE, role)
        finally:
            # Also after a cancellation: a lease of a question that this process is not asking
            # would make other replicas wait until it ends.
            unasked = [key for key in every if not self._batcher.is_asking(key)]
            redis.release(unasked, namespace, role=role)

    def _hold_s(self, caller: Caller) -> float:
        """Return the seconds for which a lease is renewed: to the deadline, plus one batch."""
        return caller.deadline.left_s + self._binding.timeout_s

    async def _ask_engine(
        self, questions: Mapping[bytes, Q], answers: Answers[Q, A], caller: Caller
    ) -> None:
        # Memory is read again, since another request may have stored the answer since `lookup`.
        # Nothing is awaited from here to the batcher's queue, so equal questions are asked once.
        for key, packed in self._memory.get_many(questions).items():
            answer = self._binding.unpack(packed, questions[key])
            if answer is not None:
                answers.fill(key, answer, "cache")
        left = {key: q for key, q in questions.items() if key in answers.missing}
        if not left:
            return
        replies = await self._batcher.ask(left, caller)
        role, timings = self._binding.role, answers.timings
        self._metrics.queue_wait[role].observe(replies.waited_s)
        timings.queue_s = max(timings.queue_s, replies.waited_s)
        timings.asked += replies.asked
        for key, value in replies.answers.items():
            answers.fill(key, value, "coalesced" if key in replies.shared else role)
