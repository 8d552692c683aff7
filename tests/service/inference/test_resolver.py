"""Remembered, else asked: memory spares the engine, and what an engine says is looked at first."""

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest

from medreward.admission import Caller, Deadline
from medreward.cache.memory import MemoryTier
from medreward.cache.redis import RedisTier
from medreward.engines.capacity import Capacity
from medreward.engines.keys import text_key
from medreward.errors import JUDGE_FAILURES, Problem, ProblemKind
from medreward.inference.resolver import Answered, Answers, Asker, Effort, Engine
from medreward.samples import Source
from medreward.telemetry.metrics import Metrics
from tests.redis_servers import RedisServer
from tests.service.cache.redis_tiers import slow_way, tier_on, until

pytestmark = pytest.mark.anyio


class Counting:
    """An engine that answers with a text's length and counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def ask(self, texts: Sequence[str]) -> Sequence[Any]:
        """Answer, but for the texts that it refuses or does not understand."""
        self.asked += texts
        odd = {"refused": Problem(ProblemKind.JUDGE_REFUSED, "no"), "strange": Decimal("sNaN")}
        return [odd.get(text, len(text)) for text in texts]

    def key_of(self, text: str, namespace: str) -> bytes:
        """Give the key of a text."""
        return text_key("counting", text, namespace)

    def unpack(self, packed: bytes, _text: str) -> int | None:
        """Read a length to the nearest ten."""
        return packed[0] * 10 if packed[0] < 200 else None


def asker(
    engine: Counting, memory: MemoryTier | None = None, shared: RedisTier | None = None
) -> Asker[str, int]:
    """Put a memory before an engine; it keeps lengths to the nearest ten."""
    described: Engine[str, int] = Engine(
        identity="engine",
        source="judge",
        ask=engine.ask,
        key_of=engine.key_of,
        is_sound=lambda answer, _: answer >= 0,
        pack=lambda answer: bytes([answer // 10]),
        unpack=engine.unpack,
        failures=JUDGE_FAILURES,
        capacity=Capacity(batch=8),
        timeout_s=5.0,
        note=lambda _: None,
    )
    return Asker(described, MemoryTier(10_000) if memory is None else memory, Metrics(), shared)


async def ask(
    asked: Asker[str, int], *questions: str, namespace: str = ""
) -> dict[str, Answered[int]]:
    """What is answered to each question, taken once."""
    caller = Caller(Deadline.after(5), namespace)
    answers = await asked.recall(questions, caller, Effort())
    await asked.find(answers, caller, Effort())
    return {question: answers.take(question) for question in dict.fromkeys(questions)}


TEN, TWENTY = "t" * 10, "t" * 20


async def test_what_was_answered_is_remembered() -> None:
    """The second time the engine is not asked, and the answer says that it is from the cache."""
    engine = Counting()
    asked = asker(engine)

    first, second = await ask(asked, TEN, TWENTY), await ask(asked, TEN, TWENTY)

    assert first == {TEN: Answered(10, "judge"), TWENTY: Answered(20, "judge")}
    assert second == {TEN: Answered(10, "cache"), TWENTY: Answered(20, "cache")}
    assert engine.asked == [TEN, TWENTY]


async def test_a_fresh_answer_is_what_the_cache_will_say() -> None:
    """What is rounded to be kept is rounded at once, so that no reward depends on who was first."""
    asked = asker(Counting())

    first, second = await ask(asked, "t" * 17), await ask(asked, "t" * 17)

    assert [a.value for a in (*first.values(), *second.values())] == [10, 10]


async def test_a_failure_is_not_remembered() -> None:
    """What was not answered is asked again."""
    engine = Counting()
    asked = asker(engine)

    await ask(asked, "refused")
    await ask(asked, "refused")

    assert engine.asked == ["refused", "refused"]


async def test_callers_of_different_namespaces_share_nothing() -> None:
    """What one had judged, another's question does not find, whether remembered or on its way."""
    engine = Counting()
    asked = asker(engine)

    await asyncio.gather(ask(asked, TEN, namespace="one"), ask(asked, TEN, namespace="other"))
    again = await ask(asked, TEN, namespace="third")

    assert again == {TEN: Answered(10, "judge")}
    assert engine.asked == [TEN] * 3


async def test_a_value_that_is_no_answer_is_a_miss() -> None:
    """Whoever wrote it, it is asked again."""
    engine, memory = Counting(), MemoryTier(10_000)
    memory.put_many({engine.key_of(TEN, ""): b"\xff"})

    answered = await ask(asker(engine, memory), TEN)

    assert answered == {TEN: Answered(10, "judge")}


async def test_an_answer_that_cannot_even_be_looked_at_is_nonsense() -> None:
    """Whatever looking at an answer raises, its caller gets a problem, and can ask again."""
    asked = asker(Counting())

    for _ in range(2):
        (answered,) = (await ask(asked, "strange")).values()
        assert isinstance(answered.value, Problem)
        assert answered.value.kind is ProblemKind.JUDGE_UNPARSEABLE


async def test_a_question_on_its_way_for_another_request_is_shared() -> None:
    """The second request says that its answer was coalesced, and the engine was asked once."""
    engine = Counting()
    asked = asker(engine)

    one, other = await asyncio.gather(ask(asked, TEN), ask(asked, TEN))

    assert [one[TEN].source, other[TEN].source] == ["judge", "coalesced"]
    assert engine.asked == [TEN]


async def test_the_effort_is_what_this_request_caused() -> None:
    """Questions put to the engine are counted for the request that put them."""
    effort, asked = Effort(), asker(Counting())

    for questions in ([TEN, TWENTY, TEN], [TEN, "t" * 30]):
        caller = Caller(Deadline.after(5))
        await asked.find(await asked.recall(questions, caller, effort), caller, effort)

    assert effort.asked == 3


@pytest.mark.parametrize(
    ("source", "later"), [("judge", "coalesced"), ("coalesced", "coalesced"), ("cache", "cache")]
)
async def test_the_first_sample_got_the_answer_and_the_others_shared_it(
    source: Source, later: Source
) -> None:
    """Within a request, too, an answer is paid for once."""
    answers: Answers[str, int] = Answers()
    answers.add("a", 1, source)

    assert [answers.take("a").source, answers.take("a").source] == [source, later]
    assert not answers.missing


class Held(Counting):
    """An engine that answers when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.open = asyncio.Event()

    async def ask(self, texts: Sequence[str]) -> Sequence[Any]:
        """Answer when it is let."""
        answers = await super().ask(texts)
        await self.open.wait()
        return answers


async def test_what_was_answered_while_redis_was_asked_is_not_asked_again(
    redis_server: RedisServer,
) -> None:
    """A request that comes just before the answer to another's question shares that answer."""
    engine = Held()
    async with (
        slow_way(redis_server.port) as way,
        tier_on(f"redis://127.0.0.1:{way.port}/0", redis_timeout_s=5) as tier,
        tier_on(redis_server.url) as replica,
    ):
        asked = asker(engine, shared=tier)
        first = asyncio.create_task(ask(asked, TEN))
        await until(lambda: bool(engine.asked))
        way.delay_s = 0.3
        second = asyncio.create_task(ask(asked, TEN))
        await until(lambda: redis_server.calls("eval") == 2)
        engine.open.set()

        assert await first == {TEN: Answered(10, "judge")}
        assert await second == {TEN: Answered(10, "cache")}
        assert engine.asked == [TEN]
        key = engine.key_of(TEN, "")
        await until(lambda: is_remembered(replica, key))


async def is_remembered(tier: RedisTier, key: bytes) -> bool:
    """Whether Redis has a value."""
    return bool(await tier.get_many([key], role="judge"))


class Leaving(Counting):
    """An engine whose caller hangs up as soon as an answer is read."""

    caller: asyncio.Task[Any]

    def unpack(self, packed: bytes, text: str) -> int | None:
        """Read an answer."""
        self.caller.cancel()
        return super().unpack(packed, text)


async def test_a_caller_who_leaves_holds_up_no_other_replica(redis_server: RedisServer) -> None:
    """What it was about to ask is asked elsewhere at once, not when its lease ends."""
    engine = Leaving()
    answered, lost = (engine.key_of(text, "") for text in (TEN, TWENTY))
    async with (
        tier_on(redis_server.url, lease_s=60) as tier,
        tier_on(redis_server.url, lease_s=60) as replica,
    ):
        await replica.claim([answered, lost], role="judge")
        engine.caller = asyncio.create_task(ask(asker(engine, shared=tier), TEN, TWENTY))
        await asyncio.sleep(0.1)
        replica.put_soon({answered: b"\x01"}, role="judge")
        replica.release([lost], role="judge")
        with pytest.raises(asyncio.CancelledError):
            await engine.caller

        await until(lambda: is_free(replica, lost))
        assert engine.asked == []


async def is_free(tier: RedisTier, key: bytes) -> bool:
    """Whether nobody else is asking."""
    return key in (await tier.claim([key], role="judge")).mine


async def test_what_was_answered_since_it_was_looked_up_is_not_asked_again() -> None:
    """A request that looked before another was answered finds the answer when it comes to ask."""
    engine = Counting()
    asked, caller = asker(engine), Caller(Deadline.after(5))

    early = await asked.recall([TEN, TWENTY], caller, Effort())
    await ask(asked, TEN)
    await asked.find(early, caller, Effort())

    assert [early.take(TEN).source, early.take(TWENTY).source] == ["cache", "judge"]
    assert engine.asked == [TEN, TWENTY]
