"""Confidence intervals of accuracies, and accuracies corrected for the judge's errors. Pure."""

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist, fmean
from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from medreward_eval.statistics.scores import Estimate, Interval

CONFIDENCE: Final = 0.95
"""Level of every interval."""
TAILS: Final = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)
DRAWS: Final = 20_000
"""So many leave a Monte Carlo error of about a fiftieth of the interval's width in a bound."""
SEED: Final = 20_140_307
"""A fixed seed, so that equal counts give equal bounds."""

Floats: TypeAlias = NDArray[np.float64]


class Calibrated(NamedTuple):
    """Counts of a judge's verdicts on items that people have labelled."""

    true_positives: int
    positives: int
    true_negatives: int
    negatives: int

    @property
    def sensitivity(self) -> float:
        """The share of right answers that it said YES to."""
        return self.true_positives / self.positives

    @property
    def specificity(self) -> float:
        """The share of wrong answers that it said NO to."""
        return self.true_negatives / self.negatives

    @property
    def is_better_than_chance(self) -> bool:
        """True if sensitivity and specificity add up to more than 1 on the labelled items."""
        return min(self.positives, self.negatives) > 0 and self.sensitivity + self.specificity > 1


class Stratum(NamedTuple):
    """A judge's verdicts on items of one family of references: *yes* of *trials*."""

    trials: int
    yes: int
    calibrated: Calibrated
    family: str

    @property
    def right(self) -> float:
        """The share of right answers behind the judge's YES (Rogan and Gladen 1978)."""
        sensitivity, specificity = self.calibrated.sensitivity, self.calibrated.specificity
        share = (self.yes / self.trials + specificity - 1) / (sensitivity + specificity - 1)
        return min(1.0, max(0.0, share))


JudgedTask: TypeAlias = tuple[float, int, Sequence[Stratum]]
"""Items settled right without the judge, all items so settled, and the judge's verdicts.

For a mean of shares the first is their sum: of all shares with that mean, 0 and 1 vary most.
"""


def wilson(hits: float, trials: int) -> Interval:
    """Return Wilson's interval (1927) of a share of right answers; *hits* need not be whole.

    Raises:
        ValueError: *trials* is 0, or less than *hits*.
    """
    if not 0 <= hits <= trials or trials < 1:
        raise ValueError(f"{hits:g} of {trials} is no share")
    z = NormalDist().inv_cdf(TAILS[1])
    centre = (hits + z * z / 2) / (trials + z * z)
    margin = z * math.sqrt(hits * (trials - hits) / trials + z * z / 4) / (trials + z * z)
    # Rounding would move the lower bound of 0 hits, and the upper bound of all hits, off 0 and 1.
    low = 0.0 if hits == 0 else max(0.0, centre - margin)
    high = 1.0 if hits == trials else min(1.0, centre + margin)
    return Interval(low, high)


def mean_interval(trials: int, total: float, squares: float) -> Interval:
    """Return Student's interval of a mean of shares, cut to 0 to 1.

    Each share is from 0 to 1, or of a rubric and perhaps below 0. *total* and *squares* are the sums
    of the shares and of their squares. Shares that are all equal, or a single one, give no variance.
    They get Wilson's interval, as if each were a right or a wrong answer: no shares from 0 to 1 with
    that mean can vary more.

    Raises:
        ValueError: *trials* is 0.
    """
    if trials < 1:
        raise ValueError("there is nothing to take the mean of")
    mean = total / trials
    spread = squares - total * mean
    # For equal shares the difference of the sums is a rounding error.
    if trials == 1 or spread <= 1e-12 * trials:
        return wilson(min(max(total, 0.0), trials), trials)
    margin = float(stdtrit(trials - 1, TAILS[1])) * math.sqrt(spread / (trials - 1) / trials)
    low, high = (min(1.0, max(0.0, bound)) for bound in (mean - margin, mean + margin))
    return Interval(low, high)


def macro(parts: Sequence[Estimate]) -> Estimate:
    """Return the unweighted mean of independent estimates.

    The squared distances of the parts' bounds are added up, those below and those above the values
    separately: MOVER (Zou and Donner 2008).

    Raises:
        ValueError: *parts* is empty.
    """
    if not parts:
        raise ValueError("there is nothing to take the mean of")
    value = fmean(part.value for part in parts)
    below = math.hypot(*(part.value - part.interval.low for part in parts)) / len(parts)
    above = math.hypot(*(part.interval.high - part.value for part in parts)) / len(parts)
    return Estimate(value, Interval(max(0.0, value - below), min(1.0, value + above)))


def corrected(tasks: Sequence[JudgedTask], *, draws: int = DRAWS) -> Estimate | None:
    """Return the unweighted mean of tasks' accuracies, or that of one task, corrected for the judge.

    Items settled without the judge are taken as correct. The bounds are percentiles of *draws*
    accuracies: shares are drawn from Beta distributions given the counts, with Jeffreys's prior. A
    judge's error is drawn once for all strata of a family, since it does not average out between
    tasks.
    Tasks without items are left out. None if a judge that was used is no better than chance, or no
    task is left.
    """
    tasks = [_without_empty(task) for task in tasks if _items(task)]
    judges = {(s.family, s.calibrated) for _, _, strata in tasks for s in strata}
    if not tasks or not all(calibrated.is_better_than_chance for _, calibrated in judges):
        return None
    rng = np.random.default_rng(SEED)
    # Sorted, since a set has no stable order, and the draws depend on the order.
    rates = {judge: _judge_draws(judge[1], rng, draws) for judge in sorted(judges)}
    accuracies = sum(_accuracy_draws(task, rates, rng, draws) for task in tasks) / len(tasks)
    value = fmean(_accuracy(task) for task in tasks)
    low, high = map(float, np.quantile(np.clip(accuracies, 0, 1), TAILS))
    return Estimate(value, Interval(min(low, value), max(high, value)))


def contradicts(stratum: Stratum, *, draws: int = DRAWS) -> bool:
    """Return True if the judge's share of YES is above its sensitivity or below its error rate.

    Then its labels are of other answers than these, and cannot correct them: less than 2.5 % of the
    draws that fit the counts have a share of right answers from 0 to 1.
    """
    if not stratum.calibrated.is_better_than_chance:
        return False
    rng = np.random.default_rng(SEED)
    sensitivity, specificity = _judge_draws(stratum.calibrated, rng, draws)
    yes = _beta(stratum.yes, stratum.trials, rng, draws)
    return float(np.mean((1 - specificity <= yes) & (yes <= sensitivity))) < TAILS[0]


def agreement(calibrated: Calibrated) -> tuple[float | None, float | None]:
    """Return Cohen's kappa (1960) and Gwet's AC1 (2008) of a judge with its labels.

    Either is None if chance agreement is 1, or if there are no labels.
    """
    labels = calibrated.positives + calibrated.negatives
    if not labels:
        return None, None
    agreed = (calibrated.true_positives + calibrated.true_negatives) / labels
    right = calibrated.positives / labels
    yes = (calibrated.true_positives + calibrated.negatives - calibrated.true_negatives) / labels
    either = (right + yes) / 2
    return (
        _beyond_chance(agreed, right * yes + (1 - right) * (1 - yes)),
        _beyond_chance(agreed, 2 * either * (1 - either)),
    )


def _items(task: JudgedTask) -> int:
    _, settled, strata = task
    return settled + sum(stratum.trials for stratum in strata)


def _without_empty(task: JudgedTask) -> JudgedTask:
    right, settled, strata = task
    return right, settled, [stratum for stratum in strata if stratum.trials]


def _accuracy(task: JudgedTask) -> float:
    right, _, strata = task
    return (right + sum(stratum.trials * stratum.right for stratum in strata)) / _items(task)


def _accuracy_draws(
    task: JudgedTask,
    rates: Mapping[tuple[str, Calibrated], tuple[Floats, Floats]],
    rng: np.random.Generator,
    draws: int,
) -> Floats:
    """Draw a task's accuracy; the sizes of the strata are random, too."""
    right, settled, strata = task
    total, weighted = np.zeros(draws), np.zeros(draws)
    if settled:
        weight = rng.standard_gamma(settled, draws)
        total += weight
        weighted += weight * _beta(right, settled, rng, draws)
    for stratum in strata:
        weight = rng.standard_gamma(stratum.trials, draws)
        yes = _beta(stratum.yes, stratum.trials, rng, draws)
        total += weight
        weighted += weight * _right_draws(yes, *rates[stratum.family, stratum.calibrated])
    return weighted / total


def _right_draws(yes: Floats, sensitivity: Floats, specificity: Floats) -> Floats:
    """Return Rogan and Gladen's share for each draw, clipped to -1 to 2.

    Only a mean of them is clipped to 0 to 1: clipping each draw would bias the mean inwards.
    If a draw's judge is no better than chance, its verdicts carry no information. Such draws are 0
    and 1 in turn, so the bounds widen to 0 and 1 if there are many of them.
    """
    informed = sensitivity + specificity - 1
    share = (yes + specificity - 1) / np.where(informed > 0, informed, 1)
    return np.where(informed > 0, np.clip(share, -1, 2), np.arange(len(yes)) % 2)


def _judge_draws(
    calibrated: Calibrated, rng: np.random.Generator, draws: int
) -> tuple[Floats, Floats]:
    """Draw pairs of sensitivity and specificity."""
    return (
        _beta(calibrated.true_positives, calibrated.positives, rng, draws),
        _beta(calibrated.true_negatives, calibrated.negatives, rng, draws),
    )


def _beta(hits: float, trials: int, rng: np.random.Generator, draws: int) -> Floats:
    return rng.beta(hits + 0.5, trials - hits + 0.5, draws)


def _beyond_chance(agreed: float, chance: float) -> float | None:
    return None if chance == 1 else (agreed - chance) / (1 - chance)
