"""Processes of a deployment on this machine: services, a stand-in for their models, a balancer."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

import httpx

from tests.redis_servers import free_port
from tests.support.process import Program, bare_environment

ROOT = Path(__file__).parents[3]
START_TIMEOUT_S = 120.0
ANSWER_TIMEOUT_S = 30.0
POLL_S = 0.05
DRAIN_TOKEN = "let-it-go"


class Replica(Program):
    """`medreward serve` with a public and an admin port that stay the same.

    *settings* are those of docs/settings.md.
    """

    def __init__(self, name: str, **settings: object) -> None:
        self.name = name
        self.port, self.admin_port = free_port(), free_port()
        chosen = {
            "port": self.port,
            "admin_port": self.admin_port,
            "drain_token": DRAIN_TOKEN,
            "log_level": "info",
            "recipe": "medix-r1",
            # These tests count what the judge is asked.
            "exam": "off",
            **settings,
        }
        named = {f"MEDREWARD_{name.upper()}": str(value) for name, value in chosen.items()}
        command = [sys.executable, "-m", "medreward", "serve"]
        super().__init__(command, bare_environment() | named)

    @property
    def said(self) -> str:
        """The end of what it logged."""
        return (self.stdout + self.stderr)[-2000:]

    @property
    def url(self) -> str:
        """Its public address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def admin_url(self) -> str:
        """Its admin address."""
        return f"http://127.0.0.1:{self.admin_port}"

    def is_ready(self) -> bool:
        """Whether it says so."""
        return status_of(f"{self.admin_url}/readyz") == 200

    def state(self) -> str:
        """The word for its state, such as ready or degraded."""
        return str(looking().get(f"{self.admin_url}/readyz").json()["status"])

    def accepts(self, key: str) -> bool:
        """Whether it lets a key in."""
        return status_of(f"{self.url}/recipes", headers={"Authorization": f"Bearer {key}"}) == 200

    def metric(self, name: str) -> float:
        """The sum of a metric's series; 0 if it has none yet."""
        lines = looking().get(f"{self.admin_url}/metrics").text.splitlines()
        assert any(line.startswith(f"# TYPE {name} ") for line in lines), f"{name} is no metric"
        found = [line for line in lines if line.startswith((f"{name} ", f"{name}{{"))]
        return sum(float(line.rpartition(" ")[2]) for line in found)

    def drain(self, method: str, query: str = "") -> int:
        """Ask it to drain, by POST, or to stay, by DELETE; gives the status."""
        return status_of(
            f"{self.admin_url}/drain{query}",
            method=method,
            headers={"Authorization": f"Bearer {DRAIN_TOKEN}"},
        )

    def restart_in_order(self) -> float:
        """End it with SIGTERM and start it anew; gives the seconds until it had ended."""
        told_s = time.monotonic()
        code = self.stop()
        ended_s = time.monotonic()
        assert code == 0, f"{self.name} ended with {code}: {self.said}"
        self.spawn()
        return ended_s - told_s


@contextmanager
def running(*programs: Program) -> Iterator[None]:
    """Start programs, and end them at the end."""
    with ExitStack() as ends:
        for program in programs:
            ends.enter_context(program)
            program.spawn()
        yield


class StandIn(Program):
    """A server in place of the models, which takes a moment for each batch."""

    def __init__(self, *, delay_ms: int) -> None:
        port = free_port()
        self._health = f"http://127.0.0.1:{port}/health"
        self.url = f"http://127.0.0.1:{port}/v1"
        script = str(ROOT / "benchmarks" / "stand_ins.py")
        options = ("--port", str(port), "--delay-ms", str(delay_ms))
        super().__init__([sys.executable, script, *options], bare_environment())

    def wait_until_ready(self) -> None:
        """Wait until it answers."""
        eventually(lambda: status_of(self._health) == 200)


@contextmanager
def stand_in(*, delay_ms: int) -> Iterator[str]:
    """Run one; gives its address."""
    one = StandIn(delay_ms=delay_ms)
    with running(one):
        one.wait_until_ready()
        yield one.url


@cache
def looking() -> httpx.Client:
    """A client to look on with: made once, since certificates take 40 ms, and keeping nothing open."""
    return httpx.Client(
        timeout=ANSWER_TIMEOUT_S, limits=httpx.Limits(max_keepalive_connections=0), trust_env=False
    )


def wait_until_ready(replicas: Sequence[Replica]) -> None:
    """Wait until all say that they are."""
    for one in replicas:
        try:
            eventually(one.is_ready)
        except TimeoutError as exc:
            raise AssertionError(f"{one.name} did not get ready: {one.said}") from exc


def status_of(url: str, *, method: str = "GET", headers: Mapping[str, str] | None = None) -> int:
    """The status that an address answers with; 0 where nothing answers."""
    try:
        return looking().request(method, url, headers=headers).status_code
    except httpx.TransportError:
        return 0


def eventually(is_so: Callable[[], bool], *, seconds: float = START_TIMEOUT_S) -> float:
    """Wait until something is so; gives the seconds that it took.

    Raises:
        TimeoutError: it did not come about.
    """
    started_s = time.monotonic()
    while not is_so():
        if time.monotonic() - started_s > seconds:
            raise TimeoutError(f"it did not come about in {seconds} s")
        time.sleep(POLL_S)
    return time.monotonic() - started_s
