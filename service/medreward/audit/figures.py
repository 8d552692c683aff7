"""The statistics of a report card: rates, ROC curves and reliability. Pure functions.

*p* holds a judge's probabilities of YES, and *is_yes* or *is_right* the truths.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Truths = NDArray[np.bool_]

BINS: Final = 15
Z_95 = 1.959963984540054
"""The normal quantile of a two-sided 95 % interval."""


class Interval(NamedTuple):
    """Bounds of a share, both between 0 and 1."""

    low: float
    high: float


class Rate(NamedTuple):
    """A proportion as counts: hits among *of* cases."""

    hits: int
    of: int

    @property
    def share(self) -> float | None:
        """The hits as a share, between 0 and 1; None without cases."""
        return self.hits / self.of if self.of else None

    @property
    def interval(self) -> Interval | None:
        """The share's 95 % interval; None without cases."""
        return wilson(self.hits, self.of) if self.of else None


class Point(NamedTuple):
    """A point of a ROC curve: the shares of cases that one threshold accepts."""

    false_positives: float
    """Share of the different ones."""
    true_positives: float
    """Share of the equivalent ones."""


class Bin(NamedTuple):
    """Cases of similar probability: the mean prediction and the observed share of YES."""

    mean_p: float
    share_yes: float
    size: int


def rate(hits: Iterable[bool]) -> Rate:
    """Count the true values."""
    found = list(hits)
    return Rate(sum(found), len(found))


def wilson(hits: int, of: int, z: float = Z_95) -> Interval:
    """Compute the score interval of a share (Wilson 1927, JASA 22:209); *of* is at least 1."""
    share, z2 = hits / of, z * z
    centre = share + z2 / (2 * of)
    spread = z * math.sqrt(share * (1 - share) / of + z2 / (4 * of * of))
    low, high = ((centre + way * spread) / (1 + z2 / of) for way in (-1, 1))
    # Without hits the low end is exactly 0, and without misses the high end exactly 1; the formula
    # misses both by a rounding error.
    return Interval(low if hits else 0.0, high if hits < of else 1.0)


def roc(p: Floats, is_yes: Truths) -> list[Point]:
    """Compute the ROC curve, from the strictest threshold down, with one point for equal scores."""
    _, place = np.unique(-p, return_inverse=True)
    right = np.bincount(place, weights=is_yes).cumsum()
    wrong = np.bincount(place, weights=~is_yes).cumsum()
    shares = zip((wrong / wrong[-1]).tolist(), (right / right[-1]).tolist(), strict=True)
    return [Point(0.0, 0.0), *map(Point._make, shares)]


def area_under_curve(right: Floats, wrong: Floats) -> float:
    """Return the share of (right, wrong) pairs whose right one scores higher; a tie counts as half."""
    ordered = np.sort(wrong)
    below = np.searchsorted(ordered, right, "left")
    up_to = np.searchsorted(ordered, right, "right")
    return float((below + up_to).mean() / (2 * len(wrong)))


def reliability(p: Floats, is_yes: Truths, bins: int = BINS) -> list[Bin]:
    """Sort by probability and cut into *bins* of equal size, at most one for each member."""
    values, place, counts = np.unique(p, return_inverse=True, return_counts=True)
    # A bin's edge may fall among equal probabilities. Each of them gets their mean outcome, so the
    # result does not depend on the side that a member falls on.
    shares = np.bincount(place, weights=is_yes) / counts
    parts = zip(
        np.array_split(np.repeat(values, counts), min(bins, len(p))),
        np.array_split(np.repeat(shares, counts), min(bins, len(p))),
        strict=True,
    )
    return [Bin(float(p.mean()), float(share.mean()), len(p)) for p, share in parts]


def mean(values: Sequence[float]) -> float | None:
    """Return the mean, or None without values."""
    return math.fsum(values) / len(values) if values else None
