"""All that is known of the HTTP library: its client, its replies, its exceptions."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from urllib.request import getproxies

import httpx

from medreward_client._errors import BadReply, TimedOut, Unavailable
from medreward_client._wire import Reply

Transport = httpx.AsyncBaseTransport

# A host that is gone may swallow packets; nobody should wait a whole deadline to learn that.
CONNECT_TIMEOUT_S = 10.0
# A host that goes while it works on a request says nothing, ever; so the kernel asks whether it is
# still there, after 15 s of silence, and gives up after 30. Not every kernel lets one choose when.
ASKING_AFTER_S = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
KEEPALIVE = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in ASKING_AFTER_S.items()
        if hasattr(socket, name)
    ),
]


class Connections:
    """The connections from one event loop to one service."""

    def __init__(
        self, base_url: str, api_key: str | None, transport: Transport | None = None
    ) -> None:
        headers = {"Content-Type": "application/json"}
        if api_key is not None:
            headers["Authorization"] = f"Bearer {api_key}"
        url = httpx.URL(base_url)
        # Host and port alone: a URL may hold a password.
        self._service = url.netloc.decode()
        # How long a whole call may take is bounded by whoever makes it.
        timeout = httpx.Timeout(None, connect=CONNECT_TIMEOUT_S)
        certificates = _certificates()
        # The library heeds proxies of the environment only if it makes the transport itself.
        if transport is None and not getproxies():
            transport = httpx.AsyncHTTPTransport(verify=certificates, socket_options=KEEPALIVE)
        self._http = httpx.AsyncClient(
            # The library logs the address of each request.
            base_url=url.copy_with(userinfo=b""),
            auth=(url.username, url.password) if url.userinfo else None,
            headers=headers,
            timeout=timeout,
            transport=transport,
            verify=certificates,
        )

    async def aclose(self) -> None:
        """Give the connections back."""
        await self._http.aclose()

    async def send(self, path: str, content: bytes | None) -> Reply:
        """Send a body, or a GET where there is none; failures come under our names."""
        with reaching(self._service):
            method = "GET" if content is None else "POST"
            response = await self._http.request(method, path, content=content)
        return Reply(response.status_code, response.headers, response.content)


@cache
def _certificates() -> ssl.SSLContext:
    """Read the certificates once: it takes 40 ms, and each event loop needs them."""
    return httpx.create_ssl_context()


def check_address(base_url: str, api_key: str | None) -> None:
    """Refuse at once, with ValueError, what would look like an outage later."""
    # A key from a file ends in a line break; the library's own error would show the key.
    if api_key is not None and not (api_key.isascii() and api_key.isprintable()):
        raise ValueError("api_key must be one line of ASCII")
    with suppress(httpx.InvalidURL):
        url = httpx.URL(base_url)
        if url.scheme in ("http", "https") and url.host:
            return
    raise ValueError("base_url must look like http://host:8080")


@contextmanager
def reaching(service: str) -> Iterator[None]:
    """Give the library's failures our names while talking to *service*."""
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
