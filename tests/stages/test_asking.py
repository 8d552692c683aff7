"""Remembered, else asked: a cache spares the engine, and one that is broken costs nothing."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from medreward.admission import Deadline
from medreward.asking import Answered, Answers, Asker, Effort, Engine
from medreward.errors import JUDGE_FAILURES, Problem, ProblemKind
from medreward.judging.judge import Capacity
from medreward.metrics import Metrics
from medreward.score_cache import MemoryScoreCache, ScoreCache

pytestmark = pytest.mark.anyio


class Counting:
    """An engine that answers with a text's length and counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def ask(self, texts: Sequence[str]) -> Sequence[int | Problem]:
        """Answer, but for the text that it refuses."""
        self.asked += texts
        refusal = Problem(ProblemKind.JUDGE_REFUSED, "no")
        return [refusal if text == "refused" else len(text) for text in texts]


class BrokenCache:
    """A cache that fails in every call."""

    async def get_many(self, keys: Sequence[str]) -> Mapping[str, int]:
        """Fail."""
        raise ConnectionError(keys)

    async def put_many(self, answers: Mapping[str, int]) -> None:
        """Fail."""
        raise ConnectionError(answers)


class FrozenCache:
    """A cache that never answers."""

    async def get_many(self, keys: Sequence[str]) -> Mapping[str, int]:
        """Wait for ever."""
        await asyncio.Event().wait()
        return {}

    async def put_many(self, answers: Mapping[str, int]) -> None:
        """Wait for ever."""
        await asyncio.Event().wait()


def asker(
    engine: Counting, cache: ScoreCache[int], metrics: Metrics | None = None
) -> Asker[str, int]:
    """Put a cache before an engine."""
    described: Engine[str, int] = Engine(
        source="judge",
        ask=engine.ask,
        key_of=str.upper,
        is_sound=lambda answer, _: answer >= 0,
        failures=JUDGE_FAILURES,
        capacity=Capacity(batch=8),
        timeout_s=5.0,
        note=lambda _: None,
    )
    return Asker(described, cache, metrics or Metrics())


async def ask(asked: Asker[str, int], *questions: str) -> dict[str, Answered[int]]:
    """What is answered to each question, taken once."""
    answers = await asked.answer(questions, Deadline.after(5), Effort())
    return {question: answers.take(question) for question in dict.fromkeys(questions)}


async def test_what_was_answered_is_remembered() -> None:
    """The second time the engine is not asked, and the answer says that it is from the cache."""
    engine = Counting()
    asked = asker(engine, MemoryScoreCache(max_entries=8))

    first, second = await ask(asked, "a", "bb"), await ask(asked, "a", "bb")

    assert first == {"a": Answered(1, "judge"), "bb": Answered(2, "judge")}
    assert second == {"a": Answered(1, "cache"), "bb": Answered(2, "cache")}
    assert engine.asked == ["a", "bb"]


async def test_a_failure_is_not_remembered() -> None:
    """What was not answered is asked again."""
    engine = Counting()
    asked = asker(engine, MemoryScoreCache(max_entries=8))

    await ask(asked, "refused")
    await ask(asked, "refused")

    assert engine.asked == ["refused", "refused"]


@pytest.mark.parametrize("cache", [BrokenCache(), FrozenCache()], ids=["broken", "frozen"])
async def test_a_broken_cache_is_a_miss(cache: ScoreCache[int]) -> None:
    """Without its cache the engine answers everything, and the miss is counted as an error."""
    engine, metrics = Counting(), Metrics()

    answered = await ask(asker(engine, cache, metrics), "a")

    assert answered == {"a": Answered(1, "judge")}
    line = 'medreward_cache_requests_total{result="error",role="judge",tier="memory"} 1.0'
    assert line in metrics.exposition().decode()


class LyingCache(MemoryScoreCache[int]):
    """A cache whose values are no answers."""

    async def get_many(self, keys: Sequence[str]) -> Mapping[str, int]:
        """Give something for every key."""
        return dict.fromkeys(keys, -1)


async def test_what_is_remembered_is_looked_at_too() -> None:
    """A value that is no answer is a miss, whoever wrote it."""
    engine = Counting()

    answered = await ask(asker(engine, LyingCache(max_entries=1)), "a")

    assert answered == {"a": Answered(1, "judge")}


async def test_a_question_on_its_way_for_another_request_is_shared() -> None:
    """The second request says that its answer was coalesced, and the engine was asked once."""
    engine = Counting()
    asked = asker(engine, BrokenCache())

    one, other = await asyncio.gather(ask(asked, "a"), ask(asked, "a"))

    assert [one["a"].source, other["a"].source] == ["judge", "coalesced"]
    assert engine.asked == ["a"]


async def test_the_effort_is_what_this_request_caused() -> None:
    """Questions put to the engine are counted for the request that put them."""
    engine, effort = Counting(), Effort()
    asked = asker(engine, MemoryScoreCache(max_entries=8))

    await asked.answer(["a", "bb", "a"], Deadline.after(5), effort)
    await asked.answer(["a", "ccc"], Deadline.after(5), effort)

    assert effort.asked == 3


@pytest.mark.parametrize(
    ("source", "later"), [("judge", "coalesced"), ("coalesced", "coalesced"), ("cache", "cache")]
)
async def test_the_first_sample_got_the_answer_and_the_others_shared_it(
    source: str, later: str
) -> None:
    """Within a request, too, an answer is paid for once."""
    answers: Answers[str, int] = Answers({"a": Answered(1, source)})  # type: ignore[arg-type]  # parametrized

    assert [answers.take("a").source, answers.take("a").source] == [source, later]
