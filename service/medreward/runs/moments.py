"""Means, standard deviations and correlations, computed incrementally without storing values.

Parts are merged as in Chan, Golub and LeVeque, "Algorithms for computing the sample variance" (The
American Statistician 37, 1983), which keeps its precision if the spread is much smaller than the
mean.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import mul


@dataclass(slots=True)
class Moments:
    """Number, mean and spread of values."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    """Sum of squared distances from the mean."""

    def add(self, values: Sequence[float]) -> None:
        """Add *values*."""
        if values:
            mean = sum(values) / len(values)
            away = [value - mean for value in values]
            squares = sum(map(mul, away, away))
            self.merge(Moments(len(values), mean, squares))

    def merge(self, other: "Moments") -> None:
        """Add what *other* has seen."""
        if other.count == 0:
            return
        count = self.count + other.count
        apart = other.mean - self.mean
        self.squares += other.squares + apart * apart * self.count * other.count / count
        self.mean += apart * other.count / count
        self.count = count

    @property
    def sd(self) -> float:
        """Standard deviation of the values as a population: divided by n, not by n - 1."""
        return math.sqrt(self.squares / self.count) if self.count else 0.0


@dataclass(slots=True)
class Correlation:
    """Correlation of two values of each sample."""

    count: int = 0
    mean_x: float = 0.0
    mean_y: float = 0.0
    xx: float = 0.0
    yy: float = 0.0
    xy: float = 0.0
    """Sums of the products of the distances from the means."""

    def add(self, xs: Sequence[float], ys: Sequence[float]) -> None:
        """Add the pairs of *xs* and *ys*."""
        if not xs:
            return
        mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
        away_x, away_y = [x - mean_x for x in xs], [y - mean_y for y in ys]
        xx, yy = sum(map(mul, away_x, away_x)), sum(map(mul, away_y, away_y))
        xy = sum(map(mul, away_x, away_y))
        self.merge(Correlation(len(xs), mean_x, mean_y, xx, yy, xy))

    def merge(self, other: "Correlation") -> None:
        """Add what *other* has seen."""
        if other.count == 0:
            return
        count = self.count + other.count
        x, y = other.mean_x - self.mean_x, other.mean_y - self.mean_y
        weight = self.count * other.count / count
        self.xx += other.xx + x * x * weight
        self.yy += other.yy + y * y * weight
        self.xy += other.xy + x * y * weight
        self.mean_x += x * other.count / count
        self.mean_y += y * other.count / count
        self.count = count

    @property
    def correlation(self) -> float | None:
        """Pearson's r; None if one of the two values does not vary."""
        spread = math.sqrt(self.xx) * math.sqrt(self.yy)
        # Equal values leave rounding errors: a spread of that size counts as 0,
        # and r is undefined.
        if spread <= SMALLEST_SPREAD * self.count:
            return None
        return max(-1.0, min(1.0, self.xy / spread))


SMALLEST_SPREAD = 1e-12
