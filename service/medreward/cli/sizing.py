"""How many processes a training run needs: the work of one step, and the time there is for it.

The model is a fluid one: a replica answers at a constant rate, work is spread evenly, and batches
are never half empty. It holds for steps of thousands of samples, whose batches are full; for a few
samples a step, what counts is the time of one batch.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from prometheus_client.parser import text_string_to_metric_families

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
