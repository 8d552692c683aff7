"""Connections to Redis: who gets none in time, and that all are closed."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import hiredis
import pytest
import trustme

from medreward.cache.redis_client import MAX_CONNECTIONS, connect
from medreward.cache.redis_link import RedisLink, Unavailable
from medreward.settings import Settings
from medreward.telemetry.metrics import Metrics
from tests.service.cache.redis_tiers import array, some_keys, tier_on
from tests.support.wait import until

pytestmark = pytest.mark.anyio


@dataclass
class StallingServer:
    """Remembers nothing, counts its connections, and stalls as the test says."""

    tls: ssl.SSLContext | None = None
    port: int = 0
    accepted: int = 0
    stalled: int = 0
    """Commands that will never be answered."""
    stalls: bool = False
    handshakes: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while connections over TLS come about."""
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    """Of the connections that are open, in the order in which they came."""

    @property
    def url(self) -> str:
        """The address that the tier is given."""
        return f"redis{'s' if self.tls else ''}://127.0.0.1:{self.port}/0"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer each look-up on one connection, unless told to stall."""
        self.accepted += 1
        self.writers.append(writer)
        try:
            if self.tls is not None:
                # The client's first bytes are for the handshake, not for the plain reader.
                cast(asyncio.Transport, writer.transport).pause_reading()
                await self.handshakes.wait()
                await writer.start_tls(self.tls)
            await self._answer(reader, writer)
        except (ConnectionError, ssl.SSLError):
            pass  # The client gave this connection up.
        finally:
            self.writers.remove(writer)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        commands = hiredis.Reader()
        while data := await reader.read(65536):
            commands.feed(data)
            while (command := commands.gets()) is not False:
                if self.stalls:
                    self.stalled += 1
                else:
                    writer.write(array([None] * (len(command) - 1)))


@asynccontextmanager
async def listening(server: StallingServer) -> AsyncIterator[StallingServer]:
    """Let a server listen on a port of its own, until all its connections are closed."""
    server.handshakes.set()
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
        await until(lambda: not server.writers)
    finally:
        listener.close()
        for writer in server.writers:
            writer.close()


async def test_a_request_that_gets_no_connection_in_time_says_nothing_about_the_server() -> None:
    """It goes on without an answer; the requests that have the connections find out."""
    async with listening(StallingServer()) as server:
        reach = partial(connect, Settings(redis_url=server.url))
        link = RedisLink(reach, Metrics(), timeout_s=0.05, put_timeout_s=60)
        await link.start()
        await until(lambda: not link.is_open)
        server.stalls = True
        puts = [
            asyncio.create_task(link.run("put", "script", [b"name"], []))
            for _ in range(MAX_CONNECTIONS)
        ]
        await until(lambda: server.stalled == MAX_CONNECTIONS)

        with pytest.raises(Unavailable):
            await link.read("get", [b"name"])

        assert link.state() == "answering"
        await link.aclose()
        outcomes = await asyncio.gather(*puts, return_exceptions=True)
        assert all(isinstance(outcome, Unavailable) for outcome in outcomes)


async def test_a_request_that_waited_for_a_connection_does_not_ask_a_server_given_up() -> None:
    """The store that was closed meanwhile would connect anew, and nobody would close it again."""
    async with (
        listening(StallingServer()) as server,
        tier_on(server.url, redis_timeout_s=10) as tier,
    ):
        server.stalls = True
        requests = [
            asyncio.create_task(tier.get_many([key], role="judge"))
            for key in some_keys(3 * MAX_CONNECTIONS)
        ]
        await until(lambda: server.stalled == MAX_CONNECTIONS)
        server.writers[0].close()
        await until(lambda: "not answering" in tier.state())
        server.stalls = False

        assert await asyncio.gather(*requests) == [{}] * len(requests)
        await until(lambda: tier.state() == "answering")
        await until(lambda: len(server.writers) == 1)


async def test_a_connection_under_way_when_its_server_is_given_up_is_closed() -> None:
    """It comes about after the others were closed, so the request that asked for it closes it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    async with (
        listening(StallingServer(tls=context)) as server,
        tier_on(server.url, redis_timeout_s=10, redis_tls_check="none") as tier,
    ):
        server.stalls = True
        server.handshakes.clear()
        first = asyncio.create_task(tier.get_many(some_keys(1), role="judge"))
        await until(lambda: server.stalled == 1)
        second = asyncio.create_task(tier.get_many(some_keys(1), role="judge"))
        await until(lambda: server.accepted == 2)
        server.writers[0].close()
        # The third connection is the new store's, so the old store has been closed.
        await until(lambda: server.accepted == 3)
        server.stalls = False
        server.handshakes.set()

        assert [await first, await second] == [{}, {}]
        await until(lambda: tier.state() == "answering")
        await until(lambda: len(server.writers) == 1)


async def test_a_request_under_way_when_the_service_ends_leaves_no_connection() -> None:
    """It gets no answer, and does not make the link try the server again."""
    async with (
        listening(StallingServer()) as server,
        tier_on(server.url, redis_timeout_s=10) as tier,
    ):
        server.stalls = True
        request = asyncio.create_task(tier.get_many(some_keys(1), role="judge"))
        await until(lambda: server.stalled == 1)
        await tier.aclose()

        assert await request == {}
        assert "not answering" in tier.state()
    assert server.accepted == 1
