"""HTTP to other services: the only module that knows which library does it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from httpx import AsyncBaseTransport, AsyncClient, Client, Response

from medreward.errors import BackendDown, DeadlinePassed, NonsenseReply

__all__ = [
    "REFUSAL_STATUS",
    "AsyncBaseTransport",
    "AsyncClient",
    "Client",
    "Response",
    "json_of",
    "reaching",
    "server",
]

REFUSAL_STATUS = (400, 413, 422)
"""What servers answer to one text they do not take, most often since it is too long."""


def server(
    url: str, *, api_key: str | None, timeout_s: float, transport: AsyncBaseTransport | None
) -> AsyncClient:
    """Make the client for one server: bounded in time and connections."""
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    return AsyncClient(
        base_url=url.rstrip("/") + "/",
        headers=headers,
        timeout=timeout_s,
        limits=httpx.Limits(max_connections=32, max_keepalive_connections=32),
        transport=transport,
    )


@contextmanager
def reaching() -> Iterator[None]:
    """Give the library's errors our names; none of them quotes a body."""
    try:
        yield
    except httpx.TimeoutException as exc:
        raise DeadlinePassed(f"the server did not answer in time ({type(exc).__name__})") from exc
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        raise BackendDown(f"the server cannot be reached ({type(exc).__name__})") from exc


def json_of(response: Response) -> Any:
    """Read a reply's JSON.

    Raises:
        BackendDown: the server says that it cannot answer.
        NonsenseReply: it is not JSON.
    """
    # A redirect is refused too: followed, a POST would turn into a GET without its body.
    if not response.is_success:
        raise BackendDown(f"the server answers {response.status_code}")
    try:
        return response.json()
    except (ValueError, RecursionError) as exc:
        raise NonsenseReply("the server's reply is not JSON") from exc
