"""All that is known of the HTTP library: its clients, its replies, its exceptions."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TypedDict

import httpx

from medreward_client._errors import BadReply, TimedOut, Unavailable
from medreward_client._wire import Call, Reply, T

SyncHttp = httpx.Client
AsyncHttp = httpx.AsyncClient
SyncTransport = httpx.BaseTransport
AsyncTransport = httpx.AsyncBaseTransport

# A host that is gone may swallow packets; nobody should wait a whole deadline to learn that.
CONNECT_TIMEOUT_S = 10.0


class Connection(TypedDict):
    """What both of the library's clients are built from."""

    base_url: httpx.URL
    headers: dict[str, str]
    timeout: httpx.Timeout


def connection_to(base_url: str, api_key: str | None, timeout_s: float) -> Connection:
    """Say how to reach a service; ValueError where a slip of the pen would look like an outage."""
    headers = {"Content-Type": "application/json"}
    if api_key is not None:
        # A key read from a file ends in a line break; the library's own error would show the key.
        if not (api_key.isascii() and api_key.isprintable()):
            raise ValueError("api_key must be one line of ASCII")
        headers["Authorization"] = f"Bearer {api_key}"
    return {
        "base_url": _service_url(base_url),
        "headers": headers,
        "timeout": _timeout(timeout_s),
    }


def _service_url(base_url: str) -> httpx.URL:
    with suppress(httpx.InvalidURL):
        url = httpx.URL(base_url)
        if url.scheme in ("http", "https") and url.host:
            return url
    raise ValueError("base_url must look like http://host:8080")


def _timeout(timeout_s: float) -> httpx.Timeout:
    return httpx.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S))


def request_of(http: SyncHttp | AsyncHttp, call: Call[T]) -> httpx.Request:
    """Put a call into the library's form; no wait on the socket outlasts its timeout."""
    method = "GET" if call.content is None else "POST"
    timeout = http.timeout if call.timeout_s is None else _timeout(call.timeout_s)
    return http.build_request(method, call.path, content=call.content, timeout=timeout)


def reply_of(response: httpx.Response) -> Reply:
    """Take a reply out of the library's form."""
    return Reply(response.status_code, response.headers, response.content)


@contextmanager
def reaching(http: SyncHttp | AsyncHttp) -> Iterator[None]:
    """Give the library's failures our names while talking to the service."""
    # Host and port alone: a URL may hold a password.
    service = http.base_url.netloc.decode()
    try:
        yield
    except httpx.ConnectTimeout as exc:
        raise Unavailable(f"{service} cannot be reached") from exc
    except httpx.TimeoutException as exc:
        raise TimedOut(f"{service} did not reply in time") from exc
    except httpx.DecodingError as exc:
        raise BadReply(f"{service} sent a body that does not unpack") from exc
    except httpx.HTTPError as exc:
        raise Unavailable(f"the connection to {service} failed: {type(exc).__name__}") from exc
