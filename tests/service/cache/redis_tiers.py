"""What the tests of the Redis tier share: tiers on a server, keys, and an impostor of a server."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import hiredis

from medreward.cache.redis import RedisTier, build_redis_tier
from medreward.settings import Settings
from medreward.telemetry.metrics import Metrics
from tests.support.wait import until

Answer = Callable[[list[bytes]], bytes | None]


def some_keys(count: int) -> list[bytes]:
    """Keys that no other test has."""
    return [os.urandom(16) for _ in range(count)]


@asynccontextmanager
async def tier_on(
    url: str, metrics: Metrics | None = None, **settings: Any
) -> AsyncIterator[RedisTier]:
    """One replica's tier, connected; on a busy machine a time-out as short as ours would be met."""
    patient: dict[str, Any] = {"redis_timeout_s": 2.0} | settings
    tier = build_redis_tier(Settings(redis_url=url, **patient), metrics or Metrics())
    assert tier is not None
    await tier.start()
    try:
        yield tier
    finally:
        await tier.aclose()


async def written(tier: RedisTier, values: dict[bytes, bytes], namespace: str = "") -> None:
    """Put values, and wait until they are remembered."""
    tier.put_soon(values, namespace, role="judge")
    await until(lambda: has(tier, list(values), namespace))


async def has(tier: RedisTier, keys: list[bytes], namespace: str = "") -> bool:
    """Whether a tier has a value for each key."""
    return len(await tier.get_many(keys, namespace, role="judge")) == len(keys)


def reads(metrics: Metrics, result: str, role: str = "judge") -> float:
    """How many look-ups came to this."""
    labels = {"role": role, "tier": "redis", "result": result}
    return metrics.registry.get_sample_value("medreward_cache_requests_total", labels) or 0.0


def flights(metrics: Metrics, result: str) -> float:
    """How many claims came to this."""
    labels = {"role": "judge", "result": result}
    return metrics.registry.get_sample_value("medreward_single_flight_total", labels) or 0.0


def dropped(metrics: Metrics, reason: str) -> float:
    """How many answers were not written for this reason."""
    name, labels = "medreward_redis_writes_dropped_total", {"reason": reason}
    return metrics.registry.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def impostor(answer: Answer) -> AsyncIterator[str]:
    """Something that takes commands as Redis does and answers what the test says; gives its URL."""
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        commands = hiredis.Reader()
        while data := await reader.read(65536):
            commands.feed(data)
            while (command := commands.gets()) is not False:
                reply = answer(command)
                if reply is not None:
                    writer.write(reply)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    finally:
        server.close()
        for writer in writers:
            writer.close()
        await asyncio.sleep(0)


@dataclass
class Way:
    """Leads to a server, as slowly as the test says."""

    port: int = 0
    delay_s: float = 0.0


@asynccontextmanager
async def slow_way(port: int) -> AsyncIterator[Way]:
    """Pass bytes to and from a server; replies are held back for a while."""
    way = Way()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pass(reader, back, Way()))
                group.create_task(_pass(there, writer, way))
        finally:
            back.close()
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    way.port = server.sockets[0].getsockname()[1]
    try:
        yield way
    finally:
        server.close()
        await asyncio.sleep(0.05)


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: Way) -> None:
    # Who gives up on a reply leaves it unread.
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            await asyncio.sleep(way.delay_s)
            writer.write(data)
    writer.close()


def array(values: list[bytes | None]) -> bytes:
    """A reply of several values, as Redis writes it."""
    parts = [b"*%d\r\n" % len(values)]
    parts += [b"$-1\r\n" if v is None else b"$%d\r\n%b\r\n" % (len(v), v) for v in values]
    return b"".join(parts)
