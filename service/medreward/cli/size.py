"""`medreward size`: how many replicas a training run needs, from numbers given or measured."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from prometheus_client.parser import text_string_to_metric_families
from rich.text import Text

from medreward._http import Client, reaching
from medreward.cli.tables import facts_grid, plain_table
from medreward.cli.terminal import CommandError, Misuse, messages, output, shown
from medreward.errors import EngineError

JUDGEMENT_BYTES = 140
EMBEDDING_BYTES = 2300
"""What Redis takes for an entry; of an embedding of 1,024 numbers."""
DEFAULT_API_RATE = 2000.0
"""Samples a second of one api process on one core: a fifth of what docs/benchmarks.md measured with
remote engines, since other cores are slower and other recipes do more."""

Part = Literal["judge", "embed", "api"]


@dataclass(frozen=True, slots=True)
class Step:
    """The work of one step of a run."""

    samples: int
    questions_per_sample: float
    """Put to the judge for each sample, after what is equal, remembered or settled by rules."""
    texts_per_sample: float
    """Embedded for each sample, likewise."""
    seconds: float
    """In which a step is to be scored, from its last rollout on."""
    spread_s: float = 0.0
    """Over which its rollouts arrive; 0 where they come all at once."""


@dataclass(frozen=True, slots=True)
class Rates:
    """What one replica does in a second when it does nothing else."""

    judge: float
    """Questions."""
    embed: float
    """Texts."""
    api: float = DEFAULT_API_RATE
    """Samples."""
    judge_batch_s: float = 0.0
    """Seconds of one batch: no step is faster."""
    embed_batch_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Size:
    """What it takes."""

    replicas: Mapping[Part, int]
    seconds: Mapping[Part, float]
    """From the last rollout until this part has done its own, with these replicas."""
    utilisation: Mapping[Part, float]
    """Share of the time that it is at work in, with a step each `spread_s + seconds`."""
    binds: Part
    """What takes longest."""
    redis_bytes_per_step: float

    @property
    def step_s(self) -> float:
        """From the last rollout to the last reward: the api before the engines, which run side by side."""
        return self.seconds["api"] + max(self.seconds["judge"], self.seconds["embed"])


def backlog_s(work: float, rate: float, spread_s: float, batch_s: float) -> float:
    """Seconds from the last arrival until *work* is done, where it arrives evenly over *spread_s*.

    A queue that is served at a constant rate: after `spread_s` what is left is
    `max(0, work - rate * spread_s)`, which takes as long as it does at that rate; and the last that
    arrives takes a batch. (Conservation of work; the deterministic fluid queue of Newell,
    Applications of Queueing Theory, 1982.)
    """
    if work <= 0:
        return 0.0
    return max(batch_s, work / rate - spread_s)


def replicas_for(
    work: float, rate: float, spread_s: float, seconds: float, utilisation: float
) -> int:
    """Give the fewest replicas that do *work* within the time at a share of their rate.

    The utilisation law: `replicas * rate * utilisation * time >= work`, with the time from the
    first arrival on (Lazowska et al., Quantitative System Performance, 1984, section 3.2).

    Raises:
        ValueError: no number of replicas does it: the rate, the time or the share is not above 0.
    """
    each = rate * utilisation * (spread_s + seconds)
    if not (each > 0 and math.isfinite(each)):
        raise ValueError("rate, seconds and utilisation have to be above 0")
    # What rounding leaves of a whole number is no reason for one more.
    return max(1, math.ceil(work / each - 1e-9))


def size(step: Step, rates: Rates, *, utilisation: float = 0.8, dimensions: int = 1024) -> Size:
    """Size every part for a step.

    Raises:
        ValueError: as `replicas_for`.
    """
    work: dict[Part, float] = {
        "judge": step.samples * step.questions_per_sample,
        "embed": step.samples * step.texts_per_sample,
        "api": float(step.samples),
    }
    rate: dict[Part, float] = {"judge": rates.judge, "embed": rates.embed, "api": rates.api}
    batch_s = {"judge": rates.judge_batch_s, "embed": rates.embed_batch_s, "api": 0.0}
    # The api has a tenth of the time: what it takes, the engines have to wait for.
    share = {"judge": 0.9, "embed": 0.9, "api": 0.1}
    replicas = {
        part: replicas_for(
            work[part], rate[part], step.spread_s, share[part] * step.seconds, utilisation
        )
        for part in work
    }
    seconds = {
        part: backlog_s(work[part], replicas[part] * rate[part], step.spread_s, batch_s[part])
        for part in work
    }
    period_s = step.spread_s + step.seconds
    return Size(
        replicas=replicas,
        seconds=seconds,
        utilisation={part: work[part] / (replicas[part] * rate[part]) / period_s for part in work},
        binds=max(work, key=lambda part: seconds[part]),
        redis_bytes_per_step=work["judge"] * JUDGEMENT_BYTES
        + work["embed"] * EMBEDDING_BYTES * dimensions / 1024,
    )


@dataclass(frozen=True, slots=True)
class Measured:
    """What a service's metrics tell of its past; None where it did nothing of the kind."""

    judge_rate: float | None = None
    embed_rate: float | None = None
    judge_batch_s: float | None = None
    embed_batch_s: float | None = None
    questions_per_sample: float | None = None
    texts_per_sample: float | None = None


def read_metrics(exposition: str, *, batches_at_once: int = 1) -> Measured:
    """Read rates off a service's `/metrics`, over all the time since it began.

    Questions of batches by the time of batches, times the batches that the engine works on at once;
    a time that a batch waits at the engine counts as work, so the rate is rather too low.
    """
    totals: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            key = (sample.name, sample.labels.get("role", ""))
            totals[key] = totals.get(key, 0.0) + sample.value

    def rate(role: str) -> float | None:
        questions = totals.get(("medreward_batch_size_sum", role))
        seconds = totals.get(("medreward_backend_request_duration_seconds_sum", role))
        return batches_at_once * questions / seconds if questions and seconds else None

    def batch_s(role: str) -> float | None:
        seconds = totals.get(("medreward_backend_request_duration_seconds_sum", role))
        batches = totals.get(("medreward_backend_request_duration_seconds_count", role))
        return seconds / batches if seconds and batches else None

    def per_sample(role: str) -> float | None:
        samples = totals.get(("medreward_samples_total", ""))
        questions = totals.get(("medreward_batch_size_sum", role))
        return questions / samples if samples and questions is not None else None

    return Measured(
        judge_rate=rate("judge"),
        embed_rate=rate("embedder"),
        judge_batch_s=batch_s("judge"),
        embed_batch_s=batch_s("embedder"),
        questions_per_sample=per_sample("judge"),
        texts_per_sample=per_sample("embedder"),
    )


TIMEOUT_S = 10.0
MOST_BYTES = 16 * 1024**2
PARTS: tuple[Part, ...] = ("judge", "embed", "api")
MIB = 1024**2


def print_size(
    *,
    metrics: Sequence[str],
    given: Mapping[str, float | None],
    samples: int,
    seconds: float,
    spread_s: float,
    utilisation: float,
    batches_at_once: int,
    as_json: bool,
) -> None:
    """Print how many replicas it takes; what is given wins over what is measured.

    Raises:
        Misuse: a rate is neither given nor measured.
        CommandError: the metrics cannot be had.
    """
    measured = [_measured(where, batches_at_once) for where in metrics]
    known = {
        name: _first(given.get(name), *(getattr(one, name) for one in measured)) for name in _FIELDS
    }
    missing = [option for name, option in NEEDED.items() if not known[name]]
    if missing:
        raise Misuse(
            f"{' and '.join(missing)}: give the rate of one replica, or measure it: --metrics with "
            "the address of a service that has scored a step (see docs/scaling.md)"
        )
    step = Step(
        samples=samples,
        questions_per_sample=_first(known["questions_per_sample"], 1.0) or 0.0,
        texts_per_sample=_first(known["texts_per_sample"], 1.0) or 0.0,
        seconds=seconds,
        spread_s=spread_s,
    )
    rates = Rates(
        judge=known["judge_rate"] or 0.0,
        embed=known["embed_rate"] or 0.0,
        judge_batch_s=known["judge_batch_s"] or 0.0,
        embed_batch_s=known["embed_batch_s"] or 0.0,
        api=_first(given.get("api_rate"), DEFAULT_API_RATE) or 0.0,
    )
    result = size(step, rates, utilisation=utilisation)
    if as_json:
        output().print_json(json.dumps(_as_json(step, rates, result)))
    else:
        _print_table(step, rates, result)


_FIELDS = (
    "judge_rate",
    "embed_rate",
    "judge_batch_s",
    "embed_batch_s",
    "questions_per_sample",
    "texts_per_sample",
)
NEEDED = {"judge_rate": "--judge-rate", "embed_rate": "--embed-rate"}


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)


def _measured(where: str, batches_at_once: int) -> Measured:
    if "://" not in where:
        where = f"http://{where}"
    url = where if where.rstrip("/").endswith("/metrics") else f"{where.rstrip('/')}/metrics"
    try:
        with reaching(), Client(timeout=TIMEOUT_S) as client:
            reply = client.get(url)
    except EngineError as exc:
        raise CommandError(f"{url}: {exc}") from exc
    if not reply.is_success or len(reply.content) > MOST_BYTES:
        raise CommandError(
            f"{url} answers {reply.status_code}: metrics are on the admin port where there is one"
        )
    try:
        found = read_metrics(reply.text, batches_at_once=batches_at_once)
    except ValueError as exc:
        raise CommandError(f"{url} holds no metrics of Prometheus' kind") from exc
    if found.questions_per_sample is None and found.judge_rate is None:
        messages().print(
            shown("the service has scored nothing yet; have it score a step", "yellow")
        )
    return found


def _print_table(step: Step, rates: Rates, result: Size) -> None:
    console = output()
    console.print(
        facts_grid(
            {
                "a step": f"{step.samples:,} samples, scored {step.seconds:g} s after the last",
                "rollouts arrive": "all at once"
                if step.spread_s == 0
                else f"evenly over {step.spread_s:g} s",
                "for each sample": f"{step.questions_per_sample:.3g} questions to the judge, "
                f"{step.texts_per_sample:.3g} texts to the embedder",
                "one replica": f"{rates.judge:,.4g} questions, {rates.embed:,.4g} texts, "
                f"{rates.api:,.4g} samples a second",
            }
        )
    )
    table = plain_table("part", "replicas", "seconds after the last rollout", "busy")
    for part in PARTS:
        table.add_row(
            Text(part, "bold" if part == result.binds else ""),
            str(result.replicas[part]),
            f"{result.seconds[part]:.2f}",
            f"{result.utilisation[part]:.0%}",
        )
    console.print(table)
    console.print(
        shown(
            f"A step is scored in about {result.step_s:.1f} s; the {result.binds} takes longest. "
            f"Redis grows by {result.redis_bytes_per_step / MIB:.1f} MiB a step, until its limit."
        )
    )
    if result.step_s > step.seconds:
        console.print(
            shown(
                f"That is over {step.seconds:g} s: one batch takes so long. Smaller batches, or a "
                "faster engine, not more replicas.",
                "yellow",
            )
        )


def _as_json(step: Step, rates: Rates, result: Size) -> dict[str, Any]:
    return {
        "replicas": dict(result.replicas),
        "seconds": dict(result.seconds),
        "utilisation": dict(result.utilisation),
        "binds": result.binds,
        "step_s": result.step_s,
        "redis_bytes_per_step": result.redis_bytes_per_step,
        "questions_per_sample": step.questions_per_sample,
        "texts_per_sample": step.texts_per_sample,
        "rates": {"judge": rates.judge, "embed": rates.embed, "api": rates.api},
    }
