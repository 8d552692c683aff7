"""Batches for one engine: equal questions are asked once, and each caller gets an answer or a problem.

A batch never waits to fill up: it takes the questions that queued while the engine was busy.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial
from typing import Generic, NamedTuple, Protocol, TypeVar

import structlog

from medreward.admission import Caller, Deadline
from medreward.errors import (
    BackendDown,
    DeadlinePassed,
    EngineError,
    NonsenseReply,
    Problem,
    ProblemKind,
)
from medreward.inference.bindings import Binding
from medreward.inference.fair_queue import Batch, FairQueue
from medreward.inference.throughput import Throughput
from medreward.offload import Offloader
from medreward.telemetry.metrics import Metrics
from medreward.telemetry.tracing import batch_span

Q = TypeVar("Q", bound=Hashable)
A = TypeVar("A")
A_contra = TypeVar("A_contra", contravariant=True)

log = structlog.get_logger(__name__)

USABLE_SHARE = 0.8
"""The share of the time until a deadline that is promised: no two batches take equally long."""

STOPPED = BackendDown("the service stopped")
LOST = BackendDown("the batch was lost")
PAST_DEADLINE = Problem(
    ProblemKind.DEADLINE, "the request's deadline passed before the answer came"
)


class Listener(Protocol[A_contra]):
    """Receives the outcome of every question, with the keys of one namespace in each call."""

    def on_answers(self, namespace: str, answers: Mapping[bytes, A_contra | Problem]) -> None:
        """Store the outcomes of a batch; called before its callers continue."""
        ...

    def on_abandoned(self, namespace: str, keys: Collection[bytes]) -> None:
        """Release questions that were never asked, because their last caller left."""
        ...

    @property
    def on_outcome(self) -> Callable[[Problem | None], None]:
        """Called once a batch: with its first problem, or with None if any question got an answer."""
        ...


@dataclass(eq=False, slots=True)
class _Ticket(Generic[A]):
    """A question in the queue or in a batch, shared by all callers who asked it."""

    namespace: str
    answer: asyncio.Future[A | Problem]
    started_s: float | None = None
    """Start of its batch, by `time.monotonic`; None while it waits."""

    def resolve(self, answer: A | Problem) -> None:
        """Set the answer for every caller that waits; a second call has no effect."""
        if not self.answer.done():
            self.answer.set_result(answer)


@dataclass(frozen=True, slots=True)
class Replies(Generic[A]):
    """The outcome of one caller's questions."""

    answers: Mapping[bytes, A | Problem]
    shared: AbstractSet[bytes] = frozenset()
    """Keys of questions that another caller had asked before."""
    asked: int = 0
    """Questions of its own that were put to the engine."""
    waited_s: float = 0.0
    """The longest that one of them waited for its batch."""


class Room(NamedTuple):
    """The questions of one request that an engine has time for."""

    questions: int
    """As many as it answers by the deadline after those ahead, but at least a few batches."""
    per_s: float
    """Questions that it answers in a second."""
    wait_s: float
    """Seconds until it has answered those ahead."""


class Batcher(Generic[Q, A]):
    """Runs the batches of a queue on one engine, on behalf of all requests.

    Its queue has no limit of its own: the permits of its callers bound the number of questions.
    """

    def __init__(
        self, binding: Binding[Q, A], listener: Listener[A], metrics: Metrics, offload: Offloader
    ) -> None:
        self._binding = binding
        self._listener = listener
        self._metrics = metrics
        self._offload = offload
        self._queue: FairQueue[Q] = FairQueue(
            binding.capacity, group=binding.group, tokens=binding.tokens
        )
        self._throughput = Throughput(binding.capacity.concurrency)
        self._tickets: dict[bytes, _Ticket[A]] = {}
        """The tickets of questions that wait or are in a batch, by key."""
        self._batches: dict[asyncio.Task[None], Batch[Q]] = {}
        self._closed = False
        metrics.queue_depth[binding.role].set_function(lambda: self.depth)

    @property
    def depth(self) -> int:
        """The number of questions that wait for their batch."""
        return len(self._queue.entries)

    def is_asking(self, key: bytes) -> bool:
        """Return whether a question waits for its batch, or is in one."""
        return key in self._tickets

    def room(self, questions: int, deadline: Deadline) -> Room | None:
        """Return the questions that the engine has time for; None if it has for so many.

        It has before its speed is measured, and for a few batches in any case: the queue is fair,
        so they wait for no other caller's thousands; and an engine that stalled is measured again.
        """
        capacity = self._binding.capacity
        # Twice what it works on at once, so that some wait, since the speed is measured only then.
        least = 2 * capacity.batch * capacity.concurrency
        per_s = self._throughput.per_s if questions > least else None
        if per_s is None:
            return None
        ahead = len(self._tickets)
        most = max(least, int(USABLE_SHARE * per_s * deadline.left_s) - ahead)
        return Room(most, per_s, ahead / per_s) if questions > most else None

    async def ask(self, questions: Mapping[bytes, Q], caller: Caller) -> Replies[A]:
        """Return an answer to each question; those still open at the deadline get a problem."""
        if not questions or self._closed:
            return Replies(dict.fromkeys(questions, self._problem(STOPPED)))
        # Nothing is awaited up to `_start`: a second caller of the same question finds its ticket
        # either here or gone with its answer already stored, never between the two.
        joined_s = time.monotonic()
        shared = questions.keys() & self._tickets.keys()
        for key in questions.keys() - shared:
            answer = asyncio.get_running_loop().create_future()
            self._tickets[key] = _Ticket(caller.namespace, answer)
        tickets = {key: self._tickets[key] for key in questions}
        waiting = {key: q for key, q in questions.items() if tickets[key].started_s is None}
        flow, batches = self._queue.submit(waiting, caller.deadline.at_s)
        self._start(batches)
        try:
            waits = [ticket.answer for ticket in tickets.values()]
            await asyncio.wait(waits, timeout=caller.deadline.left_s)
            now_s = time.monotonic()
            return Replies(
                answers={
                    key: ticket.answer.result() if ticket.answer.done() else PAST_DEADLINE
                    for key, ticket in tickets.items()
                },
                shared=shared,
                asked=sum(t.started_s is not None for k, t in tickets.items() if k not in shared),
                waited_s=max(0.0, *((t.started_s or now_s) - joined_s for t in tickets.values())),
            )
        finally:
            # A flow whose questions were all taken has nothing to discard.
            abandoned = self._queue.discard(flow) if flow.entries else ()
            for key in abandoned:
                del self._tickets[key]
            if abandoned:
                self._listener.on_abandoned(caller.namespace, abandoned)

    async def aclose(self) -> None:
        """Cancel the batches; callers that still wait get a problem."""
        self._closed = True
        batches = list(self._batches)
        for batch in batches:
            batch.cancel()
        await asyncio.gather(*batches, return_exceptions=True)
        for ticket in self._tickets.values():
            ticket.resolve(self._problem(STOPPED))

    def _problem(self, error: EngineError) -> Problem:
        return self._binding.failures.problem(error)

    def _start(self, batches: Iterable[Batch[Q]]) -> None:
        now_s = time.monotonic()
        for batch in batches:
            for key in batch.questions:
                self._tickets[key].started_s = now_s
            task = asyncio.create_task(self._run(batch))
            self._batches[task] = batch
            task.add_done_callback(self._finish)
        self._throughput.note_backlog(is_waiting=bool(self._queue.entries))

    def _finish(self, task: asyncio.Task[None]) -> None:
        self._queue.finish(self._batches.pop(task))
        self._start(() if self._closed else self._queue.startable())

    async def _run(self, batch: Batch[Q]) -> None:
        answers: Sequence[A | Problem] = ()
        try:
            answers = await self._ask(list(batch.questions.values()))
        finally:
            # Even if the task was cancelled, each ticket is resolved and removed: no caller waits
            # until its deadline, and a retry makes a new ticket.
            answers = answers or [self._problem(LOST)] * len(batch.questions)
            self._resolve(dict(zip(batch.questions, answers, strict=True)))
        self._throughput.note_answers(sum(not isinstance(a, Problem) for a in answers))
        self._listener.on_outcome(_common_problem(answers))

    def _resolve(self, answers: Mapping[bytes, A | Problem]) -> None:
        # No `await` between removing the tickets and storing the answers: otherwise an equal
        # question could arrive in between, find neither, and be asked twice.
        by_namespace: dict[str, dict[bytes, A | Problem]] = {}
        for key, answer in answers.items():
            ticket = self._tickets.pop(key)
            ticket.resolve(answer)
            by_namespace.setdefault(ticket.namespace, {})[key] = answer
        # Answers that came after their callers' deadlines are stored too, for the next request.
        for namespace, some in by_namespace.items():
            self._listener.on_answers(namespace, some)

    async def _ask(self, questions: list[Q]) -> Sequence[A | Problem]:
        """Send one batch; if the engine raises anything else than an `EngineError`, bisect it."""
        error: EngineError
        try:
            async with asyncio.timeout(self._binding.timeout_s):
                answers = list(await self._call(questions))
        except TimeoutError:
            error = DeadlinePassed(f"no answer within {self._binding.timeout_s:g} s")
        except EngineError as exc:
            error = exc
        except Exception as exc:  # noqa: BLE001 - an engine may raise anything; callers still get a reply
            return await self._bisect(questions, type(exc).__name__)
        else:
            if len(answers) == len(questions):
                validate = partial(self._binding.validate_all, questions, answers)
                return await self._offload.run(validate, len(questions))
            error = NonsenseReply(f"{len(answers)} answers to {len(questions)} questions")
        return [self._problem(error)] * len(questions)

    async def _call(self, questions: Sequence[Q]) -> Sequence[A | Problem]:
        binding, number = self._binding, len(questions)
        self._metrics.batch_size[binding.role].observe(number)
        if binding.role == "judge":
            self._metrics.judge_calls.inc(number)
        started_s = time.perf_counter()
        try:
            with batch_span(binding.role, binding.identity, number):
                return await binding.ask(questions)
        finally:
            # Failed batches are timed too: a timeout is the slowest batch of all.
            seconds = time.perf_counter() - started_s
            self._metrics.engine_seconds[binding.role].observe(seconds)

    async def _bisect(self, questions: list[Q], error: str) -> Sequence[A | Problem]:
        # Halving isolates the one question that breaks the engine; the others get their answers.
        # The error's message may quote that question's text, so only its type is logged.
        if len(questions) == 1:
            log.error("engine_raised", engine=self._binding.failures.engine, error=error)
            return [self._problem(BackendDown(f"it failed with {error}"))]
        middle = len(questions) // 2
        return [*await self._ask(questions[:middle]), *await self._ask(questions[middle:])]


def _common_problem(answers: Iterable[object]) -> Problem | None:
    """Return the first problem if all answers are retryable problems; else None."""
    problems = [a if isinstance(a, Problem) and a.retryable else None for a in answers]
    return problems[0] if problems and all(problems) else None
