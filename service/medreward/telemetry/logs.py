"""Logging: one JSON object a line, or text for people; never what a sample says."""

import logging
import sys
from typing import Any, Literal

import structlog
from opentelemetry import trace
from structlog.typing import EventDict, Processor, WrappedLogger

CHATTY = (
    # They log each connection and each file they look for; that is of use to nobody here.
    *("httpx", "httpcore", "huggingface_hub", "sentence_transformers", "transformers"),
    "uvicorn.access",
)


Style = Literal["json", "console"]


def configure(level: str, style: Style) -> None:
    """Send everything that is logged or warned of, ours and the libraries', to standard error."""
    structlog.configure(
        processors=[*_shared(), structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        # What is below the level costs next to nothing.
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
        # Some bring handlers of their own, whose plain text would stand between the JSON.
        logger.handlers.clear()
        logger.propagate = True


def formatter(style: Style) -> logging.Formatter:
    """Write any record as we do; also for processes that a library starts."""
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
    """Writes why something failed on one line: for a process that can tell its parent by a file."""

    def format(self, record: logging.LogRecord) -> str:
        """Give the exception with its message, or the record's own."""
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
    """Tell to which span a line belongs, where there are any."""
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = trace.format_trace_id(context.trace_id)
        event["span_id"] = trace.format_span_id(context.span_id)
    return event


def _quote_no_exception(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Tell an exception by its type and place: its message, or a local variable, may be a sample's."""
    error = _exception_of(event.pop("exc_info", None))
    if error is not None:
        event.update(error=type(error).__name__, where=place_of(error))
    if event.get("logger") == "asyncio":
        # Below its first line stands what failed, with the exception and the arguments in full.
        event["event"] = str(event["event"]).partition("\n")[0]
    return event


def _exception_of(exc_info: Any) -> BaseException | None:
    """Find the exception in what was logged with it: itself, a triple, or a wish for the current one."""
    match exc_info:
        case None | BaseException():
            return exc_info
        case (_, BaseException() as error, _):
            return error
        case _:
            return sys.exc_info()[1] if exc_info else None


def place_of(error: BaseException) -> str:
    """Say where *error* was raised."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    return f"{place.tb_frame.f_code.co_qualname}:{place.tb_lineno}" if place else "unknown"
