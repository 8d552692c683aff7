"""How this process listens: uvicorn, set up for many samples a request and for callers of ill will."""

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
"""New objects after which garbage is collected whatever the time."""
COLLECT_EVERY_S = 30.0
KEEP_ALIVE_S = 120
"""Longer than balancers keep a connection that nobody uses (a minute, mostly): who closes first must
not be the one that the next request is sent to."""


class BoundedProtocol(HttpToolsProtocol):
    """HTTP parsed in C, which by itself would keep headers and trailers without an end."""

    _is_understood = False
    _head_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Parse what came; refuse a head, or what stands between two chunks, that never ends."""
        self._is_understood = False
        super().data_received(data)
        self._head_bytes = 0 if self._is_understood else self._head_bytes + len(data)
        if self._head_bytes > MOST_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response(f"The head of the request is over {MOST_HEAD_BYTES} bytes.")

    def on_headers_complete(self) -> None:
        """Note that a head has ended."""
        self._is_understood = True
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Note that a part of a body came; how long that may get is the route's matter."""
        self._is_understood = True
        super().on_body(body)


def server_config(app: ASGIApp, **options: Any) -> uvicorn.Config:
    """Configure uvicorn for *app*; *options* are uvicorn's own."""
    # It says that the start is complete while the models still load.
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
    """Leave what is loaded out of garbage collection, and do the rest by the clock.

    A request makes tens of thousands of objects that die without its help; looking through them
    again and again took a quarter of the time of scoring, in pauses of up to 70 ms.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(MANY_OBJECTS)
    threading.Thread(target=_collect_now_and_then, name="garbage", daemon=True).start()


def _collect_now_and_then() -> None:
    # What failed may hold its request's body in a circle of references, so that bytes, and not
    # only objects, would add up.
    while True:
        time.sleep(COLLECT_EVERY_S)
        gc.collect()
