"""Proportions from counts, with bounds, corrections and agreement. Pure functions."""

import math
from bisect import bisect_right
from statistics import NormalDist
from typing import NamedTuple

CONFIDENCE = 0.95

_STEPS = 500
_CLOSE = 1e-14
_TINY = 1e-300
_HALVINGS = 60
"""Halvings of [0, 1] after which a float no longer changes."""


class Share(NamedTuple):
    """A proportion as counts: hits among trials."""

    hits: int
    trials: int


class Estimate(NamedTuple):
    """A value and its confidence interval."""

    value: float
    low: float
    high: float


class Agreement(NamedTuple):
    """Counts of the four combinations of two raters' YES and NO."""

    both_yes: int
    only_first: int
    only_second: int
    both_no: int

    @property
    def cohen_kappa(self) -> float | None:
        """Agreement beyond chance, each rater's chance its own (Cohen 1960).

        None without items, and if both raters gave the same verdict to all items.
        """
        first = (self.both_yes + self.only_first) / max(1, sum(self))
        second = (self.both_yes + self.only_second) / max(1, sum(self))
        return self._beyond(first * second + (1 - first) * (1 - second))

    @property
    def gwet_ac1(self) -> float | None:
        """Agreement beyond chance, stable even if nearly all are YES or NO (Gwet 2008).

        None without items.
        """
        yes = (2 * self.both_yes + self.only_first + self.only_second) / max(1, 2 * sum(self))
        return self._beyond(2 * yes * (1 - yes))

    def _beyond(self, chance: float) -> float | None:
        if not sum(self) or chance == 1:
            return None
        observed = (self.both_yes + self.both_no) / sum(self)
        return (observed - chance) / (1 - chance)


def beta_cdf(x: float, a: float, b: float) -> float:
    """Compute the regularised incomplete beta I_x(a, b), by its continued fraction (DLMF 8.17.22)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    # The fraction converges fast only below the mean. Above it, the symmetry
    # I_x(a, b) = 1 - I_1-x(b, a) leads back below.
    if x > (a + 1) / (a + b + 2):
        return 1 - beta_cdf(1 - x, b, a)
    log_factor = a * math.log(x) + b * math.log1p(-x) - math.log(a)
    log_beta = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    return math.exp(log_factor - log_beta) / _beta_fraction(x, a, b)


def _beta_fraction(x: float, a: float, b: float) -> float:
    """Evaluate the continued fraction's denominator by the modified method of Lentz."""
    value = c = 1.0
    d = 0.0
    for step in range(1, _STEPS):
        term = _beta_term(step, x, a, b)
        d = 1 / ((1 + term * d) or _TINY)
        c = (1 + term / c) or _TINY
        value *= c * d
        if abs(c * d - 1) < _CLOSE:
            break
    return value


def _beta_term(step: int, x: float, a: float, b: float) -> float:
    m, is_odd = divmod(step, 2)
    if is_odd:
        return -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
    return m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))


def upper_bound(share: Share, confidence: float = CONFIDENCE) -> float:
    """Return the one-sided upper confidence bound of a rate (Clopper and Pearson 1934)."""
    if share.hits >= share.trials:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        rate = (low + high) / 2
        if beta_cdf(rate, share.hits + 1, share.trials - share.hits) < confidence:
            low = rate
        else:
            high = rate
    return high


def most_errors(trials: int, rate: float, confidence: float = CONFIDENCE) -> int | None:
    """Return the most errors among *trials* whose upper bound is at most *rate*.

    It is the greatest k with P(X ≤ k) ≤ 1 - confidence for binomial X, as P(X ≤ k) = I_1-rate(n-k, k+1).
    None if the bound of 0 errors is above *rate* already.
    """
    allowed = bisect_right(
        range(trials), 1 - confidence, key=lambda k: beta_cdf(1 - rate, trials - k, k + 1)
    )
    return allowed - 1 if allowed else None


def least_trials(rate: float, confidence: float = CONFIDENCE) -> int:
    """Return the fewest trials that, without an error, certify a rate of at most *rate*."""
    return math.ceil(math.log(1 - confidence) / math.log1p(-rate))


def corrected_accuracy(
    yes: Share, sensitivity: Share, specificity: Share, confidence: float = CONFIDENCE
) -> Estimate | None:
    """Estimate the share of right answers from a judge's share of YES and its error rates.

    The value follows Rogan and Gladen (1978); the interval of Lang and Reiczigel (2014) includes
    the sampling error of all three shares. None if a share has no trials, or if by the labels the
    judge is no better than chance. The items of *yes* are not among the labels.
    """
    if not all(share.trials for share in (yes, sensitivity, specificity)):
        return None
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    # Lang and Reiczigel add z² trials to the share of YES, and two to each share of the labels,
    # half of them hits, which keeps the interval's coverage at small counts.
    p, p_variance = _drawn(yes, z**2)
    se, se_variance = _drawn(sensitivity, 2)
    sp, sp_variance = _drawn(specificity, 2)
    if se + sp <= 1 or _rate(sensitivity) + _rate(specificity) <= 1:
        return None
    right = _right(p, se, sp)
    shift = 2 * z**2 * (right * se_variance - (1 - right) * sp_variance)
    variance = p_variance + right**2 * se_variance + (1 - right) ** 2 * sp_variance
    margin = z * math.sqrt(variance) / (se + sp - 1)
    return Estimate(
        _clipped(_right(_rate(yes), _rate(sensitivity), _rate(specificity))),
        _clipped(right + shift - margin),
        _clipped(right + shift + margin),
    )


def _right(yes: float, sensitivity: float, specificity: float) -> float:
    """Return the share of right answers that yields this share of YES."""
    return (yes + specificity - 1) / (sensitivity + specificity - 1)


def _drawn(share: Share, added: float) -> tuple[float, float]:
    """Return a rate and its variance after *added* more trials, half of them hits."""
    trials = share.trials + added
    rate = (share.hits + added / 2) / trials
    return rate, rate * (1 - rate) / trials


def _rate(share: Share) -> float:
    return share.hits / share.trials


def _clipped(value: float) -> float:
    return min(1.0, max(0.0, value))
