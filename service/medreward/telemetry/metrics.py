"""Prometheus metrics: base units, closed labels, no text. One registry for each app, none global."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, TypeVar

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
MARGIN_BUCKETS = (-16, -8, -4, -2, -1, -0.5, 0, 0.5, 1, 2, 4, 8, 16)
"""Of the odds of YES, in natural logarithms: 2 is seven to one."""
LONGEST_MARGIN = 20.0
"""A judge that is surer than two thousand million to one says no more by it."""
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


M = TypeVar("M", bound=Counter | Gauge | Histogram)


class _ByLabels(dict[tuple[str, ...], M]):
    """The children of a metric by their labels: prometheus-client takes ten times as long."""

    def __init__(self, metric: M) -> None:
        super().__init__()
        self._metric: M = metric

    def __missing__(self, labels: tuple[str, ...]) -> M:
        child: M = self._metric.labels(*labels)  # type: ignore[assignment]
        self[labels] = child
        return child


class Metrics:
    """Everything the service counts and times, in one of its roles."""

    def __init__(self, role: str = "all") -> None:
        self._role = role
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._http(self.registry)
        self._stages(self.registry)
        self._engines(self.registry)
        self._scores(self.registry)
        self._rewards_given(self.registry)
        self._redis(self.registry)
        self._cascade(self.registry)
        self._watching(self.registry)

    def _http(self, registry: CollectorRegistry) -> None:
        self._requests = _ByLabels(
            Counter(
                "medreward_http_requests",
                "Requests answered, by route, method and status code.",
                ["route", "method", "code"],
                registry=registry,
            )
        )
        self._request_seconds = Distribution(
            "medreward_http_request_duration_seconds",
            "Time from a request's first byte to its reply.",
            ["route"],
            LATENCY_BUCKETS_S,
        )
        registry.register(self._request_seconds)
        self._in_flight = Gauge(
            "medreward_inflight_requests", "Requests that hold a permit.", registry=registry
        )
        self._in_flight_questions = Gauge(
            "medreward_inflight_questions",
            "Questions of all requests that hold a permit.",
            registry=registry,
        )
        self._ready = Gauge("medreward_ready", "1 while readiness says yes.", registry=registry)
        self._draining = Gauge(
            "medreward_draining", "1 since this process was told to end.", registry=registry
        )
        self._rejected = _ByLabels(
            Counter(
                "medreward_admission_rejected",
                "Requests turned away at ingress.",
                ["reason"],
                registry=registry,
            )
        )

    def _stages(self, registry: CollectorRegistry) -> None:
        self._stage_seconds = Distribution(
            "medreward_stage_duration_seconds",
            "Time a request spent in a stage that it came to.",
            ["stage"],
            LATENCY_BUCKETS_S,
        )
        registry.register(self._stage_seconds)
        self._queue_depth = _ByLabels(
            Gauge(
                "medreward_queue_depth",
                "Questions that wait for their batch.",
                ["role"],
                registry=registry,
            )
        )
        self._queue_wait = _ByLabels(
            Histogram(
                "medreward_queue_wait_seconds",
                "The longest that one of a request's questions waited for its batch.",
                ["role"],
                buckets=LATENCY_BUCKETS_S,
                registry=registry,
            )
        )
        self._batch_size = _ByLabels(
            Histogram(
                "medreward_batch_size",
                "Questions put to an engine at once.",
                ["role"],
                buckets=BATCH_BUCKETS,
                registry=registry,
            )
        )
        self._engine_seconds = _ByLabels(
            Histogram(
                "medreward_backend_request_duration_seconds",
                "Time an engine took for one batch.",
                ["role"],
                buckets=LATENCY_BUCKETS_S,
                registry=registry,
            )
        )

    def _engines(self, registry: CollectorRegistry) -> None:
        self._prompt_tokens = Counter(
            "medreward_judge_prompt_tokens",
            "Tokens of prompts judged in this process by vLLM: computed, or found in its prefix cache.",
            ["source"],
            registry=registry,
        )
        self._cache = _ByLabels(
            Counter(
                "medreward_cache_requests",
                "Look-ups in the score cache.",
                ["role", "tier", "result"],
                registry=registry,
            )
        )
        self._engine_ready = _ByLabels(
            Gauge(
                "medreward_backend_ready",
                "1 while an engine answers; 0 while it loads, or has gone.",
                ["role"],
                registry=registry,
            )
        )
        self._load_seconds = _ByLabels(
            Gauge(
                "medreward_model_load_seconds",
                "Time it took to load an engine and warm it up.",
                ["role"],
                registry=registry,
            )
        )
        self._model_info = _ByLabels(
            Gauge(
                "medreward_model_info",
                "1 for each engine that is loaded.",
                ["role", "engine", "model", "revision"],
                registry=registry,
            )
        )
        Gauge(
            "medreward_build_info",
            "1, for this version in this role.",
            ["version", "role"],
            registry=registry,
        ).labels(medreward.__version__, self._role).set(1)

    def _scores(self, registry: CollectorRegistry) -> None:
        self._samples = _ByLabels(
            Counter(
                "medreward_samples",
                "Samples and items answered, by what became of them.",
                ["status"],
                registry=registry,
            )
        )
        self._unscored = _ByLabels(
            Counter(
                "medreward_unscored",
                "Samples and items without a score, by the kind of problem.",
                ["kind"],
                registry=registry,
            )
        )
        self._judge_calls = Counter(
            "medreward_judge_calls", "Questions put to the judge.", registry=registry
        )
        self._judge_tokens = _ByLabels(
            Counter(
                "medreward_judge_tokens",
                "Tokens that a judge behind a server counted, by direction.",
                ["direction"],
                registry=registry,
            )
        )
        self._judge_cost = Counter(
            "medreward_judge_cost",
            "What those tokens cost, in the money of the settings' prices.",
            registry=registry,
        )
        self._verdicts = _ByLabels(
            Counter(
                "medreward_verdicts",
                "What the judge or a rule said, by sample.",
                ["verdict"],
                registry=registry,
            )
        )

    def _rewards_given(self, registry: CollectorRegistry) -> None:
        self._rewards = Distribution(
            "medreward_reward", "Rewards given.", ["recipe"], SHARE_BUCKETS
        )
        self._components = Distribution(
            "medreward_component",
            "Values of the signals, before their weights.",
            ["recipe", "component"],
            SHARE_BUCKETS,
        )
        self._margins = Distribution(
            "medreward_verdict_margin",
            "Logarithm of the judge's odds of YES, of each verdict that it gave.",
            ["recipe"],
            MARGIN_BUCKETS,
        )
        registry.register(self._rewards)
        registry.register(self._components)
        registry.register(self._margins)

    def _redis(self, registry: CollectorRegistry) -> None:
        self._redis_seconds = Histogram(
            "medreward_redis_operation_duration_seconds",
            "Time Redis took for one round trip, also one that failed.",
            ["operation"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self._redis_dropped = Counter(
            "medreward_redis_writes_dropped",
            "Answers that were not written to Redis.",
            ["reason"],
            registry=registry,
        )
        self._single_flight = Counter(
            "medreward_single_flight",
            "Questions claimed among replicas, by what came of it.",
            ["role", "result"],
            registry=registry,
        )
        self._redis_open = Gauge(
            "medreward_redis_breaker_open",
            "1 while Redis does not answer and is left alone.",
            registry=registry,
        )
        self._redis_buffered = Gauge(
            "medreward_redis_writes_waiting",
            "Answers that wait to be written to Redis.",
            registry=registry,
        )

    def _cascade(self, registry: CollectorRegistry) -> None:
        self._cascade_inquiries = _ByLabels(
            Counter(
                "medreward_cascade_inquiries",
                "Inquiries answered where there are two engines, by which of them did.",
                ["answered_by"],
                registry=registry,
            )
        )
        self._cascade_agreement = _ByLabels(
            Counter(
                "medreward_cascade_agreement",
                "Sure answers of the first engine that were put to the second, by its verdict.",
                ["agrees"],
                registry=registry,
            )
        )

    def exposition(self) -> bytes:
        """Write everything in Prometheus' text format."""
        return generate_latest(self.registry)

    def observe_request(self, route: str, method: str, code: int, seconds: float) -> None:
        """Count and time one HTTP request."""
        self._requests[route, method, str(code)].inc()
        self._request_seconds.observe((route,), (seconds,))

    def watch_load(self, requests: Callable[[], float], questions: Callable[[], float]) -> None:
        """Read what is in flight whenever somebody looks."""
        self._in_flight.set_function(requests)
        self._in_flight_questions.set_function(questions)

    def watch_readiness(
        self, is_ready: Callable[[], float], is_draining: Callable[[], float]
    ) -> None:
        """Read whether the service is ready, or leaves, whenever somebody looks."""
        self._ready.set_function(is_ready)
        self._draining.set_function(is_draining)

    def observe_engine(self, role: str, *, is_ready: bool) -> None:
        """Note that an engine answers, or does not yet or no longer."""
        self._engine_ready[(role,)].set(is_ready)

    def observe_queue_wait(self, role: str, seconds: float) -> None:
        """Note how long one request's questions waited for their batch."""
        self._queue_wait[(role,)].observe(seconds)

    def count_rejected(self, reason: str) -> None:
        """Count a request turned away."""
        self._rejected[(reason,)].inc()

    def observe_stages(self, seconds_by_stage: Mapping[str, float]) -> None:
        """Time what one request spent in each stage."""
        for stage, seconds in seconds_by_stage.items():
            self._stage_seconds.observe((stage,), (seconds,))

    def watch_queue(self, role: str, depth: Callable[[], float]) -> None:
        """Read a queue's depth whenever somebody looks."""
        self._queue_depth[(role,)].set_function(depth)

    @contextmanager
    def time_engine(self, role: str, questions: int) -> Iterator[None]:
        """Time one batch, also one that fails."""
        self._batch_size[(role,)].observe(questions)
        if role == "judge":
            self._judge_calls.inc(questions)
        started = time.perf_counter()
        try:
            yield
        finally:
            self._engine_seconds[(role,)].observe(time.perf_counter() - started)

    def count_prompt_tokens(self, tokens: int, found: int) -> None:
        """Count the tokens of one prompt, and how many of them lay in the prefix cache."""
        self._prompt_tokens.labels("computed").inc(tokens - found)
        self._prompt_tokens.labels("prefix_cache").inc(found)

    def count_cache(self, role: str, *, hits: int = 0, misses: int = 0, errors: int = 0) -> None:
        """Count look-ups in the memory tier."""
        for result, count in (("hit", hits), ("miss", misses), ("error", errors)):
            if count:
                self._cache[role, "memory", result].inc(count)

    def observe_model(
        self, role: str, *, engine: str, model: str, revision: str, load_s: float
    ) -> None:
        """Say which model an engine runs and how long it took to load."""
        self._model_info[role, engine, model, revision].set(1)
        self._load_seconds[(role,)].set(load_s)

    def name_model(self, role: str, *, engine: str, model: str, revision: str) -> None:
        """Say which model an engine runs that was loaded along with another."""
        self._model_info[role, engine, model, revision].set(1)

    def count_cascade(self, *, first: int, second: int) -> None:
        """Count inquiries by which of two engines answered."""
        self._cascade_inquiries[("first",)].inc(first)
        self._cascade_inquiries[("second",)].inc(second)

    def count_agreement(self, *, agrees: bool) -> None:
        """Count one sure answer by whether the second engine says the same."""
        self._cascade_agreement[("yes" if agrees else "no",)].inc()

    def count_judge_usage(self, prompt_tokens: int, completion_tokens: int, cost: float) -> None:
        """Count the tokens of one reply, and their cost."""
        self._judge_tokens["prompt",].inc(prompt_tokens)
        self._judge_tokens["completion",].inc(completion_tokens)
        self._judge_cost.inc(cost)

    def count_verdicts(self, verdict: str, number: int) -> None:
        """Count samples by their verdict: yes, no, unparseable or error."""
        self._verdicts[(verdict,)].inc(number)

    def count_scores(self, status: str, number: int) -> None:
        """Count samples or items by what became of them."""
        self._samples[(status,)].inc(number)

    def count_unscored(self, problem_kind: str, number: int) -> None:
        """Count samples or items without a score by the reason."""
        self._unscored[(problem_kind,)].inc(number)

    def observe_rewards(self, recipe: str, rewards: Iterable[float]) -> None:
        """Add rewards to the distribution."""
        self._rewards.observe((recipe,), rewards)

    def observe_margins(self, recipe: str, p_yes: Iterable[float]) -> None:
        """Add how sure the judge was to the distribution."""
        self._margins.observe((recipe,), map(_log_odds, p_yes))

    def observe_component(self, recipe: str, component: str, values: Iterable[float]) -> None:
        """Add values of one signal to its distribution."""
        self._components.observe((recipe, component), values)

    def count_redis_reads(
        self,
        role: str,
        *,
        hits: int = 0,
        misses: int = 0,
        errors: int = 0,
        corrupt: int = 0,
        bypassed: int = 0,
    ) -> None:
        """Count look-ups in the Redis tier; bypassed are those while its circuit is open."""
        results = {"hit": hits, "miss": misses, "error": errors, "rubbish": corrupt}
        for result, count in (results | {"bypass": bypassed}).items():
            if count:
                self._cache[role, "redis", result].inc(count)

    def count_redis_dropped(self, reason: Literal["full", "refused", "closed"], count: int) -> None:
        """Count answers that Redis will not remember."""
        self._redis_dropped.labels(reason).inc(count)

    def count_single_flight(
        self,
        role: str,
        result: Literal["mine", "theirs", "found", "alone", "taken_over", "late"],
        count: int,
    ) -> None:
        """Count questions claimed: alone are those asked without a lease, as Redis was no help."""
        self._single_flight.labels(role, result).inc(count)

    @contextmanager
    def time_redis(
        self, operation: Literal["get", "put", "claim", "wait", "renew"]
    ) -> Iterator[None]:
        """Time one round trip, also one that fails."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._redis_seconds.labels(operation).observe(time.perf_counter() - started)

    def watch_redis(self, is_open: Callable[[], float], waiting: Callable[[], float]) -> None:
        """Read whether Redis is left alone, and what waits for it, whenever somebody looks."""
        self._redis_open.set_function(is_open)
        self._redis_buffered.set_function(waiting)

    def _watching(self, registry: CollectorRegistry) -> None:
        self._runs_watched = Gauge(
            "medreward_runs_watched", "Training runs of which a report is kept.", registry=registry
        )
        self._run_alerts = _ByLabels(
            Counter(
                "medreward_run_alerts",
                "Alerts raised about training runs.",
                ["kind"],
                registry=registry,
            )
        )
        self._disagreements = _ByLabels(
            Counter(
                "medreward_judge_embedder_disagreement",
                "Samples of runs to which one of the two alone said yes.",
                ["kind"],
                registry=registry,
            )
        )
        self._run_groups = _ByLabels(
            Counter(
                "medreward_run_groups",
                "Groups of runs' samples, by whether their rewards differ.",
                ["variance"],
                registry=registry,
            )
        )

    def watch_runs(self, runs: Callable[[], float]) -> None:
        """Read how many runs are watched whenever somebody looks."""
        self._runs_watched.set_function(runs)

    def count_run_alert(self, kind: str) -> None:
        """Count an alert that was not there before."""
        self._run_alerts[(kind,)].inc()

    def count_disagreements(self, kind: Literal["judge_only", "embedder_only"], count: int) -> None:
        """Count samples to which one of the two alone said yes."""
        if count:
            self._disagreements[(kind,)].inc(count)

    def count_groups(self, variance: Literal["none", "some"], count: int) -> None:
        """Count groups of a step that is over."""
        if count:
            self._run_groups[(variance,)].inc(count)


def _log_odds(share: float) -> float:
    """ln(p / (1 - p)), within `LONGEST_MARGIN` of 0."""
    if share <= 0.0 or share >= 1.0:
        return math.copysign(LONGEST_MARGIN, share - 0.5)
    return max(-LONGEST_MARGIN, min(LONGEST_MARGIN, math.log(share / (1.0 - share))))
