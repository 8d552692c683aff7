"""Logging: one JSON object a line, or text for people; never a sample's text."""

import logging
import sys
from typing import Any, Literal

import structlog
from opentelemetry import trace
from structlog.typing import EventDict, Processor, WrappedLogger

CHATTY = (
    # They log every connection and every file that they look for, at the level `info`.
    *("httpx", "httpcore", "huggingface_hub", "sentence_transformers", "transformers"),
    "uvicorn.access",
)


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
