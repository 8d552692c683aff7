"""Stage 5: equal questions are asked once, in batches; each caller gets its answer or learns why not.

A question goes by its key. There is no waiting for a batch to fill: what has gathered while the
engine was busy is the next batch. Callers get their turn by what they have had so far, so thousands
of questions of one do not hold up the few of another (start-time fair queueing; Goyal, Vin and
Cheng 1996, with one unit of service a question).
"""

import asyncio
import heapq
import time
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import count
from typing import Generic, TypeVar

import structlog

from medreward.admission import Deadline
from medreward.engines.capacity import Capacity
from medreward.errors import (
    BackendDown,
    DeadlinePassed,
    EngineError,
    Failures,
    NonsenseReply,
    Problem,
    ProblemKind,
)
from medreward.offload import Pace

Q = TypeVar("Q")
A = TypeVar("A")

TURN = 8
"""Questions that a caller puts into a batch before it is the next one's turn; about a group."""

SPARE_PART = 8
"""For so many batches of an engine's capacity, one more may be asked for callers of one turn."""

log = structlog.get_logger(__name__)

STOPPED = BackendDown("the service stopped")
PAST_DEADLINE = Problem(
    ProblemKind.DEADLINE, "the request's deadline passed before the answer came"
)

AskBatch = Callable[[Sequence[Q]], Awaitable[Sequence[A | Problem]]]


class _Ticket(Generic[Q, A]):
    """One question on its way, and how many callers still wait for it."""

    __slots__ = ("_started_s", "answer", "callers", "question")

    def __init__(self, question: Q) -> None:
        self.question = question
        self.answer: asyncio.Future[A | Problem] = asyncio.get_running_loop().create_future()
        self.callers = 0
        self._started_s: float | None = None

    def start(self) -> None:
        """Note that its batch is on the way."""
        self._started_s = time.monotonic()

    @property
    def is_started(self) -> bool:
        """Whether its batch is, or was, on the way."""
        return self._started_s is not None

    def waited_s(self, since_s: float) -> float:
        """Seconds from then on that it waited for its batch, or has waited so far."""
        return max(0.0, (self._started_s or time.monotonic()) - since_s)


@dataclass(order=True, slots=True)
class _Line:
    """What one caller waits for, in its order among the other callers."""

    served: float
    """Questions it has had asked, counted from where the others stood when it came."""
    deadline_s: float
    number: int
    keys: list[bytes] = field(compare=False)
    """The next one stands last."""


@dataclass(frozen=True, slots=True)
class Replies(Generic[A]):
    """What one caller's questions came to."""

    answers: Mapping[bytes, A | Problem]
    shared: AbstractSet[bytes] = frozenset()
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
        remember: Callable[[Mapping[bytes, tuple[Q, A | Problem]]], None],
        drop: Callable[[Mapping[bytes, Q]], None],
        note: Callable[[Problem | None], None],
        settle: Callable[[Q, A], A | Problem],
        group_of: Callable[[Q], Hashable],
        tokens_of: Callable[[Q], int],
        failures: Failures,
        capacity: Capacity,
        timeout_s: float,
        pace: Pace | None = None,
    ) -> None:
        self._pace = pace or Pace()
        self._ask = ask
        self._remember = remember
        self._drop = drop
        self._note = note
        self._settle = settle
        self._group_of = group_of
        self._tokens_of = tokens_of
        self._failures = failures
        self._capacity = capacity
        self._timeout_s = timeout_s
        self._waiting: dict[bytes, _Ticket[Q, A]] = {}
        self._asking: dict[bytes, _Ticket[Q, A]] = {}
        self._few: list[_Line] = []
        self._many: list[_Line] = []
        """Heaps of callers, apart: who wants one turn shares no batch with who wants many."""
        self._spare = max(1, capacity.concurrency // SPARE_PART)
        self._line_numbers = count()
        self._share = 0.0
        """Where a caller stands that has had its share ever since the first of the lines formed."""
        self._batches: dict[asyncio.Task[None], bool] = {}
        """Those on their way, and whether they are of few questions."""
        self._closed = False

    @property
    def depth(self) -> int:
        """How many questions wait for their batch."""
        return len(self._waiting)

    def is_asking(self, key: bytes) -> bool:
        """Whether a question waits for its batch, or its batch is on the way."""
        return key in self._waiting or key in self._asking

    async def answers(self, questions: Mapping[bytes, Q], deadline: Deadline) -> Replies[A]:
        """Answer each question; where the deadline comes first, the answer is a problem."""
        if not questions or self._closed:
            return Replies(dict.fromkeys(questions, self._failures.problem(STOPPED)))
        joined_s = time.monotonic()
        shared = {key for key in questions if self.is_asking(key)}
        tickets = {key: self._join(key, question) for key, question in questions.items()}
        line = self._line_up(tickets, deadline)
        self._start_batches()
        try:
            waits = [ticket.answer for ticket in tickets.values()]
            await asyncio.wait(waits, timeout=deadline.left_s)
            return Replies(
                answers={
                    key: ticket.answer.result() if ticket.answer.done() else PAST_DEADLINE
                    for key, ticket in tickets.items()
                },
                shared=shared,
                asked=sum(t.is_started for key, t in tickets.items() if key not in shared),
                waited_s=max(ticket.waited_s(joined_s) for ticket in tickets.values()),
            )
        finally:
            # Others who wait for one of its questions have that in lines of their own.
            line.clear()
            # Where no caller is left, nobody would read the answer.
            dropped = {k: t.question for k, t in tickets.items() if self._leave(k, t)}
            if dropped:
                self._drop(dropped)

    async def aclose(self) -> None:
        """Stop asking; whoever still waits gets a problem."""
        self._closed = True
        batches = list(self._batches)
        for batch in batches:
            batch.cancel()
        await asyncio.gather(*batches, return_exceptions=True)
        for ticket in (*self._waiting.values(), *self._asking.values()):
            _resolve(ticket, self._failures.problem(STOPPED))

    def _join(self, key: bytes, question: Q) -> _Ticket[Q, A]:
        ticket = self._asking.get(key) or self._waiting.get(key)
        if ticket is None:
            ticket = self._waiting[key] = _Ticket(question)
        ticket.callers += 1
        return ticket

    def _line_up(self, tickets: dict[bytes, _Ticket[Q, A]], deadline: Deadline) -> list[bytes]:
        """Give a caller its place among the others; a question may stand in several lines."""
        keys = [key for key in reversed(tickets) if key in self._waiting]
        if keys:
            # Nobody earns a lead by having been away, nor by coming while another waits its turn.
            fronts = [lines[0].served for lines in (self._few, self._many) if lines]
            self._share = max(self._share, min(fronts)) if fronts else 0.0
            line = _Line(self._share, deadline.at_s, next(self._line_numbers), keys)
            heapq.heappush(self._few if len(keys) <= TURN else self._many, line)
        return keys

    def _leave(self, key: bytes, ticket: _Ticket[Q, A]) -> bool:
        """Note that a caller has gone; tell whether its question is dropped with that."""
        ticket.callers -= 1
        if ticket.callers or self._waiting.get(key) is not ticket:
            return False
        del self._waiting[key]
        return True

    def _start_batches(self) -> None:
        while self._waiting and (lines := self._next_lines()):
            is_of_few = lines is self._few
            tickets = self._next_batch(lines)
            if not tickets:
                continue
            for key, ticket in tickets.items():
                self._asking[key] = ticket
                ticket.start()
            task = asyncio.create_task(self._run_batch(tickets))
            self._batches[task] = is_of_few
            task.add_done_callback(self._finish_batch)

    def _next_lines(self) -> list[_Line] | None:
        """Tell whose batch is next, if there is room for one.

        Large callers may take up an engine's whole capacity. For the small ones there is a little
        more, so that a single sample does not wait for thousands.
        """
        has_room = len(self._batches) < self._capacity.concurrency
        has_spare = sum(self._batches.values()) < self._spare
        if self._few and (has_room or has_spare):
            is_first = not self._many or self._few[0].served <= self._many[0].served
            return self._few if is_first or not has_room else self._many
        return self._many if self._many and has_room else None

    def _next_batch(self, lines: list[_Line]) -> dict[bytes, _Ticket[Q, A]]:
        """Take what is asked next, turn by turn, and lay what shares a group side by side."""
        taken: dict[bytes, _Ticket[Q, A]] = {}
        tokens = 0
        while lines and not self._is_full(len(taken), tokens):
            line = heapq.heappop(lines)
            turn = 0
            while line.keys and turn < TURN and not self._is_full(len(taken), tokens):
                key = line.keys.pop()
                # It may have been taken from another line, or left.
                ticket = self._waiting.pop(key, None)
                if ticket is not None:
                    taken[key] = ticket
                    tokens += self._tokens_of(ticket.question)
                    turn += 1
            line.served += turn
            self._share += turn / (1 + len(self._few) + len(self._many))
            if line.keys:
                heapq.heappush(lines, line)
        if not self._waiting:
            self._few.clear()
            self._many.clear()
        return self._by_group(taken)

    def _is_full(self, questions: int, tokens: int) -> bool:
        limit = self._capacity.tokens
        return questions >= self._capacity.batch or (limit is not None and tokens >= limit)

    def _by_group(self, taken: dict[bytes, _Ticket[Q, A]]) -> dict[bytes, _Ticket[Q, A]]:
        groups: dict[Hashable, list[bytes]] = {}
        for key, ticket in taken.items():
            groups.setdefault(self._group_of(ticket.question), []).append(key)
        return {key: taken[key] for group in groups.values() for key in group}

    def _finish_batch(self, task: asyncio.Task[None]) -> None:
        self._batches.pop(task, None)
        if not self._closed:
            self._start_batches()

    async def _run_batch(self, tickets: Mapping[bytes, _Ticket[Q, A]]) -> None:
        answers: dict[bytes, A | Problem] = {}
        try:
            found = await self._answer([ticket.question for ticket in tickets.values()])
            answers = dict(zip(tickets, found, strict=True))
        finally:
            # Whatever happened, nobody is left waiting, and the questions can be asked again.
            lost = self._failures.problem(BackendDown("the batch was lost"))
            for key, ticket in tickets.items():
                del self._asking[key]
                _resolve(ticket, answers.get(key, lost))
            # Also what came too late for its callers is worth remembering.
            self._remember({k: (t.question, answers.get(k, lost)) for k, t in tickets.items()})
        self._note(_common_problem(answers.values()))

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
        return await self._pace.do(lambda: self._settled(questions, answers), len(questions))

    def _settled(self, questions: Sequence[Q], answers: Sequence[A | Problem]) -> list[A | Problem]:
        return [
            answer if isinstance(answer, Problem) else self._settle(question, answer)
            for question, answer in zip(questions, answers, strict=True)
        ]

    async def _halves(self, questions: list[Q], error: Exception) -> list[A | Problem]:
        # The message may quote the text that broke the engine, so only its type is told.
        reason = type(error).__name__
        if len(questions) == 1:
            log.error("engine_raised", engine=self._failures.engine, error=reason)
            return [self._failures.problem(BackendDown(f"it failed with {reason}"))]
        middle = len(questions) // 2
        return [*await self._answer(questions[:middle]), *await self._answer(questions[middle:])]


def _resolve(ticket: _Ticket[Q, A], answer: A | Problem) -> None:
    if not ticket.answer.done():
        ticket.answer.set_result(answer)


def _common_problem(answers: Iterable[object]) -> Problem | None:
    """The problem of a batch that got no answer at all, where trying again might help."""
    problems = [a if isinstance(a, Problem) and a.retryable else None for a in answers]
    return problems[0] if problems and all(problems) else None
