"""A pool of servers with the same model: requests go to the least busy, and failing ones are ejected."""

import asyncio
import itertools
import math
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypedDict, TypeVar

import structlog

from medreward.admission import Deadline
from medreward.breaker import Breaker
from medreward.engines import timeouts
from medreward.engines.remote.api_key import ApiKey
from medreward.engines.remote.http_client import (
    REFUSAL_STATUS,
    AsyncBaseTransport,
    Endpoint,
    Reply,
    encoded,
    proxy_for,
)
from medreward.engines.remote.rate_limits import RateLimits
from medreward.errors import BackendDown, DeadlinePassed, EngineError, SetupError
from medreward.telemetry.tracing import carried

T = TypeVar("T")

TRIES = 4
FAILURES_TO_EJECT = 3
TRIES_IN_TIME = 3
"""Tries that fit into a request's time if every server that it is sent to hangs."""
FAIR_SHARE = 0.5
"""The share of one try's time after which a timeout counts as a failure of the server."""

KEY_REFUSED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
BUSY = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Pauses:
    """Pauses in seconds before a server gets another request; each is longer than the one before."""

    first_s: float = 0.1
    """Upper bound of the random pause before a request's second try, doubled with each try."""
    longest_s: float = 5.0
    """Upper bound of any such pause, and the time for which an ejected server is waited for."""
    first_rest_s: float = 0.5
    """Pause before the first probe of an ejected server."""
    longest_rest_s: float = 15.0
    """Longest pause between two probes of an ejected server."""


class ServerOptions(TypedDict, total=False):
    """The options that an engine behind servers passes on to its `ServerPool`."""

    api_key: ApiKey | None
    headers: Mapping[str, str] | None
    timeout_s: float
    try_timeout_s: float | None
    pauses: Pauses | None
    transport: AsyncBaseTransport | None


class Server:
    """One server: its address, its requests in flight, and how it has answered."""

    def __init__(self, endpoint: Endpoint, pauses: Pauses) -> None:
        self._endpoint = endpoint
        self.outstanding = 0
        self.last_turn = 0
        """The number of its latest request; of equally busy servers, the one with the lowest is chosen."""
        self.breaker = Breaker(
            failures=FAILURES_TO_EJECT,
            pause_s=pauses.first_rest_s,
            longest_pause_s=pauses.longest_rest_s,
        )
        self.watch: asyncio.Task[None] | None = None
        self.trouble = ""
        """The reason for which it was ejected last."""
        self.ejected_s = 0.0
        """The time of that, by `time.monotonic`."""

    @property
    def name(self) -> str:
        """Host and port, as logs and messages may show them."""
        return str(self._endpoint.url.netloc, "ascii", "replace")

    async def send(
        self, method: str, path: str, content: bytes | None, headers: Mapping[str, str]
    ) -> Reply:
        """Send one request; a path with a leading slash starts above the address's /v1.

        Raises:
            EngineError: there is no reply.
        """
        return await self._endpoint.send(method, path, content, {**headers, **carried()})

    async def aclose(self) -> None:
        """Stop watching, and close the connections."""
        if self.watch is not None:
            self.watch.cancel()
            await asyncio.gather(self.watch, return_exceptions=True)
        await self._endpoint.aclose()


class ServerPool:
    """Sends each request to the least busy server, and retries it on others."""

    def __init__(
        self,
        urls: Sequence[str],
        *,
        api_key: ApiKey | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 60.0,
        try_timeout_s: float | None = None,
        in_flight_each: int = 16,
        limits: RateLimits | None = None,
        pauses: Pauses | None = None,
        transport: AsyncBaseTransport | None = None,
        uses_proxy: bool = True,
    ) -> None:
        self._key = api_key or ApiKey()
        self._timeout_s = timeout_s
        self._limits = limits
        self._pauses = pauses or Pauses()
        self._try_timeout_s = min(
            timeout_s, try_timeout_s or timeout_s / (TRIES_IN_TIME if len(urls) > 1 else 1)
        )
        self._chance = random.SystemRandom()
        self._numbers = itertools.count(1)
        self._places = asyncio.Semaphore(in_flight_each * len(urls))
        self.all: list[Server] = []
        for url in urls:
            proxy = proxy_for(url) if uses_proxy and transport is None else None
            endpoint = Endpoint(
                url,
                headers=headers or {},
                timeout_s=self._try_timeout_s,
                connections=2 * in_flight_each,
                proxy=proxy,
                transport=transport,
            )
            self.all.append(Server(endpoint, self._pauses))
        self.examine: Callable[[Server], Awaitable[None]] = self._greet
        """Probes an ejected server; raises if it has to stay ejected."""

    def deadline(self) -> Deadline:
        """Return the deadline of a batch that is sent now."""
        return Deadline.after(timeouts.REMOTE * self._timeout_s)

    async def post(self, path: str, content: bytes, deadline: Deadline) -> Reply:
        """Send JSON to one server, and retry on another or later if the failure is the server's.

        Raises:
            EngineError: no server answered before the deadline.
        """
        try:
            async with asyncio.timeout(deadline.left_s):
                await self._places.acquire()
        except TimeoutError:
            raise DeadlinePassed("too many requests were before it") from None
        try:
            return await self._post(path, content, deadline)
        finally:
            self._places.release()

    async def ask(
        self, server: Server, method: str, path: str, body: Mapping[str, object] | None = None
    ) -> Reply:
        """Send one request to one server, once, also while it is ejected.

        Raises:
            EngineError: there is no reply in time.
        """
        content = None if body is None else encoded(body)
        if content is not None and self._limits is not None:
            await self._limits.wait(len(content), timeout_s=self._try_timeout_s)
        return await self._try(server, method, path, content, self._try_timeout_s)

    async def ask_each(self, ask: Callable[[Server], Awaitable[T]]) -> dict[Server, T]:
        """Call *ask* with each server at the start; a server that is down is ejected, and joins later.

        Raises:
            EngineError: all of them are down.
            Exception: any other error of *ask*.
        """
        outcomes = await asyncio.gather(*map(ask, self.all), return_exceptions=True)
        found: dict[Server, T] = {}
        down: dict[Server, EngineError] = {}
        for asked, outcome in zip(self.all, outcomes, strict=True):
            if isinstance(outcome, EngineError):
                down[asked] = outcome
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                found[asked] = outcome
        if not found:
            raise next(iter(down.values()))
        for asked, error in down.items():
            self.eject(asked, str(error))
        return found

    def eject(self, server: Server, reason: str) -> None:
        """Stop sending requests to a server until a probe succeeds."""
        while not server.breaker.is_open:
            server.breaker.failed()
        server.trouble = reason
        if server.watch is None or server.watch.done():
            server.ejected_s = time.monotonic()
            log.warning("server_ejected", server=server.name, reason=reason)
            server.watch = asyncio.create_task(self._watch(server))

    async def aclose(self) -> None:
        """Stop all probes, and close all connections."""
        await asyncio.gather(*(server.aclose() for server in self.all))

    def _choose(self, tried: Sequence[Server]) -> Server | None:
        """Choose the least busy of the servers that were tried least; None if all are ejected."""
        well = [server for server in self.all if not server.breaker.is_open]
        return min(well, key=lambda s: (tried.count(s), s.outstanding, s.last_turn), default=None)

    async def _post(self, path: str, content: bytes, deadline: Deadline) -> Reply:
        tried: list[Server] = []
        outcome: Reply | EngineError | None = None
        has_waited = False
        while True:
            if not has_waited and self._choose(tried) is None:
                # Once in all tries: a request that waited at each would use up its time.
                has_waited = True
                await self._wait_for_a_server(deadline)
            if self._limits is not None and self._choose(tried) is not None:
                await self._limits.wait(len(content), timeout_s=deadline.left_s)
            # Chosen after both waits, since servers are ejected and come back meanwhile. Nothing
            # yields to the event loop between this and the increment of `outstanding`.
            chosen = self._choose(tried)
            if chosen is None:
                break
            outcome = await self._outcome(chosen, path, content, deadline.left_s, tried)
            if isinstance(outcome, Reply) and _is_answer(outcome):
                return outcome
            tried.append(chosen)
            pause_s = self._pause_s(outcome, tried)
            if len(tried) >= TRIES or pause_s >= deadline.left_s:
                break
            await asyncio.sleep(pause_s)
        if isinstance(outcome, Reply):
            return outcome
        first = min(self.all, key=lambda server: server.breaker.left_s)
        raise outcome or BackendDown(
            f"no server answers ({first.trouble}); the next try is in {first.breaker.left_s:.1f} s"
        )

    async def _wait_for_a_server(self, deadline: Deadline) -> None:
        """Wait for the first server to come back if all are ejected, and one of them only just.

        Otherwise all requests of a restart would fail at once. In a long outage none waits: each
        would hold its place for all of the wait, and those behind it would wait for minutes.
        """
        watches = [server.watch for server in self.all if server.watch and server.breaker.is_open]
        waited_for_s = max(server.ejected_s for server in self.all) + self._pauses.longest_s
        wait_s = min(deadline.left_s, waited_for_s - time.monotonic())
        if len(watches) == len(self.all) and wait_s > 0:
            await asyncio.wait(watches, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)

    async def _outcome(
        self, server: Server, path: str, content: bytes, left_s: float, tried: Sequence[Server]
    ) -> Reply | EngineError:
        try:
            reply = await self._try(server, "POST", path, content, left_s)
        except (BackendDown, DeadlinePassed) as exc:
            if isinstance(exc, BackendDown) or left_s >= FAIR_SHARE * self._try_timeout_s:
                self._note_failure(server, str(exc))
            return exc
        if _is_answer(reply) or reply.status in BUSY:
            # An answer sent before the ejection reveals nothing; only a probe brings a server back.
            if not server.breaker.is_open:
                server.breaker.succeeded()
        # A second failure with the same request counts for nothing: the request may be the cause.
        elif server not in tried:
            self._note_failure(server, f"it answers {reply.described}")
        return reply

    async def _try(
        self, server: Server, method: str, path: str, content: bytes | None, left_s: float
    ) -> Reply:
        """Send once, and again with the new key if the old one is refused and the file holds another."""
        server.outstanding += 1
        server.last_turn = next(self._numbers)
        try:
            async with asyncio.timeout(min(left_s, self._try_timeout_s)):
                headers = self._key.headers
                reply = await server.send(method, path, content, headers)
                is_refused = reply.status in KEY_REFUSED
                if is_refused and (self._key.headers != headers or self._key.reread()):
                    reply = await server.send(method, path, content, self._key.headers)
                return reply
        except TimeoutError:
            raise DeadlinePassed("the server did not answer in time") from None
        finally:
            server.outstanding -= 1

    def _note_failure(self, server: Server, reason: str) -> None:
        server.breaker.failed()
        if server.breaker.is_open:
            self.eject(server, reason)

    def _pause_s(self, outcome: Reply | EngineError, tried: Sequence[Server]) -> float:
        """Return the seconds before the next try: 0 if another server is left, infinity for no retry."""
        if any(not s.breaker.is_open and s not in tried for s in self.all):
            return 0.0
        longest_s = min(self._pauses.longest_s, self._pauses.first_s * 2 ** len(tried))
        jitter_s = self._chance.uniform(0.0, longest_s)
        if isinstance(outcome, EngineError):
            return jitter_s
        # A success here is a page in the place of an answer, such as one of a proxy.
        is_for_now = outcome.is_success or outcome.status in BUSY
        if not is_for_now and outcome.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            return math.inf
        asked_s = outcome.retry_after_s
        return jitter_s if asked_s is None else asked_s + jitter_s / 10

    async def _watch(self, server: Server) -> None:
        """Probe an ejected server until a probe succeeds."""
        while server.breaker.is_open:
            await asyncio.sleep(server.breaker.left_s)
            if not server.breaker.allows():
                continue
            try:
                await self.examine(server)
            except (EngineError, SetupError) as exc:
                server.breaker.failed()
                log.info("server_still_ejected", server=server.name, reason=str(exc))
            except Exception as exc:  # noqa: BLE001 - whatever it sent, it is looked at again
                server.breaker.failed()
                log.warning("server_still_ejected", server=server.name, reason=type(exc).__name__)
            else:
                server.breaker.succeeded()
                log.info("server_back", server=server.name)

    async def _greet(self, server: Server) -> None:
        """Request the list of models, which every such server has."""
        reply = await self.ask(server, "GET", "models")
        is_page = reply.is_success and not reply.is_json
        if reply.status >= HTTPStatus.INTERNAL_SERVER_ERROR or is_page:
            raise BackendDown(f"the server answers {reply.described}")


def _is_answer(reply: Reply) -> bool:
    """Return True if a reply concerns the request: a refusal of it, or JSON and not a proxy's page."""
    return reply.status in REFUSAL_STATUS or (reply.is_success and reply.is_json)
