"""Means, standard deviations and correlations, computed incrementally without storing values.

Parts are merged as in Chan, Golub and LeVeque, "Algorithms for computing the sample variance" (The
American Statistician 37, 1983), which keeps its precision if the spread is much smaller than the
mean.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
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

    x: Moments = field(default_factory=Moments)
    y: Moments = field(default_factory=Moments)
    products: float = 0.0
    """Sum of the products of the distances from the two means."""

    def add(self, xs: Sequence[float], ys: Sequence[float]) -> None:
        """Add the pairs of *xs* and *ys*."""
        added = Correlation()
        added.x.add(xs)
        added.y.add(ys)
        away_x, away_y = [x - added.x.mean for x in xs], [y - added.y.mean for y in ys]
        added.products = sum(map(mul, away_x, away_y))
        self.merge(added)

    def merge(self, other: "Correlation") -> None:
        """Add what *other* has seen."""
        if other.x.count == 0:
            return
        weight = self.x.count * other.x.count / (self.x.count + other.x.count)
        apart = (other.x.mean - self.x.mean) * (other.y.mean - self.y.mean)
        self.products += other.products + apart * weight
        self.x.merge(other.x)
        self.y.merge(other.y)

    @property
    def correlation(self) -> float | None:
        """Pearson's r; None if one of the two values does not vary."""
        spread = math.sqrt(self.x.squares) * math.sqrt(self.y.squares)
        # Equal values leave rounding errors: a spread of that size counts as 0,
        # and r is undefined.
        if spread <= SMALLEST_SPREAD * self.x.count:
            return None
        return max(-1.0, min(1.0, self.products / spread))


SMALLEST_SPREAD = 1e-12
