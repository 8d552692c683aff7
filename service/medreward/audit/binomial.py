"""Bounds of error rates from counts, and agreement of two raters. Pure functions."""

import math
from typing import NamedTuple

CONFIDENCE = 0.95


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


def most_errors(trials: int, rate: float, confidence: float = CONFIDENCE) -> int | None:
    """Return the most errors among *trials* whose upper confidence bound is at most *rate*.

    The bound is Clopper and Pearson's (1934), so it is the greatest k with P(X ≤ k) ≤ 1 - confidence
    for a binomial X. None if the bound of 0 errors is above *rate* already.
    """
    allowed, at_most = None, 0.0
    for errors in range(trials):
        # In logarithms, since (1 - rate)^trials underflows for many trials.
        log_choices = math.lgamma(trials + 1) - math.lgamma(errors + 1)
        log_choices -= math.lgamma(trials - errors + 1)
        log_chance = errors * math.log(rate) + (trials - errors) * math.log1p(-rate)
        at_most += math.exp(log_choices + log_chance)
        if at_most > 1 - confidence:
            break
        allowed = errors
    return allowed


def least_trials(rate: float, confidence: float = CONFIDENCE) -> int:
    """Return the fewest trials that, without an error, certify a rate of at most *rate*."""
    return math.ceil(math.log(1 - confidence) / math.log1p(-rate))
