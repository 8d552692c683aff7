"""`medreward size`: how many replicas a training run needs, from numbers given or measured."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from medreward.cli.failures import CommandError, Misuse
from medreward.cli.reward_tables import facts_grid, plain_table
from medreward.cli.sizing import (
    DEFAULT_API_RATE,
    Measured,
    Part,
    Rates,
    Size,
    Step,
    read_metrics,
    size,
)
from medreward.cli.terminal import messages, output, shown
from medreward.engines.remote.http_client import Client, reaching
from medreward.errors import EngineError

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
