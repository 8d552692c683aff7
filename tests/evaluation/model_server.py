"""A model's server, as far as a client can tell: on a socket, and it says what a test says."""

import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any, ClassVar

Body = dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """The reply to one request, and its delay."""

    body: object
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    after_s: float = 0.0


def said(content: str | None, finish_reason: str = "stop", **message: Any) -> Reply:
    """A completion."""
    choice = {"message": {"content": content, **message}, "finish_reason": finish_reason}
    return Reply({"choices": [choice]})


def refused(status: int, message: str = "", **headers: str) -> Reply:
    """An error, with a message that must not be shown."""
    error = {"message": f"{message} patient John Doe", "type": "BadRequestError", "code": status}
    return Reply({"error": error}, status, headers)


def failing(status: int, **error: object) -> Reply:
    """An error with these keys, and a message that must not be shown."""
    return Reply({"error": {"message": "patient John Doe", **error}}, status)


def asked(body: Body) -> str:
    """The text of a request."""
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else str(content[-1]["text"])


def echo(body: Body) -> Reply:
    """A response by which one knows the question."""
    return said(f"<think>{asked(body)}?</think>to {asked(body)}")


class ModelServer:
    """Serves one model by default, and records its requests."""

    def __init__(self) -> None:
        self.say: Callable[[Body], Reply] = echo
        self.models: Reply = Reply({"data": [{"id": "tiny"}]})
        self.bodies: list[Body] = []
        self.headers: list[Mapping[str, str]] = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = Lock()
        self._port = 0
        self.start()

    @property
    def url(self) -> str:
        """Its base URL, also while it is down."""
        return f"http://127.0.0.1:{self._port}/v1"

    def take(self, body: Body, headers: Mapping[str, str]) -> Reply:
        """Answer a question."""
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            self.bodies.append(body)
            self.headers.append(headers)
        try:
            reply = self.say(body)
            time.sleep(reply.after_s)
            return reply
        finally:
            with self._lock:
                self._at_once -= 1

    def stop(self) -> None:
        """Stop the server without a reply to pending requests."""
        self._listening.shutdown()
        self._thread.join()
        self._listening.server_close()
        self._listening.hang_up()

    def start(self) -> None:
        """Come back, at the same address."""
        self._listening = _Listening(self, self._port)
        self._port = self._listening.server_address[1]
        self._thread = Thread(target=self._listening.serve_forever, args=(0.01,))
        self._thread.start()


@contextmanager
def model_server() -> Iterator[ModelServer]:
    """A server until the block ends."""
    server = ModelServer()
    try:
        yield server
    finally:
        server.stop()


class _Listening(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, server: ModelServer, port: int) -> None:
        handler = type("Handler", (_Handler,), {"server_of_model": server})
        self._connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self._connections.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that have disconnected."""

    def hang_up(self) -> None:
        for connection in list(self._connections):
            super().shutdown_request(connection)


class _Handler(BaseHTTPRequestHandler):
    server_of_model: ClassVar[ModelServer]
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._send(self.server_of_model.models)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._send(self.server_of_model.take(body, dict(self.headers)))

    def _send(self, reply: Reply) -> None:
        content = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""
