"""Logging: one JSON object a line, or text for people; never a sample's text."""

import logging
import os
import queue
import sys
import threading
from collections.abc import Callable
from typing import Any, Literal

import structlog
from opentelemetry import trace
from structlog.typing import EventDict, Processor, WrappedLogger

CHATTY = (
    # They log every connection and every file that they look for, at the level `info`.
    *("httpx", "httpcore", "huggingface_hub", "sentence_transformers", "transformers"),
    "uvicorn.access",
)

MOST_LINES = 10_000
"""Lines that wait to be written: some megabytes."""
FLUSH_S = 1.0
"""Longest wait for the lines that are left when the process ends."""

Style = Literal["json", "console"]


def configure(level: str, style: Style) -> None:
    """Send all log records and warnings, including those of libraries, to standard error."""
    structlog.configure(
        processors=[*_shared(), structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        # This wrapper replaces the methods below the level by empty ones, so they cost almost nothing.
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(style))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(capture=True)
    for chatty in CHATTY:
        logger = logging.getLogger(chatty)
        logger.setLevel(logging.WARNING)
        # Some libraries add handlers, whose plain text would appear between the JSON lines.
        logger.handlers.clear()
        logger.propagate = True


def formatter(style: Style) -> logging.Formatter:
    """Build the formatter for records of any logger, also in processes that a library starts."""
    rendered: list[Processor] = (
        [structlog.processors.JSONRenderer()]
        if style == "json"
        else [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_shared(),
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendered],
    )


class QueuedHandler(logging.Handler):
    """Writes lines from a thread of its own, so that a log that nobody reads stops nothing else.

    Lines that find the queue full, or cannot be written, are dropped, and *count* is called for each.
    """

    def __init__(self, file: int, count: Callable[[], object]) -> None:
        super().__init__()
        self._file = file
        self._count = count
        self._dropped = 0
        # A signal or the garbage collector may log in the middle of a call that logs: unlike `Queue`,
        # this one has no lock at which such a call would wait for itself.
        self._lines: queue.SimpleQueue[str | threading.Event] = queue.SimpleQueue()
        threading.Thread(target=self._write_lines, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a line, or drop it."""
        if self._lines.qsize() >= MOST_LINES:
            self._drop()
            return
        # Formatted here, since the current span belongs to this thread.
        self._lines.put(self.format(record))

    def flush(self) -> None:
        """Wait until all lines are written, or for a second."""
        self.is_written()

    def is_written(self) -> bool:
        """Return whether all lines are written, after a second at most."""
        is_reached = threading.Event()
        self._lines.put(is_reached)
        return is_reached.wait(FLUSH_S)

    def _drop(self) -> None:
        self._dropped += 1
        self._count()

    def _write_lines(self) -> None:
        told = 0
        while True:
            line = self._lines.get()
            if isinstance(line, threading.Event):
                line.set()
                continue
            try:
                self._write(line)
                if (dropped := self._dropped - told) > 0:
                    told += dropped
                    message = f"{dropped} log lines were dropped, since nobody read them"
                    facts = {"name": __name__, "levelno": logging.WARNING, "levelname": "WARNING"}
                    self._write(self.format(logging.makeLogRecord(facts | {"msg": message})))
            except OSError:
                # The reader has gone, or the disk is full.
                self._drop()

    def _write(self, line: str) -> None:
        # To the file itself: a thread that waits within `sys.stderr` holds its lock, which Python
        # needs to end the process.
        left = f"{line}\n".encode(errors="backslashreplace")
        while left:
            left = left[os.write(self._file, left) :]


def write_from_thread(count: Callable[[], object]) -> QueuedHandler:
    """Let a thread write what `configure` sends to standard error; *count* counts dropped lines."""
    root = logging.getLogger()
    handler = QueuedHandler(sys.stderr.fileno(), count)
    handler.setFormatter(root.handlers[0].formatter)
    root.handlers = [handler]
    return handler


class ReasonFormatter(logging.Formatter):
    """Writes the reason of a failure on one line, for a child process that reports to a file."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the exception with its message, or the record's message if there is no exception."""
        error = _exception_of(record.exc_info)
        reason = record.getMessage() if error is None else f"{type(error).__name__}: {error}"
        return " ".join(reason.split())


def _shared() -> list[Processor]:
    return [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _quote_no_exception,
        _name_span,
    ]


def _name_span(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Add the ids of the current trace and span, if there is one."""
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = trace.format_trace_id(context.trace_id)
        event["span_id"] = trace.format_span_id(context.span_id)
    return event


def _quote_no_exception(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace an exception by its type and place, since its message may quote a sample."""
    error = _exception_of(event.pop("exc_info", None))
    if error is not None:
        event.update(error=type(error).__name__, where=place_of(error))
    if event.get("logger") == "asyncio":
        # Its further lines show the failed task, with the exception and the arguments in full.
        event["event"] = str(event["event"]).partition("\n")[0]
    return event


def _exception_of(exc_info: Any) -> BaseException | None:
    """Return the exception of `exc_info`: an exception, a triple, or True for the current one."""
    match exc_info:
        case None | BaseException():
            return exc_info
        case (_, BaseException() as error, _):
            return error
        case _:
            return sys.exc_info()[1] if exc_info else None


def place_of(error: BaseException) -> str:
    """Return the function and line in which *error* was raised."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    return f"{place.tb_frame.f_code.co_qualname}:{place.tb_lineno}" if place else "unknown"
