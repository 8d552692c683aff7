"""HTTP requests to other services: the only module that imports the HTTP library."""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import httpx
from httpx import AsyncBaseTransport, AsyncClient, Response
from pydantic_core import PydanticSerializationError, from_json, to_json

from medreward.errors import BackendDown, DeadlinePassed, NonsenseReply

# The library's own names that other modules import from here.
__all__ = ["AsyncBaseTransport", "AsyncClient", "Response"]

REFUSAL_STATUS = (400, 413, 422)
"""Statuses by which servers refuse one text, most often because it is too long."""

MAX_REPLY_BYTES = 64 * 1024**2
"""Far more than a batch of the longest vectors takes, so a larger reply is not an answer."""

CONNECT_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Reply:
    """A server's reply, read to its end."""

    status: int
    content: bytes
    retry_after_s: float | None = None

    @property
    def is_success(self) -> bool:
        """True for 2xx alone. Redirects are not followed, since a POST would lose its body."""
        return HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES

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
    transport: AsyncBaseTransport | None,
) -> AsyncClient:
    """Build the client of one server, with its timeouts and limited connections."""
    return AsyncClient(
        base_url=url.rstrip("/") + "/",
        headers={**headers, "Content-Type": "application/json"},
        timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S)),
        limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        transport=transport,
    )


async def send(
    client: AsyncClient,
    method: str,
    url: str,
    *,
    content: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """Send one request and read its reply to the end.

    Raises:
        EngineError: there is no reply, or it is too long.
    """
    with reaching():
        async with client.stream(method, url, content=content, headers=headers) as response:
            parts, size_bytes = [], 0
            async for part in response.aiter_bytes():
                size_bytes += len(part)
                if size_bytes > MAX_REPLY_BYTES:
                    raise NonsenseReply(f"the server's reply is over {MAX_REPLY_BYTES} bytes")
                parts.append(part)
            return Reply(response.status_code, b"".join(parts), retry_after_s(response.headers))


@contextmanager
def reaching() -> Iterator[None]:
    """Translate the library's errors into ours; none of them quotes a body."""
    try:
        yield
    except httpx.TimeoutException as exc:
        raise DeadlinePassed(f"the server did not answer in time ({type(exc).__name__})") from exc
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        raise BackendDown(f"the server cannot be reached ({type(exc).__name__})") from exc


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
        BackendDown: the status is not a success.
        NonsenseReply: it is not JSON.
    """
    if not reply.is_success:
        raise BackendDown(f"the server answers {reply.status}")
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
