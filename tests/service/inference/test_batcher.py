"""The batcher: equal questions once, trouble where it belongs, and no caller left waiting."""

import asyncio
import tracemalloc
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pytest

from medreward.admission import Caller, Deadline
from medreward.errors import (
    BackendDown,
    DeadlinePassed,
    EngineError,
    NonsenseReply,
    Problem,
    ProblemKind,
)
from medreward.inference.batcher import Batcher
from medreward.offload import Offloader
from medreward.telemetry.metrics import Metrics
from tests.service.inference.text_lengths import Lengths
from tests.support.wait import until

pytestmark = pytest.mark.anyio


class Heard:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.answers: dict[bytes, int] = {}
        self.abandoned: list[bytes] = []
        self.outcomes: list[ProblemKind | None] = []

    def on_answers(self, namespace: str, answers: Mapping[bytes, int | Problem]) -> None:
        """Keep what was answered."""
        self.answers |= {k: a for k, a in answers.items() if not isinstance(a, Problem)}

    def on_abandoned(self, namespace: str, keys: Collection[bytes]) -> None:
        """Keep what was not asked after all."""
        self.abandoned += keys

    def on_outcome(self, problem: Problem | None) -> None:
        """Keep what became of a batch."""
        self.outcomes.append(problem.kind if problem else None)


def batcher(engine: Lengths, heard: Heard | None = None) -> Batcher[str, int]:
    """A batcher in front of an engine."""
    return Batcher(engine, heard or Heard(), Metrics(), Offloader())


def keyed(questions: Sequence[str]) -> dict[bytes, str]:
    """Questions by their keys."""
    return {question.encode(): question for question in questions}


def caller(deadline_s: float = 20.0) -> Caller:
    """Somebody who waits so long."""
    return Caller(Deadline.after(deadline_s))


async def answers(
    asked: Batcher[str, int], questions: Sequence[str], deadline_s: float = 20.0
) -> dict[str, int | Problem]:
    """What the batcher answers, without what it took."""
    replies = await asked.ask(keyed(questions), caller(deadline_s))
    return {key.decode(): answer for key, answer in replies.answers.items()}


def kinds(found: Mapping[str, int | Problem]) -> list[ProblemKind]:
    """The kinds of problems among answers."""
    return [answer.kind for answer in found.values() if isinstance(answer, Problem)]


async def test_equal_questions_are_asked_once() -> None:
    """However often a question comes, within a request or from several, the engine sees it once."""
    engine = Lengths()
    asked = batcher(engine)

    replies = await asyncio.gather(*(answers(asked, ["a", "bb", "a"]) for _ in range(32)))

    assert replies == [{"a": 1, "bb": 2}] * 32
    assert sorted(q for batch in engine.batches for q in batch) == ["a", "bb"]


async def test_what_gathers_while_the_engine_is_busy_is_the_next_batch() -> None:
    """Nobody waits for a batch to fill, and none is larger than suits the engine."""
    engine = Lengths()
    engine.open.clear()
    asked = batcher(engine)

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

    assert kinds(await answers(batcher(Lengths(fail)), ["a", "b"])) == [kind, kind]


async def test_a_question_that_breaks_the_engine_is_found_and_the_others_answered() -> None:
    """One poisonous text costs its neighbours nothing, and its words are not repeated."""

    async def fragile(texts: Sequence[str]) -> Sequence[int]:
        if "poison" in texts:
            raise ValueError("cannot take poison")
        return [len(text) for text in texts]

    found = await answers(batcher(Lengths(fragile, batch=8)), ["a", "b", "poison", "c", "d"])

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

    found = await answers(batcher(Lengths(miscount)), ["a", "b"])

    assert kinds(found) == [ProblemKind.JUDGE_UNPARSEABLE] * 2


async def test_an_unsound_answer_is_nonsense_and_is_not_remembered() -> None:
    """Only what is an answer is kept."""
    heard = Heard()

    async def half_mad(texts: Sequence[str]) -> Sequence[int]:
        return [-1 if text == "b" else len(text) for text in texts]

    found = await answers(batcher(Lengths(half_mad), heard), ["a", "b"])

    assert found["a"] == 1
    assert isinstance(found["b"], Problem)
    assert heard.answers == {b"a": 1}


async def test_an_engine_that_hangs_is_given_up() -> None:
    """After its time the batch has a problem, and the next batch is asked."""
    calls = []

    async def hang_once(texts: Sequence[str]) -> Sequence[int]:
        calls.append(texts)
        if len(calls) == 1:
            await asyncio.Event().wait()
        return [len(text) for text in texts]

    asked = batcher(Lengths(hang_once, timeout_s=0.02))

    assert kinds(await answers(asked, ["a"])) == [ProblemKind.JUDGE_TIMEOUT]
    assert await answers(asked, ["a"]) == {"a": 1}


async def test_past_the_deadline_the_caller_gets_what_there_is() -> None:
    """Answers that came are given, the others are problems, and what comes later is remembered."""
    engine, heard = Lengths(batch=1), Heard()
    asked = batcher(engine, heard)
    await answers(asked, ["a"])
    engine.open.clear()

    found = await answers(asked, ["b", "c"], deadline_s=0.02)

    assert kinds(found) == [ProblemKind.DEADLINE] * 2
    engine.open.set()
    await until(lambda: heard.answers == {b"a": 1, b"b": 1})
    assert engine.batches == [["a"], ["b"]], "c was dropped: its caller had gone"
    assert heard.abandoned == [b"c"]


async def test_a_callers_leaving_does_not_take_the_question_from_others() -> None:
    """What two asked for is asked as long as one still waits."""
    engine = Lengths(batch=1)
    engine.open.clear()
    asked = batcher(engine)
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
    engine = Lengths(batch=1)
    engine.open.clear()
    asked = batcher(engine)
    waiting = asyncio.create_task(answers(asked, ["a", "b"]))
    await asyncio.sleep(0)

    await asked.aclose()

    assert kinds(await waiting) == [ProblemKind.JUDGE_UNREACHABLE] * 2


async def test_no_questions_are_no_work() -> None:
    """An empty request does not reach the engine."""
    engine = Lengths()

    assert await answers(batcher(engine), []) == {}
    assert engine.batches == []


async def test_what_a_caller_caused_is_what_was_put_to_the_engine_for_it() -> None:
    """Questions shared with others, and those that nobody got round to, do not count."""
    engine = Lengths(batch=1)
    engine.open.clear()
    asked = batcher(engine)
    first = asyncio.create_task(asked.ask(keyed(["a"]), caller()))
    await asyncio.sleep(0)

    late = await asked.ask(keyed(["a", "b"]), caller(0.02))
    engine.open.set()

    assert (late.shared, late.asked) == ({b"a"}, 0)
    assert late.waited_s > 0
    assert (await first).asked == 1


async def test_it_is_told_whether_an_engine_answers_at_all() -> None:
    """A batch without any answer is noted with its reason; one answer, or nonsense, is life."""
    heard = Heard()
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

    asked = batcher(Lengths(ask), heard)
    for _ in range(4):
        await answers(asked, ["a", "b"])

    assert heard.outcomes == [ProblemKind.JUDGE_UNREACHABLE, None, ProblemKind.JUDGE_TIMEOUT, None]


async def test_after_closing_nothing_is_asked() -> None:
    """Who comes too late is told at once."""
    engine = Lengths()
    asked = batcher(engine)
    await asked.aclose()

    assert kinds(await answers(asked, ["a"])) == [ProblemKind.JUDGE_UNREACHABLE]
    assert engine.batches == []


async def test_what_a_caller_waited_is_its_own_time() -> None:
    """Who joins a question that has long waited, or is on its way, has not waited since then."""
    engine = Lengths(batch=1)
    engine.open.clear()
    asked = batcher(engine)
    first = asyncio.create_task(asked.ask(keyed(["a", "b"]), caller()))
    await asyncio.sleep(0.05)

    later = asyncio.create_task(asked.ask(keyed(["a", "b"]), caller()))
    await asyncio.sleep(0)
    engine.open.set()

    assert (await first).waited_s - (await later).waited_s >= 0.05


async def test_callers_who_have_gone_leave_nothing_behind() -> None:
    """While an engine hangs, those who give up and come again do not fill the memory."""

    class Careless(Heard):
        def on_abandoned(self, namespace: str, keys: Collection[bytes]) -> None:
            pass

    engine = Lengths(batch=1)
    engine.open.clear()
    asked = batcher(engine, Careless())
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

    class Full(Heard):
        def on_answers(self, namespace: str, answers: Mapping[bytes, int | Problem]) -> None:
            raise ValueError("full")

    asked = batcher(Lengths(), Full())
    unheard: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))

    assert [await answers(asked, ["a"]) for _ in range(2)] == [{"a": 1}] * 2
