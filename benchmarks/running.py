"""Servers as processes of their own: the service, its baselines and the stand-in for the models."""

import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

HERE = Path(__file__).parent
POLL_S = 0.02
START_TIMEOUT_S = 300.0
STOP_TIMEOUT_S = 10.0
IDLE_S = 2.0
"""After this long a server may be about to close a connection, so a new one is opened."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs on this machine (Linux: it is looked at through /proc)."""

    url: str
    pid: int

    @property
    def cpu_s(self) -> float:
        """CPU seconds used so far, by the process and its children."""
        return sum(map(_cpu_s, _family(self.pid)))

    @property
    def resident_mb(self) -> float:
        """Resident memory, in megabytes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1000

    @property
    def open_files(self) -> list[str]:
        """What its file descriptors lead to: files, sockets, pipes."""
        found = []
        for entry in Path(f"/proc/{self.pid}/fd").iterdir():
            try:
                found.append(str(entry.readlink()))
            except FileNotFoundError:  # closed in between
                continue
        return found

    def get(self, path: str) -> Any:
        """Ask for a JSON reply."""
        with urllib.request.urlopen(f"{self.url}{path}", timeout=10) as reply:
            return json.load(reply)

    def connect(self) -> "Connection":
        """Open one connection that stays open."""
        return Connection(self.url)


class Connection:
    """The thinnest client there is, so that it is the server that is measured."""

    def __init__(self, url: str) -> None:
        self._http = http.client.HTTPConnection(urlsplit(url).netloc, timeout=600)
        self._used_s = time.monotonic()

    def post(self, path: str, body: bytes) -> bytes:
        """Send a JSON body; give the reply's.

        Raises:
            SystemExit: the reply is no 200.
        """
        return self._exchange("POST", path, body)

    def get(self, path: str) -> bytes:
        """Ask for a reply; as `post`."""
        return self._exchange("GET", path, None)

    def put(self, path: str, body: bytes) -> bytes:
        """Give a server what it shall answer; as `post`."""
        return self._exchange("PUT", path, body)

    def _exchange(self, method: str, path: str, body: bytes | None) -> bytes:
        if time.monotonic() - self._used_s > IDLE_S:
            self._http.close()
        headers = {} if body is None else {"Content-Type": "application/json"}
        self._http.request(method, path, body, headers)
        with self._http.getresponse() as reply:
            content = reply.read()
        self._used_s = time.monotonic()
        if reply.status != http.HTTPStatus.OK:
            raise SystemExit(f"{method} {path}: {reply.status} {content[:500]!r}")
        return content


@contextmanager
def stand_in(delay_ms: float = 10.0, faults: float = 0.0) -> Iterator[Server]:
    """Run the stand-in for the models."""
    options = ["--delay-ms", str(delay_ms), "--faults", str(faults)]
    port = free_port()
    command = [sys.executable, str(HERE / "stand_ins.py"), "--port", str(port), *options]
    with _running(command, port, "/health", {}) as server:
        yield server


@contextmanager
def service(
    engines: Server, *, checkout: Path | None = None, **settings: object
) -> Iterator[Server]:
    """Run `medreward serve`, its engines at the stand-in; *settings* by name, such as `port`.

    The code is that of *checkout*, or else the installed one.
    """
    port = free_port()
    url = f"{engines.url}/v1"
    chosen = {
        "profile": "remote",
        "judge_url": url,
        "embedder_url": url,
        "port": port,
        "recipes": HERE / "recipes",
        # What the baselines compute.
        "recipe": "medix-r1",
        "log_level": "warning",
        **settings,
    }
    environment = {f"MEDREWARD_{name.upper()}": str(value) for name, value in chosen.items()}
    if checkout is not None:
        environment["PYTHONPATH"] = str(checkout / "service")
    command = [sys.executable, "-m", "medreward", "serve"]
    with _running(command, port, "/readyz", environment) as server:
        yield server


@contextmanager
def baseline(module: str, engines: Server | None = None) -> Iterator[Server]:
    """Run one of the apps in `baselines/` on uvicorn, with its fastest loop and parser."""
    port = free_port()
    options = ["--loop", "uvloop", "--http", "httptools", "--log-level", "warning"]
    where = ["--app-dir", str(HERE), "--port", str(port), "--no-access-log"]
    command = [sys.executable, "-m", "uvicorn", f"baselines.{module}:app", *options, *where]
    environment = {"ENGINES_URL": f"{engines.url}/v1"} if engines else {}
    with _running(command, port, "/livez", environment) as server:
        yield server


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _running(
    command: Sequence[str], port: int, ready_path: str, environment: Mapping[str, str]
) -> Iterator[Server]:
    """Run a server until the block ends; what it said is shown if it does not come up."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("MEDREWARD_")}
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(
            command, env=inherited | dict(environment), stdout=subprocess.DEVNULL, stderr=said
        ) as process,
    ):
        server = Server(f"http://127.0.0.1:{port}", process.pid)
        try:
            if not _is_ready(server, ready_path, process):
                said.seek(0)
                raise SystemExit(f"{command}: not ready\n{said.read()[-4000:].decode()}")
            yield server
        finally:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _is_ready(server: Server, path: str, process: subprocess.Popen[bytes]) -> bool:
    ends_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < ends_s and process.poll() is None:
        try:
            with urllib.request.urlopen(server.url + path, timeout=5):
                return True
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(POLL_S)
    return False


def _cpu_s(pid: int) -> float:
    # Linux numbers the CPU clock of each process by its id (clock_getcpuclockid): to the
    # nanosecond, where /proc/PID/stat counts hundredths of a second.
    return time.clock_gettime((~pid << 3) | 2)


def _family(pid: int) -> list[int]:
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                stat = (folder / "stat").read_text()
            except (FileNotFoundError, ProcessLookupError):  # gone in between
                continue
            parents[int(folder.name)] = int(stat.rpartition(")")[2].split()[1])
    family = [pid]
    for member in family:
        family += [child for child, parent in parents.items() if parent == member]
    return family
