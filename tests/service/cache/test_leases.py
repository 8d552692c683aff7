"""Single flight across replicas: each question is asked once, and nobody waits for the dead."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from medreward.cache.entries import LEASE, encode, entry_names
from medreward.cache.leases import Claimed
from medreward.cache.redis import RedisTier
from medreward.telemetry.metrics import Metrics
from tests.redis_servers import RedisServer
from tests.service.cache.redis_tiers import (
    array,
    flights,
    has,
    impostor,
    slow_way,
    some_keys,
    tier_on,
)
from tests.support.wait import until

pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("redis")]


@asynccontextmanager
async def replicas(
    server: RedisServer, count: int, *, lease_s: float
) -> AsyncIterator[list[RedisTier]]:
    """Tiers on one server whose leases last as long."""
    async with AsyncExitStack() as stack:
        tiers = [tier_on(server.url, lease_s=lease_s) for _ in range(count)]
        yield [await stack.enter_async_context(tier) for tier in tiers]


async def waited(tier: RedisTier, keys: Iterable[bytes], seconds: float = 20.0) -> Claimed:
    """Wait for what others ask; a wait that nothing ends would leave it in flight."""
    return await tier.wait_for_others(list(keys), time.monotonic() + seconds, role="judge")


async def test_each_key_is_claimed_by_one_replica(redis_server: RedisServer) -> None:
    """Whoever comes first asks; the same process may claim what it holds once more."""
    metrics = Metrics()
    async with tier_on(redis_server.url, metrics) as one, tier_on(redis_server.url) as other:
        keys = some_keys(100)
        first, second = await asyncio.gather(
            one.claim(keys, role="judge"), other.claim(keys, role="judge")
        )

        assert first.to_ask.isdisjoint(second.to_ask)
        assert first.to_ask | second.to_ask == set(keys)
        assert (first.in_flight, second.in_flight) == (second.to_ask, first.to_ask)
        assert (await one.claim(list(first.to_ask), role="judge")).to_ask == first.to_ask
        assert flights(metrics, "mine") == 2 * len(first.to_ask)


@pytest.mark.parametrize(("number", "commands"), [(0, 0), (500, 1), (5000, 5)])
async def test_claiming_is_one_command(
    redis_server: RedisServer, number: int, commands: int
) -> None:
    """For all keys of a batch; more are claimed some at a time, so that no replica waits for long."""
    async with tier_on(redis_server.url) as tier:
        keys = some_keys(number)
        redis_server.client.config_resetstat()

        assert await tier.claim(keys, role="judge") == Claimed(to_ask=set(keys))
        assert redis_server.calls("eval") == commands


async def test_who_waits_gets_the_answer(redis_server: RedisServer) -> None:
    """The write of a value ends its lease, in one round trip."""
    async with tier_on(redis_server.url) as leader, tier_on(redis_server.url) as waiter:
        keys = some_keys(20)
        await leader.claim(keys, role="judge")
        waiting = asyncio.create_task(waited(waiter, keys))
        await asyncio.sleep(0.05)
        redis_server.client.config_resetstat()

        leader.put_soon({key: key[:4] for key in keys}, role="judge")

        assert await waiting == Claimed(answered={key: key[:4] for key in keys})
        assert redis_server.calls("eval") == 1


async def test_a_leader_that_failed_hands_over_at_once(redis_server: RedisServer) -> None:
    """Long before its lease would end; and only one of those who wait asks next."""
    async with replicas(redis_server, 3, lease_s=60) as (leader, one, other):
        [key] = some_keys(1)
        await leader.claim([key], role="judge")
        waiting = [asyncio.create_task(waited(tier, [key])) for tier in (one, other)]
        await asyncio.sleep(0.05)

        leader.release([key], role="judge")
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)

        assert [task.result().to_ask for task in done] == [{key}]
        next_leader = one if waiting[0] in done else other
        next_leader.put_soon({key: b"answer"}, role="judge")
        outcomes = await asyncio.gather(*waiting)
        assert sorted(outcome.answered.get(key, b"") for outcome in outcomes) == [b"", b"answer"]


async def test_a_release_gives_back_only_what_is_held(redis_server: RedisServer) -> None:
    """Neither another's lease nor an answer is touched."""
    async with tier_on(redis_server.url) as one, tier_on(redis_server.url) as other:
        keys = some_keys(2)
        await one.claim(keys, role="judge")
        one.put_soon({keys[0]: b"x"}, role="judge")

        other.release(keys, role="judge")
        one.release([keys[0]], role="judge")
        await until(lambda: has(other, keys[:1]))

        assert (await other.claim([keys[1]], role="judge")).in_flight == {keys[1]}


async def test_a_leader_that_died_hands_over_when_its_lease_ends(redis_server: RedisServer) -> None:
    """A process that was killed: its lease stands, and nobody renews it."""
    [key] = some_keys(1)
    redis_server.client.set(entry_names([key], "judge", "")[0], LEASE + b"deceased" + b"0", px=500)
    async with tier_on(redis_server.url, lease_s=60) as tier:
        assert (await tier.claim([key], role="judge")).in_flight == {key}
        assert await waited(tier, [key]) == Claimed(to_ask={key})


async def test_a_lease_that_redis_never_ends_is_not_waited_for(redis_server: RedisServer) -> None:
    """One that is not seen to be renewed is over after its time, whatever Redis says."""
    [key] = some_keys(1)
    redis_server.client.set(entry_names([key], "judge", "")[0], LEASE + b"immortal" + b"0")
    metrics = Metrics()
    async with tier_on(redis_server.url, metrics, lease_s=0.5) as tier:
        started = time.monotonic()

        assert await waited(tier, [key]) == Claimed(to_ask={key})
        assert time.monotonic() - started > 0.4
        assert flights(metrics, "taken_over") == 1


async def test_answers_to_other_questions_do_not_prolong_a_wait(redis_server: RedisServer) -> None:
    """Who waits for many learns of one that is over while the others are still coming."""
    stuck, *coming = some_keys(31)
    redis_server.client.set(entry_names([stuck], "judge", "")[0], LEASE + b"immortal" + b"0")
    async with replicas(redis_server, 2, lease_s=1.0) as (leader, waiter):
        await leader.claim(coming, role="judge")
        waiting = asyncio.create_task(waited(waiter, [stuck, *coming]))
        for key in coming:
            leader.put_soon({key: b"x"}, role="judge")
            await asyncio.sleep(0.1)

        assert waiting.done()
        assert (await waiting).to_ask == {stuck}


async def test_a_lease_is_renewed_while_its_question_is_asked(redis_server: RedisServer) -> None:
    """A slow answer keeps the others waiting, not asking."""
    async with replicas(redis_server, 2, lease_s=1.0) as (leader, waiter):
        [key] = some_keys(1)
        await leader.claim([key], role="judge")
        waiting = asyncio.create_task(waited(waiter, [key]))

        await asyncio.sleep(1.6)
        assert not waiting.done()
        leader.put_soon({key: b"late"}, role="judge")

        assert (await waiting).answered == {key: b"late"}


async def test_a_lease_is_renewed_no_longer_than_its_holder_said(redis_server: RedisServer) -> None:
    """A caller that forgets its question does not hold it for ever."""
    async with replicas(redis_server, 2, lease_s=0.2) as (leader, waiter):
        [key] = some_keys(1)
        await leader.claim([key], role="judge", hold_s=0.1)

        assert (await waited(waiter, [key])).to_ask == {key}


async def test_a_lease_is_renewed_as_long_as_one_of_its_holders_said(
    redis_server: RedisServer,
) -> None:
    """Two requests of a replica ask the same question; the second has less time."""
    async with replicas(redis_server, 2, lease_s=1.0) as (leader, waiter):
        [key] = some_keys(1)
        await leader.claim([key], role="judge", hold_s=60)
        await leader.claim([key], role="judge", hold_s=0.1)

        assert (await waited(waiter, [key], 1.6)).in_flight == {key}


async def test_a_replica_that_stops_gives_its_leases_back(redis_server: RedisServer) -> None:
    """The others need not wait for them to end."""
    async with tier_on(redis_server.url, lease_s=60) as waiter:
        keys = some_keys(3)
        async with tier_on(redis_server.url, lease_s=60) as leader:
            await leader.claim(keys, role="judge")

        assert (await waiter.claim(keys, role="judge")).to_ask == set(keys)


async def test_a_waiter_gives_up_at_its_time(redis_server: RedisServer) -> None:
    """It learns what is still being asked elsewhere; with no time at all, at once."""
    metrics = Metrics()
    async with tier_on(redis_server.url) as leader, tier_on(redis_server.url, metrics) as waiter:
        keys = some_keys(2)
        await leader.claim(keys, role="judge")
        for seconds in (0.3, 0.0, -1.0):
            assert await waited(waiter, keys, seconds) == Claimed(in_flight=set(keys))
        assert flights(metrics, "late") == 6


async def test_a_cancelled_wait_leaves_the_others_waiting(redis_server: RedisServer) -> None:
    """Two requests wait for the same question; one hangs up."""
    async with tier_on(redis_server.url) as leader, tier_on(redis_server.url) as waiter:
        [key] = some_keys(1)
        await leader.claim([key], role="judge")
        leaves, stays = (asyncio.create_task(waited(waiter, [key])) for _ in range(2))
        await asyncio.sleep(0.05)
        leaves.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaves

        leader.put_soon({key: b"x"}, role="judge")

        assert (await stays).answered == {key: b"x"}


async def test_many_who_wait_look_together(redis_server: RedisServer) -> None:
    """A thousand waiting requests are not a thousand times as many commands."""
    async with tier_on(redis_server.url) as leader, tier_on(redis_server.url) as waiter:
        keys = some_keys(1000)
        await leader.claim(keys, role="judge")
        redis_server.client.config_resetstat()

        await asyncio.gather(*(waited(waiter, [key], 0.5) for key in keys))

        assert redis_server.calls("mget") < 150


@pytest.mark.parametrize("is_frozen", [True, False])
async def test_without_redis_each_asks_for_themselves(
    redis_server: RedisServer, is_frozen: bool
) -> None:
    """Also who waits already: frozen or killed, long before the answers would be late."""
    metrics = Metrics()
    async with (
        tier_on(redis_server.url) as leader,
        tier_on(redis_server.url, metrics, redis_timeout_s=0.2) as waiter,
    ):
        keys = some_keys(5)
        await leader.claim(keys, role="judge")
        waiting = asyncio.create_task(waited(waiter, keys))
        await asyncio.sleep(0.05)
        redis_server.freeze() if is_frozen else redis_server.kill()

        assert (await waiting).to_ask == set(keys)
        assert (await waiter.claim(keys, role="judge")).to_ask == set(keys)
        assert flights(metrics, "alone") == 5
        redis_server.thaw() if is_frozen else redis_server.start()


async def test_a_busy_process_does_not_take_over_what_it_waits_for(
    redis_server: RedisServer,
) -> None:
    """That it was late itself says nothing about who asks."""
    async with (
        slow_way(redis_server.port) as way,
        tier_on(redis_server.url) as leader,
        tier_on(f"redis://127.0.0.1:{way.port}/0", redis_timeout_s=1.0) as waiter,
    ):
        [key] = some_keys(1)
        await leader.claim([key], role="judge")
        waiting = asyncio.create_task(waited(waiter, [key]))
        await asyncio.sleep(0.1)
        way.delay_s = 0.2
        redis_server.client.config_resetstat()
        await until(lambda: redis_server.calls("mget") > 0)
        time.sleep(1.5)  # noqa: ASYNC251 - the loop has to stand still
        way.delay_s = 0.0
        await asyncio.sleep(0.1)
        leader.put_soon({key: b"x"}, role="judge")

        assert await waiting == Claimed(answered={key: b"x"})


async def test_a_corrupt_entry_in_the_place_of_an_answer_is_not_waited_for() -> None:
    """Who waits is told to ask."""
    [key], other = some_keys(1), bytes(16)
    lease = LEASE + b"somebody" + b"0"
    probed = array([None] * 32)
    replies = iter([probed, probed, array([lease]), array([encode(other, b"theirs")])])

    def answer(command: list[bytes]) -> bytes:
        return next(replies, array([b"corrupt"] * (len(command) - 1)))

    async with impostor(answer) as url, tier_on(url) as tier:
        claimed = await tier.claim([key], role="judge")
        assert claimed.in_flight == {key}

        assert await waited(tier, claimed.in_flight) == Claimed(to_ask={key})


async def test_after_closing_nobody_waits(redis_server: RedisServer) -> None:
    """Who waits when a replica stops, and who asks later, is on their own."""
    async with tier_on(redis_server.url) as leader:
        keys = some_keys(2)
        await leader.claim(keys, role="judge")
        async with tier_on(redis_server.url) as waiter:
            waiting = asyncio.create_task(waited(waiter, keys))
            await asyncio.sleep(0.05)

        assert (await waiting).to_ask == set(keys)
        assert (await waited(waiter, keys)).to_ask == set(keys)
        assert (await waiter.claim(keys, role="judge")).to_ask == set(keys)
        assert await waiter.get_many(keys, role="judge") == {}
