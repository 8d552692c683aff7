"""Paired comparison of two models on the items that both were judged on.

`compare_files` reads two files of grades; `compare` and all below it are pure.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import NormalDist, fmean
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, stdtrit

from medreward_eval.errors import OtherRun
from medreward_eval.journal import differences
from medreward_eval.records import Graded
from medreward_eval.statistics.intervals import SEED, TAILS, Floats
from medreward_eval.statistics.scores import (
    AVERAGES,
    FEWEST_TASKS,
    Estimate,
    Group,
    Interval,
    Provenance,
    provenance_of,
)
from medreward_eval.statistics.scoring import grades_headers, read_graded

DRAWS: Final = 10_000
CHANCE: Final = 0.05
"""A p-value below this counts as a difference."""
FEWEST_APART: Final = 6
"""With five discordant answers McNemar's p is above `CHANCE` even if all favour one model: 2 x 0.5^5."""
GRID: Final = 1_000
"""Differences are grouped by thousandths, each group at its mean: there are at most 2,001, or 6,001
of rubrics, which go down to -2."""
NUMBERS_AT_ONCE: Final = 1_000_000
"""Draws in memory at once: 8 MB."""
BASIS: Final = ("version", "service", "judges", "templates", "rules", "votes")
"""Keys of the header that two files must share; questions are compared one by one."""


class Pairs(NamedTuple):
    """Credits of two models for the items of a task that both were judged on, in the same order.

    Credits are shares of the best score, from 0 to 1; only 0 or 1 if the task `is_binary`. Those of
    rubrics may be below 0.
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
        """The number of discordant answers."""
        return self.only_first + self.only_second


@dataclass(frozen=True, slots=True)
class Difference:
    """Mean credits of a task, or of an average, and the second model's minus the first's, from -1 to 1.

    An average is the unweighted mean over tasks, with their discordant answers summed.
    """

    name: str
    items: int
    first: float
    second: float
    difference: Estimate
    discordant: Discordant | None
    """None for reports and rubrics, which are not right or wrong."""
    tasks: int = 0
    """The number of tasks of an average; 0 for a task."""
    p_adjusted: float | None = None
    """A task's p-value adjusted by Holm (1979) over the tasks that have one."""

    @property
    def is_told(self) -> bool:
        """True if 0 lies outside the interval and the adjusted p, if any, is below `CHANCE`."""
        return excludes_zero(self.difference) and (
            self.p_adjusted is None or self.p_adjusted < CHANCE
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """Tasks with items of both models, and their averages; `without_items` names the other tasks."""

    tasks: Sequence[Difference]
    averages: Sequence[Difference]
    without_items: Sequence[str]


@dataclass(frozen=True, slots=True)
class Compared:
    """The comparison of two named models, with the questions that were left out of it."""

    first: str
    second: str
    comparison: Comparison
    left_out: Mapping[str, int]
    """Numbers of questions that do not count, by the reason."""
    provenance: tuple[Provenance, Provenance] = (Provenance(), Provenance())
    """The predictions behind the grades of each file."""


def compare_files(first: Path, second: Path, groups: Mapping[str, Group]) -> Compared:
    """Compare two models on the questions that both were judged on.

    Memory grows by one digest and credit for each question of the first file.

    Raises:
        BadData: a file does not hold grades.
        OtherRun: the graders differ, or an id names different questions in the two files.
    """
    headers = [grades_headers(path) for path in (first, second)]
    _check_comparable(headers, first, second)
    graded_second = 0
    known = {one.prediction.id: (_digest(one), one.credit) for one in read_graded(first)}
    graded_first = len(known)
    credits_: dict[str, list[tuple[float, float]]] = {}
    binary: dict[str, bool] = {}
    left_out: Counter[str] = Counter()
    for graded in read_graded(second):
        graded_second += 1
        asked, credit = known.pop(graded.prediction.id, (None, None))
        if asked is None:
            left_out["only in the second file"] += 1
        elif asked != _digest(graded):
            raise OtherRun(
                f"{second}: {graded.prediction.id!r} is another question than in {first}; "
                "generate both from the same tasks"
            )
        elif credit is None or graded.credit is None:
            left_out["unjudged in one of them"] += 1
        else:
            task = graded.prediction.task
            credits_.setdefault(task, []).append((credit, graded.credit))
            # If a task has both answers and reports, its credits are shares.
            binary[task] = binary.get(task, True) and graded.prediction.template == "equivalence"
    if known:
        left_out["only in the first file"] = len(known)
    columns = {task: np.array(pairs, np.float64).T for task, pairs in credits_.items()}
    comparison = compare(
        {
            task: (groups.get(task, "own"), ours, theirs, binary[task])
            for task, (ours, theirs) in columns.items()
        }
    )
    named = [
        str(told[-1].get("model", path.stem))
        for told, path in zip(headers, (first, second), strict=True)
    ]
    # Two runs of the same model get the letters of their columns.
    one, other = named if named[0] != named[1] else (f"{named[0]} (A)", f"{named[1]} (B)")
    provenance = (
        provenance_of(headers[0], graded_first),
        provenance_of(headers[1], graded_second),
    )
    return Compared(one, other, comparison, dict(left_out), provenance)


def compare(
    tasks: Mapping[str, tuple[Group, Floats, Floats, bool]], *, draws: int = DRAWS
) -> Comparison:
    """Compare two models by their credits for the same items.

    Intervals are percentiles of *draws* of the Bayesian bootstrap of pairs (Rubin 1981): the
    shares of items with each difference are drawn from a Dirichlet distribution. For right and
    wrong answers it has Jeffreys's prior: without it, intervals of few discordant answers would be
    too narrow (Agresti and Min 2005). For reports the draws are spread to the width of
    Student's t. Averages are those of the tasks' draws, so each task is drawn by itself.
    Swapping the models changes signs and nothing else.

    Raises:
        ValueError: credits do not pair, or are over 1; the message names the task.
    """
    pairs = {task: _checked(task, Pairs(*given)) for task, given in tasks.items()}
    pairs = {task: pair for task, pair in pairs.items() if len(pair.first)}
    drawn = {task: _draws(task, pair, draws) for task, pair in pairs.items()}
    rows = [_task_difference(task, pair, drawn[task]) for task, pair in pairs.items()]
    return Comparison(
        tasks=_adjusted(rows),
        averages=list(_averages(rows, pairs, drawn)),
        without_items=[task for task in tasks if task not in pairs],
    )


def mcnemar(only_first: int, only_second: int) -> Discordant:
    """Test the hypothesis that each model is as often the only one that is right (McNemar 1947).

    p is exact and two-sided: twice the probability of the smaller count or less from a fair coin.
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


def excludes_zero(difference: Estimate) -> bool:
    """Return True if 0 lies outside the interval."""
    low, high = difference.interval
    return low > 0 or high < 0


def _check_comparable(
    headers: Sequence[Sequence[Mapping[str, Any]]], first: Path, second: Path
) -> None:
    bases = [
        {key: header.get(key) for key in BASIS if key in header}
        for told in headers
        for header in told
    ]
    other = next((basis for basis in bases if basis != bases[0]), None)
    if other is not None:
        raise OtherRun(
            f"{first} and {second} were graded otherwise ({differences(bases[0], other)}), so what "
            "differs may be the judge: grade both by the same service"
        )


def _digest(graded: Graded) -> int:
    """Return a hash of the question; a number, since a file may hold a million."""
    one = graded.prediction
    asked = (one.task, one.question, one.reference, one.template, one.options, one.criteria)
    return hash(asked)


def _checked(task: str, pairs: Pairs) -> Pairs:
    if pairs.first.shape != pairs.second.shape or pairs.first.ndim != 1:
        raise ValueError(f"{task}: the models' credits are not of the same items")
    for credits_ in (pairs.first, pairs.second):
        # NaN compares False with everything, so the condition is written for valid credits: NaN fails.
        if not np.all(credits_ <= 1):
            raise ValueError(f"{task}: credits must be at most 1; leave out what is unjudged")
        if pairs.is_binary and not np.all((credits_ == 0) | (credits_ == 1)):
            raise ValueError(f"{task}: credits of right and wrong answers must be 0 or 1")
    return pairs


def _task_difference(task: str, pairs: Pairs, drawn: Floats) -> Difference:
    first, second = float(pairs.first.mean()), float(pairs.second.mean())
    only_first, only_second = pairs.first > pairs.second, pairs.second > pairs.first
    return Difference(
        name=task,
        items=len(pairs.first),
        first=first,
        second=second,
        difference=_estimate(second - first, drawn),
        discordant=mcnemar(int(only_first.sum()), int(only_second.sum()))
        if pairs.is_binary
        else None,
    )


def _averages(
    rows: Sequence[Difference], pairs: Mapping[str, Pairs], drawn: Mapping[str, Floats]
) -> Iterator[Difference]:
    for name, groups in AVERAGES.items():
        members = [row for row in rows if pairs[row.name].group in groups]
        if len(members) < FEWEST_TASKS[name]:
            continue
        apart = [row.discordant for row in members if row.discordant is not None]
        first, second = fmean(row.first for row in members), fmean(row.second for row in members)
        mean_drawn = np.mean([drawn[row.name] for row in members], axis=0)
        yield Difference(
            name=name,
            items=sum(row.items for row in members),
            first=first,
            second=second,
            difference=_estimate(second - first, mean_drawn),
            discordant=mcnemar(
                sum(one.only_first for one in apart), sum(one.only_second for one in apart)
            )
            if apart
            else None,
            tasks=len(members),
        )


def _adjusted(rows: Sequence[Difference]) -> list[Difference]:
    adjusted = iter(holm([row.discordant.p for row in rows if row.discordant is not None]))
    return [
        row if row.discordant is None else replace(row, p_adjusted=next(adjusted)) for row in rows
    ]


def _estimate(value: float, drawn: Floats) -> Estimate:
    low, high = map(float, np.quantile(drawn, TAILS))
    return Estimate(value, Interval(min(low, value), max(high, value)))


def _draws(task: str, pairs: Pairs, draws: int) -> Floats:
    """Draw mean differences, from -1 to 1; a task's draws do not depend on the other tasks."""
    differences = pairs.second - pairs.first
    _, bins, counts = np.unique(
        np.rint(GRID * differences).astype(np.int64), return_inverse=True, return_counts=True
    )
    values = np.bincount(bins, weights=differences) / counts
    # One half is drawn with the models swapped. Swapping the models therefore swaps the halves, and
    # the interval changes its sign alone.
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
    # If all reports differ by the same amount, the bootstrap has no width. They get the prior, too.
    if is_binary or len(values) == 1:
        values = np.concatenate([values, [-1, 0, 1]])
        return _dirichlet_means(values, np.concatenate([counts, [0.5] * 3]), rng, draws)
    mean = values @ counts / items
    drawn = _dirichlet_means(values, counts.astype(np.float64), rng, draws)
    # The bootstrap's variance is (n - 1) / (n + 1) of the variance of the mean.
    wider = np.sqrt((items + 1) / (items - 1))
    wider *= stdtrit(items - 1, TAILS[1]) / NormalDist().inv_cdf(TAILS[1])
    # No mean is beyond the differences that are possible: rubrics go below 0.
    lowest, highest = min(-1.0, values.min()), max(1.0, values.max())
    widened: Floats = np.clip(mean + wider * (drawn - mean), lowest, highest)
    return widened


def _dirichlet_means(
    values: Floats, concentrations: Floats, rng: np.random.Generator, draws: int
) -> Floats:
    """Draw *draws* means of *values*, weighted by shares from a Dirichlet distribution."""
    at_once = max(1, NUMBERS_AT_ONCE // len(values))
    means = np.empty(draws)
    for start in range(0, draws, at_once):
        stop = min(draws, start + at_once)
        shares = rng.standard_gamma(concentrations, (stop - start, len(values)))
        means[start:stop] = shares @ values / shares.sum(axis=1)
    return means
