"""The load balancers that deploy/ has configurations for, with those, on ports of this machine."""

import csv
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.deploy.live.processes import (
    ROOT,
    Replica,
    eventually,
    looking,
    running,
    status_of,
)
from tests.programs import path_of
from tests.redis_servers import free_port
from tests.support.process import Program, bare_environment

HAPROXY_CONFIG = ROOT / "deploy" / "haproxy" / "haproxy.cfg"
NGINX_CONFIG = ROOT / "deploy" / "nginx" / "nginx.conf"


@dataclass(frozen=True)
class Balancer:
    """HAProxy before some replicas."""

    url: str
    status_url: str

    def states(self) -> dict[str, str]:
        """What it thinks of each replica: UP, DOWN, or on the way from one to the other."""
        return {row["svname"]: row["status"] for row in self._rows()}

    def has_out(self, replica: str) -> bool:
        """Whether it sends nothing more to a replica."""
        return self.states()[replica].startswith("DOWN")

    def has_all(self, state: str = "UP") -> bool:
        """Whether it sends to all of them, or to none."""
        return set(self.states().values()) == {state}

    def _rows(self) -> list[dict[str, str]]:
        told = looking().get(f"{self.status_url}/;csv").text.removeprefix("# ")
        return [
            row
            for row in csv.DictReader(told.splitlines())
            if row["pxname"] == "replicas" and row["svname"] != "BACKEND"
        ]


@contextmanager
def haproxy(
    folder: Path, replicas: Sequence[Replica], *, quick: bool, waits_for: str = "UP"
) -> Iterator[Balancer]:
    """The shipped HAProxy, with these replicas' addresses; *quick* looks at them four times as often.

    Waits until it has found all of them up, or down.
    """
    port, status_port = free_port(), free_port()
    text = _haproxy_config(HAPROXY_CONFIG.read_text("utf-8"), replicas, port, status_port)
    if quick:
        text = _replaced(
            r"inter 2s fastinter 500ms downinter 1s", "inter 500ms fastinter 200ms", text
        )
    config = folder / "haproxy.cfg"
    config.write_text(text, "utf-8")
    made = Balancer(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{status_port}")
    with running(_program("haproxy", "-db", "-f", str(config))):
        eventually(lambda: status_of(f"{made.status_url}/") == 200)
        eventually(lambda: made.has_all(waits_for))
        yield made


BY_CONNECTIONS = """
defaults
    mode tcp
    timeout connect 2s
    timeout client 1h
    timeout server 1h
listen service
    bind 127.0.0.1:{port}
    balance roundrobin
    retries 0
    option httpchk GET /readyz
    default-server check inter 300ms fall 1 rise 1
"""


@contextmanager
def by_connections(folder: Path, replicas: Sequence[Replica]) -> Iterator[str]:
    """What balances as a Service of Kubernetes does; gives its address.

    New connections go to what is ready, in turn; one that is there stays where it is, and a request
    that fails is nobody's matter.
    """
    port = free_port()
    config = folder / "by_connections.cfg"
    config.write_text(BY_CONNECTIONS.format(port=port) + _servers(replicas), "utf-8")
    with running(_program("haproxy", "-db", "-f", str(config))):
        url = f"http://127.0.0.1:{port}"
        eventually(lambda: status_of(f"{url}/readyz") == 200)
        yield url


@contextmanager
def nginx(folder: Path, replicas: Sequence[Replica]) -> Iterator[str]:
    """The shipped nginx, with these replicas' addresses; gives its own."""
    port = free_port()
    servers = "".join(f"        server 127.0.0.1:{one.port};\n" for one in replicas)
    text = _replaced(r"(?:^ *server 10\..*\n)+", servers, NGINX_CONFIG.read_text("utf-8"))
    text = _replaced(r"listen 8080;", f"listen 127.0.0.1:{port};", text)
    config = folder / "nginx.conf"
    config.write_text(text, "utf-8")
    places = f"daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx-errors.log;"
    with running(_program("nginx", "-p", str(folder), "-c", str(config), "-g", places)):
        url = f"http://127.0.0.1:{port}"
        eventually(lambda: status_of(f"{url}/version") == 200)
        yield url


def _program(name: str, *arguments: str) -> Program:
    return Program([path_of(name), *arguments], bare_environment())


def _servers(replicas: Sequence[Replica]) -> str:
    return "".join(
        f"    server {one.name} 127.0.0.1:{one.port} port {one.admin_port}\n" for one in replicas
    )


def _haproxy_config(text: str, replicas: Sequence[Replica], port: int, status_port: int) -> str:
    text = _replaced(r"(?:^ *server \w+ 10\..*\n)+", _servers(replicas), text)
    text = _replaced(r"bind :8080", f"bind 127.0.0.1:{port}", text)
    return _replaced(r"bind 127\.0\.0\.1:8404", f"bind 127.0.0.1:{status_port}", text)


def _replaced(pattern: str, by: str, text: str) -> str:
    replaced, count = re.subn(pattern, lambda _: by, text, flags=re.MULTILINE)
    assert count == 1, f"{pattern} stands {count} times in the shipped configuration"
    return replaced
