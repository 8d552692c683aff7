"""OpenTelemetry spans of requests and batches, with numbers and closed names, never a sample's text.

The functions use OpenTelemetry's API, which does nothing until `exporting` installs the SDK. The
standard `OTEL_*` variables configure the collector.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from typing import Literal

from opentelemetry import propagate, trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

import medreward
from medreward.errors import SetupError

MOST_EVENTS = 128
"""Most evaluations in one span: a step has thousands, more than a trace viewer can show."""
EXPORT_TIMEOUT_S = 5.0
"""Timeout of an export, and of the last one at the end of the process."""
SERVER_ERROR = 500
OPERATIONS = {"judge": "chat", "embedder": "embeddings"}
"""Names of the operations in OpenTelemetry's semantic conventions for GenAI."""

_tracer = trace.get_tracer("medreward", medreward.__version__)


@contextmanager
def exporting(*, role: str, is_on: bool) -> Iterator[None]:
    """Send spans to a collector until the block ends.

    Raises:
        SetupError: the extra `otel` is not installed.
    """
    if not is_on:
        yield
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 - an extra
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - the same
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - the same
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 - the same
    except ModuleNotFoundError as exc:
        raise SetupError(
            f"MEDREWARD_TRACES needs {exc.name}: `pip install 'medreward[otel]'`"
        ) from exc
    names = {"service.name": "medreward", "service.version": medreward.__version__}
    # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win over these.
    resource = Resource.create({**names, "medreward.role": role})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=EXPORT_TIMEOUT_S)))
    trace.set_tracer_provider(provider)
    try:
        yield
    finally:
        # In a daemon thread, since `shutdown` may wait for longer than this: a collector that hangs
        # must not keep the process from ending.
        shutdown = threading.Thread(target=provider.shutdown, name="traces", daemon=True)
        shutdown.start()
        shutdown.join(EXPORT_TIMEOUT_S)


def request_span(method: str, headers: Mapping[str, str]) -> AbstractContextManager[Span]:
    """Start the span of one request, below the `traceparent` of its caller."""
    context = propagate.extract(headers)
    return _tracer.start_as_current_span(
        method, context=context, kind=SpanKind.SERVER, record_exception=False
    )


def end_request(span: Span, *, method: str, route: str, code: int) -> None:
    """Record the outcome of a request in its span: its route, which is one of few, not its path."""
    if not span.is_recording():
        return
    span.update_name(f"{method} {route}")
    span.set_attributes(
        {"http.request.method": method, "http.route": route, "http.response.status_code": code}
    )
    if code >= SERVER_ERROR:
        span.set_status(Status(StatusCode.ERROR))
        span.set_attribute("error.type", str(code))


def batch_span(
    role: Literal["judge", "embedder"], identity: str, questions: int
) -> AbstractContextManager[Span]:
    """Start the span of one batch that is sent to an engine.

    Its parent is the request that started the batch, but it may contain other requests' questions.
    """
    operation = OPERATIONS[role]
    attributes: dict[str, str | int] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": "medreward",
        "gen_ai.request.model": identity,
        "medreward.batch.size": questions,
    }
    return _tracer.start_as_current_span(
        f"{operation} {role}", kind=SpanKind.CLIENT, attributes=attributes, record_exception=False
    )


def carried() -> Mapping[str, str]:
    """Return the headers by which another service makes its spans children of the current one."""
    headers: MutableMapping[str, str] = {}
    propagate.inject(headers)
    return headers


def record_evaluations(
    name: str, total: int, each: Iterable[Mapping[str, str | float]], seconds: Mapping[str, float]
) -> None:
    """Record the first of a request's *total* evaluations, under its recipe's or template's name.

    *each* yields attributes without their prefix, such as `score.value`, and is read only as far as
    it is recorded. *seconds* are the request's, by stage.
    """
    span = trace.get_current_span()
    if not span.is_recording():
        return
    span.set_attributes({f"medreward.stage.{stage}_s": s for stage, s in seconds.items()})
    span.set_attribute("medreward.evaluations", total)
    span.set_attribute("medreward.evaluations.left_out", max(0, total - MOST_EVENTS))
    for attributes in islice(each, MOST_EVENTS):
        named = {f"gen_ai.evaluation.{key}": value for key, value in attributes.items()}
        # `error.type` is a general attribute of OpenTelemetry, without a prefix.
        if "error.type" in attributes:
            named["error.type"] = named.pop("gen_ai.evaluation.error.type")
        span.add_event("gen_ai.evaluation.result", {"gen_ai.evaluation.name": name, **named})
