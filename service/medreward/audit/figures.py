"""The statistics of a report card: rates, ROC curves and reliability. Pure functions."""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, pairwise
from typing import NamedTuple

from medreward.audit.fit import BINS

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


class Scored(NamedTuple):
    """A probability of YES, and the truth."""

    p: float
    is_yes: bool


class Point(NamedTuple):
    """A point of a ROC curve: the shares of pairs that one threshold accepts."""

    false_positives: float
    """Share of the different pairs."""
    true_positives: float
    """Share of the equivalent pairs."""


class Bin(NamedTuple):
    """Pairs of similar probability: the mean prediction and the observed share of YES."""

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


def roc(scored: Iterable[Scored]) -> list[Point]:
    """Compute the ROC curve, from the strictest threshold down, with one point for equal scores.

    Empty if there are no equivalent or no different pairs.
    """
    ordered = sorted(scored, key=lambda one: -one.p)
    right = sum(one.is_yes for one in ordered)
    wrong = len(ordered) - right
    if not right or not wrong:
        return []
    points, hits, slips = [Point(0.0, 0.0)], 0, 0
    for _, tied in groupby(ordered, key=lambda one: one.p):
        for one in tied:
            hits += one.is_yes
            slips += not one.is_yes
        points.append(Point(slips / wrong, hits / right))
    return points


def area(curve: Sequence[Point]) -> float | None:
    """Compute the area under a ROC curve: the chance that an equivalent pair outscores a different one.

    A tie counts as half. None without a curve.
    """
    if not curve:
        return None
    return math.fsum(
        (b.false_positives - a.false_positives) * (a.true_positives + b.true_positives) / 2
        for a, b in pairwise(curve)
    )


def reliability(scored: Iterable[Scored], bins: int = BINS) -> list[Bin]:
    """Sort by probability and cut into *bins* of equal size, at most one for each member.

    Members of equal probability share their outcomes evenly, so the result does not depend on
    their order. The bins are those of `fit.calibration_error`.
    """
    smoothed = list(_share_among_ties(scored))
    count = min(bins, len(smoothed))
    size, larger = divmod(len(smoothed), count or 1)
    cuts = [number * size + min(number, larger) for number in range(count + 1)]
    return [_bin(smoothed[start:end]) for start, end in pairwise(cuts)]


def mean(values: Sequence[float]) -> float | None:
    """Return the mean, or None without values."""
    return math.fsum(values) / len(values) if values else None


def _share_among_ties(scored: Iterable[Scored]) -> Iterator[tuple[float, float]]:
    for p, group in groupby(sorted(scored, key=lambda one: one.p), key=lambda one: one.p):
        tied = [one.is_yes for one in group]
        share = sum(tied) / len(tied)
        yield from ((p, share) for _ in tied)


def _bin(members: Sequence[tuple[float, float]]) -> Bin:
    size = len(members)
    return Bin(
        mean_p=math.fsum(p for p, _ in members) / size,
        share_yes=math.fsum(share for _, share in members) / size,
        size=size,
    )
