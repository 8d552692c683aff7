"""The connection under diagnosis: an address, a key, and the responses received so far.

The standard library's HTTP reports more about failures below HTTP than an everyday client should.
"""

import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from http.client import HTTPResponse
from typing import Any
from urllib.parse import SplitResult, urlsplit

from medreward_client._http import given_text
from medreward_client.jsonl import object_in
from medreward_client.proxies import DEFAULT_PORTS, proxy_for

USUAL_PORT = 8080
MOST_BYTES = 65_536


class Failure(Exception):
    """A check failed, so that no later check can succeed."""

    def __init__(self, found: str, advice: str) -> None:
        super().__init__(found)
        self.found = found
        self.advice = advice


@dataclass(frozen=True, slots=True)
class Caution:
    """A check found something unusual that need not be wrong."""

    found: str
    advice: str


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    took_ms: float

    @property
    def said(self) -> dict[str, Any]:
        """The body if it is a JSON object; an empty one otherwise."""
        return object_in(self.body) or {}

    @property
    def is_alive(self) -> bool:
        """True for medreward's own response of /livez."""
        return self.status == HTTPStatus.OK and self.said.get("status") == "alive"

    @property
    def is_page(self) -> bool:
        """True for a web page."""
        return "html" in self.headers.get("Content-Type", "") or self.body[:1] == b"<"

    @property
    def server(self) -> str:
        """The server that the response names."""
        name = self.headers.get("Server", "")
        return f" by {name}" if name else ""


class _AnyStatus(urllib.request.HTTPErrorProcessor):
    """Returns the response of any status; without it, redirects are followed, and errors raised."""

    def http_response(
        self,
        request: urllib.request.Request,  # noqa: ARG002 - of the base class
        response: HTTPResponse,
    ) -> HTTPResponse:
        """Return the response as it is."""
        return response

    https_response = http_response


def ask(url: str, *, api_key: str | None = None, timeout_s: float) -> Answer:
    """Send a GET; OSError or HTTPException if it fails below HTTP."""
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - http or https: checked
    proxy = proxy_for(url)
    proxies = {} if proxy is None else {request.type: proxy}
    opener = urllib.request.build_opener(_AnyStatus, urllib.request.ProxyHandler(proxies))
    began_s = time.perf_counter()
    try:
        with opener.open(request, timeout=timeout_s) as reply:
            body = reply.read(MOST_BYTES)
    except urllib.error.URLError as exc:
        # The cause is its `reason`, not its `__cause__`.
        raise exc.reason if isinstance(exc.reason, OSError) else OSError(str(exc.reason)) from exc
    return Answer(reply.status, reply.headers, body, 1000 * (time.perf_counter() - began_s))


@dataclass
class Target:
    """An address and a key, and the cached responses of the service behind them."""

    url: str
    api_key: str | None
    recipe: str | None
    timeout_s: float

    def __post_init__(self) -> None:
        self.api_key = given_text(self.api_key)

    @cached_property
    def parts(self) -> SplitResult:
        """The parsed address."""
        return urlsplit(self.url)

    @property
    def host(self) -> str:
        """The host of the address."""
        return self.parts.hostname or ""

    @property
    def port(self) -> int:
        """The port of the address, or its scheme's default."""
        return self.parts.port or DEFAULT_PORTS[self.parts.scheme]

    @property
    def root(self) -> str:
        """The address without its path."""
        return f"{self.parts.scheme}://{self.parts.netloc}"

    @property
    def base(self) -> str:
        """The address without a slash at its end, as the client uses it."""
        return self.url.rstrip("/")

    @cached_property
    def proxy(self) -> SplitResult | None:
        """The proxy that the environment names; None if requests go directly."""
        proxy = proxy_for(self.url)
        return None if proxy is None else urlsplit(proxy)

    @property
    def next_hop(self) -> tuple[str, int]:
        """Host and port to connect to: the proxy's if there is one, or the service's."""
        if self.proxy is None:
            return self.host, self.port
        port = self.proxy.port or DEFAULT_PORTS.get(self.proxy.scheme, 80)
        return self.proxy.hostname or "", port

    @property
    def way_around(self) -> str:
        """Advice on bypassing the proxy; empty without one."""
        return (
            "" if self.proxy is None else f"; or go around the proxy: export NO_PROXY={self.host}"
        )

    @cached_property
    def liveness(self) -> Answer:
        """The response of /livez."""
        return self.get("/livez")

    @cached_property
    def version(self) -> Answer:
        """The response of /version to the key."""
        return self.get("/version", api_key=self.api_key)

    def get(self, path: str, *, api_key: str | None = None) -> Answer:
        """Send a GET to the service."""
        return ask(self.base + path, api_key=api_key, timeout_s=self.timeout_s)
