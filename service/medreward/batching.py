"""Stage 5: equal questions are asked once, in batches; each caller gets its answer or learns why not.

A question is anything hashable. There is no waiting for a batch to fill: what has gathered while
the engine was busy is the next batch.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

import structlog

from medreward.admission import Deadline
from medreward.errors import (
    BackendDown,
    DeadlinePassed,
    EngineError,
    Failures,
    NonsenseReply,
    Problem,
    ProblemKind,
)
from medreward.judging.judge import Capacity

Q = TypeVar("Q", bound=Hashable)
A = TypeVar("A")

log = structlog.get_logger(__name__)

STOPPED = BackendDown("the service stopped")

AskBatch = Callable[[Sequence[Q]], Awaitable[Sequence[A | Problem]]]


class _Ticket(Generic[A]):
    """One question on its way, and how many callers still wait for it."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[A | Problem] = asyncio.get_running_loop().create_future()
        self.callers = 0
        self._joined_s = time.monotonic()
        self._started_s: float | None = None

    def start(self) -> None:
        """Note that its batch is on the way."""
        self._started_s = time.monotonic()

    @property
    def is_started(self) -> bool:
        """Whether its batch is, or was, on the way."""
        return self._started_s is not None

    @property
    def waited_s(self) -> float:
        """Seconds it waited for its batch, or has waited so far."""
        return (self._started_s or time.monotonic()) - self._joined_s


@dataclass(frozen=True, slots=True)
class Replies(Generic[Q, A]):
    """What one caller's questions came to."""

    answers: Mapping[Q, A | Problem]
    shared: AbstractSet[Q] = frozenset()
    """Those that somebody else had asked before."""
    asked: int = 0
    """Those of its own that were put to the engine."""
    waited_s: float = 0.0
    """The longest that one waited for its batch."""


class Batcher(Generic[Q, A]):
    """Asks one engine on behalf of every request at hand.

    What waits here is bounded by the permits that its callers hold.
    """

    def __init__(
        self,
        ask: AskBatch[Q, A],
        *,
        remember: Callable[[Mapping[Q, A]], Awaitable[None]],
        note: Callable[[Problem | None], None],
        is_sound: Callable[[A, Q], bool],
        failures: Failures,
        capacity: Capacity,
        timeout_s: float,
    ) -> None:
        self._ask = ask
        self._remember = remember
        self._note = note
        self._is_sound = is_sound
        self._failures = failures
        self._capacity = capacity
        self._timeout_s = timeout_s
        self._waiting: dict[Q, _Ticket[A]] = {}
        self._asking: dict[Q, _Ticket[A]] = {}
        self._batches: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def depth(self) -> int:
        """How many questions wait for their batch."""
        return len(self._waiting)

    async def answers(self, questions: Iterable[Q], deadline: Deadline) -> Replies[Q, A]:
        """Answer each distinct question; where the deadline comes first, the answer is a problem."""
        wanted = dict.fromkeys(questions)
        if not wanted or self._closed:
            return Replies(dict.fromkeys(wanted, self._failures.problem(STOPPED)))
        shared = {q for q in wanted if q in self._waiting or q in self._asking}
        tickets = {question: self._join(question) for question in wanted}
        self._start_batches()
        try:
            waits = [ticket.answer for ticket in tickets.values()]
            await asyncio.wait(waits, timeout=deadline.left_s)
            return Replies(
                answers={
                    question: ticket.answer.result() if ticket.answer.done() else _past_deadline()
                    for question, ticket in tickets.items()
                },
                shared=shared,
                asked=sum(t.is_started for q, t in tickets.items() if q not in shared),
                waited_s=max(ticket.waited_s for ticket in tickets.values()),
            )
        finally:
            for question, ticket in tickets.items():
                self._leave(question, ticket)

    async def aclose(self) -> None:
        """Stop asking; whoever still waits gets a problem."""
        self._closed = True
        batches = list(self._batches)
        for batch in batches:
            batch.cancel()
        await asyncio.gather(*batches, return_exceptions=True)
        for ticket in (*self._waiting.values(), *self._asking.values()):
            _resolve(ticket, self._failures.problem(STOPPED))

    def _join(self, question: Q) -> _Ticket[A]:
        ticket = self._asking.get(question) or self._waiting.setdefault(question, _Ticket())
        ticket.callers += 1
        return ticket

    def _leave(self, question: Q, ticket: _Ticket[A]) -> None:
        ticket.callers -= 1
        if ticket.callers == 0 and self._waiting.get(question) is ticket:
            # Its callers have gone: nobody would read the answer.
            del self._waiting[question]

    def _start_batches(self) -> None:
        while self._waiting and len(self._batches) < self._capacity.concurrency:
            questions = list(islice(self._waiting, self._capacity.batch))
            for question in questions:
                ticket = self._asking[question] = self._waiting.pop(question)
                ticket.start()
            task = asyncio.create_task(self._run_batch(questions))
            self._batches.add(task)
            task.add_done_callback(self._finish_batch)

    def _finish_batch(self, task: asyncio.Task[None]) -> None:
        self._batches.discard(task)
        if not self._closed:
            self._start_batches()

    async def _run_batch(self, questions: list[Q]) -> None:
        answers: dict[Q, A | Problem] = {}
        try:
            answers = dict(zip(questions, await self._answer(questions), strict=True))
        finally:
            # Whatever happened, nobody is left waiting, and the questions can be asked again.
            lost = self._failures.problem(BackendDown("the batch was lost"))
            for question in questions:
                _resolve(self._asking.pop(question), answers.get(question, lost))
        self._note(_common_problem(answers.values()))
        # After the callers are served: also what came too late for them is worth remembering.
        await self._remember({q: a for q, a in answers.items() if not isinstance(a, Problem)})

    async def _answer(self, questions: list[Q]) -> list[A | Problem]:
        """Ask once; where a question makes the engine fall over, find it and spare the others."""
        try:
            async with asyncio.timeout(self._timeout_s):
                answers = list(await self._ask(questions))
        except TimeoutError:
            late = DeadlinePassed(f"no answer within {self._timeout_s:g} s")
            return [self._failures.problem(late)] * len(questions)
        except EngineError as exc:
            return [self._failures.problem(exc)] * len(questions)
        except Exception as exc:  # noqa: BLE001 - an engine may raise anything; none may cost a reply
            return await self._halves(questions, exc)
        if len(answers) != len(questions):
            nonsense = NonsenseReply(f"{len(answers)} answers to {len(questions)} questions")
            return [self._failures.problem(nonsense)] * len(questions)
        return [self._checked(q, a) for q, a in zip(questions, answers, strict=True)]

    async def _halves(self, questions: list[Q], error: Exception) -> list[A | Problem]:
        # The message may quote the text that broke the engine, so only its type is told.
        reason = type(error).__name__
        if len(questions) == 1:
            log.error("engine_raised", engine=self._failures.engine, error=reason)
            return [self._failures.problem(BackendDown(f"it failed with {reason}"))]
        middle = len(questions) // 2
        return [*await self._answer(questions[:middle]), *await self._answer(questions[middle:])]

    def _checked(self, question: Q, answer: A | Problem) -> A | Problem:
        if isinstance(answer, Problem) or self._sounds(question, answer):
            return answer
        return self._failures.problem(NonsenseReply("what it said is no answer"))

    def _sounds(self, question: Q, answer: A) -> bool:
        try:
            return self._is_sound(answer, question)
        except Exception:  # noqa: BLE001 - not even of the right type; looking at it may raise anything
            return False


def _resolve(ticket: _Ticket[A], answer: A | Problem) -> None:
    if not ticket.answer.done():
        ticket.answer.set_result(answer)


def _common_problem(answers: Iterable[object]) -> Problem | None:
    """The problem of a batch that got no answer at all, where trying again might help."""
    problems = [a if isinstance(a, Problem) and a.retryable else None for a in answers]
    return problems[0] if problems and all(problems) else None


def _past_deadline() -> Problem:
    return Problem(ProblemKind.DEADLINE, "the request's deadline passed before the answer came")
