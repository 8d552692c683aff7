"""Prometheus metrics: base units, closed labels, no text. One registry for each app, none global.

A metric is a field of `Metrics`. One with labels is indexed by them: `metrics.cache[role, tier,
"hit"].inc()`, or `metrics.rejected[reason].inc()` if there is one.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any, Generic, Literal, TypeVar, cast

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

import medreward
from medreward.telemetry.histogram import Distribution

LATENCY_BUCKETS_S = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25),
    *(0.5, 1, 2.5, 5, 10, 30, 120),
)
SHARE_BUCKETS = tuple(tenths / 10 for tenths in range(11))
MARGIN_BUCKETS = (-16, -8, -4, -2, -1, -0.5, 0, 0.5, 1, 2, 4, 8, 16)
"""Buckets of the log odds of YES, in natural logarithms: 2 is seven to one."""
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

M = TypeVar("M", bound=Counter | Gauge | Histogram)


class Labelled(dict[str | tuple[str, ...], M], Generic[M]):
    """The children of a metric by labels; prometheus-client's own look-up takes ten times as long."""

    def __init__(self, metric: M) -> None:
        super().__init__()
        self.metric: M = metric

    def __missing__(self, labels: str | tuple[str, ...]) -> M:
        names = (labels,) if isinstance(labels, str) else labels
        child = self[labels] = cast("M", self.metric.labels(*names))
        return child


def _field(kind: type[Any], name: str, text: str, *labels: str, **options: Any) -> Any:
    """Declare a metric of the library; `Metrics` registers it."""

    def make() -> Any:
        metric: Any = kind(name, text, labels, registry=None, **options)
        return Labelled(metric) if labels else metric

    return field(default_factory=make, init=False)


counter = partial(_field, Counter)
gauge = partial(_field, Gauge)


def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Any:
    """Declare a histogram of single values."""
    return _field(Histogram, name, text, *labels, buckets=buckets)


def distribution(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Any:
    """Declare a histogram that observes all values of a request at once."""
    return field(default_factory=lambda: Distribution(name, text, labels, buckets), init=False)


@dataclass(frozen=True)
class Metrics:
    """All metrics of one process, with its role."""

    role: str = "all"
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    requests: Labelled[Counter] = counter(
        "medreward_http_requests",
        "Requests answered, by route, method and status code.",
        *("route", "method", "code"),
    )
    request_seconds: Distribution = distribution(
        "medreward_http_request_duration_seconds",
        "Time from a request's first byte to its reply.",
        LATENCY_BUCKETS_S,
        "route",
    )
    in_flight: Gauge = gauge("medreward_inflight_requests", "Requests that hold a permit.")
    in_flight_questions: Gauge = gauge(
        "medreward_inflight_questions", "Questions of all requests that hold a permit."
    )
    in_flight_bytes: Gauge = gauge(
        "medreward_inflight_bytes",
        "Memory of the bodies of those requests, and of unread replies, by estimate.",
    )
    ready: Gauge = gauge("medreward_ready", "1 while readiness says yes.")
    log_lines_dropped: Counter = counter(
        "medreward_log_lines_dropped", "Log lines dropped, since nobody read the log."
    )
    draining: Gauge = gauge("medreward_draining", "1 since this process was told to end.")
    rejected: Labelled[Counter] = counter(
        "medreward_admission_rejected", "Requests turned away at ingress.", "reason"
    )
    stage_seconds: Distribution = distribution(
        "medreward_stage_duration_seconds",
        "Time a request spent in a stage that it came to.",
        LATENCY_BUCKETS_S,
        "stage",
    )
    queue_depth: Labelled[Gauge] = gauge(
        "medreward_queue_depth", "Questions that wait for their batch.", "role"
    )
    queue_wait: Labelled[Histogram] = histogram(
        "medreward_queue_wait_seconds",
        "The longest that one of a request's questions waited for its batch.",
        LATENCY_BUCKETS_S,
        "role",
    )
    batch_size: Labelled[Histogram] = histogram(
        "medreward_batch_size", "Questions put to an engine at once.", BATCH_BUCKETS, "role"
    )
    engine_seconds: Labelled[Histogram] = histogram(
        "medreward_backend_request_duration_seconds",
        "Time an engine took for one batch.",
        LATENCY_BUCKETS_S,
        "role",
    )
    prompt_tokens: Labelled[Counter] = counter(
        "medreward_judge_prompt_tokens",
        "Tokens of prompts judged in this process by vLLM: computed, or found in its prefix cache.",
        "source",
    )
    cache: Labelled[Counter] = counter(
        "medreward_cache_requests", "Look-ups in the score cache.", "role", "tier", "result"
    )
    answer_cache_bytes: Labelled[Gauge] = gauge(
        "medreward_answer_cache_bytes", "Memory of the cached answers, by estimate.", "role"
    )
    text_cache_bytes: Gauge = gauge(
        "medreward_text_cache_bytes",
        "Memory of the samples and texts that rules and guards have analysed, by estimate.",
    )
    engine_ready: Labelled[Gauge] = gauge(
        "medreward_backend_ready",
        "1 while an engine answers; 0 while it loads, or has gone.",
        "role",
    )
    load_seconds: Labelled[Gauge] = gauge(
        "medreward_model_load_seconds", "Time it took to load an engine and warm it up.", "role"
    )
    model_info: Labelled[Gauge] = gauge(
        "medreward_model_info",
        "1 for each engine that is loaded.",
        *("role", "engine", "model", "revision"),
    )
    build_info: Labelled[Gauge] = gauge(
        "medreward_build_info", "1, for this version in this role.", "version", "role"
    )
    judge_exam: Labelled[Gauge] = gauge(
        "medreward_judge_exam",
        "Balanced accuracy of the judge in its exam, by what it was examined in and the outcome.",
        *("scope", "status"),
    )
    samples: Labelled[Counter] = counter(
        "medreward_samples", "Samples and items answered, by what became of them.", "status"
    )
    unscored: Labelled[Counter] = counter(
        "medreward_unscored", "Samples and items without a score, by the kind of problem.", "kind"
    )
    judge_calls: Counter = counter("medreward_judge_calls", "Questions put to the judge.")
    judge_tokens: Labelled[Counter] = counter(
        "medreward_judge_tokens",
        "Tokens that a judge behind a server counted, by direction.",
        "direction",
    )
    judge_cost: Counter = counter(
        "medreward_judge_cost", "What those tokens cost, in the money of the settings' prices."
    )
    verdicts: Labelled[Counter] = counter(
        "medreward_verdicts", "What the judge or a rule said, by sample.", "verdict"
    )
    reward_range: Labelled[Gauge] = gauge(
        "medreward_reward_range",
        "The least and the greatest reward of each recipe.",
        *("recipe", "end"),
    )
    rewards: Distribution = distribution(
        "medreward_reward",
        "Rewards given, mapped from the recipe's range to 0..1.",
        SHARE_BUCKETS,
        "recipe",
    )
    components: Distribution = distribution(
        "medreward_component",
        "Values of the signals before their weights, mapped from their ranges to 0..1.",
        SHARE_BUCKETS,
        *("recipe", "component"),
    )
    margins: Distribution = distribution(
        "medreward_verdict_margin",
        "Logarithm of the judge's odds of YES, of each verdict that it gave.",
        MARGIN_BUCKETS,
        "recipe",
    )
    redis_seconds: Labelled[Histogram] = histogram(
        "medreward_redis_operation_duration_seconds",
        "Time Redis took for one round trip, also one that failed.",
        LATENCY_BUCKETS_S,
        "operation",
    )
    redis_dropped: Labelled[Counter] = counter(
        "medreward_redis_writes_dropped", "Answers that were not written to Redis.", "reason"
    )
    single_flight: Labelled[Counter] = counter(
        "medreward_single_flight",
        "Questions claimed among replicas, by what came of it.",
        *("role", "result"),
    )
    redis_open: Gauge = gauge(
        "medreward_redis_breaker_open", "1 while Redis does not answer and is left alone."
    )
    redis_buffered: Gauge = gauge(
        "medreward_redis_writes_waiting", "Answers that wait to be written to Redis."
    )
    cascade_inquiries: Labelled[Counter] = counter(
        "medreward_cascade_inquiries",
        "Inquiries answered where there are two engines, by which of them did.",
        "answered_by",
    )
    cascade_seconds: Labelled[Counter] = counter(
        "medreward_cascade_seconds",
        "Seconds that each of two engines took for its share of the batches.",
        "answered_by",
    )
    cascade_agreement: Labelled[Counter] = counter(
        "medreward_cascade_agreement",
        "Sure answers of the first engine that were put to the second, by its verdict.",
        "agrees",
    )
    runs_watched: Gauge = gauge(
        "medreward_runs_watched", "Training runs of which a report is kept."
    )
    run_alerts: Labelled[Counter] = counter(
        "medreward_run_alerts", "Alerts raised about training runs.", "kind"
    )
    disagreements: Labelled[Counter] = counter(
        "medreward_judge_embedder_disagreement",
        "Samples of runs to which one of the two alone said yes.",
        "kind",
    )
    run_groups: Labelled[Counter] = counter(
        "medreward_run_groups",
        "Groups of runs' samples, by whether their rewards differ.",
        "variance",
    )

    def __post_init__(self) -> None:
        ProcessCollector(registry=self.registry)
        for declared in fields(self):
            if not declared.init:
                metric = getattr(self, declared.name)
                self.registry.register(metric.metric if isinstance(metric, Labelled) else metric)
        self.build_info[medreward.__version__, self.role].set(1)

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def count_prompt_tokens(self, tokens: int, found: int) -> None:
        """Count the tokens of one prompt, *found* of them in the prefix cache."""
        self.prompt_tokens["computed"].inc(tokens - found)
        self.prompt_tokens["prefix_cache"].inc(found)

    def count_judge_usage(self, prompt_tokens: int, completion_tokens: int, cost: float) -> None:
        """Count the tokens of one reply of a paid judge, and their cost."""
        self.judge_tokens["prompt"].inc(prompt_tokens)
        self.judge_tokens["completion"].inc(completion_tokens)
        self.judge_cost.inc(cost)

    @contextmanager
    def time_redis(
        self, operation: Literal["get", "put", "claim", "wait", "renew"]
    ) -> Iterator[None]:
        """Time one round trip, including one that fails."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.redis_seconds[operation].observe(time.perf_counter() - started)
