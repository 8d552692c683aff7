"""The uvicorn configuration, for requests of many samples and for hostile callers."""

import gc
import logging
import threading
import time
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEAD_BYTES = 64 * 1024
MANY_OBJECTS = 500_000
"""New objects after which Python collects garbage, apart from the clock."""
COLLECT_EVERY_S = 30.0
KEEP_ALIVE_S = 120
"""Longer than load balancers keep an idle connection (mostly a minute): if this side closed first, a
balancer could send its next request into the closed connection."""


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's parser in C, with a limit on headers and trailers, which it lacks."""

    _is_understood = False
    _head_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Parse the bytes; refuse a head, or a gap between two chunks, that is over the limit."""
        self._is_understood = False
        super().data_received(data)
        self._head_bytes = 0 if self._is_understood else self._head_bytes + len(data)
        if self._head_bytes > MOST_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response(f"The head of the request is over {MOST_HEAD_BYTES} bytes.")

    def on_headers_complete(self) -> None:
        """Record that a head has ended."""
        self._is_understood = True
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Record that a part of a body came; the route limits the size of the body."""
        self._is_understood = True
        super().on_body(body)


def server_config(app: ASGIApp, **options: Any) -> uvicorn.Config:
    """Configure uvicorn for *app*; *options* are uvicorn's own."""
    # Its "startup complete" would be wrong: the models still load then.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    return uvicorn.Config(
        app,
        http=BoundedProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        **options,
    )


def collect_garbage_seldom() -> None:
    """Exclude loaded objects from garbage collection, and collect the others by the clock.

    A request makes tens of thousands of objects that reference counting frees. Scanning them over
    and over took a quarter of the scoring time, in pauses of up to 70 ms.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(MANY_OBJECTS)
    threading.Thread(target=_collect_periodically, name="garbage", daemon=True).start()


def _collect_periodically() -> None:
    # An exception can hold its request's body in a reference cycle. A few large bodies are far
    # below the number of objects that starts a collection, so their bytes would add up.
    while True:
        time.sleep(COLLECT_EVERY_S)
        gc.collect()
