"""What spans cost: remembered samples scored with every request recorded, and with none, in turn.

usage: python benchmarks/tracing.py [--rounds 15] [--quick]

One process, one service, one provider of OpenTelemetry's SDK; a sampler decides by the round. What
is recorded goes to an exporter that throws it away: the collector's part is not measured. Prints CPU
microseconds a request (median of the rounds) and the ratio, for one sample and for 512.
"""

import asyncio
import gc
import statistics
import time
from collections.abc import Sequence
from typing import Any

import httpx
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from rich.table import Table

from figures import options, show
from medreward.app import create_app
from medreward.settings import Settings
from medreward.telemetry import logs

REQUESTS = {1: 200, 512: 6}
"""Of each size, in a round."""


class Nowhere(SpanExporter):
    """Throws spans away."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:  # noqa: ARG002 - the SDK's
        """Take them."""
        return SpanExportResult.SUCCESS


class Switch(Sampler):
    """Records everything, or nothing."""

    is_on = False

    def should_sample(self, *_: Any, **__: Any) -> SamplingResult:
        """Decide as it was told."""
        return SamplingResult(Decision.RECORD_AND_SAMPLE if self.is_on else Decision.DROP)

    def get_description(self) -> str:
        """Name it."""
        return "switch"


def body(samples: int) -> dict[str, Any]:
    """Give a request that is remembered from the second time on."""
    said = "<X_RAY><thinking>hm</thinking><answer>finding {}</answer>"
    return {
        "recipe": "medix-r1",
        "samples": [
            {"response": said.format(n), "reference": "effusion", "modality": "X_RAY"}
            for n in range(samples)
        ],
    }


async def measure(rounds: int) -> dict[int, dict[bool, list[float]]]:
    """CPU microseconds a request, by size and by whether it was recorded."""
    switch = Switch()
    provider = TracerProvider(sampler=switch)
    provider.add_span_processor(BatchSpanProcessor(Nowhere()))
    trace.set_tracer_provider(provider)
    app = create_app(Settings(judge="scripted", embedder="hashed"))
    spent: dict[int, dict[bool, list[float]]] = {s: {True: [], False: []} for s in REQUESTS}
    async with app.router.lifespan_context(app):
        while app.state.service.engines.status == "loading":  # noqa: ASYNC110 - asked from outside
            await asyncio.sleep(0.01)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            for number in range(rounds + 1):
                for size, requests in REQUESTS.items():
                    for is_on in (True, False) if number % 2 else (False, True):
                        switch.is_on = is_on
                        gc.collect()
                        began_s = time.process_time()
                        for _ in range(requests):
                            reply = await client.post("/reward", json=body(size))
                            assert reply.json()["counts"]["scored"] == size  # noqa: S101 - what is measured is right
                        took_s = time.process_time() - began_s
                        if number:
                            spent[size][is_on].append(1e6 * took_s / requests)
    return spent


def main() -> None:
    """Measure and print."""
    logs.configure("warning", "console")
    chosen = options(__doc__ or "", rounds=15).parse_args()
    spent = asyncio.run(measure(2 if chosen.quick else chosen.rounds))
    table = Table("samples", "recorded, µs", "left out, µs", "ratio", title="CPU of a request")
    for size, by in spent.items():
        ratio = statistics.median(on / off for on, off in zip(by[True], by[False], strict=True))
        on, off = statistics.median(by[True]), statistics.median(by[False])
        table.add_row(str(size), f"{on:,.0f}", f"{off:,.0f}", f"{ratio:.2f}")
    show(table)


if __name__ == "__main__":
    main()
