"""Spans as a collector gets them: of requests and batches, and without a word of what samples say."""

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from medreward.telemetry.tracing import MOST_EVENTS
from tests.service.cli.conftest import PROGRAM
from tests.service.cli.test_serve import Serving

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = {"traceparent": f"00-{TRACE_ID}-{SPAN_ID}-01"}
SECRET_WORDS = ("zebrafish", "okapi", "quokka")


class Collector:
    """An OTLP receiver that keeps what it gets; or refuses it, or never answers."""

    def __init__(self, status: int = 200, *, hangs: bool = False) -> None:
        self.bodies: list[bytes] = []
        self.closing = threading.Event()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.bodies.append(body)
                if hangs:
                    collector.closing.wait(30)
                self.send_response(status)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True

    @contextmanager
    def listening(self) -> Iterator[str]:
        """Listen; give the address."""
        thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{self._server.server_address[1]}"
        finally:
            self.closing.set()
            self._server.shutdown()
            thread.join()
            self._server.server_close()

    @property
    def spans(self) -> list[Any]:
        """Every span that came."""
        return [
            span
            for body in self.bodies
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


@contextmanager
def traced(collector: str, **more: str) -> Iterator[Serving]:
    """A real service that sends its spans there."""
    environment = {
        **os.environ,
        "MEDREWARD_JUDGE": "scripted",
        "MEDREWARD_EMBEDDER": "hashed",
        "MEDREWARD_RECIPE": "medix-r1",
        "MEDREWARD_TRACES": "true",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        **more,
    }
    with subprocess.Popen(  # noqa: S603 - our own program
        [*PROGRAM, "serve", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        service = Serving(process)
        try:
            service.read_welcome()
            yield service
        finally:
            process.kill()


def attributes(of: Any) -> dict[str, Any]:
    """Of a span or an event."""
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in of.attributes}


def sample(number: int, reference: str = "okapi") -> dict[str, str]:
    """One with words that nothing else has."""
    return {
        "question": "quokka?",
        "response": f"<answer>zebrafish {number}</answer>",
        "reference": reference,
    }


def score(service: Serving, samples: list[dict[str, str]]) -> dict[str, Any]:
    """Score some, as a caller that traces itself."""
    reply = httpx.post(
        f"{service.url}/reward", json={"samples": samples}, headers=PARENT, timeout=30
    )
    assert reply.status_code == 200
    told: dict[str, Any] = reply.json()
    return told


def test_a_request_is_a_span_with_its_evaluations() -> None:
    """Below its caller's, with route and status, each reward, and each reason that there is none."""
    collector = Collector()
    with collector.listening() as url, traced(url) as service:
        told = score(service, [sample(1), sample(2), sample(3, reference=" ")])
        code, log = service.stop(signal.SIGTERM)

    (request,) = [s for s in collector.spans if s.name == "POST /reward"]
    facts = attributes(request)
    assert code == 0
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (TRACE_ID, SPAN_ID)
    assert (facts["http.route"], facts["http.response.status_code"]) == ("/reward", 200)
    assert facts["medreward.evaluations"] == 3
    assert facts["medreward.stage.judge_s"] > 0
    events = [attributes(event) for event in request.events]
    assert {event.name for event in request.events} == {"gen_ai.evaluation.result"}
    assert {e["gen_ai.evaluation.name"] for e in events} == {"medix-r1"}
    rewards = [r["reward"] for r in told["results"]]
    assert [e.get("gen_ai.evaluation.score.value") for e in events] == rewards
    assert rewards[2] is None
    assert events[2]["error.type"] == "invalid_reference"
    # A line of the log leads to the span.
    (line,) = [json.loads(x) for x in log.splitlines() if '"request"' in x and "/reward" in x]
    assert line["trace_id"] == TRACE_ID
    assert line["span_id"] == request.span_id.hex()


def test_batches_hang_below_the_request_that_began_them() -> None:
    """As calls of a model, with its identity and their size."""
    collector = Collector()
    with collector.listening() as url, traced(url) as service:
        score(service, [sample(1), sample(2)])
        service.stop(signal.SIGTERM)

    request = next(s for s in collector.spans if s.name == "POST /reward")
    batches = {s.name: s for s in collector.spans if s.trace_id.hex() == TRACE_ID and s != request}
    assert batches.keys() == {"chat judge", "embeddings embedder"}
    facts = attributes(batches["chat judge"])
    assert facts["gen_ai.operation.name"] == "chat"
    assert facts["gen_ai.request.model"] == "scripted"
    assert facts["medreward.batch.size"] == 2
    assert {s.parent_span_id for s in batches.values()} == {request.span_id}


def test_no_span_holds_a_word_of_a_sample() -> None:
    """Neither of a question, a response nor a reference; also not of a path that there is not."""
    collector = Collector()
    with collector.listening() as url, traced(url) as service:
        score(service, [sample(n) for n in range(5)])
        httpx.post(f"{service.url}/zebrafish?q=okapi")
        httpx.post(f"{service.url}/judge", json={"items": [{"answer": "quokka", "reference": 7}]})
        service.stop(signal.SIGTERM)

    assert len(collector.spans) >= 5
    for body in collector.bodies:
        assert not any(word.encode() in body for word in SECRET_WORDS)


def test_a_step_of_thousands_is_told_in_part() -> None:
    """With the number of those left out."""
    collector = Collector()
    with collector.listening() as url, traced(url) as service:
        score(service, [sample(n) for n in range(300)])
        service.stop(signal.SIGTERM)

    (request,) = [s for s in collector.spans if s.name == "POST /reward"]
    assert len(request.events) == MOST_EVENTS
    assert attributes(request)["medreward.evaluations.left_out"] == 300 - MOST_EVENTS


@pytest.mark.parametrize("trouble", ["refuses", "hangs", "is away"])
def test_a_collector_in_trouble_costs_no_reward(trouble: str) -> None:
    """Nor the end of the service more than a few seconds."""
    collector = Collector(503 if trouble == "refuses" else 200, hangs=trouble == "hangs")
    with collector.listening() as url:
        where = "http://127.0.0.1:9" if trouble == "is away" else url
        with traced(where) as service:
            for n in range(5):
                assert score(service, [sample(n)])["counts"]["scored"] == 1
            time.sleep(0.3)
            began = time.monotonic()
            code, log = service.stop(signal.SIGTERM)
            took_s = time.monotonic() - began

    assert code == 0
    assert took_s < 20
    assert not any(word in log for word in SECRET_WORDS)


def test_nothing_is_sent_unless_it_is_turned_on() -> None:
    """A variable of OpenTelemetry's alone does not."""
    collector = Collector()
    with collector.listening() as url, traced(url, MEDREWARD_TRACES="false") as service:
        score(service, [sample(1)])
        _, log = service.stop(signal.SIGTERM)

    assert collector.bodies == []
    assert not re.search(r'"trace_id": "(?!0af7)', log)
