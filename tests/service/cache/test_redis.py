"""The Redis tier on real servers: it remembers, and whatever is wrong with Redis costs little."""

import asyncio
import contextlib
import random
import time
from itertools import count
from typing import Any

import pytest

from medreward.cache.entries import encode, entry_names
from medreward.cache.redis import RedisTier, build_redis_tier
from medreward.errors import SetupError
from medreward.settings import Settings
from medreward.telemetry.metrics import Metrics
from tests.programs import path_of
from tests.redis_servers import NewServer, RedisServer
from tests.service.cache.conftest import Logs
from tests.service.cache.redis_tiers import (
    array,
    dropped,
    impostor,
    reads,
    slow_way,
    some_keys,
    tier_on,
    written,
)
from tests.support.wait import until

pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("redis")]

TIMEOUT_S = 0.2
"""Of tests that wait for it; the others do not meet theirs."""
ENDLESS_S = 20.0
"""Many times what may be waited for, and still no hour."""


# Remembering.


@pytest.mark.parametrize(
    "program",
    [None, pytest.param("redis-server", marks=pytest.mark.needs("redis-server"))],
    ids=["valkey", "redis"],
)
async def test_what_one_replica_wrote_another_reads(
    new_server: NewServer, program: str | None
) -> None:
    """Values, claims and gives of leases work on either kind of server."""
    server = new_server(program=program and path_of(program))
    values = {key: b"payload %d" % number for number, key in enumerate(some_keys(600))}

    async with tier_on(server.url) as one, tier_on(server.url) as other:
        await written(one, values)
        free, *_ = keys = some_keys(3)
        claimed = await other.claim([*keys, *list(values)[:2]], role="judge")
        other.release([free], role="judge")

        assert await other.get_many(list(values), role="judge") == values
        assert claimed.to_ask == set(keys)
        assert claimed.answered == {key: values[key] for key in list(values)[:2]}


async def test_a_key_that_is_not_remembered_is_left_out(redis_server: RedisServer) -> None:
    """A miss is no error, and neither is asking for nothing."""
    metrics = Metrics()
    async with tier_on(redis_server.url, metrics) as tier:
        there, absent = some_keys(2)
        await written(tier, {there: b"x"})
        before = reads(metrics, "hit"), reads(metrics, "miss")

        assert await tier.get_many([there, absent], role="judge") == {there: b"x"}
        assert await tier.get_many([], role="judge") == {}
        assert reads(metrics, "hit") - before[0] == 1
        assert reads(metrics, "miss") - before[1] == 1


async def test_roles_and_namespaces_are_kept_apart(redis_server: RedisServer) -> None:
    """One tenant's answer is not another's, nor a judgement an embedding."""
    async with tier_on(redis_server.url) as tier:
        [key] = some_keys(1)
        await written(tier, {key: b"x"}, "ab12")

        assert await tier.get_many([key], role="judge") == {}
        assert await tier.get_many([key], "ab12", role="embedder") == {}
        assert await tier.get_many([key], "ab12", role="judge") == {key: b"x"}


async def test_every_value_expires(redis_server: RedisServer) -> None:
    """After the time that is set, if nobody writes it again."""
    async with tier_on(redis_server.url, cache_ttl_s=100) as tier:
        keys = some_keys(5)
        await written(tier, dict.fromkeys(keys, b"x"))

        left = [redis_server.client.ttl(name) for name in redis_server.client.keys("*")]

        assert len(left) == 5
        assert all(95 <= seconds <= 100 for seconds in left)


async def test_a_batch_is_read_by_one_command_and_written_by_one(redis_server: RedisServer) -> None:
    """Not one for each key; thousands are read some at a time, since a reply has little time."""
    async with tier_on(redis_server.url) as tier:
        keys = some_keys(3000)
        values = {key: key[:4] for key in keys[:512]}
        redis_server.client.config_resetstat()

        tier.put_soon(values, role="judge")
        await until(lambda: redis_server.client.dbsize() == 512)
        assert redis_server.calls("eval") == 1

        assert await tier.get_many(list(values), role="judge") == values
        assert redis_server.calls("mget") == 1
        assert await tier.get_many(keys, role="judge") == values
        assert redis_server.calls("mget") == 4


async def test_a_lease_given_back_forgets_no_answer(redis_server: RedisServer) -> None:
    """An answer that waits to be written ends the lease by itself."""
    [key, other] = some_keys(2)
    async with (
        slow_way(redis_server.port) as way,
        tier_on(f"redis://127.0.0.1:{way.port}/0", redis_timeout_s=5) as tier,
    ):
        way.delay_s = 0.3
        claiming = asyncio.create_task(tier.claim([key], role="judge"))
        await until(lambda: redis_server.calls("eval") == 1)
        tier.put_soon({other: b"keeps the writer busy"}, role="judge")
        await until(lambda: redis_server.calls("eval") == 2)
        tier.put_soon({key: b"answer"}, role="judge")

        await claiming
        tier.release([key], role="judge")
        await tier.flushed()

        assert await tier.get_many([key], role="judge") == {key: b"answer"}


async def test_what_waits_is_written_before_it_closes(redis_server: RedisServer) -> None:
    """A replica that stops leaves what it learnt."""
    keys = some_keys(2000)
    async with tier_on(redis_server.url) as tier:
        tier.put_soon(dict.fromkeys(keys, b"x"), role="judge")

    assert redis_server.client.dbsize() == 2000


async def test_what_does_not_fit_the_buffer_is_dropped_and_counted(
    redis_server: RedisServer,
) -> None:
    """Memory is bounded while Redis takes nothing, in entries and in bytes."""
    metrics = Metrics()
    async with tier_on(redis_server.url, metrics, redis_timeout_s=TIMEOUT_S) as tier:
        redis_server.freeze()
        await tier.get_many(some_keys(1), role="judge")
        for _ in range(7):
            tier.put_soon(dict.fromkeys(some_keys(10_000), b"x"), role="judge")

        assert dropped(metrics, "full") == 70_000 - 65_536
        assert metrics.registry.get_sample_value("medreward_redis_writes_waiting") == 65_536
        redis_server.thaw()

    metrics = Metrics()
    async with tier_on(redis_server.url, metrics) as tier:
        tier.put_soon(dict.fromkeys(some_keys(40), bytes(1024**2)), role="embedder")

        assert dropped(metrics, "full") == 9


# Trouble.


async def test_a_frozen_redis_costs_its_time_once_and_comes_back(
    redis_server: RedisServer, logged: Logs
) -> None:
    """One wait, then none, then answers again; nothing is restarted, and two lines are logged."""
    metrics = Metrics()
    async with tier_on(redis_server.url, metrics, redis_timeout_s=TIMEOUT_S) as tier:
        keys = some_keys(3)
        await written(tier, dict.fromkeys(keys, b"x"))
        redis_server.freeze()

        started = time.monotonic()
        assert await tier.get_many(keys, role="judge") == {}
        assert time.monotonic() - started >= TIMEOUT_S
        async with asyncio.timeout(ENDLESS_S):
            for _ in range(500):
                assert await tier.get_many(keys, role="judge") == {}
                assert (await tier.claim(keys, role="judge")).to_ask == set(keys)
        assert "not answering" in tier.state()
        assert reads(metrics, "error") == 3
        assert reads(metrics, "bypass") == 1500
        assert metrics.registry.get_sample_value("medreward_redis_breaker_open") == 1

        redis_server.thaw()
        await until(lambda: tier.state() == "answering")
        assert await tier.get_many(keys, role="judge") == dict.fromkeys(keys, b"x")
        assert metrics.registry.get_sample_value("medreward_redis_breaker_open") == 0
        events = [line["event"] for line in logged]
        assert events == ["redis_lost", "redis_back"]


async def test_many_callers_of_a_frozen_redis_wait_at_the_same_time(
    redis_server: RedisServer,
) -> None:
    """They do not queue for its connections."""
    async with tier_on(redis_server.url, redis_timeout_s=1.0) as tier:
        redis_server.freeze()

        async with asyncio.timeout(ENDLESS_S):
            await asyncio.gather(*(tier.get_many(some_keys(1), role="judge") for _ in range(2000)))

        redis_server.thaw()


async def test_a_redis_that_is_killed_and_started_again_is_used_again(
    redis_server: RedisServer,
) -> None:
    """What was put meanwhile is written then; scripts need not be loaded again."""
    async with tier_on(redis_server.url) as tier:
        keys = some_keys(4)
        await written(tier, {keys[0]: b"old"})
        redis_server.kill()
        assert await tier.get_many(keys, role="judge") == {}
        tier.put_soon({keys[1]: b"meanwhile"}, role="judge")

        redis_server.start()
        await until(lambda: tier.state() == "answering")
        await written(tier, {keys[2]: b"new"})

        found = await tier.get_many(keys, role="judge")
        assert found == {keys[1]: b"meanwhile", keys[2]: b"new"}
        assert (await tier.claim([keys[3]], role="judge")).to_ask == {keys[3]}


async def test_a_redis_that_is_not_there_yet_is_used_once_it_is(redis_server: RedisServer) -> None:
    """A service starts without it."""
    redis_server.kill()
    async with tier_on(redis_server.url) as tier:
        assert "not answering" in tier.state()
        assert await tier.get_many(some_keys(1), role="judge") == {}

        redis_server.start()
        await until(lambda: tier.state() == "answering")
        await written(tier, dict.fromkeys(some_keys(1), b"x"))


async def test_a_redis_that_has_become_slow_is_left_alone(redis_server: RedisServer) -> None:
    """That it answers at all is not enough: one that is slower than callers wait stays bypassed."""
    metrics = Metrics()
    async with tier_on(redis_server.url, metrics) as tier, slow_way(redis_server.port) as way:
        assert tier.state() == "answering"
        url = f"redis://127.0.0.1:{way.port}/0"
        async with tier_on(url, metrics, redis_timeout_s=TIMEOUT_S) as slow:
            [key] = some_keys(1)
            await written(slow, {key: b"x"})
            before = reads(metrics, "error")
            way.delay_s = 2 * TIMEOUT_S
            for _ in range(300):
                await slow.get_many([key], role="judge")
                await asyncio.sleep(0.005)
            # A time-out that this process slept through does not count, but for the second time.
            assert reads(metrics, "error") - before in (1, 2)

            way.delay_s = 0.0
            await until(lambda: slow.state() == "answering")
            assert await slow.get_many([key], role="judge") == {key: b"x"}


async def test_a_crowd_of_callers_does_not_take_redis_for_lost(redis_server: RedisServer) -> None:
    """They share a few connections, and all are answered in turn."""
    async with tier_on(redis_server.url, redis_timeout_s=10) as tier:
        await asyncio.gather(*(tier.get_many([key], role="judge") for key in some_keys(7500)))

        assert tier.state() == "answering"


async def test_a_busy_process_does_not_take_redis_for_lost(redis_server: RedisServer) -> None:
    """A time-out that this process slept through says nothing about Redis."""
    async with tier_on(redis_server.url, redis_timeout_s=1.0) as tier:
        [key] = some_keys(1)
        await written(tier, {key: b"x"})
        reading = asyncio.create_task(tier.get_many([key], role="judge"))
        await asyncio.sleep(0)
        time.sleep(1.5)  # noqa: ASYNC251 - that is the point
        await reading

        assert tier.state() == "answering"
        assert await tier.get_many([key], role="judge") == {key: b"x"}


async def test_no_trouble_ever_gives_a_wrong_answer(redis_server: RedisServer) -> None:
    """Four replicas under load while Redis freezes, dies, comes back, is flushed, and callers leave."""
    keys = some_keys(200)
    rng = random.Random(7)  # noqa: S311 - no secret
    over = asyncio.Event()

    async def use(tier: RedisTier) -> int:
        hits = 0
        while not over.is_set():
            some = rng.sample(keys, 20)
            timeout_s = rng.choice([0.0005, 0.002, 1.0])
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    found = await tier.get_many(some, role="judge")
                    claimed = await tier.claim(some, role="judge")
                    hits += len(found)
                    for key, payload in (found | claimed.answered).items():
                        assert payload == key * 2
                    tier.put_soon({key: key * 2 for key in claimed.to_ask}, role="judge")
            await asyncio.sleep(0.001)
        return hits

    async with contextlib.AsyncExitStack() as stack:
        tiers = [
            await stack.enter_async_context(
                tier_on(redis_server.url, lease_s=0.2, redis_timeout_s=TIMEOUT_S)
            )
            for _ in range(4)
        ]
        users = [asyncio.create_task(use(tier)) for tier in tiers for _ in range(4)]
        for trouble in range(4):
            await asyncio.sleep(0.3)
            redis_server.freeze()
            await asyncio.sleep(0.3)
            redis_server.thaw()
            await asyncio.sleep(0.3)
            if trouble % 2:
                redis_server.client.flushall()
            else:
                redis_server.kill()
                await asyncio.sleep(0.1)
                redis_server.start()
        over.set()
        hits = await asyncio.gather(*users)
        await until(lambda: all(tier.state() == "answering" for tier in tiers))

    assert min(hits) > 0


@pytest.mark.parametrize("command", ["FLUSHALL", "SCRIPT FLUSH"])
async def test_a_flush_is_only_a_miss(redis_server: RedisServer, command: str) -> None:
    """Nothing is lost but what was remembered, or the scripts, which go along each time."""
    async with tier_on(redis_server.url) as tier:
        keys = some_keys(2)
        await written(tier, {keys[0]: b"x"})

        redis_server.client.execute_command(command)
        await written(tier, {keys[1]: b"y"})

        assert (await tier.get_many(keys, role="judge"))[keys[1]] == b"y"
        assert tier.state() == "answering"


async def test_a_full_redis_is_still_read(redis_server: RedisServer) -> None:
    """Writes are dropped and counted, nobody gets a lease, and both work again when it has room."""
    metrics = Metrics()
    async with tier_on(redis_server.url, metrics) as tier:
        keys = some_keys(3)
        await written(tier, {keys[0]: b"x"})
        redis_server.client.config_set("maxmemory", 1)

        for _ in range(2):  # the second is not even sent
            assert (await tier.claim(keys[1:], role="judge")).to_ask == set(keys[1:])
            assert tier.state() == "answering, but refuses to write"
        tier.put_soon({keys[1]: b"y"}, role="judge")
        await until(lambda: dropped(metrics, "refused") == 1)
        assert await tier.get_many(keys, role="judge") == {keys[0]: b"x"}

        redis_server.client.config_set("maxmemory", 0)
        await written(tier, {keys[2]: b"z"})
        await until(lambda: tier.state() == "answering")


async def test_a_replica_is_read_and_not_written(redis_server: RedisServer) -> None:
    """A master that became a replica refuses writes; reads go on until it is a master again."""
    async with tier_on(redis_server.url) as tier:
        keys = some_keys(2)
        await written(tier, {keys[0]: b"x"})
        redis_server.client.config_set("replica-serve-stale-data", "yes")
        redis_server.client.replicaof("127.0.0.1", 1)

        tier.put_soon({keys[1]: b"y"}, role="judge")
        await until(lambda: tier.state() == "answering, but refuses to write")
        assert await tier.get_many(keys, role="judge") == {keys[0]: b"x"}

        redis_server.client.replicaof("NO", "ONE")
        await written(tier, {keys[1]: b"y"})
        # The value can be read before the reply to its write has come.
        await until(lambda: tier.state() == "answering")


async def test_a_wrong_password_is_told_and_the_service_goes_on(
    new_server: NewServer, logged: Logs
) -> None:
    """The log says what to check, and never the password."""
    server = new_server("--requirepass", "right", "--protected-mode", "no")
    async with tier_on(server.url.replace("redis://", "redis://:wr0ng@")) as tier:
        assert await tier.get_many(some_keys(1), role="judge") == {}
        assert "not answering" in tier.state()

    assert "MEDREWARD_REDIS_URL" in logged[0]["reason"]
    assert "wr0ng" not in str(logged)


# Replies that are not what was asked for.


async def test_a_cancelled_read_leaves_nothing_to_the_next(redis_server: RedisServer) -> None:
    """A caller that hangs up while its reply is on the way: nobody else gets that reply."""
    metrics = Metrics()
    async with tier_on(redis_server.url, metrics, redis_timeout_s=5.0) as tier:
        values = {key: key for key in some_keys(12)}
        await written(tier, values)
        for key in values:
            redis_server.client.client_pause(30)
            others = [k for k in values if k != key][:1]
            reading = asyncio.create_task(tier.get_many(others, role="judge"))
            await asyncio.sleep(0.003)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading

            assert await tier.get_many([key], role="judge") == {key: key}
        assert reads(metrics, "rubbish") == reads(metrics, "error") == 0


async def test_replies_to_other_questions_are_misses(logged: Logs) -> None:
    """A connection that is one reply behind gives no answer at all, rather than a wrong one."""
    metrics = Metrics()
    stored: dict[bytes, bytes] = {}
    keys = some_keys(2)
    for key in keys:
        stored[entry_names([key], "judge", "")[0]] = encode(key, key)
    swapped = dict(zip(stored, reversed(stored.values()), strict=True))

    def answer(command: list[bytes]) -> bytes:
        return array([swapped.get(name) for name in command[1:]])

    async with impostor(answer) as url, tier_on(url, metrics) as tier:
        assert await tier.get_many(keys, role="judge") == {}
        assert reads(metrics, "rubbish") == 2


@pytest.mark.parametrize(
    "nonsense",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"+OK\r\n",
        b"*-1\r\n",
        b"*1\r\n*1\r\n:1\r\n",
        b"$1000000000\r\nx",
        b"-LOADING Redis is loading the dataset in memory\r\n",
        b"",
    ],
)
async def test_nonsense_is_a_miss_within_the_time(nonsense: bytes) -> None:
    """Whatever answers at that address, nothing is raised and nothing found."""
    asked = count()

    def answer(command: list[bytes]) -> bytes:
        # What it says first is right, so that it is believed to be Redis.
        return array([None] * (len(command) - 1)) if next(asked) < 2 else nonsense

    async with impostor(answer) as url, tier_on(url, redis_timeout_s=TIMEOUT_S) as tier:
        keys = some_keys(1)
        async with asyncio.timeout(ENDLESS_S):
            assert await tier.get_many(keys, role="judge") == {}
            assert (await tier.claim(keys, role="judge")).to_ask == set(keys)


@pytest.mark.parametrize(
    "value", [b"", b"corrupt", b"\x01", b"L", encode(b"other key" + bytes(7), b"x")]
)
async def test_a_corrupt_entry_is_counted_and_overwritten(
    redis_server: RedisServer, value: bytes
) -> None:
    """It is nobody's answer; who asks next is told to ask, and what they say replaces it."""
    metrics = Metrics()
    async with tier_on(redis_server.url, metrics) as tier:
        [key] = some_keys(1)
        redis_server.client.set(entry_names([key], "judge", "")[0], value)

        assert await tier.get_many([key], role="judge") == {}
        claimed = await tier.claim([key], role="judge")
        if value[:1] != b"L":
            assert reads(metrics, "rubbish") == 1
            assert claimed.to_ask == {key}
        await written(tier, {key: b"answer"})


# Settings.


def test_without_a_url_there_is_no_tier() -> None:
    """Memory alone."""
    assert build_redis_tier(Settings(), Metrics()) is None


@pytest.mark.parametrize(
    ("field", "variable"),
    [
        ("redis_ca_file", "MEDREWARD_REDIS_CA_FILE"),
        ("redis_cert_file", "MEDREWARD_REDIS_CERT_FILE"),
        ("redis_key_file", "MEDREWARD_REDIS_KEY_FILE"),
        ("redis_password_file", "MEDREWARD_REDIS_PASSWORD_FILE"),
    ],
)
def test_a_file_that_is_not_there_is_told_at_start(field: str, variable: str) -> None:
    """By the name of its variable."""
    given: dict[str, Any] = {field: "/nowhere/at/all"}
    settings = Settings(redis_url="rediss://cache/0", **given)

    with pytest.raises(SetupError, match=variable):
        build_redis_tier(settings, Metrics())
