"""Remembered, else asked: memory spares the engine, and what an engine says is looked at first."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from medreward.admission import Caller, Deadline
from medreward.cache.memory import MemoryTier
from medreward.cache.redis import RedisTier
from medreward.errors import Problem, ProblemKind
from medreward.inference.answers import Answered, Answers, Timings
from medreward.inference.resolver import Resolver
from medreward.offload import SMALL
from medreward.samples import Source
from medreward.telemetry.metrics import Metrics
from tests.redis_servers import RedisServer
from tests.service.cache.redis_tiers import has, slow_way, tier_on
from tests.service.inference.text_lengths import Lengths
from tests.support.wait import until

pytestmark = pytest.mark.anyio
on_redis = pytest.mark.xdist_group("redis")


class Tens(Lengths):
    """An engine whose cache keeps lengths to the nearest ten."""

    def __init__(self) -> None:
        super().__init__(self._answer_to, batch=8)

    async def _answer_to(self, texts: Sequence[str]) -> Sequence[Any]:
        """Answer, but for a text that it refuses."""
        refusal = Problem(ProblemKind.JUDGE_REFUSED, "no")
        return [refusal if text == "refused" else len(text) for text in texts]

    def pack(self, answer: int) -> bytes:
        """Encode a length."""
        return bytes([answer // 10])

    def unpack(self, packed: bytes, question: str) -> int | None:
        """Decode a length."""
        return packed[0] * 10 if packed[0] < 200 else None


def resolver(
    engine: Lengths, memory: MemoryTier | None = None, redis: RedisTier | None = None
) -> Resolver[str, int]:
    """Put a memory before an engine."""
    return Resolver(engine, MemoryTier(10_000) if memory is None else memory, Metrics(), redis)


async def ask(
    asked: Resolver[str, int], *questions: str, namespace: str = ""
) -> dict[str, Answered[int]]:
    """What is answered to each question, taken once."""
    caller = Caller(Deadline.after(20), namespace)
    answers = asked.lookup(questions, caller)
    await asked.resolve(answers, caller)
    return {question: answers.take(question) for question in dict.fromkeys(questions)}


TEN, TWENTY = "t" * 10, "t" * 20


async def test_what_was_answered_is_remembered() -> None:
    """The second time the engine is not asked, and the answer says that it is from the cache."""
    engine = Tens()
    asked = resolver(engine)

    first, second = await ask(asked, TEN, TWENTY), await ask(asked, TEN, TWENTY)

    assert first == {TEN: Answered(10, "judge"), TWENTY: Answered(20, "judge")}
    assert second == {TEN: Answered(10, "cache"), TWENTY: Answered(20, "cache")}
    assert engine.asked == [TEN, TWENTY]


async def test_a_failure_is_not_remembered() -> None:
    """What was not answered is asked again."""
    engine = Tens()
    asked = resolver(engine)

    await ask(asked, "refused")
    await ask(asked, "refused")

    assert engine.asked == ["refused", "refused"]


async def test_callers_of_different_namespaces_share_nothing() -> None:
    """What one had judged, another's question does not find, whether remembered or on its way."""
    engine = Tens()
    asked = resolver(engine)

    await asyncio.gather(ask(asked, TEN, namespace="one"), ask(asked, TEN, namespace="other"))
    again = await ask(asked, TEN, namespace="third")

    assert again == {TEN: Answered(10, "judge")}
    assert engine.asked == [TEN] * 3


async def test_a_value_that_is_no_answer_is_a_miss() -> None:
    """Whoever wrote it, it is asked again."""
    engine, memory = Tens(), MemoryTier(10_000)
    memory.put_many({engine.keys([TEN], "")[TEN]: b"\xff"})

    answered = await ask(resolver(engine, memory), TEN)

    assert answered == {TEN: Answered(10, "judge")}


async def test_a_question_on_its_way_for_another_request_is_shared() -> None:
    """The second request says that its answer was coalesced, and the engine was asked once."""
    engine = Tens()
    asked = resolver(engine)

    one, other = await asyncio.gather(ask(asked, TEN), ask(asked, TEN))

    assert [one[TEN].source, other[TEN].source] == ["judge", "coalesced"]
    assert engine.asked == [TEN]


async def test_timings_are_those_of_this_request() -> None:
    """Questions put to the engine are counted for the request that put them, over both its rounds."""
    asked, timings = resolver(Tens()), Timings()

    for questions in ([TEN, TWENTY, TEN], [TEN, "t" * 30]):
        caller = Caller(Deadline.after(20))
        answers = asked.lookup(questions, caller)
        await asked.resolve(answers, caller)
        timings += answers.timings

    assert timings.asked == 3
    assert timings.engine_s >= timings.queue_s


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


@on_redis
async def test_what_was_answered_while_redis_was_asked_is_not_asked_again(
    redis_server: RedisServer,
) -> None:
    """A request that comes just before the answer to another's question shares that answer."""
    engine = Tens()
    engine.open.clear()
    async with (
        slow_way(redis_server.port) as way,
        tier_on(f"redis://127.0.0.1:{way.port}/0", redis_timeout_s=5) as tier,
        tier_on(redis_server.url) as replica,
    ):
        asked = resolver(engine, redis=tier)
        first = asyncio.create_task(ask(asked, TEN))
        await until(lambda: bool(engine.asked))
        way.delay_s = 0.3
        second = asyncio.create_task(ask(asked, TEN))
        await until(lambda: redis_server.calls("eval") == 2)
        engine.open.set()

        assert await first == {TEN: Answered(10, "judge")}
        assert await second == {TEN: Answered(10, "cache")}
        assert engine.asked == [TEN]
        key = engine.keys([TEN], "")[TEN]
        await until(lambda: has(replica, [key]))


class Leaving(Tens):
    """An engine whose caller hangs up while the answers of others are read, in another thread."""

    caller: asyncio.Task[Any]

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()

    def unpack(self, packed: bytes, question: str) -> int | None:
        """Read an answer."""
        self._loop.call_soon_threadsafe(self.caller.cancel)
        return super().unpack(packed, question)


@on_redis
async def test_a_caller_who_leaves_holds_up_no_other_replica(redis_server: RedisServer) -> None:
    """What it was about to ask is asked elsewhere at once, not when its lease ends."""
    engine = Leaving()
    lost, *answered = texts = [f"text {number}" for number in range(2 * SMALL)]
    keys = engine.keys(texts, "")
    async with (
        tier_on(redis_server.url, lease_s=60) as tier,
        tier_on(redis_server.url, lease_s=60) as replica,
    ):
        await replica.claim(list(keys.values()), role="judge")
        engine.caller = asyncio.create_task(ask(resolver(engine, redis=tier), *texts))
        await asyncio.sleep(0.1)
        replica.put_soon({keys[text]: b"\x01" for text in answered}, role="judge")
        replica.release([keys[lost]], role="judge")
        with pytest.raises(asyncio.CancelledError):
            await engine.caller

        await until(lambda: is_free(replica, keys[lost]))
        assert engine.asked == []


async def is_free(tier: RedisTier, key: bytes) -> bool:
    """Whether nobody else is asking."""
    return key in (await tier.claim([key], role="judge")).to_ask


async def test_what_was_answered_since_it_was_looked_up_is_not_asked_again() -> None:
    """A request that looked before another was answered finds the answer when it comes to ask."""
    engine = Tens()
    asked, caller = resolver(engine), Caller(Deadline.after(20))

    early = asked.lookup([TEN, TWENTY], caller)
    await ask(asked, TEN)
    await asked.resolve(early, caller)

    assert [early.take(TEN).source, early.take(TWENTY).source] == ["cache", "judge"]
    assert engine.asked == [TEN, TWENTY]
