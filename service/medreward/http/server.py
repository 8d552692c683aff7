"""The uvicorn configuration, for requests of many samples and for hostile callers."""

import asyncio
import gc
import logging
import resource
import threading
import time
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import httptools
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

MOST_HEAD_BYTES = 64 * 1024
MANY_OBJECTS = 500_000
"""New objects after which Python collects garbage, apart from the clock."""
COLLECT_EVERY_S = 30.0
KEPT_FILES = 256
"""Files that connections leave to everything else, or half of them if there are few."""


class Bounds(NamedTuple):
    """Bounds of a server's connections; the settings of the same names say what each is."""

    head_s: float = 20.0
    body_s: float = 60.0
    reply_s: float = 60.0
    idle_s: float = 120.0
    connections: int | None = None


BOUNDS = Bounds()


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's parser in C, with limits of size and time, and deaf to offers of other protocols."""

    def __init__(self, *args: Any, bounds: Bounds, **options: Any) -> None:
        super().__init__(*args, **options)
        self._bounds = bounds
        self._head_bytes = 0
        self._is_understood = False
        self._awaits_head = True
        self._has_begun = self._has_body = False
        self._offers_upgrade = False
        self._arrival: asyncio.TimerHandle | None = None
        """Ends a connection whose head, or answered body, does not arrive."""
        self._reading: asyncio.TimerHandle | None = None
        """Ends a connection whose caller does not read its reply."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept the connection, or refuse it if there are too many."""
        super().connection_made(transport)
        most = self._bounds.connections
        if most is not None and len(self.connections) > most:
            self._refuse(503, f"This service has {most} connections, its most.")
        else:
            self._arrival = self._timer(self._bounds.head_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection, and its timers."""
        self._arrival = _ended(self._arrival)
        self._reading = _ended(self._reading)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse the bytes; refuse a head, or a gap between two chunks, that is over the limit."""
        self._unset_keepalive_if_required()
        if self.transport.is_closing():
            return
        self._is_understood = False
        try:
            self._parse(memoryview(data))
        except httptools.HttpParserError:
            self._refuse(400, "Invalid HTTP request received.")
        self._head_bytes = 0 if self._is_understood else self._head_bytes + len(data)
        if self.transport.is_closing():
            return
        if self._head_bytes > MOST_HEAD_BYTES:
            self._refuse(400, f"The head of the request is over {MOST_HEAD_BYTES} bytes.")
        # Bytes behind a whole request are white space, or the beginning of the next one.
        elif self._awaits_head and (self._has_begun or not self._is_understood):
            self._arrival = self._arrival or self._timer(self._bounds.head_s)

    def _parse(self, data: memoryview) -> None:
        """Parse bytes; a request that offers to change the protocol is parsed without its offer.

        RFC 9110, 7.8: a server may ignore the offer. The parser would skip the body, so a new one
        gets the same head again, and the rest.
        """
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                if not self._offers_upgrade:
                    self._refuse(400, "This service is no proxy.")
                    return
                self._offers_upgrade = False
                head = self._head_without_offer()
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
                self.parser.feed_data(head)
                data = data[offer.args[0] :]
            else:
                return

    def _head_without_offer(self) -> bytes:
        method, version = self.parser.get_method(), self.parser.get_http_version()
        lines = [b"%b %b HTTP/%b" % (method, self.url, version.encode())]
        lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    def on_message_begin(self) -> None:
        """Record that a head has begun."""
        self._has_begun = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Record that a head has ended, and begin its request."""
        if self.parser.should_upgrade():
            self._offers_upgrade = self.parser.get_method() != b"CONNECT"
            return
        self._is_understood = True
        self._awaits_head = self._has_begun = self._has_body = False
        self._arrival = _ended(self._arrival)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Record that a part of a body came; the route limits the size of the body."""
        self._is_understood = self._has_body = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Record that the request has arrived."""
        if self.parser.should_upgrade():
            return
        self._awaits_head = True
        self._arrival = _ended(self._arrival)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Limit the time that the rest of the request, or of its reply, may take."""
        is_awaited = self.expect_100_continue and not self._has_body and not self._awaits_head
        super().on_response_complete()
        if self.transport.is_closing():
            self._end()
        elif is_awaited:
            # The caller was told not to send its body: the next byte may belong to either.
            self._end()
        elif not self._awaits_head:
            self._arrival = self._timer(self._bounds.body_s)

    def pause_writing(self) -> None:
        """Limit the time in which a long reply has to be read."""
        super().pause_writing()
        self._reading = self._reading or self.loop.call_later(
            self._bounds.reply_s, self.transport.abort
        )

    def resume_writing(self) -> None:
        """Go on with the reply, most of which was read."""
        self._reading = _ended(self._reading)
        super().resume_writing()

    def shutdown(self) -> None:
        """End the connection after its reply, since the server ends."""
        super().shutdown()
        if self.transport.is_closing():
            self._end()

    def timeout_keep_alive_handler(self) -> None:
        """End a connection that was idle for too long."""
        self._end()

    def _timer(self, seconds: float) -> asyncio.TimerHandle:
        _ended(self._arrival)
        return self.loop.call_later(seconds, self._is_late)

    def _is_late(self) -> None:
        self._arrival = None
        if self.transport.is_closing():
            return
        if not self._awaits_head:
            self._end()
        elif not getattr(self.cycle, "response_complete", True):
            # A reply to an earlier request is on its way; nothing may be written into it.
            self._arrival = self._timer(self._bounds.head_s)
        else:
            seconds = f"{self._bounds.head_s:g} s"
            self._refuse(408, f"The head of the request did not arrive within {seconds}.")

    def _refuse(self, status: int, message: str) -> None:
        head = b"content-type: text/plain; charset=utf-8\r\nconnection: close\r\n"
        length = b"content-length: %d\r\n\r\n" % len(message)
        self.transport.write(STATUS_LINE[status] + head + length + message.encode("ascii"))
        self._end()

    def _end(self) -> None:
        """Close the connection once its caller has read the replies, for which it has some time."""
        self.transport.close()
        if self.transport.get_write_buffer_size():
            self._reading = self._reading or self.loop.call_later(
                self._bounds.reply_s, self.transport.abort
            )


def _ended(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    """Cancel a timer; returns none, to put in its place."""
    if timer is not None:
        timer.cancel()
    return None


def server_config(app: ASGIApp, bounds: Bounds = BOUNDS, **options: Any) -> uvicorn.Config:
    """Configure uvicorn for *app*; *options* are uvicorn's own."""
    # Its "startup complete" would be wrong: the models still load then.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    protocol: Any = partial(BoundedProtocol, bounds=bounds)
    return uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        log_config=None,
        access_log=False,
        # Whole seconds by its type alone: it is passed on to `call_later`.
        timeout_keep_alive=bounds.idle_s,  # type: ignore[arg-type]
        **options,
    )


def raise_file_limit() -> int | None:
    """Raise the number of files that this process may have open to what the system lets it.

    Returns:
        The limit; None if there is none.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # macOS has a lower limit of its own than it names.
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def connections_within(files: int | None, most: int) -> int:
    """Return how many connections a process may have: *most*, or fewer if files would run out."""
    # The rest is for the admin port, the engines, Redis and models.
    return most if files is None else max(1, min(most, files - min(KEPT_FILES, files // 2)))


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
