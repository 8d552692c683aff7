"""JSON over HTTP: connections, retries until a deadline, and errors by status.

No other module imports the HTTP library. A request is sent again if it failed in transit or the
service was busy, which is safe: a response depends on its request alone.
"""

import asyncio
import json
import logging
import math
import os
import random
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from http import HTTPStatus
from typing import Generic, TypeVar

import httpx
import orjson

from medreward_client._errors import (
    BadReply,
    MedrewardError,
    Overloaded,
    RequestRefused,
    TimedOut,
    TryAgain,
    Unavailable,
)
from medreward_client._reading import load, read_as
from medreward_client.pauses import Pauses, retry_after_s
from medreward_client.proxies import proxy_for, shown

T = TypeVar("T")
Transport = httpx.AsyncBaseTransport

LAST_PORT = 65_535
IN_FLIGHT = 8
"""Concurrent requests: more would only queue at the service, and slow the library's pool down."""
MARGIN_S, MARGIN_SHARE = 0.5, 0.05
"""Time allowed beyond the deadline that the service keeps, since large bodies take time in transit."""
REQUEST_S = 120.0
"""Longest deadline of one request, the service's own default: a replica that drains waits as long,
and what was judged by then is cached for the next request."""
PAUSES = Pauses(first_s=0.5, longest_s=30.0)
PASSING = frozenset({408, 429, 502, 503, 504})
"""Statuses worth a retry; any other is about the request, or a bug, and would come again."""

# A host that is gone may swallow packets, and a call should not spend its deadline on connecting.
CONNECT_TIMEOUT_S = 10.0
# A host that fails while it works on a request sends nothing, ever. So the kernel probes it after
# 15 s of silence, and gives up after 30 s. Not every kernel lets these numbers be set.
PROBES = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
KEEPALIVE = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in PROBES.items()
        if hasattr(socket, name)
    ),
]

log = logging.getLogger("medreward_client")


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP response; header names ignore case.

    `sender` is host and port of the service, with the proxy on the way.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes
    sender: str = ""


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request, the function that reads its response, and the statuses worth a retry.

    Without a `body` it is a GET.
    """

    path: str
    read: Callable[[Reply], T]
    body: Mapping[str, object] | None = None
    passing: frozenset[int] = PASSING

    def content(self, left_s: float) -> bytes | None:
        """Encode the body with the time that is left; TypeError if JSON cannot hold it."""
        if self.body is None:
            return None
        deadline_ms = max(1, round(1000 * min(left_s, REQUEST_S)))
        return _json_of({"deadline_ms": deadline_ms, **self.body})


@dataclass(frozen=True, slots=True)
class Reason:
    """The error in the body of an HTTP error."""

    kind: str
    message: str
    fits: int | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """The body of an HTTP error."""

    error: Reason
    request_id: str | None = None


class Connections:
    """The connections from one event loop to one service, and the calls that use them."""

    def __init__(
        self, base_url: str, api_key: str | None, transport: Transport | None, pauses: Pauses
    ) -> None:
        headers = {"Content-Type": "application/json"}
        if api_key is not None:
            headers["Authorization"] = f"Bearer {api_key}"
        url = httpx.URL(base_url)
        # Host and port alone: a URL may hold a password.
        self._service = url.netloc.decode()
        if transport is None:
            with _environment_read():
                proxy = proxy_for(base_url)
                transport = _transport(proxy)
            self._service += shown(proxy)
        self._http = httpx.AsyncClient(
            # The library logs the address of each request.
            base_url=url.copy_with(userinfo=b""),
            auth=(url.username, url.password) if url.userinfo else None,
            headers=headers,
            # `ask` bounds each call as a whole.
            timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),
            transport=transport,
            # The library would read NO_PROXY itself, and fail at networks of IPv6.
            trust_env=False,
        )
        self.pauses = pauses
        self._slots = asyncio.Semaphore(IN_FLIGHT)
        self._timeouts: set[asyncio.Timeout] = set()
        self._is_closed = False

    async def aclose(self) -> None:
        """Close the connections; calls that still wait end with a MedrewardError."""
        self._is_closed = True
        for timeout in self._timeouts:
            if not timeout.expired():
                timeout.reschedule(0.0)
        await self._http.aclose()

    async def ask(self, call: Call[T], ends_at: float) -> T:
        """Send a call until it succeeds, or the loop's clock reaches *ends_at*.

        Raises:
            MedrewardError: the service refuses it; or the last failure before the deadline.
        """
        left_s = ends_at - asyncio.get_running_loop().time()
        margin_s = MARGIN_S + MARGIN_SHARE * max(0.0, left_s)
        try:
            async with asyncio.timeout(left_s + margin_s) as timeout:
                self._timeouts.add(timeout)
                # The client may have been closed while this call's samples were collected.
                if self._is_closed:
                    timeout.reschedule(0.0)
                return await self._retried(call, ends_at)
        except TimeoutError as exc:
            if self._is_closed:
                raise MedrewardError("the client was closed before there was an answer") from exc
            raise TimedOut(f"no answer from {self._service} by the deadline") from exc
        finally:
            self._timeouts.discard(timeout)

    async def _retried(self, call: Call[T], ends_at: float) -> T:
        time, attempt = asyncio.get_running_loop().time, 1
        while True:
            try:
                async with self._slots:
                    # Encoded only now: the time that is left is known once there is a slot.
                    reply = await self._send(call.path, call.content(ends_at - time()))
                if reply.status in call.passing:
                    raise error_of(reply)
            except TryAgain as failure:
                pause_s = pause_after(attempt, failure, self.pauses)
                # What does not fit would not fit later either.
                if failure.fits is not None or time() + pause_s >= ends_at:
                    raise
                log.warning("%s; attempt %d in %.1f s", failure, attempt + 1, pause_s)
            else:
                return call.read(reply)
            attempt += 1
            await asyncio.sleep(pause_s)

    async def _send(self, path: str, content: bytes | None) -> Reply:
        with _translated(self._service):
            method = "GET" if content is None else "POST"
            response = await self._http.request(method, path, content=content)
        return Reply(response.status_code, response.headers, response.content, self._service)


def _transport(proxy: str | None) -> Transport:
    return httpx.AsyncHTTPTransport(
        # A fork may copy the locks of its parent's context while a handshake holds them.
        verify=_certificates(os.getpid()),
        proxy=proxy,
        socket_options=KEEPALIVE,
    )


@contextmanager
def _environment_read() -> Iterator[None]:
    """Raise MedrewardError if the environment names something that cannot be used."""
    try:
        yield
    except OSError as exc:
        raise MedrewardError(
            "the certificates that SSL_CERT_FILE or SSL_CERT_DIR names cannot be read: "
            f"{exc.strerror or type(exc).__name__}"
        ) from exc
    except (ValueError, httpx.InvalidURL) as exc:
        raise _bad_proxy("has no address that can be read") from exc
    except ImportError as exc:
        raise _bad_proxy("is one of SOCKS, which needs `pip install 'httpx[socks]'`") from exc


def _bad_proxy(why: str) -> MedrewardError:
    return MedrewardError(
        f"the proxy that HTTP_PROXY, HTTPS_PROXY or ALL_PROXY names {why}; mend it, or name the "
        "service in NO_PROXY"
    )


@cache
def _certificates(_pid: int) -> ssl.SSLContext:
    """Load the certificates once in a process: it takes 40 ms, and each event loop needs them."""
    return httpx.create_ssl_context()


@contextmanager
def _translated(service: str) -> Iterator[None]:
    """Raise the library's exceptions as the client's own, with the *service* named."""
    try:
        yield
    except httpx.ConnectTimeout as exc:
        raise Unavailable(f"{service} cannot be reached") from exc
    except httpx.TimeoutException as exc:
        raise TimedOut(f"{service} did not reply in time") from exc
    except httpx.DecodingError as exc:
        raise BadReply(f"{service} sent a body that does not unpack") from exc
    except (httpx.LocalProtocolError, httpx.UnsupportedProtocol) as exc:
        # The request itself is against the protocol, and would be so at each attempt.
        kind = type(exc).__name__
        raise RequestRefused(f"the request to {service} cannot be sent: {kind}") from exc
    except httpx.HTTPError as exc:
        raise Unavailable(f"the connection to {service} failed: {type(exc).__name__}") from exc


def given_text(value: str | None) -> str | None:
    """Return a setting's text; None if it is blank, as a variable without a value is."""
    return value if value and not value.isspace() else None


def check_address(base_url: str, api_key: str | None) -> None:
    """Raise ValueError for a URL or a key that could never work, before it looks like an outage."""
    # A key from a file ends in a line break; the library's own error would show the key.
    if api_key is not None and not (
        api_key.isascii() and api_key.isprintable() and api_key == api_key.strip()
    ):
        raise ValueError(
            "--api-key, MEDREWARD_API_KEY or api_key must be one line of ASCII, without blanks or "
            "line breaks at its ends"
        )
    with suppress(httpx.InvalidURL, UnicodeError):
        url = httpx.URL(base_url)
        # The system refuses other ports and names, and the library lets its exceptions through.
        url.raw_host.decode().encode("idna")
        is_port = url.port is None or 0 < url.port <= LAST_PORT
        has_blanks = any(map(str.isspace, base_url))
        if url.scheme in ("http", "https") and url.host and is_port and not has_blanks:
            return
    raise ValueError("--url, MEDREWARD_URL or base_url must look like http://host:8080")


def check_deadline(deadline_s: float) -> float:
    """Return the deadline; ValueError if it is not finite."""
    if not math.isfinite(deadline_s):
        raise ValueError(f"deadline_s={deadline_s}: a finite number of seconds")
    return deadline_s


def pause_after(attempt: int, failure: TryAgain, pauses: Pauses = PAUSES) -> float:
    """Return the seconds to wait: those that the service asked for, and a pause that grows.

    The pause is drawn from 0 up to its bound, so that the workers of a run, which all failed at
    the same moment, do not all come back at the same moment.
    """
    return failure.retry_after_s + random.uniform(0.0, pauses.doubled(attempt))  # noqa: S311 - no secret


def _json_of(body: Mapping[str, object]) -> bytes:
    try:
        return orjson.dumps(body, default=as_builtin)
    except orjson.JSONEncodeError as exc:
        if "surrogates" not in str(exc):
            raise
        # A degenerate rollout may hold half a character, which only an escape can carry.
        return json.dumps(body, default=as_builtin).encode()


def as_builtin(value: object) -> object:
    """Convert dataclasses, mappings and sequences other than dict, list and tuple for JSON."""
    if is_dataclass(value) and not isinstance(value, type):
        # As orjson does: what is not in an instance's dict is not sent.
        names = getattr(value, "__dict__", None) or [field.name for field in fields(value)]
        return {name: getattr(value, name) for name in names}
    match value:
        case Mapping():
            return dict(value)
        case [*entries]:
            return entries
    raise TypeError(f"{type(value).__name__} has no JSON form")


def document_in(reply: Reply) -> object:
    """Return the JSON of a 200; raise the error of any other status."""
    if reply.status != HTTPStatus.OK:
        raise error_of(reply)
    try:
        return load(reply.content)
    except BadReply as misread:
        raise BadReply(f"{misread}{_by(reply)}") from None


def error_of(reply: Reply) -> MedrewardError:
    """Build the error of a status other than 200, with the service's own message if it has one."""
    status, refusal = reply.status, _refusal_in(reply)
    kind = refusal.error.kind
    message = f"status {status}, {kind}: {refusal.error.message}"
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        pause_s = retry_after_s(reply.headers, otherwise=1.0)
        return Overloaded(message, retry_after_s=pause_s, fits=refusal.error.fits)
    if status == HTTPStatus.REQUEST_TIMEOUT:
        return TimedOut(message)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Unavailable(message, retry_after_s=retry_after_s(reply.headers, otherwise=0.0))
    if status >= HTTPStatus.BAD_REQUEST:
        return RequestRefused(
            message,
            kind=kind,
            status=status,
            request_id=refusal.request_id,
            fits=refusal.error.fits,
        )
    return BadReply(message)


def _refusal_in(reply: Reply) -> Refusal:
    try:
        return read_as(Refusal, load(reply.content))
    except BadReply:
        # The body is another server's and may quote the request, so only the status is reported.
        unexplained = Reason(f"http_{reply.status}", f"no reason given{_by(reply)}")
        return Refusal(unexplained, reply.headers.get("x-request-id"))


def _by(reply: Reply) -> str:
    return f" by {reply.sender}" if reply.sender else ""
