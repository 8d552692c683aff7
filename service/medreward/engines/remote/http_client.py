"""HTTP requests to other services: the only module that imports the HTTP library."""

import ipaddress
import json
import math
import re
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import httpx
from httpx import AsyncBaseTransport, AsyncClient, Response
from pydantic_core import PydanticSerializationError, from_json, to_json

from medreward.errors import BackendDown, DeadlinePassed, NonsenseReply, SetupError

# The library's own names that other modules import from here.
__all__ = ["AsyncBaseTransport", "AsyncClient", "Response"]

REFUSAL_STATUS = (400, 413, 422)
"""Statuses by which servers refuse one text, most often because it is too long."""

MAX_REPLY_BYTES = 64 * 1024**2
"""Far more than a batch of the longest vectors takes, so a larger reply is not an answer."""

MAX_ERROR_BYTES = 64 * 1024
"""A longer reply is not searched for an error at its top."""

CONNECT_TIMEOUT_S = 10.0


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


def server(
    url: str,
    *,
    headers: Mapping[str, str],
    timeout_s: float,
    connections: int,
    proxy: str | None,
    transport: AsyncBaseTransport | None,
) -> AsyncClient:
    """Build the client of one server, with its timeouts and limited connections.

    Raises:
        SetupError: the proxy is no address, or of a kind that needs another package.
    """
    return AsyncClient(
        base_url=url.rstrip("/") + "/",
        headers={**headers, "Content-Type": "application/json"},
        timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S)),
        transport=transport or transport_through(proxy, connections),
    )


def transport_through(proxy: str | None, connections: int = 100) -> AsyncBaseTransport:
    """Build a transport that uses no proxy but the given one.

    It heeds the certificates that the environment names. The library's own choice of a proxy fails
    at a network of IPv6 in NO_PROXY.

    Raises:
        SetupError: the proxy is no address, or of a kind that needs another package.
    """
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    try:
        return httpx.AsyncHTTPTransport(limits=limits, proxy=proxy)
    except (ValueError, ImportError, httpx.InvalidURL) as exc:
        raise SetupError(
            "the proxy of the environment cannot be used: mend HTTP_PROXY, HTTPS_PROXY or "
            f"ALL_PROXY, or add the server to NO_PROXY ({type(exc).__name__})"
        ) from exc


def proxy_for(url: str) -> str | None:
    """Return the proxy that the environment names for *url*, or None.

    NO_PROXY is read as other programs do: names with their subdomains, addresses, networks.
    """
    address = httpx.URL(url)
    proxies = urllib.request.getproxies()
    proxy = proxies.get(address.scheme) or proxies.get("all")
    exempt = proxies.get("no", "").lower().split(",")
    if not proxy or any(_is_exempt(address, entry.strip()) for entry in exempt):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _is_exempt(address: httpx.URL, entry: str) -> bool:
    """Return whether an entry of NO_PROXY exempts an address."""
    try:
        return ipaddress.ip_address(address.host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        pass
    host = f"[{address.host}]" if ":" in address.host else address.host
    name = entry.removeprefix("*").removeprefix(".")
    return entry == "*" or (
        name != ""
        and any(f".{form}".endswith(f".{name}") for form in (host, f"{host}:{address.port}"))
    )


def via(proxy: str | None) -> str:
    """Return the end of a message about what went through a proxy; empty without one."""
    if proxy is None:
        return ""
    try:
        return f", through the environment's proxy {httpx.URL(proxy).netloc.decode()}"
    except httpx.InvalidURL:
        return ", through the environment's proxy"


async def send(
    client: AsyncClient,
    method: str,
    url: str,
    *,
    content: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    via: str = "",
) -> Reply:
    """Send one request and read its reply to the end; *via* tells of a proxy between.

    Raises:
        EngineError: there is no reply, or it is too long.
    """
    with reaching(via):
        async with client.stream(method, url, content=content, headers=headers) as response:
            parts, size_bytes = [], 0
            async for part in response.aiter_bytes():
                size_bytes += len(part)
                if size_bytes > MAX_REPLY_BYTES:
                    raise NonsenseReply(f"the server's reply is over {MAX_REPLY_BYTES} bytes")
                parts.append(part)
            body, status = b"".join(parts), response.status_code
            wrapped = _wrapped_status(body) if response.is_success else None
            return Reply(
                wrapped or status, body, retry_after_s(response.headers), wrapped is not None, via
            )


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
    except httpx.TimeoutException as exc:
        raise DeadlinePassed(
            f"the server did not answer in time ({type(exc).__name__}){via}"
        ) from exc
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
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
