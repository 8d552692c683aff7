"""NeMo Gym's contract of a resources server: each row is returned with its reward."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from statistics import fmean, median, stdev
from typing import Any

from medreward.errors import ProblemKind
from medreward.http.compat.schemas import AggregateReply
from medreward.recipes.recipe import Recipe
from medreward.rewards.reward import Reward, Unscored

OURS = "medreward_"
"""Prefix of the fields that medreward adds, since a row may have a field of a signal's name."""
TASK = "_ng_task_index"
LARGEST = 1e100
"""Larger numbers and NaN are ignored: the square of a larger one would not be finite."""
FAILURE = ("_ng_failure_class", "_ng_failure_judge_error", "failure_kind", "failure_reason")
FAILURE_KINDS = {
    ProblemKind.JUDGE_UNPARSEABLE: "judge_unparseable",
    ProblemKind.INVALID_REFERENCE: "verifier_error",
    ProblemKind.TOO_LONG: "verifier_error",
    ProblemKind.UNREADABLE: "verifier_error",
    ProblemKind.INVALID_REQUEST: "verifier_error",
    ProblemKind.SIGNAL_FAILED: "verifier_error",
}
"""Gym's kinds of failure; any other problem is `judge_failed`."""


def verified(
    row: Mapping[str, Any], result: Reward | Unscored, recipe: Recipe, fingerprint: str
) -> dict[str, Any]:
    """Return a row with its reward, or flagged as failed; a `VerifyReply`.

    If the row comes back after a failure, the fields about that failure are removed.
    """
    kept = {name: value for name, value in row.items() if name not in FAILURE}
    if FAILURE[0] in row:
        kept |= _masked(row, is_masked=False)
    names = recipe.weights
    if isinstance(result, Unscored):
        # Gym requires a number even here; the flags keep it out of the scores and the loss.
        nothing, problem = dict.fromkeys(names, 0.0), result.problem
        reason = f"{problem.kind}: {problem.message}"
        kind = FAILURE_KINDS.get(problem.kind, "judge_failed")
        return {
            **kept,
            "reward": 0.0,
            "reward_components": nothing,
            **dict(zip(FAILURE, ("judge_failed", reason, kind, reason), strict=True)),
            **_masked(row, is_masked=True),
        }
    parts = result.components
    components = {
        name: parts[name].weight * parts[name].signal.value if name in parts else 0.0
        for name in names
    }
    signals = {OURS + name: part.signal.value for name, part in parts.items()}
    return {
        "mask_sample": False,
        **kept,
        # The plain sum and not the recipe's: NeMo RL adds up the components and compares.
        "reward": sum(components.values()),
        "reward_components": components,
        **signals,
        f"{OURS}fingerprint": fingerprint,
    }


def _masked(row: Mapping[str, Any], *, is_masked: bool) -> dict[str, Any]:
    """Return the mask flag in both places: NeMo RL reads the one, and Gym the other."""
    config = row.get("instance_config")
    before = config if isinstance(config, dict) else {}
    return {"instance_config": {**before, "mask_sample": is_masked}, "mask_sample": is_masked}


def aggregated(rows: Iterable[Mapping[str, Any]]) -> AggregateReply:
    """Compute statistics of an evaluation's rewards, for each task and overall.

    Rows that are flagged as failed have no reward of their own, and are left out.
    """
    tasks: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        if not row.get("mask_sample") and FAILURE[0] not in row:
            task = row.get(TASK, 0)
            tasks[task if isinstance(task, int) else 0].append(row)
    overall = _described([row for task in tasks.values() for row in task])
    return AggregateReply(
        group_level_metrics=[{TASK: task, **_described(tasks[task])} for task in sorted(tasks)],
        agent_metrics=overall,
        key_metrics={name: value for name, value in overall.items() if name.startswith("mean/")},
    )


def _described(rows: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    columns: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        for name, value in row.items():
            is_figure = isinstance(value, int | float) and abs(value) < LARGEST
            if is_figure and (name == "reward" or name.startswith(OURS)):
                columns[name].append(float(value))
    described = {}
    for name, values in columns.items():
        spread = stdev(values) if len(values) > 1 else 0.0
        figures = (fmean(values), max(values), min(values), median(values), spread)
        for figure, value in zip(("mean", "max", "min", "median", "std"), figures, strict=True):
            described[f"{figure}/{name}"] = value
    return described
