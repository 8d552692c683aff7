"""The connection under diagnosis: an address, a key, and the responses received so far."""

import urllib.request
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import SplitResult, urlsplit

from medreward_client._cli.probes import Answer, ask
from medreward_client._client import RewardClient

USUAL_PORT = 8080
DEFAULT_PORTS = {"http": 80, "https": 443}


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


@dataclass
class Target:
    """An address and a key, and the cached responses of the service behind them."""

    url: str
    api_key: str | None
    recipe: str | None
    timeout_s: float

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
        proxies = urllib.request.getproxies()
        proxy = proxies.get(self.parts.scheme) or proxies.get("all")
        if not proxy or urllib.request.proxy_bypass(self.parts.netloc):
            return None
        return urlsplit(proxy if "://" in proxy else f"http://{proxy}")

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

    def client(self) -> RewardClient:
        """Open the client that every program uses."""
        return RewardClient(self.url, api_key=self.api_key)
