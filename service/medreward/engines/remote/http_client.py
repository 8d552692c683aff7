"""HTTP requests to other services: the only module that imports the HTTP libraries.

httpx has the types of requests and responses. The requests to engines are sent by aiohttp, which
takes a quarter of the CPU time of httpx's own transport.
"""

import ipaddress
import json
import math
import re
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from http import HTTPStatus
from io import BytesIO
from typing import Any
from urllib.parse import SplitResult, urlsplit

import aiohttp
import httpx
from httpx import AsyncBaseTransport, AsyncClient, Response
from pydantic_core import PydanticSerializationError, from_json, to_json
from yarl import URL

import medreward
from medreward.errors import BackendDown, DeadlinePassed, NonsenseReply, SetupError

# The library's own names that other modules import from here.
__all__ = ["AsyncBaseTransport", "AsyncClient", "Response"]

REFUSAL_STATUS = (400, 413, 422)
"""Statuses by which servers refuse one text, most often because it is too long."""

MAX_REPLY_BYTES = 64 * 1024**2
"""Far more than a batch of the longest vectors takes, so a larger reply is not an answer."""

MAX_ERROR_BYTES = 64 * 1024
"""A longer reply is not searched for an error at its top."""

USER_AGENT = f"medreward/{medreward.__version__}"

CONNECT_TIMEOUT_S = 10.0

IDLE_TIMEOUT_S = 4.0
"""Time after which an idle connection is closed: less than the five seconds after which uvicorn, and
with it vLLM, closes one, since a request that meets the closing would count as a failure."""

DEFAULT_PORTS = {"http": 80, "https": 443}
_NO_PROXY_ENTRY = re.compile(r"(?:[a-z]+://)?(\[[^]]*\]|[^:]*|.*:.*:.*?)(?::(\d+))?")
"""A name, an address, `[an address]` or a network, and perhaps a port."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A server's reply, read to its end."""

    status: int
    """That of an error at the top of the content, if a gateway wrapped one in a success."""
    content: bytes
    retry_after_s: float | None = None
    is_wrapped: bool = False
    """True if the status is that of a wrapped error; 502 if the error has none."""
    via: str = ""
    """The proxy between, for messages; empty without one."""

    @property
    def is_success(self) -> bool:
        """True for 2xx alone. Redirects are not followed, since a POST would lose its body."""
        return HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES

    @property
    def is_json(self) -> bool:
        """True if the content begins as JSON does; a page of a proxy, or nothing, does not."""
        return self.content.lstrip()[:1] in {b"{", b"["}

    @property
    def described(self) -> str:
        """The status and the proxy, for messages."""
        inside = " inside a success" if self.is_wrapped else ""
        page = ", but no JSON" if self.is_success and not self.is_json else ""
        return f"{self.status}{inside}{page}{self.via}"

    @property
    def text(self) -> str:
        """The body, for finding the reason of a refusal; never to be logged or repeated."""
        return self.content.decode("utf-8", "replace")


LARGE_BYTES = 2**20
"""A larger body is written in parts, between which the event loop serves others; aiohttp warns of one
that is not."""


class AiohttpTransport(AsyncBaseTransport):
    """Sends requests by aiohttp. Its errors are aiohttp's, which `reaching` translates."""

    def __init__(self, *, connections: int, proxy: str | None = None) -> None:
        """Check the proxy and the certificates.

        Raises:
            SetupError: the proxy is no address, or of a kind that needs another package; or the
                certificates that the environment names cannot be read.
        """
        try:
            # The certificates that the environment names, as for all of httpx.
            self._certificates = httpx.create_ssl_context()
        except OSError as exc:
            raise SetupError(
                "the certificates of the environment cannot be read: mend SSL_CERT_FILE or "
                f"SSL_CERT_DIR ({type(exc).__name__})"
            ) from exc
        with _usable_proxy():
            self._proxy = None if proxy is None else URL(proxy)
            if self._proxy is not None and self._proxy.scheme not in {"http", "https"}:
                raise ValueError("aiohttp has no SOCKS")
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    def _opened(self) -> aiohttp.ClientSession:
        # At the first request, since a session belongs to the event loop that it is made in.
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=self._connections,
                    keepalive_timeout=IDLE_TIMEOUT_S,
                    ssl=self._certificates,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                # A compressed reply saves nothing in a cluster, and its length tells nothing.
                skip_auto_headers=("Accept-Encoding",),
                auto_decompress=False,
            )
        return self._session

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, and return the response with its body unread."""
        timeout_s = request.extensions["timeout"]
        content = request.content
        response = await self._opened().request(
            request.method,
            str(request.url),
            data=BytesIO(content) if len(content) > LARGE_BYTES else content or None,
            headers=request.headers,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(
                # Of the wait for a free connection, and of making one.
                connect=timeout_s["pool"],
                sock_connect=timeout_s["connect"],
                sock_read=timeout_s["read"],
            ),
            # With the name and password that it may hold.
            proxy=self._proxy,
        )
        return Response(response.status, headers=response.raw_headers, stream=_Body(response))

    async def aclose(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()


class _Body(httpx.AsyncByteStream):
    """The body of a response, part by part."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._response.content.iter_any():
            yield part

    async def aclose(self) -> None:
        # The connection is used again if the body was read to its end, and closed if not.
        self._response.release()


class Endpoint:
    """The address of one server, with its headers, timeouts and connections."""

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str],
        timeout_s: float,
        connections: int,
        proxy: str | None,
        transport: AsyncBaseTransport | None,
    ) -> None:
        """Check the address and the proxy.

        Raises:
            SetupError: the proxy is no address, or of a kind that needs another package.
        """
        self.url = httpx.URL(url.rstrip("/"))
        self._via = via(proxy)
        self._headers = {**headers, "Content-Type": "application/json", "User-Agent": USER_AGENT}
        connect_s = min(timeout_s, CONNECT_TIMEOUT_S)
        self._options = {"timeout": httpx.Timeout(timeout_s, connect=connect_s).as_dict()}
        self._transport = transport or AiohttpTransport(connections=connections, proxy=proxy)

    async def send(
        self, method: str, path: str, content: bytes | None, headers: Mapping[str, str]
    ) -> Reply:
        """Send one request and read its reply to the end.

        A path with a leading slash starts above the address's /v1.

        Raises:
            EngineError: there is no reply, or it is too long.
        """
        above = str(self.url).removesuffix("/v1")
        with reaching(self._via):
            request = httpx.Request(
                method,
                f"{above}{path}" if path.startswith("/") else f"{self.url}/{path}",
                headers={**self._headers, **headers},
                content=content,
                extensions=self._options,
            )
            # Straight to the transport: httpx's client adds redirects, cookies and authentication,
            # none of which engines use, and as much CPU time as sending takes.
            response = await self._transport.handle_async_request(request)
            try:
                body = await _read(response)
            finally:
                await response.aclose()
        status = response.status_code
        wrapped = _wrapped_status(body) if response.is_success else None
        retry_s = retry_after_s(response.headers)
        return Reply(wrapped or status, body, retry_s, wrapped is not None, self._via)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()


async def _read(response: Response) -> bytes:
    parts, size_bytes = [], 0
    async for part in response.aiter_bytes():
        size_bytes += len(part)
        if size_bytes > MAX_REPLY_BYTES:
            raise NonsenseReply(f"the server's reply is over {MAX_REPLY_BYTES} bytes")
        parts.append(part)
    return b"".join(parts)


def transport_through(proxy: str | None) -> AsyncBaseTransport:
    """Build a transport that uses no proxy but the given one.

    It heeds the certificates that the environment names. The library's own choice of a proxy fails
    at a network of IPv6 in NO_PROXY.

    Raises:
        SetupError: the proxy is no address, or of a kind that needs another package.
    """
    with _usable_proxy():
        return httpx.AsyncHTTPTransport(proxy=proxy)


@contextmanager
def _usable_proxy() -> Iterator[None]:
    try:
        yield
    except (ValueError, ImportError, httpx.InvalidURL) as exc:
        raise _unusable_proxy(type(exc).__name__) from exc


def proxy_for(url: str) -> str | None:
    """Return the proxy that the environment names for *url*, or None.

    It is read as `medreward_client.proxies` reads it; a test compares the two.

    Raises:
        SetupError: the proxy's port cannot be.
    """
    parts, proxies = urlsplit(url), urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or not parts.hostname or _is_excepted(parts, proxies.get("no", "")):
        return None
    address = proxy if "://" in proxy else f"http://{proxy}"
    try:
        has_port = urlsplit(address).port != 0
    except ValueError:
        has_port = False
    if not has_port:
        raise _unusable_proxy("a port is 1 to 65535")
    return address


def _unusable_proxy(reason: str) -> SetupError:
    return SetupError(
        "the proxy of the environment cannot be used: mend HTTP_PROXY, HTTPS_PROXY or "
        f"ALL_PROXY, or add the server to NO_PROXY ({reason})"
    )


def _is_excepted(url: SplitResult, no_proxy: str) -> bool:
    """Return whether NO_PROXY names the host of *url*: by its name, domain, address or network."""
    host, port = (url.hostname or "").rstrip("."), url.port or DEFAULT_PORTS.get(url.scheme)
    return any(_names(entry, host, port) for entry in re.split(r"[,\s]+", no_proxy.lower()))


def _names(entry: str, host: str, port: int | None) -> bool:
    found = _NO_PROXY_ENTRY.fullmatch(entry)
    if not entry or found is None or (found[2] is not None and int(found[2]) != port):
        return False
    name = found[1].strip("[]")
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(name, strict=False)
    except ValueError:
        # One of the two is no address.
        name = name.lstrip(".")
        return bool(name) and (
            host == name or host.endswith(f".{name}") or ("*" in name and fnmatchcase(host, name))
        )


def via(proxy: str | None) -> str:
    """Return the end of a message about what went through a proxy; empty without one."""
    if proxy is None:
        return ""
    try:
        return f", through the environment's proxy {httpx.URL(proxy).netloc.decode()}"
    except httpx.InvalidURL:
        return ", through the environment's proxy"


def _wrapped_status(content: bytes) -> int | None:
    """Return the status of an error at the top of a success; None if there is none."""
    if len(content) > MAX_ERROR_BYTES or b'"error"' not in content:
        return None
    try:
        told = from_json(content)
    except (ValueError, RecursionError):
        return None
    error = told.get("error") if isinstance(told, dict) else None
    if not error:
        return None
    code = str(error.get("code")) if isinstance(error, dict) else ""
    is_status = re.fullmatch(r"[45]\d\d", code) is not None
    return int(code) if is_status else int(HTTPStatus.BAD_GATEWAY)


@contextmanager
def reaching(via: str = "") -> Iterator[None]:
    """Translate the library's errors into ours; none of them quotes a body."""
    try:
        yield
    except (httpx.TimeoutException, aiohttp.ServerTimeoutError) as exc:
        raise DeadlinePassed(
            f"the server did not answer in time ({type(exc).__name__}){via}"
        ) from exc
    except (httpx.HTTPError, httpx.InvalidURL, aiohttp.ClientError, UnicodeError) as exc:
        # A part of a host's name that is too long is a UnicodeError.
        raise BackendDown(f"the server cannot be reached ({type(exc).__name__}){via}") from exc


def encoded(body: Mapping[str, object]) -> bytes:
    """Serialise a request's body as JSON."""
    try:
        return to_json(body)
    except PydanticSerializationError:
        # A lone surrogate is invalid UTF-8; the standard library writes it as an escape.
        return json.dumps(body).encode()


def json_of(reply: Reply) -> Any:
    """Parse a reply's JSON.

    Raises:
        BackendDown: it is no success, or a page of something between, or empty.
        NonsenseReply: it is broken JSON.
    """
    if not reply.is_success or not reply.is_json:
        raise BackendDown(f"the server answers {reply.described}")
    try:
        return from_json(reply.content)
    except (ValueError, RecursionError) as exc:
        raise NonsenseReply("the server's reply is not JSON") from exc


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Parse the seconds of `Retry-After`, never negative; None without them, as for a date."""
    try:
        seconds = float(headers.get("Retry-After", ""))
    except ValueError:
        return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
