"""A service on a real socket that scores everything 1, for what has to do with connections."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import orjson
import uvicorn
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tests.client.stand_in import SCORED, reward_body


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Score everything 1."""
    body = orjson.loads(await Request(scope, receive).body())
    rows = [SCORED | {"id": sample["id"]} for sample in body["samples"]]
    reply = Response(orjson.dumps(reward_body(*rows)), media_type="application/json")
    await reply(scope, receive, send)


@dataclass(frozen=True, slots=True)
class Serving:
    """A server that runs in this process."""

    url: str
    server: uvicorn.Server

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self.server.server_state.connections)

    def settle(self) -> None:
        """Give connections that were closed a moment, at most five seconds, to be seen closed."""
        give_up = time.monotonic() + 5
        while self.connections and time.monotonic() < give_up:
            time.sleep(0.005)


@contextmanager
def serving() -> Iterator[Serving]:
    """Serve on a free port of loopback, in a thread."""
    # Without uvicorn's own logging, which would outlast this server.
    config = uvicorn.Config(app, port=0, log_config=None, lifespan="off", timeout_keep_alive=60)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.005)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Serving(f"http://127.0.0.1:{port}", server)
    finally:
        server.should_exit = True
        thread.join()
