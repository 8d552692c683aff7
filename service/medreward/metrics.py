"""Prometheus metrics: base units, closed labels, no text. One registry for each app, none global."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

import medreward

LATENCY_BUCKETS_S = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
    5,
    10,
    30,
    120,
)
SHARE_BUCKETS = tuple(tenths / 10 for tenths in range(11))
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """Everything the service counts and times."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._http(self.registry)
        self._stages(self.registry)
        self._scores(self.registry)

    def _http(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "medreward_http_requests",
            "Requests answered, by route, method and status code.",
            ["route", "method", "code"],
            registry=registry,
        )
        self._request_seconds = Histogram(
            "medreward_http_request_duration_seconds",
            "Time from a request's first byte to its reply.",
            ["route"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self._in_flight = Gauge(
            "medreward_inflight_requests", "Requests that hold a permit.", registry=registry
        )
        self._in_flight_questions = Gauge(
            "medreward_inflight_questions",
            "Questions of all requests that hold a permit.",
            registry=registry,
        )
        self._rejected = Counter(
            "medreward_admission_rejected",
            "Requests turned away at ingress.",
            ["reason"],
            registry=registry,
        )

    def _stages(self, registry: CollectorRegistry) -> None:
        self._stage_seconds = Histogram(
            "medreward_stage_duration_seconds",
            "Time a request spent in a stage.",
            ["stage"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self._queue_depth = Gauge(
            "medreward_queue_depth",
            "Questions that wait for their batch.",
            ["role"],
            registry=registry,
        )
        self._batch_size = Histogram(
            "medreward_batch_size",
            "Questions put to an engine at once.",
            ["role"],
            buckets=BATCH_BUCKETS,
            registry=registry,
        )
        self._engine_seconds = Histogram(
            "medreward_backend_request_duration_seconds",
            "Time an engine took for one batch.",
            ["role"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self._cache = Counter(
            "medreward_cache_requests",
            "Look-ups in the score cache.",
            ["role", "tier", "result"],
            registry=registry,
        )
        self._load_seconds = Gauge(
            "medreward_model_load_seconds",
            "Time it took to load an engine and warm it up.",
            ["role"],
            registry=registry,
        )
        self._model_info = Gauge(
            "medreward_model_info",
            "1 for each engine that is loaded.",
            ["role", "engine", "model", "revision"],
            registry=registry,
        )
        Gauge(
            "medreward_build_info", "1, for this version.", ["version"], registry=registry
        ).labels(medreward.__version__).set(1)

    def _scores(self, registry: CollectorRegistry) -> None:
        self._samples = Counter(
            "medreward_samples",
            "Samples and items answered, by what became of them.",
            ["status"],
            registry=registry,
        )
        self._unscored = Counter(
            "medreward_unscored",
            "Samples and items without a score, by the kind of problem.",
            ["kind"],
            registry=registry,
        )
        self._judge_calls = Counter(
            "medreward_judge_calls", "Questions put to the judge.", registry=registry
        )
        self._judge_tokens = Counter(
            "medreward_judge_tokens",
            "Tokens that a judge behind a server counted, by direction.",
            ["direction"],
            registry=registry,
        )
        self._judge_cost = Counter(
            "medreward_judge_cost",
            "What those tokens cost, in the money of the settings' prices.",
            registry=registry,
        )
        self._verdicts = Counter(
            "medreward_verdicts",
            "What the judge or a rule said, by sample.",
            ["verdict"],
            registry=registry,
        )
        self._rewards = Histogram(
            "medreward_reward",
            "Rewards given.",
            ["recipe"],
            buckets=SHARE_BUCKETS,
            registry=registry,
        )
        self._components = Histogram(
            "medreward_component",
            "Values of the signals, before their weights.",
            ["recipe", "component"],
            buckets=SHARE_BUCKETS,
            registry=registry,
        )

    def exposition(self) -> bytes:
        """Write everything in Prometheus' text format."""
        return generate_latest(self.registry)

    def observe_request(self, route: str, method: str, code: int, seconds: float) -> None:
        """Count and time one HTTP request."""
        self._requests.labels(route, method, str(code)).inc()
        self._request_seconds.labels(route).observe(seconds)

    def watch_load(self, requests: Callable[[], float], questions: Callable[[], float]) -> None:
        """Read what is in flight whenever somebody looks."""
        self._in_flight.set_function(requests)
        self._in_flight_questions.set_function(questions)

    def count_rejected(self, reason: str) -> None:
        """Count a request turned away."""
        self._rejected.labels(reason).inc()

    def observe_stages(self, seconds_by_stage: Mapping[str, float]) -> None:
        """Time what one request spent in each stage."""
        for stage, seconds in seconds_by_stage.items():
            self._stage_seconds.labels(stage).observe(seconds)

    def watch_queue(self, role: str, depth: Callable[[], float]) -> None:
        """Read a queue's depth whenever somebody looks."""
        self._queue_depth.labels(role).set_function(depth)

    @contextmanager
    def time_engine(self, role: str, questions: int) -> Iterator[None]:
        """Time one batch, also one that fails."""
        self._batch_size.labels(role).observe(questions)
        if role == "judge":
            self._judge_calls.inc(questions)
        started = time.perf_counter()
        try:
            yield
        finally:
            self._engine_seconds.labels(role).observe(time.perf_counter() - started)

    def count_cache(self, role: str, *, hits: int = 0, misses: int = 0, errors: int = 0) -> None:
        """Count look-ups in the memory tier."""
        for result, count in (("hit", hits), ("miss", misses), ("error", errors)):
            self._cache.labels(role, "memory", result).inc(count)

    def observe_model(
        self, role: str, *, engine: str, model: str, revision: str, load_s: float
    ) -> None:
        """Say which model an engine runs and how long it took to load."""
        self._model_info.labels(role, engine, model, revision).set(1)
        self._load_seconds.labels(role).set(load_s)

    def count_judge_usage(self, prompt_tokens: int, completion_tokens: int, cost: float) -> None:
        """Count the tokens of one reply, and their cost."""
        self._judge_tokens.labels("prompt").inc(prompt_tokens)
        self._judge_tokens.labels("completion").inc(completion_tokens)
        self._judge_cost.inc(cost)

    def count_verdict(self, verdict: str) -> None:
        """Count one sample's verdict: yes, no, unparseable or error."""
        self._verdicts.labels(verdict).inc()

    def observe_score(self, status: str, problem_kind: str | None = None) -> None:
        """Count what became of one sample or item."""
        self._samples.labels(status).inc()
        if problem_kind is not None:
            self._unscored.labels(problem_kind).inc()

    def observe_reward(self, recipe: str, reward: float) -> None:
        """Add one reward to the distribution."""
        self._rewards.labels(recipe).observe(reward)

    def observe_component(self, recipe: str, component: str, value: float) -> None:
        """Add one signal's value to its distribution."""
        self._components.labels(recipe, component).observe(value)
