"""The batcher: equal questions once, trouble where it belongs, and no caller left waiting."""

import asyncio
import tracemalloc
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import pytest

from medreward.admission import Deadline
from medreward.engines.capacity import Capacity
from medreward.errors import (
    JUDGE_FAILURES,
    BackendDown,
    DeadlinePassed,
    EngineError,
    NonsenseReply,
    Problem,
    ProblemKind,
)
from medreward.inference.batcher import Batcher

Ask = Callable[[Sequence[str]], Awaitable[Sequence[int | Problem]]]

pytestmark = pytest.mark.anyio


class Lengths:
    """An engine that answers with a text's length, remembers its batches, and can be held."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.remembered: dict[str, int] = {}
        self.dropped: list[str] = []
        self.noted: list[ProblemKind | None] = []
        self.open = asyncio.Event()
        self.open.set()

    async def ask(self, texts: Sequence[str]) -> Sequence[int | Problem]:
        """Answer when the gate is open."""
        self.batches.append(list(texts))
        await self.open.wait()
        return [len(text) for text in texts]

    def note(self, problem: Problem | None) -> None:
        """Keep what became of a batch."""
        self.noted.append(problem.kind if problem else None)

    def remember(self, answers: Mapping[bytes, tuple[str, int | Problem]]) -> None:
        """Keep what was answered."""
        self.remembered |= {q: a for q, a in answers.values() if not isinstance(a, Problem)}

    def drop(self, questions: Mapping[bytes, str]) -> None:
        """Keep what was not asked after all."""
        self.dropped += questions.values()


def settle(_: str, answer: int) -> int | Problem:
    """Refuse what is no length."""
    return answer if answer >= 0 else JUDGE_FAILURES.problem(NonsenseReply("what?"))


def batcher(
    ask: Ask,
    remember: Lengths | None = None,
    *,
    batch: int = 4,
    tokens: int | None = None,
    timeout_s: float = 5.0,
) -> Batcher[str, int]:
    """A batcher in front of an engine; a question's group is its first letter."""
    return Batcher(
        ask,
        remember=(remember or Lengths()).remember,
        drop=(remember or Lengths()).drop,
        note=(remember or Lengths()).note,
        settle=settle,
        group_of=lambda question: question[0],
        tokens_of=len,
        failures=JUDGE_FAILURES,
        capacity=Capacity(batch=batch, tokens=tokens),
        timeout_s=timeout_s,
    )


def keyed(questions: Sequence[str]) -> dict[bytes, str]:
    """Questions by their keys."""
    return {question.encode(): question for question in questions}


async def answers(
    asked: Batcher[str, int], questions: Sequence[str], deadline_s: float = 5.0
) -> dict[str, int | Problem]:
    """What the batcher answers, without what it took."""
    replies = await asked.answers(keyed(questions), Deadline.after(deadline_s))
    return {key.decode(): answer for key, answer in replies.answers.items()}


async def test_equal_questions_are_asked_once() -> None:
    """However often a question comes, within a request or from several, the engine sees it once."""
    engine = Lengths()
    asked = batcher(engine.ask)

    replies = await asyncio.gather(*(answers(asked, ["a", "bb", "a"]) for _ in range(32)))

    assert replies == [{"a": 1, "bb": 2}] * 32
    assert sorted(q for batch in engine.batches for q in batch) == ["a", "bb"]


async def test_what_gathers_while_the_engine_is_busy_is_the_next_batch() -> None:
    """Nobody waits for a batch to fill, and none is larger than suits the engine."""
    engine = Lengths()
    engine.open.clear()
    asked = batcher(engine.ask)

    first = asyncio.create_task(answers(asked, ["a"]))
    await asyncio.sleep(0)
    others = [asyncio.create_task(answers(asked, [q])) for q in "bcdefg"]
    await asyncio.sleep(0)
    assert asked.depth == 6
    engine.open.set()
    await asyncio.gather(first, *others)

    assert engine.batches == [["a"], ["b", "c", "d", "e"], ["f", "g"]]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (BackendDown("gone"), ProblemKind.JUDGE_UNREACHABLE),
        (DeadlinePassed("late"), ProblemKind.JUDGE_TIMEOUT),
        (NonsenseReply("what"), ProblemKind.JUDGE_UNPARSEABLE),
        (TimeoutError(), ProblemKind.JUDGE_TIMEOUT),
    ],
)
async def test_an_engines_error_is_every_members_problem(
    error: EngineError | TimeoutError, kind: ProblemKind
) -> None:
    """An engine that cannot be asked leaves the whole batch without an answer, with the kind."""

    async def fail(_: Sequence[str]) -> Sequence[int]:
        raise error

    found = await answers(batcher(fail), ["a", "b"])

    assert [p.kind for p in found.values() if isinstance(p, Problem)] == [kind, kind]


async def test_a_question_that_breaks_the_engine_is_found_and_the_others_answered() -> None:
    """One poisonous text costs its neighbours nothing, and its words are not repeated."""

    async def fragile(texts: Sequence[str]) -> Sequence[int]:
        if "poison" in texts:
            raise ValueError("cannot take poison")
        return [len(text) for text in texts]

    found = await answers(batcher(fragile, batch=8), ["a", "b", "poison", "c", "d"])

    problem = found.pop("poison")
    assert found == {"a": 1, "b": 1, "c": 1, "d": 1}
    assert isinstance(problem, Problem)
    assert problem.kind is ProblemKind.JUDGE_UNREACHABLE
    assert "poison" not in problem.message


@pytest.mark.parametrize("reply", [[], [1], [1, 2, 3]])
async def test_the_wrong_number_of_answers_is_nonsense(reply: list[int]) -> None:
    """Nobody can tell whose answer is missing, so nobody gets one."""

    async def miscount(_: Sequence[str]) -> Sequence[int]:
        return reply

    found = await answers(batcher(miscount), ["a", "b"])

    assert {p.kind for p in found.values() if isinstance(p, Problem)} == {
        ProblemKind.JUDGE_UNPARSEABLE
    }
    assert len(found) == 2


async def test_an_unsound_answer_is_nonsense_and_is_not_remembered() -> None:
    """Only what is an answer is kept."""
    engine = Lengths()

    async def half_mad(texts: Sequence[str]) -> Sequence[int]:
        return [-1 if text == "b" else len(text) for text in texts]

    found = await answers(batcher(half_mad, engine), ["a", "b"])

    assert found["a"] == 1
    assert isinstance(found["b"], Problem)
    assert engine.remembered == {"a": 1}


async def test_an_engine_that_hangs_is_given_up() -> None:
    """After its time the batch has a problem, and the next batch is asked."""
    calls = []

    async def hang_once(texts: Sequence[str]) -> Sequence[int]:
        calls.append(texts)
        if len(calls) == 1:
            await asyncio.Event().wait()
        return [len(text) for text in texts]

    asked = batcher(hang_once, timeout_s=0.02)

    (problem,) = (await answers(asked, ["a"])).values()
    assert isinstance(problem, Problem)
    assert problem.kind is ProblemKind.JUDGE_TIMEOUT
    assert await answers(asked, ["a"]) == {"a": 1}


async def test_past_the_deadline_the_caller_gets_what_there_is() -> None:
    """Answers that came are given, the others are problems, and what comes later is remembered."""
    engine = Lengths()
    asked = batcher(engine.ask, engine, batch=1)
    await answers(asked, ["a"])
    engine.open.clear()

    found = await answers(asked, ["b", "c"], deadline_s=0.02)

    assert [p.kind for p in found.values() if isinstance(p, Problem)] == [ProblemKind.DEADLINE] * 2
    engine.open.set()
    await asyncio.sleep(0.01)
    assert engine.remembered == {"a": 1, "b": 1}
    assert engine.batches == [["a"], ["b"]], "c was dropped: its caller had gone"
    assert engine.dropped == ["c"]


async def test_a_callers_leaving_does_not_take_the_question_from_others() -> None:
    """What two asked for is asked as long as one still waits."""
    engine = Lengths()
    engine.open.clear()
    asked = batcher(engine.ask, batch=1)
    blocking = asyncio.create_task(answers(asked, ["a"]))
    await asyncio.sleep(0)
    staying = asyncio.create_task(answers(asked, ["b"]))
    leaving = asyncio.create_task(answers(asked, ["b", "c"]))
    await asyncio.sleep(0)

    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    engine.open.set()
    await asyncio.gather(blocking, staying)

    assert engine.batches == [["a"], ["b"]]


async def test_closing_answers_everybody_who_waits() -> None:
    """A service that stops leaves no request hanging."""
    engine = Lengths()
    engine.open.clear()
    asked = batcher(engine.ask, batch=1)
    waiting = asyncio.create_task(answers(asked, ["a", "b"]))
    await asyncio.sleep(0)

    await asked.aclose()

    found = await waiting
    assert {p.kind for p in found.values() if isinstance(p, Problem)} == {
        ProblemKind.JUDGE_UNREACHABLE
    }


async def test_no_questions_are_no_work() -> None:
    """An empty request does not reach the engine."""
    engine = Lengths()

    assert await answers(batcher(engine.ask), []) == {}
    assert engine.batches == []


async def test_what_a_caller_caused_is_what_was_put_to_the_engine_for_it() -> None:
    """Questions shared with others, and those that nobody got round to, do not count."""
    engine = Lengths()
    engine.open.clear()
    asked = batcher(engine.ask, batch=1)
    first = asyncio.create_task(asked.answers(keyed(["a"]), Deadline.after(5)))
    await asyncio.sleep(0)

    late = await asked.answers(keyed(["a", "b"]), Deadline.after(0.02))
    engine.open.set()

    assert (late.shared, late.asked) == ({b"a"}, 0)
    assert late.waited_s > 0
    assert (await first).asked == 1


async def test_it_is_told_whether_an_engine_answers_at_all() -> None:
    """A batch without any answer is noted with its reason; one answer, or nonsense, is life."""
    engine = Lengths()
    replies: list[list[int | Problem] | Exception] = [
        BackendDown("gone"),
        [1, Problem(ProblemKind.JUDGE_TIMEOUT, "late")],
        [Problem(ProblemKind.JUDGE_TIMEOUT, "late")] * 2,
        [Problem(ProblemKind.JUDGE_REFUSED, "no")] * 2,
    ]

    async def ask(_: Sequence[str]) -> Sequence[int | Problem]:
        reply = replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    asked = batcher(ask, engine)
    for _ in range(4):
        await answers(asked, ["a", "b"])

    assert engine.noted == [
        ProblemKind.JUDGE_UNREACHABLE,
        None,
        ProblemKind.JUDGE_TIMEOUT,
        None,
    ]


async def test_after_closing_nothing_is_asked() -> None:
    """Who comes too late is told at once."""
    engine = Lengths()
    asked = batcher(engine.ask)
    await asked.aclose()

    (problem,) = (await answers(asked, ["a"])).values()

    assert isinstance(problem, Problem)
    assert engine.batches == []


async def busy(engine: Lengths, asked: Batcher[str, int]) -> asyncio.Task[dict[str, int | Problem]]:
    """Keep the engine busy with one question, so that what comes now has to wait."""
    engine.open.clear()
    task = asyncio.create_task(answers(asked, ["?"]))
    await asyncio.sleep(0)
    return task


async def served(
    engine: Lengths, asked: Batcher[str, int], *waiting: tuple[Sequence[str], float]
) -> list[list[str]]:
    """The batches in which questions that came while the engine was busy are asked."""
    first = await busy(engine, asked)
    tasks = []
    for questions, deadline_s in waiting:
        tasks.append(asyncio.create_task(answers(asked, questions, deadline_s)))
        await asyncio.sleep(0)
    engine.open.set()
    await asyncio.gather(first, *tasks)
    return engine.batches[1:]


async def test_a_few_questions_do_not_wait_behind_thousands() -> None:
    """Who wants one turn gets it next, in a batch that no large caller makes slow."""
    engine = Lengths()
    many = [f"x{number}" for number in range(4000)]

    batches = await served(engine, batcher(engine.ask, batch=64), (many, 60.0), (["single"], 60.0))

    assert batches[0] == ["single"]
    assert sum(map(len, batches)) == 4001


async def test_a_busy_engine_has_a_little_room_for_a_few_questions() -> None:
    """While large callers take up its whole capacity, one batch more is asked for small ones."""
    engine = Lengths()
    engine.open.clear()
    asked = batcher(engine.ask, batch=64)
    tasks = [asyncio.create_task(answers(asked, [f"x{number}" for number in range(200)]))]
    await asyncio.sleep(0)

    for small in ("one", "two"):
        tasks.append(asyncio.create_task(answers(asked, [small])))
        await asyncio.sleep(0)

    assert engine.batches[1:] == [["one"]], "and no more than that"
    engine.open.set()
    await asyncio.gather(*tasks)
    assert engine.batches[2] == ["two"]


async def test_callers_who_want_much_take_turns() -> None:
    """Each gets about the same, until one has all its answers."""
    engine = Lengths()
    one, other = [f"a{n}" for n in range(64)], [f"b{n}" for n in range(64)]

    batches = await served(engine, batcher(engine.ask, batch=32), (one, 60.0), (other, 60.0))

    assert [sum(q.startswith("a") for q in batch) for batch in batches] == [16, 16, 16, 16]


async def test_of_equals_the_one_with_the_nearest_deadline_comes_first() -> None:
    """Who has the least time left is served first, though it came last."""
    engine = Lengths()

    batches = await served(
        engine, batcher(engine.ask, batch=1), (["late"], 60.0), (["soon"], 5.0), (["mid"], 30.0)
    )

    assert batches == [["soon"], ["mid"], ["late"]]


async def test_what_shares_a_group_lies_side_by_side() -> None:
    """So that an engine can read once what their prompts have in common."""
    engine = Lengths()

    batches = await served(engine, batcher(engine.ask, batch=8), (["a1", "b1", "a2", "b2"], 60.0))

    assert batches == [["a1", "a2", "b1", "b2"]]


async def test_a_batch_ends_where_its_tokens_are_enough() -> None:
    """Long questions make short batches; one that is too long by itself goes alone."""
    engine = Lengths()
    questions = ["aaaa", "bbbb", "c" * 40, "dd", "ee"]

    batches = await served(engine, batcher(engine.ask, batch=8, tokens=8), (questions, 60.0))

    assert [list(map(len, batch)) for batch in batches] == [[4, 4], [40], [2, 2]]


async def test_a_question_that_a_second_caller_wants_sooner_is_asked_sooner() -> None:
    """It stands in both lines, and is taken from whichever comes first."""
    engine = Lengths()
    many = [f"x{number}" for number in range(100)]

    batches = await served(engine, batcher(engine.ask, batch=16), (many, 60.0), (["x99"], 60.0))

    assert "x99" in batches[0]
    assert sum(map(len, batches)) == 100


async def test_those_who_come_later_do_not_keep_one_from_its_turn() -> None:
    """However many come with a nearer deadline while it waits, a caller gets its share."""
    order: list[str] = []
    hasty: list[asyncio.Task[dict[str, int | Problem]]] = []

    async def besieged(texts: Sequence[str]) -> Sequence[int]:
        order.extend(texts)
        # While one is answered, the next one comes.
        if len(order) < 40:
            hasty.append(asyncio.create_task(answers(asked, [f"hasty{len(order)}"], 5.0)))
        await asyncio.sleep(0.001)
        return [len(text) for text in texts]

    asked = batcher(besieged, batch=1)
    hasty += [asyncio.create_task(answers(asked, [text], 5.0)) for text in ("one", "other")]
    await asyncio.sleep(0)
    await answers(asked, ["patient"], 60.0)
    await asyncio.gather(*hasty)

    assert "patient" in order[:12]


async def test_what_a_caller_waited_is_its_own_time() -> None:
    """Who joins a question that has long waited, or is on its way, has not waited since then."""
    engine = Lengths()
    engine.open.clear()
    asked = batcher(engine.ask, batch=1)
    first = asyncio.create_task(asked.answers(keyed(["a", "b"]), Deadline.after(5)))
    await asyncio.sleep(0.05)

    later = asyncio.create_task(asked.answers(keyed(["a", "b"]), Deadline.after(5)))
    await asyncio.sleep(0)
    engine.open.set()

    assert (await first).waited_s >= 0.05
    assert (await later).waited_s < 0.05


async def test_callers_who_have_gone_leave_nothing_behind() -> None:
    """While an engine hangs, those who give up and come again do not fill the memory."""

    class Careless(Lengths):
        def drop(self, questions: Mapping[bytes, str]) -> None:
            pass

    engine = Careless()
    engine.open.clear()
    asked = batcher(engine.ask, engine, batch=1)
    staying = asyncio.create_task(answers(asked, ["a", "b"]))
    await asyncio.sleep(0)
    tracemalloc.start()
    try:
        for number in range(20):
            await answers(asked, [f"{number}:{n}" for n in range(2000)], deadline_s=0)
        left_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    engine.open.set()
    assert await staying == {"a": 1, "b": 1}
    assert left_bytes < 200_000


async def test_an_answer_that_cannot_be_kept_is_given_all_the_same() -> None:
    """Whatever remembering raises, nobody is left waiting, and the question can be asked again."""

    class Forgetful(Lengths):
        def remember(self, answers: Mapping[bytes, tuple[str, int | Problem]]) -> None:
            raise ValueError("full")

    engine = Forgetful()
    asked = batcher(engine.ask, engine)
    unheard: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))

    assert [await answers(asked, ["a"], 1.0) for _ in range(2)] == [{"a": 1}] * 2
