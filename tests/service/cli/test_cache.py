"""`medreward cache`: what Redis remembers, told and forgotten, on real servers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medreward.cache.entries import LEASE, encode, entry_names
from medreward.cli import cache
from tests.redis_servers import NewServer, RedisServer, Watched, free_port
from tests.service.cli.conftest import Run

pytestmark = pytest.mark.xdist_group("redis")

Fill = Callable[[RedisServer], None]


def fill(server: RedisServer) -> None:
    """Five judgements, three embeddings of a tenant, a lease of theirs, and something of others."""
    keys = [bytes([number]) * 16 for number in range(9)]
    for key in keys[:5]:
        server.client.set(entry_names([key], "judge", "")[0], encode(key, b"x"))
    for key in keys[5:8]:
        server.client.set(entry_names([key], "embedder", "ab12")[0], encode(key, b"x"))
    server.client.set(entry_names(keys[8:], "judge", "ab12")[0], LEASE + b"somebody0")
    server.client.set("other:program", "x")


@pytest.fixture
def filled(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> RedisServer:
    """A Redis that remembers something, and that the environment names."""
    fill(redis_server)
    monkeypatch.setenv("MEDREWARD_REDIS_URL", redis_server.url)
    return redis_server


def test_stats_tell_what_is_remembered(run: Run, filled: RedisServer) -> None:
    """By kind and namespace, with version, memory, policy and hit rate."""
    filled.client.get("other:program")
    told = run("cache", "stats")
    words = " ".join(told.stdout.split())

    assert told.code == 0
    for expected in (
        "judge none 5",
        "embedder ab12 3",
        "judge ab12 1",
        "others 1",
        "mode standalone",
        "MiB",
        "hit rate 100.0% of 1",
        "when full noeviction",
        str(filled.client.info().get("valkey_version") or filled.client.info()["redis_version"]),
    ):
        assert expected in words


def test_stats_warn_of_a_redis_that_will_refuse(run: Run, filled: RedisServer) -> None:
    """A limit without eviction, and no limit at all."""
    assert "set maxmemory" in run("cache", "stats").stdout
    filled.client.config_set("maxmemory", 100 * 1024**2)

    assert "set maxmemory-policy allkeys-lru" in run("cache", "stats").stdout
    filled.client.config_set("maxmemory-policy", "allkeys-lru")
    assert "set maxmemory" not in run("cache", "stats").stdout


def test_of_very_many_names_some_are_looked_at(
    run: Run, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the rest is estimated, which is said."""
    monkeypatch.setenv("MEDREWARD_REDIS_URL", redis_server.url)
    keys = [number.to_bytes(16) for number in range(cache.MAX_SCANNED + 50_000)]
    for start in range(0, len(keys), 50_000):
        names = entry_names(keys[start : start + 50_000], "judge", "")
        redis_server.client.mset(dict.fromkeys(names, b"x"))

    assert "judge none about 250,000" in " ".join(run("cache", "stats").stdout.split())


def test_clear_removes_what_is_ours_alone(run: Run, filled: RedisServer) -> None:
    """Entries and leases; other programs' stay."""
    told = run("cache", "clear", "--yes")

    assert (told.code, told.stdout) == (0, "9 entries removed\n")
    assert filled.client.keys("*") == [b"other:program"]
    filled.client.flushall()
    assert "nothing is remembered yet" in run("cache", "stats").stdout


def test_clear_of_a_namespace_leaves_the_others(run: Run, filled: RedisServer) -> None:
    """One tenant's entries and leases."""
    deceptive = bytes(5) + b":ab12:" + bytes(5)
    [name] = entry_names([deceptive], "judge", "cd34")
    filled.client.set(name, "x")

    told = run("cache", "clear", "--namespace", "ab12", "--yes")

    assert told.stdout == "4 entries removed\n"
    assert filled.client.dbsize() == 7
    assert filled.client.exists(name)


@pytest.mark.parametrize(("answer", "left"), [("y\n", 1), ("n\n", 10), ("\n", 10), ("", 10)])
def test_clear_asks_before(run: Run, filled: RedisServer, answer: str, left: int) -> None:
    """It says what and where, and does nothing without a yes."""
    told = run("cache", "clear", stdin=answer)

    assert f"Redis at {filled.url}" in told.stderr
    assert filled.client.dbsize() == left
    assert told.code == (0 if left == 1 else 1)


@pytest.mark.parametrize("namespace", ["*", "Z", "a:b"])
def test_a_namespace_that_cannot_be_one_is_misuse(
    run: Run, filled: RedisServer, namespace: str
) -> None:
    """A star does not mean everybody's."""
    told = run("cache", "clear", "--namespace", namespace, "--yes")

    assert told.code == 2
    assert "--namespace" in told.stderr
    assert filled.client.dbsize() == 10


@pytest.mark.parametrize("command", [("stats",), ("clear", "--yes"), ("clear",)])
def test_without_a_redis_the_setting_is_named(run: Run, command: tuple[str, ...]) -> None:
    """What to set."""
    told = run("cache", *command)

    assert told.code == 2
    assert "set MEDREWARD_REDIS_URL" in told.stderr


@pytest.mark.parametrize("command", [("stats",), ("clear", "--yes")])
def test_a_redis_that_is_not_there_is_told(
    run: Run, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    """Where it was looked for, without the password, and what to check."""
    monkeypatch.setenv("MEDREWARD_REDIS_URL", f"redis://:s3cret@127.0.0.1:{free_port()}/0")

    told = run("cache", *command)

    assert told.code == 1
    assert "Redis at redis://127.0.0.1:" in told.stderr
    assert "does not answer" in told.stderr
    assert "s3cret" not in told.stderr + told.stdout


def test_a_wrong_password_is_told(
    run: Run, new_server: NewServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which settings hold it; never what they hold."""
    server = new_server("--requirepass", "right")
    for password in ("", ":s3cret@"):
        url = server.url.replace("redis://", f"redis://{password}")
        monkeypatch.setenv("MEDREWARD_REDIS_URL", url)

        told = run("cache", "stats")

        assert told.code == 1
        assert "mend the user and the password in MEDREWARD_REDIS_URL" in told.stderr
        assert "s3cret" not in told.stderr


def test_a_user_without_the_right_is_told(
    run: Run, filled: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Redis says, and what to check."""
    filled.client.execute_command("ACL", "SETUSER", "weak", "on", ">pw", "~*", "+get")
    monkeypatch.setenv("MEDREWARD_REDIS_URL", filled.url.replace("//", "//weak:pw@"))

    told = run("cache", "stats")

    assert told.code == 1
    assert "check the user's rights" in told.stderr


def test_a_file_that_is_not_there_is_named(
    run: Run, filled: RedisServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By its setting."""
    monkeypatch.setenv("MEDREWARD_REDIS_PASSWORD_FILE", str(tmp_path / "nowhere"))

    told = run("cache", "stats")

    assert (told.code, "MEDREWARD_REDIS_PASSWORD_FILE" in told.stderr) == (2, True)


def test_a_cluster_is_told_and_cleared_as_one(
    run: Run, redis_cluster: list[RedisServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All its primaries together."""
    monkeypatch.setenv("MEDREWARD_REDIS_URL", redis_cluster[1].url)
    monkeypatch.setenv("MEDREWARD_REDIS_MODE", "cluster")
    keys = [bytes([number]) * 16 for number in range(200)]
    for key, name in zip(keys, entry_names(keys, "judge", ""), strict=True):
        for node in redis_cluster:
            if _is_home(node, name):
                node.client.set(name, encode(key, b"x"))

    words = " ".join(run("cache", "stats").stdout.split())
    assert "mode cluster, 3 primaries" in words
    assert "judge none 200" in words
    assert run("cache", "clear", "--yes").stdout == "200 entries removed\n"
    assert sum(node.client.dbsize() for node in redis_cluster) == 0


def _is_home(node: RedisServer, name: bytes) -> bool:
    slot = node.client.execute_command("CLUSTER", "KEYSLOT", name)
    identity = node.client.execute_command("CLUSTER", "MYID")
    slots: list[Any] = node.client.execute_command("CLUSTER", "SLOTS")
    return any(first <= slot <= last and at[2] == identity for first, last, at, *_ in slots)


def test_the_master_of_sentinels_is_told_and_cleared(
    run: Run, redis_sentinel: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever it is."""
    fill(redis_sentinel.master)
    monkeypatch.setenv("MEDREWARD_REDIS_URL", redis_sentinel.sentinel.url)
    monkeypatch.setenv("MEDREWARD_REDIS_MODE", "sentinel")
    monkeypatch.setenv("MEDREWARD_REDIS_SENTINEL_MASTER", "cache")

    assert "judge none 5" in " ".join(run("cache", "stats").stdout.split())
    assert run("cache", "clear", "--yes").stdout == "9 entries removed\n"
