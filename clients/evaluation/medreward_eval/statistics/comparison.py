"""Two models with the same items: which is better, and whether that can be told. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist, fmean
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, stdtrit

from medreward_eval.statistics.intervals import SEED, TAILS, Floats
from medreward_eval.statistics.scores import (
    AVERAGES,
    FEWEST_TASKS,
    AverageName,
    Estimate,
    Group,
    Interval,
)

KINDS: Final[Mapping[AverageName, str]] = {
    "LLM": "text tasks",
    "VLM": "image tasks",
    "Overall": "tasks",
    "Own": "tasks of yours",
}
DRAWS: Final = 10_000
CHANCE: Final = 0.05
"""A p-value below it is told as a difference."""
FEWEST_APART: Final = 6
"""With fewer discordant answers McNemar's p is over `CHANCE` even if all go one way: 2 x 0.5^5."""
GRID: Final = 1_000
"""Differences within a thousandth are taken as one, their mean: there are at most 2,001."""
NUMBERS_AT_ONCE: Final = 1_000_000
"""Of draws in memory; 8 MB."""


class Pairs(NamedTuple):
    """What two models got for the items of a task that were judged for both, in one order.

    Credits are shares of the best score, from 0 to 1: 0 or 1 where the task `is_binary`.
    """

    group: Group
    first: Floats
    second: Floats
    is_binary: bool


@dataclass(frozen=True, slots=True)
class Discordant:
    """Answers that one model got right and the other wrong; p is McNemar's, exact and two-sided."""

    only_first: int
    only_second: int
    p: float

    @property
    def total(self) -> int:
        """How many."""
        return self.only_first + self.only_second


@dataclass(frozen=True, slots=True)
class TaskDifference:
    """One task: mean credits, and the second's less the first's, which lies in -1 to 1."""

    task: str
    group: Group
    items: int
    first: float
    second: float
    difference: Estimate
    discordant: Discordant | None
    """None for reports, which are not right or wrong."""
    p_adjusted: float | None = None
    """By Holm (1979) over the tasks that have a p-value."""

    @property
    def is_told(self) -> bool:
        """Tell whether it counts: 0 is out of the interval, and the adjusted p below `CHANCE`."""
        return _excludes_zero(self.difference) and (
            self.p_adjusted is None or self.p_adjusted < CHANCE
        )


@dataclass(frozen=True, slots=True)
class AverageDifference:
    """Tasks' plain mean, each task counting the same. The discordant answers are all tasks'."""

    name: AverageName
    tasks: int
    items: int
    first: float
    second: float
    difference: Estimate
    discordant: Discordant | None
    """None where all tasks are reports."""

    @property
    def is_told(self) -> bool:
        """Tell whether it counts: 0 is out of the interval."""
        return _excludes_zero(self.difference)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Every task with items of both models, and the averages; `without_items` has the others."""

    tasks: Sequence[TaskDifference]
    averages: Sequence[AverageDifference]
    without_items: Sequence[str]


def compare(
    tasks: Mapping[str, tuple[Group, Floats, Floats, bool]], *, draws: int = DRAWS
) -> Comparison:
    """Compare two models by what each got for the same items.

    Intervals are percentiles of *draws* of the Bayesian bootstrap of pairs (Rubin 1981): the
    shares of items with each difference are drawn from a Dirichlet distribution. For right and
    wrong answers it has Jeffreys's prior, without which few discordant answers would look surer
    than they are (Agresti and Min 2005). For reports the draws are spread to the width of
    Student's t. Averages are those of the tasks' draws, so each task is drawn by itself.
    Swapping the models changes signs and nothing else.

    Raises:
        ValueError: credits do not pair, or are not from 0 to 1; the message names the task.
    """
    pairs = {task: _checked(task, Pairs(*given)) for task, given in tasks.items()}
    pairs = {task: pair for task, pair in pairs.items() if len(pair.first)}
    drawn = {task: _draws(task, pair, draws) for task, pair in pairs.items()}
    rows = [_task_difference(task, pair, drawn[task]) for task, pair in pairs.items()]
    return Comparison(
        tasks=_adjusted(rows),
        averages=list(_averages(rows, drawn)),
        without_items=[task for task in tasks if task not in pairs],
    )


def mcnemar(only_first: int, only_second: int) -> Discordant:
    """Test whether one model is right where the other is wrong as often as the reverse.

    p is exact: the fewer of the two, or less, in so many throws of a fair coin, twice.
    """
    fewer, total = min(only_first, only_second), only_first + only_second
    return Discordant(only_first, only_second, min(1.0, 2 * float(bdtr(fewer, total, 0.5))))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values so that the chance of any false finding is bounded (Holm 1979)."""
    adjusted = [0.0] * len(p_values)
    greatest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        greatest = max(greatest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = greatest
    return adjusted


def conclusions(comparison: Comparison, first: str, second: str) -> list[str]:
    """Say in sentences what can be concluded: of averages, of each task, of what is missing.

    Averages that would only repeat a task or one another are left out.
    """
    averages = {
        average.difference: average
        for average in reversed(comparison.averages)
        if average.tasks > 1
    }
    rows: list[TaskDifference | AverageDifference] = [*averages.values(), *comparison.tasks]
    return [
        *(conclusion(row, first, second) for row in rows),
        *(
            f"On {task} nothing can be said: no answer was judged for both models."
            for task in comparison.without_items
        ),
    ]


def conclusion(row: TaskDifference | AverageDifference, first: str, second: str) -> str:
    """Say in a sentence or two what can and cannot be concluded of the models so named.

    Points are of 100, for reports too.
    """
    where = _where(row)
    low, high = (100 * bound for bound in row.difference.interval)
    if row.is_told:
        better, worse, least, most = (
            (second, first, low, high) if low > 0 else (first, second, -high, -low)
        )
        return (
            f"{better} scores {100 * abs(row.difference.value):.1f} points more than {worse} "
            f"{where} (95 % interval {least:.1f} to {most:.1f}); chance alone would rarely give "
            "this."
        )
    fits = (
        f"anything from {_lead(low, first, second)} to {_lead(high, first, second)} fits "
        f"{_these(row.items)}"
    )
    if isinstance(row, TaskDifference) and row.discordant is not None:
        if row.discordant.total < FEWEST_APART:
            return (
                f"Too few answers tell the two apart {where}: {row.discordant.total} of "
                f"{row.items:,}, and it takes {FEWEST_APART} or more; {fits}."
            )
        if _excludes_zero(row.difference):
            return (
                f"No difference can be told {where}: {fits}, but chance alone would give as much "
                f"too often (p = {row.p_adjusted:.2g}, adjusted for the number of tasks)."
            )
    return f"No difference can be told {where}: {fits}."


def _where(row: TaskDifference | AverageDifference) -> str:
    if isinstance(row, TaskDifference):
        return f"on {row.task}"
    return f"on average over {row.tasks} {KINDS[row.name]}"


def _these(items: int) -> str:
    return "this 1 answer" if items == 1 else f"these {items:,} answers"


def _lead(points: float, first: str, second: str) -> str:
    if not round(points, 1):
        return "no difference"
    return f"{second if points > 0 else first} {abs(points):.1f} points better"


def _excludes_zero(difference: Estimate) -> bool:
    low, high = difference.interval
    return low > 0 or high < 0


def _checked(task: str, pairs: Pairs) -> Pairs:
    if pairs.first.shape != pairs.second.shape or pairs.first.ndim != 1:
        raise ValueError(f"{task}: the models' credits are not of the same items")
    for credits_ in (pairs.first, pairs.second):
        # Written so that NaN, which is in no order, fails.
        if not np.all((credits_ >= 0) & (credits_ <= 1)):
            raise ValueError(f"{task}: credits must be from 0 to 1; leave out what is unjudged")
        if pairs.is_binary and not np.all((credits_ == 0) | (credits_ == 1)):
            raise ValueError(f"{task}: credits of right and wrong answers must be 0 or 1")
    return pairs


def _task_difference(task: str, pairs: Pairs, drawn: Floats) -> TaskDifference:
    first, second = float(pairs.first.mean()), float(pairs.second.mean())
    discordant = None
    if pairs.is_binary:
        discordant = mcnemar(
            int(np.sum(pairs.first > pairs.second)), int(np.sum(pairs.second > pairs.first))
        )
    return TaskDifference(
        task=task,
        group=pairs.group,
        items=len(pairs.first),
        first=first,
        second=second,
        difference=_estimate(second - first, drawn),
        discordant=discordant,
    )


def _averages(
    rows: Sequence[TaskDifference], drawn: Mapping[str, Floats]
) -> Iterator[AverageDifference]:
    for name, groups in AVERAGES.items():
        members = [row for row in rows if row.group in groups]
        if len(members) < FEWEST_TASKS[name]:
            continue
        apart = [row.discordant for row in members if row.discordant is not None]
        first, second = fmean(row.first for row in members), fmean(row.second for row in members)
        yield AverageDifference(
            name=name,
            tasks=len(members),
            items=sum(row.items for row in members),
            first=first,
            second=second,
            difference=_estimate(
                second - first, np.mean([drawn[row.task] for row in members], axis=0)
            ),
            discordant=mcnemar(
                sum(one.only_first for one in apart), sum(one.only_second for one in apart)
            )
            if apart
            else None,
        )


def _adjusted(rows: Sequence[TaskDifference]) -> list[TaskDifference]:
    adjusted = iter(holm([row.discordant.p for row in rows if row.discordant is not None]))
    return [
        row if row.discordant is None else replace(row, p_adjusted=next(adjusted)) for row in rows
    ]


def _estimate(value: float, drawn: Floats) -> Estimate:
    low, high = map(float, np.quantile(drawn, TAILS))
    return Estimate(value, Interval(min(low, value), max(high, value)))


def _draws(task: str, pairs: Pairs, draws: int) -> Floats:
    """Draw mean differences, from -1 to 1; the same whatever the other tasks are."""
    differences = pairs.second - pairs.first
    _, bins, counts = np.unique(
        np.rint(GRID * differences).astype(np.int64), return_inverse=True, return_counts=True
    )
    values = np.bincount(bins, weights=differences) / counts
    # Half is drawn as if the models were swapped, so that to swap them swaps the halves.
    there, back = (
        _bootstrap(
            sign * values[::sign],
            counts[::sign],
            pairs.is_binary,
            np.random.default_rng([SEED, *task.encode()]),
            (draws + 1) // 2,
        )
        for sign in (1, -1)
    )
    return np.concatenate([there, -back])


def _bootstrap(
    values: Floats, counts: NDArray[np.int64], is_binary: bool, rng: np.random.Generator, draws: int
) -> Floats:
    items = int(counts.sum())
    # Reports that all differ alike would give no width: they get the prior, too.
    if is_binary or len(values) == 1:
        values = np.concatenate([values, [-1, 0, 1]])
        return _dirichlet_means(values, np.concatenate([counts, [0.5] * 3]), rng, draws)
    mean = values @ counts / items
    drawn = _dirichlet_means(values, counts.astype(np.float64), rng, draws)
    # The bootstrap's own variance is (n - 1) / (n + 1) of the mean's.
    wider = np.sqrt((items + 1) / (items - 1))
    wider *= stdtrit(items - 1, TAILS[1]) / NormalDist().inv_cdf(TAILS[1])
    widened: Floats = np.clip(mean + wider * (drawn - mean), -1, 1)
    return widened


def _dirichlet_means(
    values: Floats, concentrations: Floats, rng: np.random.Generator, draws: int
) -> Floats:
    """Draw means of *values* whose shares are of a Dirichlet distribution."""
    at_once = max(1, NUMBERS_AT_ONCE // len(values))
    means = np.empty(draws)
    for start in range(0, draws, at_once):
        stop = min(draws, start + at_once)
        shares = rng.standard_gamma(concentrations, (stop - start, len(values)))
        means[start:stop] = shares @ values / shares.sum(axis=1)
    return means
