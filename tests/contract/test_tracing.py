"""Spans as a collector gets them: of requests and batches, and without a word of what samples say."""

import json
import re
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from medreward.telemetry.tracing import MOST_EVENTS
from tests.support.collector import Collector
from tests.support.process import Service, serving
from tests.support.wait import wait_until

SPAN_ID = "b7ad6b7169203331"
SCRIPTED = {"judge": "scripted", "embedder": "hashed", "log_level": "info"}
SECRET_WORDS = ("zebrafish", "okapi", "quokka")


class Traced:
    """A real service that sends its spans to a collector, and a caller that traces itself."""

    def __init__(self, collector: Collector, service: Service) -> None:
        self.collector = collector
        self.service = service
        self.trace_id = uuid4().hex

    def post(self, path: str, body: object = None) -> httpx.Response:
        """Send a request as a part of this trace."""
        parent = {"traceparent": f"00-{self.trace_id}-{SPAN_ID}-01"}
        return httpx.post(f"{self.service.url}{path}", json=body, headers=parent, timeout=120)

    def score(self, *samples: dict[str, str]) -> dict[str, Any]:
        """Score samples; returns the reply."""
        reply = self.post("/reward", {"samples": samples})
        assert reply.status_code == 200
        told: dict[str, Any] = reply.json()
        return told

    def spans(self, until: str = "POST /reward") -> list[Any]:
        """Every span of this trace, once the one named *until*, its last, has come."""
        wait_until(lambda: any(s.name == until for s in self.collector.spans(self.trace_id)))
        return self.collector.spans(self.trace_id)

    def request(self) -> Any:
        """The span of the trace's only request."""
        (found,) = [span for span in self.spans() if span.name == "POST /reward"]
        return found


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Collector, Service]]:
    """A collector, and a service that sends its spans there at once."""
    collector = Collector()
    with pytest.MonkeyPatch.context() as patch, collector.listening() as url:
        exports_to(url, patch)
        with serving(None, traces=True, **SCRIPTED) as service:
            yield collector, service


@pytest.fixture
def traced(running: tuple[Collector, Service]) -> Traced:
    """The same with a trace that no other test has."""
    return Traced(*running)


def exports_to(url: str, patch: pytest.MonkeyPatch) -> None:
    """Let services that are started from now on send their spans to *url*, ten times a second."""
    patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
    patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")


def attributes(of: Any) -> dict[str, Any]:
    """The attributes of a span or an event."""
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in of.attributes}


def sample(number: int, reference: str = "okapi") -> dict[str, str]:
    """A sample with words that nothing else has."""
    return {
        "question": "quokka?",
        "response": f"<answer>zebrafish {number}</answer>",
        "reference": reference,
    }


def test_a_request_is_a_span_with_its_evaluations(traced: Traced) -> None:
    """Below its caller's, with route and status, each reward, and each reason that there is none."""
    told = traced.score(sample(1), sample(2), sample(3, reference=" "))

    request = traced.request()
    facts = attributes(request)
    assert request.parent_span_id.hex() == SPAN_ID
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
    lines = [json.loads(x) for x in traced.service.stderr.splitlines() if traced.trace_id in x]
    assert [line["span_id"] for line in lines if line["event"] == "request"] == [
        request.span_id.hex()
    ]


def test_batches_hang_below_the_request_that_began_them(traced: Traced) -> None:
    """As calls of a model, with its identity and their size."""
    traced.score(sample(11), sample(12))

    request = traced.request()
    batches = {span.name: span for span in traced.spans() if span != request}
    assert batches.keys() == {"chat judge", "embeddings embedder"}
    facts = attributes(batches["chat judge"])
    assert facts["gen_ai.operation.name"] == "chat"
    assert facts["gen_ai.request.model"] == "scripted"
    assert facts["medreward.batch.size"] == 2
    assert {s.parent_span_id for s in batches.values()} == {request.span_id}


def test_no_span_holds_a_word_of_a_sample(traced: Traced) -> None:
    """Neither of a question, a response nor a reference; also not of a path that there is not."""
    traced.post("/zebrafish?q=okapi")
    traced.post("/judge", {"items": [{"answer": "quokka", "reference": 7}]})
    traced.score(*[sample(20 + n) for n in range(5)])

    assert len(traced.spans()) >= 5
    for body in traced.collector.bodies:
        assert not any(word.encode() in body for word in SECRET_WORDS)


def test_a_step_of_thousands_is_told_in_part(traced: Traced) -> None:
    """With the number of those left out."""
    traced.score(*[sample(1000 + n) for n in range(300)])

    request = traced.request()
    assert len(request.events) == MOST_EVENTS
    assert attributes(request)["medreward.evaluations.left_out"] == 300 - MOST_EVENTS


@pytest.mark.parametrize("trouble", ["refuses", "hangs", "is away"])
def test_a_collector_in_trouble_costs_no_reward(
    trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does the service wait for it at its end."""
    collector = Collector(503 if trouble == "refuses" else 200, hangs=trouble == "hangs")
    with collector.listening() as url:
        exports_to("http://127.0.0.1:9" if trouble == "is away" else url, monkeypatch)
        with serving(None, traces=True, **SCRIPTED) as service:
            for n in range(5):
                assert Traced(collector, service).score(sample(n))["counts"]["scored"] == 1
            wait_until(lambda: collector.bodies or trouble == "is away")
            code = service.stop()

    assert code == 0
    assert not any(word in service.stderr for word in SECRET_WORDS)


def test_nothing_is_sent_unless_it_is_turned_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable of OpenTelemetry's alone does not."""
    collector = Collector()
    with collector.listening() as url:
        exports_to(url, monkeypatch)
        with serving(None, traces=False, **SCRIPTED) as service:
            caller = Traced(collector, service)
            caller.score(sample(1))
            service.stop()

    assert collector.bodies == []
    assert not re.search(rf'"trace_id": "(?!{caller.trace_id})', service.stderr)
