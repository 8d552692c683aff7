"""Intervals hold the truth as often as they say: measured on made-up data, truths drawn at random."""

from collections.abc import Iterator

import numpy as np
import pytest
from scipy import stats

from medreward_eval.statistics.comparison import compare
from medreward_eval.statistics.intervals import (
    Calibrated,
    Floats,
    Stratum,
    corrected,
    macro,
    mean_interval,
    wilson,
)
from medreward_eval.statistics.scores import Estimate, Group, Interval

SETS = 1_000
FEW_SETS = 200
DRAWS = 2_000
slow = pytest.mark.slow
"""A thousand data sets are made up for each case by `make slow`, and 200 for one case of each kind
in all other runs."""
REPORTS = [
    [0.02, 0.05, 0.15, 0.38, 0.3, 0.1],
    [0.3, 0.25, 0.2, 0.15, 0.07, 0.03],
    [0.0, 0.0, 0.02, 0.08, 0.4, 0.5],
]
"""Shares of the scores from 0 to 5: a fair model, a poor one, and a good one near the ceiling."""

RUBRIC_SCORES = np.array([-2.0, -0.8, -0.2, 0.0, 0.4, 0.7, 1.0])
RUBRICS = [
    [0.0, 0.05, 0.1, 0.15, 0.3, 0.3, 0.1],
    [0.05, 0.15, 0.15, 0.1, 0.25, 0.2, 0.1],
]
"""Shares of these scores: a good model, and one whose mean is near 0 and has a long tail below it."""


def check(held: list[bool]) -> None:
    """Hold a simulation to 95 %, give or take three standard errors of its number of data sets."""
    assert len(held) >= FEW_SETS
    allowed = 0.02 if len(held) >= SETS else 0.045
    assert 0.95 - allowed <= np.mean(held) <= 0.95 + allowed


def holds(interval: Interval, truth: float) -> bool:
    """Return True if the truth lies in the interval."""
    return interval.low <= truth <= interval.high


@pytest.mark.parametrize("trials", [50, 200, 1_000])
def test_wilsons_interval_holds_the_share_in_95_of_100_cases(trials: int) -> None:
    """The coverage is exact for each share, and averaged over shares from 0.02 to 0.98."""
    shares = np.linspace(0.02, 0.98, 961)
    bounds = np.array([wilson(hits, trials) for hits in range(trials + 1)])
    likely = stats.binom.pmf(np.arange(trials + 1)[:, None], trials, shares)
    held = (bounds[:, :1] <= shares) & (shares <= bounds[:, 1:])

    assert 0.94 <= (likely * held).sum(axis=0).mean() <= 0.96


@pytest.mark.parametrize("trials", [50, 200, 500])
@pytest.mark.parametrize("shares", REPORTS)
def test_the_mean_of_reports_is_held(shares: list[float], trials: int) -> None:
    """Scores of few steps, skewed or near the ceiling, are as good as normal ones to Student's t."""
    rng = np.random.default_rng(1)
    counts = rng.multinomial(trials, shares, size=4 * SETS)
    credit = np.arange(6) / 5
    truth = float(credit @ shares)

    check(
        [
            holds(mean_interval(trials, float(one @ credit), float(one @ credit**2)), truth)
            for one in counts
        ]
    )


@pytest.mark.parametrize("trials", [50, 200, 500])
@pytest.mark.parametrize("shares", RUBRICS)
def test_the_mean_of_rubrics_is_held(shares: list[float], trials: int) -> None:
    """Scores far below 0 widen the interval, and the mean is held although its bounds are cut."""
    rng = np.random.default_rng(1)
    counts = rng.multinomial(trials, shares, size=4 * SETS)
    truth = float(RUBRIC_SCORES @ shares)
    sums, squares = counts @ RUBRIC_SCORES, counts @ RUBRIC_SCORES**2

    assert 0 < truth < 1
    check(
        [
            holds(mean_interval(trials, float(total), float(square)), truth)
            for total, square in zip(sums, squares, strict=True)
        ]
    )


def test_the_mean_of_eleven_tasks_is_held() -> None:
    """Tasks of very different sizes and shares are one mean."""
    rng = np.random.default_rng(2)
    sizes = [144, 265, 173, 100, 272, 135, 4_183, 1_273, 325, 1_000, 50]
    held = []
    for _ in range(SETS):
        shares = rng.uniform(0.1, 0.95, len(sizes))
        hits = rng.binomial(sizes, shares)
        parts = [Estimate(k / n, wilson(int(k), n)) for k, n in zip(hits, sizes, strict=True)]
        held.append(holds(macro(parts).interval, float(shares.mean())))

    check(held)


def judged_tasks(
    rng: np.random.Generator, tasks: int, families: int, lowest: float
) -> tuple[float, list[tuple[int, int, list[Stratum]]]]:
    """Make up tasks whose judge errs, and say what the mean of their accuracies is in truth."""
    rates = rng.uniform(0.7, 0.98, (families, 2))
    labels = rng.integers(100, 401, families)
    positives = rng.binomial(labels, rng.uniform(0.3, 0.7, families))
    true = rng.binomial(np.stack([positives, labels - positives], axis=1), rates)
    calibrations = [
        Calibrated(int(t), int(p), int(n), int(all_ - p))
        for (t, n), p, all_ in zip(true, positives, labels, strict=True)
    ]
    truth, made = 0.0, []
    for _ in range(tasks):
        weights, right = rng.dirichlet(np.ones(families + 1)), rng.uniform(lowest, 1, families + 1)
        counts = rng.multinomial(rng.integers(200, 1_001), weights)
        yes = rng.binomial(
            counts[1:], right[1:] * rates[:, 0] + (1 - right[1:]) * (1 - rates[:, 1])
        )
        strata = [
            Stratum(int(counts[i + 1]), int(yes[i]), calibrations[i], str(i))
            for i in range(families)
        ]
        truth += float(weights @ right) / tasks
        made.append((int(rng.binomial(counts[0], right[0])), int(counts[0]), strata))
    return truth, made


@pytest.mark.parametrize(
    ("families", "lowest", "sets"),
    [
        (3, 0.0, FEW_SETS),
        *(pytest.param(*case, SETS, marks=slow) for case in ((1, 0.0), (1, 0.8), (3, 0.0))),
    ],
)
def test_the_accuracy_behind_an_erring_judge_is_held(
    families: int, lowest: float, sets: int
) -> None:
    """Items, labels, and which items fall to the judge are all left to chance."""
    rng = np.random.default_rng(3)
    held = []
    for _ in range(sets):
        truth, [task] = judged_tasks(rng, 1, families, lowest)
        estimate = corrected([task], draws=DRAWS)
        held.append(estimate is not None and holds(estimate.interval, truth))

    check(held)


@pytest.mark.parametrize(
    ("lowest", "sets"),
    [(0.0, FEW_SETS), *(pytest.param(lowest, SETS, marks=slow) for lowest in (0.0, 0.8))],
)
def test_the_mean_of_tasks_behind_one_erring_judge_is_held(lowest: float, sets: int) -> None:
    """A judge's error is the same in all tasks, so that more tasks do not wash it out."""
    rng = np.random.default_rng(4)
    held = []
    for _ in range(sets):
        truth, tasks = judged_tasks(rng, 6, 2, lowest)
        estimate = corrected(tasks, draws=1_000)
        held.append(estimate is not None and holds(estimate.interval, truth))

    check(held)


def right_and_wrong(rng: np.random.Generator, items: int) -> tuple[float, Floats]:
    """Make up the difference of two models' accuracies, and their answers to the same items."""
    shares = rng.dirichlet([4, 1, 1, 4])
    outcomes = rng.choice(4, size=items, p=shares)
    credits_ = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])[outcomes]
    return float(shares[2] - shares[1]), credits_


@pytest.mark.parametrize(
    ("items", "sets"),
    [(50, FEW_SETS), *(pytest.param(items, SETS, marks=slow) for items in (50, 200, 1_000))],
)
def test_the_difference_of_two_models_is_held(items: int, sets: int) -> None:
    """Answers of two models to the same items go together, and the bootstrap of pairs knows."""
    rng = np.random.default_rng(5)
    held = []
    for _ in range(sets):
        truth, credits_ = right_and_wrong(rng, items)
        row = compare({"medqa": ("own", *credits_.T, True)}, draws=DRAWS).tasks[0]
        held.append(holds(row.difference.interval, truth))

    check(held)


@pytest.mark.parametrize(
    ("items", "sets"),
    [(20, FEW_SETS), *(pytest.param(items, SETS, marks=slow) for items in (20, 200))],
)
def test_the_difference_of_two_models_reports_is_held(items: int, sets: int) -> None:
    """The bootstrap is widened, since for small numbers its intervals are too narrow."""
    rng = np.random.default_rng(6)
    better = np.array([REPORTS[0], REPORTS[2]])
    truth = float((better[1] - better[0]) @ np.arange(6)) / 5
    held = []
    for _ in range(sets):
        first, second = (rng.choice(6, size=items, p=shares) / 5 for shares in better)
        row = compare({"reports": ("own", first, second, False)}, draws=DRAWS).tasks[0]
        held.append(holds(row.difference.interval, truth))

    check(held)


@pytest.mark.parametrize("sets", [FEW_SETS, pytest.param(SETS, marks=slow)])
def test_the_average_difference_is_held(sets: int) -> None:
    """Tasks of different sizes, some with reports, have independent draws."""
    rng = np.random.default_rng(7)
    held = []
    for _ in range(sets):
        truths, tasks = zip(*some_tasks(rng), strict=True)
        average = compare(dict(tasks), draws=1_000).averages[-1]
        held.append(holds(average.difference.interval, float(np.mean(truths))))

    check(held)


def some_tasks(
    rng: np.random.Generator,
) -> Iterator[tuple[float, tuple[str, tuple[Group, Floats, Floats, bool]]]]:
    """Make up tasks of both groups."""
    for number, items in enumerate([60, 200, 1_000]):
        truth, credits_ = right_and_wrong(rng, items)
        yield truth, (f"task_{number}", ("llm", *credits_.T, True))
    first, second = (rng.choice(6, size=100, p=shares) / 5 for shares in REPORTS[:2])
    truth = float((np.array(REPORTS[1]) - REPORTS[0]) @ np.arange(6)) / 5
    yield truth, ("reports", ("vlm", first, second, False))
