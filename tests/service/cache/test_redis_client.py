"""Ways to reach Redis: a socket, TLS, sentinels and a cluster, each with the same tier on top."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from medreward.cache.entries import TAG, entry_names
from medreward.cache.redis import RedisTier
from medreward.settings import Settings
from medreward.telemetry.metrics import Metrics
from tests.redis_servers import Certified, NewServer, RedisServer, Watched
from tests.service.cache.redis_tiers import has, reads, some_keys, tier_on, written
from tests.support.wait import until

pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("redis")]


async def check(one: RedisTier, other: RedisTier) -> None:
    """What one replica learns the other knows, and each question is asked by one of them."""
    values = {key: b"%d" % number for number, key in enumerate(some_keys(300))}
    await written(one, values)
    assert await other.get_many(list(values), role="judge") == values

    keys = some_keys(200)
    assert (await one.claim(keys, role="judge")).to_ask == set(keys)
    assert (await other.claim(keys, role="judge")).in_flight == set(keys)
    one.release(keys[:100], role="judge")
    await written(one, dict.fromkeys(keys[100:], b"x"))
    claimed = await other.claim(keys, role="judge")
    assert claimed.to_ask == set(keys[:100])
    assert claimed.answered == dict.fromkeys(keys[100:], b"x")


# A password, a database, a socket.


async def test_a_password_in_the_url_or_in_a_file_lets_in(
    new_server: NewServer, tmp_path: Path
) -> None:
    """Special signs are escaped in a URL, and stand as they are in a file."""
    server = new_server("--requirepass", "p@ss/word")
    file = tmp_path / "password"
    file.write_text("p@ss/word\n", "utf-8")
    url = server.url.replace("redis://", "redis://:p%40ss%2Fword@").replace("/0", "/3")

    async with (
        tier_on(url) as one,
        tier_on(server.url.replace("/0", "/3"), redis_password_file=file) as other,
    ):
        await check(one, other)


async def test_a_unix_socket_will_do(new_server: NewServer, tmp_path: Path) -> None:
    """Beside the service on one machine."""
    path = tmp_path / "s"
    new_server("--unixsocket", str(path))

    async with tier_on(f"unix://{path}") as one, tier_on(f"unix://{path}?db=0") as other:
        await check(one, other)


# TLS.


def tls_files(server: Certified) -> dict[str, Any]:
    """The settings of what a server and its client show each other."""
    return {
        "redis_ca_file": server.ca_file,
        "redis_cert_file": server.cert_file,
        "redis_key_file": server.key_file,
    }


@pytest.mark.needs("redis-server")
async def test_tls_with_an_authority_of_ones_own(redis_tls: Certified) -> None:
    """The server's certificate is checked, and the client shows its own."""
    files = tls_files(redis_tls)
    async with tier_on(redis_tls.url, **files) as one, tier_on(redis_tls.url, **files) as other:
        await check(one, other)


@pytest.mark.needs("redis-server")
@pytest.mark.parametrize(
    ("host", "left_out", "tls_check", "answers"),
    [
        ("localhost", "redis_ca_file", "full", False),
        ("localhost", "redis_cert_file", "full", False),
        ("127.0.0.1", "", "full", False),  # not the name in the certificate
        ("127.0.0.1", "", "chain", True),
        ("127.0.0.1", "redis_ca_file", "chain", False),
        ("127.0.0.1", "redis_ca_file", "none", True),
    ],
)
async def test_tls_checks_what_it_is_told_to(
    redis_tls: Certified, host: str, left_out: str, tls_check: str, answers: bool
) -> None:
    """A server that cannot show who it is, or that is shown nothing, is not used."""
    files = tls_files(redis_tls)
    files.pop(left_out, None)
    if left_out == "redis_cert_file":
        del files["redis_key_file"]
    url = redis_tls.url.replace("localhost", host)

    async with tier_on(url, redis_tls_check=tls_check, **files) as tier:
        assert (tier.state() == "answering") is answers


@pytest.mark.needs("redis-server")
async def test_certificates_are_read_again_when_it_reconnects(redis_tls: Certified) -> None:
    """Those of services live for days: both sides get others, and nobody restarts the service."""
    files = tls_files(redis_tls)
    async with tier_on(redis_tls.url, **files) as one, tier_on(redis_tls.url, **files) as other:
        values = dict.fromkeys(some_keys(10), b"x")
        await written(one, values)
        redis_tls.renew()

        async def is_back() -> bool:
            # The first command finds that the connection is gone.
            await other.get_many(list(values), role="judge")
            one.put_soon(values, role="judge")
            return await other.get_many(list(values), role="judge") == values

        await until(is_back)


@pytest.mark.needs("redis-server")
async def test_a_cluster_may_speak_tls(redis_tls: Certified) -> None:
    """Its nodes are reached by the same certificates."""
    redis_tls.restart_as_cluster()
    # A node announces itself by its address, which the certificate does not name.
    files = tls_files(redis_tls) | {"redis_mode": "cluster", "redis_tls_check": "chain"}
    async with tier_on(redis_tls.url, **files) as one, tier_on(redis_tls.url, **files) as other:
        await check(one, other)


# Sentinels.


async def test_after_a_failover_the_new_master_is_used(redis_sentinel: Watched) -> None:
    """The master dies, its replica is promoted; what was written is found, and writes go on."""
    metrics = Metrics()
    gone = "127.0.0.1:1"  # a sentinel that does not answer is passed over
    url = f"redis://{gone}/0"
    settings: dict[str, Any] = {
        "redis_mode": "sentinel",
        "redis_hosts": f"127.0.0.1:{redis_sentinel.sentinel.port}",
        "redis_sentinel_master": "cache",
    }
    async with tier_on(url, metrics, **settings) as one, tier_on(url, **settings) as other:
        await check(one, other)
        keys = some_keys(3)
        await written(one, dict.fromkeys(keys, b"before"))
        await until(lambda: redis_sentinel.replica.client.dbsize() > 500)

        redis_sentinel.master.kill()
        assert await one.get_many(keys, role="judge") == {}
        await until(lambda: one.state() == "answering")

        assert await one.get_many(keys, role="judge") == dict.fromkeys(keys, b"before")
        await written(one, dict.fromkeys(some_keys(3), b"after"))
        assert reads(metrics, "rubbish") == 0


# A cluster.


async def test_a_cluster_of_three_is_one_cache(redis_cluster: list[RedisServer]) -> None:
    """Keys of a bucket share a slot, so a batch is few commands."""
    async with (
        tier_on(redis_cluster[0].url, redis_mode="cluster") as one,
        tier_on(redis_cluster[2].url, redis_mode="cluster") as other,
    ):
        await check(one, other)
        keys = some_keys(512)
        buckets = {name[TAG] for name in entry_names(keys, "judge", "")}
        for node in redis_cluster:
            node.client.config_resetstat()

        await one.get_many(keys, role="judge")
        one.put_soon(dict.fromkeys(keys, b"x"), role="judge")
        await until(lambda: has(other, keys))

        evals = [node.calls("eval") for node in redis_cluster]
        assert sum(evals) == len(buckets)
        assert max(evals) - min(evals) <= 3


async def test_a_slot_that_moved_is_found(redis_cluster: list[RedisServer]) -> None:
    """A node that answers MOVED is no trouble: the client follows."""
    async with tier_on(redis_cluster[1].url, redis_mode="cluster") as tier:
        [key] = some_keys(1)
        await written(tier, {key: b"x"})
        [name] = entry_names([key], "judge", "")
        for node in redis_cluster:
            node.client.execute_command("FLUSHALL")
        slot = redis_cluster[0].client.execute_command("CLUSTER", "KEYSLOT", name)
        owner = min(range(3), key=lambda n: abs(slot - (n * 5462 + 2731)))
        next_owner = redis_cluster[(owner + 1) % 3]
        node_id = next_owner.client.execute_command("CLUSTER", "MYID").decode()
        for node in (next_owner, *redis_cluster):
            node.client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", node_id)

        await written(tier, {key: b"y"})

        assert next_owner.client.exists(name)
        assert tier.state() == "answering"


async def test_a_cluster_that_lost_a_node_is_used_again_when_it_is_whole(
    redis_cluster: list[RedisServer],
) -> None:
    """Meanwhile the tier is left alone; nobody waits for the node that froze."""
    async with tier_on(redis_cluster[0].url, redis_mode="cluster") as tier:
        keys = some_keys(100)
        await written(tier, dict.fromkeys(keys, b"x"))
        redis_cluster[2].freeze()

        assert await tier.get_many(keys, role="judge") == {}
        assert "not answering" in tier.state()
        assert (await tier.claim(keys, role="judge")).to_ask == set(keys)

        redis_cluster[2].thaw()
        await until(lambda: tier.state() == "answering")
        await until(lambda: has(tier, keys))


# Settings.


@pytest.mark.parametrize(
    "url",
    [
        "http://cache:6379",
        "cache:6379",
        "redis://",
        "redis://cache:6379/zero",
        "redis://:s3cret@cache:6379/0?socket_timeout=60",  # would undo our own
        "redis://:s3cret@ca che",
        "unix://s3cret",
    ],
)
def test_a_url_that_cannot_be_one_is_refused_and_not_quoted(url: str) -> None:
    """It may hold a password."""
    with pytest.raises(ValidationError) as caught:
        Settings(redis_url=url)

    assert "redis_url" in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://cache",
        "rediss://user:p%40ss@cache.example.org:6380/2",
        "redis://[::1]:6379/0",
        "unix:///run/redis.sock?db=1",
    ],
)
def test_a_url_is_kept_and_not_shown(url: str) -> None:
    """However the settings are printed."""
    settings = Settings(redis_url=url)

    assert settings.redis_url is not None
    assert settings.redis_url.get_secret_value() == url
    assert url not in f"{settings!r} {settings.model_dump()}"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"redis_mode": "cluster"}, "MEDREWARD_REDIS_URL"),
        ({"redis_url": "unix:///s", "redis_mode": "cluster"}, "redis://"),
        ({"redis_url": "redis://a", "redis_hosts": "b:1"}, "MEDREWARD_REDIS_MODE"),
        ({"redis_url": "redis://a", "redis_mode": "cluster", "redis_hosts": "b"}, "host:port"),
        ({"redis_url": "redis://a", "redis_timeout_s": 0}, "redis_timeout_s"),
        ({"redis_url": "redis://a", "lease_s": 0}, "lease_s"),
    ],
)
def test_settings_that_do_not_agree_are_refused(given: dict[str, Any], told: str) -> None:
    """The message names what mends it."""
    with pytest.raises(ValidationError, match=told):
        Settings(**given)
