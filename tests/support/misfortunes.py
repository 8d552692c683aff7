"""What may befall any command: wrong files, addresses, variables, and streams that take nothing.

Each is made at the system's boundary, and `assert_told` says what a command has to make of it.
"""

import gzip
import json
import os
import resource
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Final

MOST_LINES: Final = 8
"""Lines of the message that a command ends with, such as the first bad lines of a file."""
CLOSED_PORT: Final = "http://127.0.0.1:9"
FULL: Final = Path("/dev/full")

CONTENTS: Final[Mapping[str, bytes]] = {
    "not UTF-8": '{"id": "Ménière"}\n'.encode("latin-1"),
    "empty": b"",
    "broken JSON": b'{"id": "q1", \n',
    "cut off": b'{"id": "q1", "response": "left lo',
    "gzip": gzip.compress(b'{"id": "q1"}\n'),
    "array": b"[1]",
    "null": b"null\n",
    "nested deeply": b"[" * 5_000,
    "binary": bytes(range(256)),
}
FILES: Final = ("missing", "folder", "in a file", "name too long", *CONTENTS)

URLS: Final = {
    "no scheme": "127.0.0.1:9",
    "other scheme": "ftp://127.0.0.1",
    "no host": "http://",
    "open bracket": "http://[::1",
    "port too high": "http://127.0.0.1:65536",
    "carriage return": "http://127.0.0.1:9\r",
    "white space": "http://127.0.0.1 :9",
    "closed port": CLOSED_PORT,
    "web page": "{server}",
    "web page of a route": "{server}/reward",
    "redirect": "{server}/moved",
    "other service": "{server}/json",
}

PROXIES: Final[Mapping[str, Mapping[str, str]]] = {
    "scheme of a proxy": {"HTTP_PROXY": "foo://proxy:3128"},
    "carriage return": {"HTTP_PROXY": "http://proxy:3128\r"},
    "bracket": {"HTTPS_PROXY": "http://[::1"},
    "network in NO_PROXY": {"NO_PROXY": "localhost,fd00::/8"},
    "no certificates": {"SSL_CERT_FILE": "/nowhere/ca.pem"},
}


def wrong_file(folder: Path, kind: str) -> Path:
    """Make a file of a kind of `FILES` in a folder."""
    path = folder / "wrong.jsonl"
    if kind == "missing":
        return path
    if kind == "folder":
        path.mkdir()
        return path
    if kind == "name too long":
        return folder / ("x" * 300)
    path.write_bytes(CONTENTS.get(kind, b""))
    return path / "inside" if kind == "in a file" else path


@contextmanager
def wrong_server() -> Iterator[str]:
    """Serve a web page, a redirect under `/moved`, and another service's error under `/json`."""
    listening = ThreadingHTTPServer(("127.0.0.1", 0), _WrongHandler)
    thread = Thread(target=listening.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.server_address[1]}"
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()


class _WrongHandler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, content = 200, b"<html>Welcome</html>"
        if self.path.startswith("/moved"):
            status, content = 302, b""
        elif self.path.startswith("/json"):
            status, content = 404, json.dumps({"detail": "Not Found"}).encode()
        self.send_response(status)
        self.send_header("Location", f"{CLOSED_PORT}/elsewhere")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    """Let the system refuse what this process writes to a file beyond a size, like a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def assert_told(program: str, exit_code: int, stderr: str, *, names: object = "") -> None:
    """Assert that a command failed, and said why in a few lines, with *names* in them."""
    told = stderr.strip().splitlines()

    assert exit_code not in {0, None}
    assert told, "nothing was told"
    assert len(told) <= MOST_LINES, stderr
    assert any(line.startswith((program, "Usage:", "Error")) for line in told) or "─" in stderr
    assert "Traceback" not in stderr
    assert "a fault of this program" not in stderr
    assert "Errno" not in stderr
    assert str(names) in stderr


def with_streams(
    command: Sequence[str | Path], *, stdout: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command as a process whose standard output is `closed`, `full` or `unread`."""
    redirected = {"closed": '"$@" >&-', "full": '"$@" >/dev/full', "unread": '"$@" | true'}
    script = f"set -o pipefail; {redirected[stdout]}"
    return subprocess.run(  # noqa: S603 - the command under test
        ["/bin/bash", "-c", script, "bash", *map(str, command)],
        capture_output=True, text=True, check=False, timeout=600,
        env={**os.environ, **(environment or {})},
    )  # fmt: skip
