"""The case that a doctor looks at: an address, a key, and what has been learnt so far."""

import urllib.request
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import SplitResult, urlsplit

from medreward_client._cli.probing import Answer, ask
from medreward_client._client import RewardClient

USUAL_PORT = 8080
DEFAULT_PORTS = {"http": 80, "https": 443}


class Ill(Exception):
    """A look found what stands in the way of all that follow."""

    def __init__(self, found: str, advice: str) -> None:
        super().__init__(found)
        self.found = found
        self.advice = advice


@dataclass(frozen=True, slots=True)
class Odd:
    """A look found what need not be wrong."""

    found: str
    advice: str


@dataclass
class Case:
    """An address and a key, and what has been learnt of the service behind them."""

    url: str
    api_key: str | None
    recipe: str | None
    timeout_s: float

    @cached_property
    def parts(self) -> SplitResult:
        """The address, taken apart."""
        return urlsplit(self.url)

    @property
    def host(self) -> str:
        """The host that is named."""
        return self.parts.hostname or ""

    @property
    def port(self) -> int:
        """The port that is named, or meant."""
        return self.parts.port or DEFAULT_PORTS[self.parts.scheme]

    @property
    def root(self) -> str:
        """The address without its path."""
        return f"{self.parts.scheme}://{self.parts.netloc}"

    @property
    def base(self) -> str:
        """The address as the client takes it."""
        return self.url.rstrip("/")

    @cached_property
    def proxy(self) -> SplitResult | None:
        """The proxy that the environment puts in between."""
        proxies = urllib.request.getproxies()
        proxy = proxies.get(self.parts.scheme) or proxies.get("all")
        if not proxy or urllib.request.proxy_bypass(self.parts.netloc):
            return None
        return urlsplit(proxy if "://" in proxy else f"http://{proxy}")

    @property
    def next_hop(self) -> tuple[str, int]:
        """Whom a connection is made to: the service, or the proxy."""
        if self.proxy is None:
            return self.host, self.port
        port = self.proxy.port or DEFAULT_PORTS.get(self.proxy.scheme, 80)
        return self.proxy.hostname or "", port

    @property
    def way_around(self) -> str:
        """What to try where a proxy is in between."""
        return (
            "" if self.proxy is None else f"; or go around the proxy: export NO_PROXY={self.host}"
        )

    @cached_property
    def liveness(self) -> Answer:
        """What /livez answers."""
        return self.get("/livez")

    @cached_property
    def version(self) -> Answer:
        """What /version answers to the key."""
        return self.get("/version", api_key=self.api_key)

    def get(self, path: str, *, api_key: str | None = None) -> Answer:
        """Ask the service for a page."""
        return ask(self.base + path, api_key=api_key, timeout_s=self.timeout_s)

    def client(self) -> RewardClient:
        """Reach the service as every program does."""
        return RewardClient(self.url, api_key=self.api_key)
