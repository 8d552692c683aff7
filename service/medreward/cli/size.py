"""`medreward size`: the number of replicas that a training run needs.

The model is a fluid queue: a replica works at a constant rate, arrivals are even, and batches are
full. It holds for steps of thousands of samples; a step of a few samples takes one batch.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from rich.text import Text

from medreward.cli.tables import facts_grid, plain_table
from medreward.cli.terminal import output, shown

JUDGEMENT_BYTES = 140
EMBEDDING_BYTES = 2300
"""Bytes of an entry in Redis, for an embedding of 1,024 numbers."""
MIB = 1024**2

# A sample passes the api and then both engines in parallel, so on each path (api and judge, or api
# and embedder) the shares of the time add up to 1.
TIME_SHARES = {"judge": 0.9, "embed": 0.9, "api": 0.1}


@dataclass(frozen=True, slots=True)
class Step:
    """The work of one step, and the time for it."""

    samples: int
    questions_per_sample: float
    """Questions that reach the judge, without those that rules, duplicates or the cache settle."""
    texts_per_sample: float
    """Texts to the embedder, counted in the same way."""
    seconds: float
    """Time from the last rollout to the last reward."""
    spread_s: float = 0.0
    """Seconds over which the rollouts arrive; 0 if they arrive at once."""


@dataclass(frozen=True, slots=True)
class Size:
    """Replicas by part, and their predicted load."""

    replicas: Mapping[str, int]
    seconds: Mapping[str, float]
    """Time from the last rollout to the end of each part's own work."""
    utilisation: Mapping[str, float]
    """Busy share of each part, with one step every `spread_s + seconds`."""
    binds: str
    """The part that takes longest."""
    step_s: float
    redis_bytes_per_step: float


def print_size(
    step: Step, rates: Mapping[str, float], *, utilisation: float, as_json: bool
) -> None:
    """Print the number of replicas, as a table or as one JSON object."""
    result = size(step, rates, utilisation=utilisation)
    if as_json:
        inputs = {
            "questions_per_sample": step.questions_per_sample,
            "texts_per_sample": step.texts_per_sample,
            "rates": rates,
        }
        output().print_json(json.dumps(asdict(result) | inputs))
    else:
        _print_table(step, rates, result)


def size(step: Step, rates: Mapping[str, float], *, utilisation: float = 0.8) -> Size:
    """Size every part for a step; *rates* are units of work a second of one replica.

    Raises:
        ValueError: a rate, the time or the utilisation is not above 0.
    """
    work = {
        "judge": step.samples * step.questions_per_sample,
        "embed": step.samples * step.texts_per_sample,
        "api": float(step.samples),
    }
    replicas = {
        part: replicas_for(
            work[part], rates[part], step.spread_s + share * step.seconds, utilisation
        )
        for part, share in TIME_SHARES.items()
    }
    period_s = step.spread_s + step.seconds
    rate = {part: count * rates[part] for part, count in replicas.items()}
    seconds = {part: backlog_s(work[part], rate[part], step.spread_s) for part in work}
    return Size(
        replicas=replicas,
        seconds=seconds,
        utilisation={part: work[part] / rate[part] / period_s for part in work},
        binds=max(seconds, key=lambda part: seconds[part]),
        step_s=seconds["api"] + max(seconds["judge"], seconds["embed"]),
        redis_bytes_per_step=work["judge"] * JUDGEMENT_BYTES + work["embed"] * EMBEDDING_BYTES,
    )


def replicas_for(work: float, rate: float, seconds: float, utilisation: float) -> int:
    """Return the fewest replicas that do *work* in *seconds* at a share of their rate.

    The utilisation law: `replicas * rate * utilisation * seconds >= work`, with the seconds from
    the first arrival on (Lazowska et al., Quantitative System Performance, 1984, section 3.2).

    Raises:
        ValueError: the rate, the time or the utilisation is not above 0.
    """
    each = rate * utilisation * seconds
    if not (each > 0 and math.isfinite(each)):
        raise ValueError("rate, seconds and utilisation have to be above 0")
    # The 1e-9 absorbs rounding: a quotient such as 2.0000000000000004 must not cost a third
    # replica.
    return max(1, math.ceil(work / each - 1e-9))


def backlog_s(work: float, rate: float, spread_s: float) -> float:
    """Return the seconds from the last arrival until *work* is done.

    Arrivals are even over *spread_s*, after which `max(0, work - rate * spread_s)` remains (the
    deterministic fluid queue of Newell, Applications of Queueing Theory, 1982).
    """
    return max(0.0, work / rate - spread_s)


def _print_table(step: Step, rates: Mapping[str, float], result: Size) -> None:
    console = output()
    facts: dict[str, Text | str] = {
        "a step": f"{step.samples:,} samples, scored {step.seconds:g} s after the last",
        "rollouts arrive": f"evenly over {step.spread_s:g} s" if step.spread_s else "all at once",
        "for each sample": f"{step.questions_per_sample:.3g} questions to the judge, "
        f"{step.texts_per_sample:.3g} texts to the embedder",
        "one replica": f"{rates['judge']:,.4g} questions, {rates['embed']:,.4g} texts, "
        f"{rates['api']:,.4g} samples a second",
    }
    console.print(facts_grid(facts))
    table = plain_table("part", "replicas", "seconds after the last rollout", "busy")
    for part, replicas in result.replicas.items():
        table.add_row(
            Text(part, "bold" if part == result.binds else ""),
            str(replicas),
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
