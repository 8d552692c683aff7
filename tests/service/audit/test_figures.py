"""Rates, ROC curves and reliability against what can be counted by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from medreward.audit.figures import (
    Floats,
    Point,
    Rate,
    Truths,
    area_under_curve,
    mean,
    rate,
    reliability,
    roc,
    wilson,
)

# Few distinct probabilities, so that ties are the rule.
probabilities = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0]) | st.floats(0, 1)
scores = st.lists(probabilities, min_size=1, max_size=30)


def judged(right: list[float], wrong: list[float]) -> tuple[Floats, Truths]:
    """Probabilities of equivalent and of different pairs, with their truths."""
    return np.array([*right, *wrong]), np.array([True] * len(right) + [False] * len(wrong))


@given(scores, scores)
def test_the_area_is_the_chance_that_the_right_one_wins(
    right: list[float], wrong: list[float]
) -> None:
    """It equals the count over all pairs, a tie being half, and is the area under the curve."""
    wins = [1.0 if a > b else 0.5 if a == b else 0.0 for a in right for b in wrong]
    curve = roc(*judged(right, wrong))

    assert area_under_curve(np.array(right), np.array(wrong)) == pytest.approx(np.mean(wins))
    assert np.trapezoid([p[1] for p in curve], [p[0] for p in curve]) == pytest.approx(
        np.mean(wins), abs=1e-12
    )
    assert curve == sorted(curve)
    assert (curve[0], curve[-1]) == (Point(0, 0), Point(1, 1))


@given(scores, scores)
def test_no_figure_depends_on_the_order(right: list[float], wrong: list[float]) -> None:
    """Turning the list round changes nothing, ties or not."""
    p, is_yes = judged(right, wrong)

    assert roc(p[::-1], is_yes[::-1]) == roc(p, is_yes)
    assert reliability(p[::-1], is_yes[::-1]) == reliability(p, is_yes)


@given(scores, scores, st.integers(1, 20))
def test_bins_hold_everything_in_equal_parts(
    right: list[float], wrong: list[float], count: int
) -> None:
    """Sizes differ by one at most, and their means add up to the whole."""
    bins = reliability(*judged(right, wrong), count)
    sizes = [one.size for one in bins]

    assert sum(sizes) == len(right) + len(wrong)
    assert max(sizes) - min(sizes) <= 1
    assert math.fsum(one.mean_p * one.size for one in bins) == pytest.approx(sum(right + wrong))
    assert math.fsum(one.share_yes * one.size for one in bins) == pytest.approx(len(right))


@given(st.integers(1, 10_000).flatmap(lambda of: st.tuples(st.integers(0, of), st.just(of))))
def test_wilsons_interval_is_scipys(counts: tuple[int, int]) -> None:
    """It holds its share, and stays between 0 and 1."""
    low, high = wilson(*counts)

    known = stats.binomtest(*counts).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((known.low, known.high), abs=1e-12)
    assert 0 <= low <= counts[0] / counts[1] <= high <= 1


def test_a_share_of_nothing_is_none() -> None:
    """It is no zero."""
    assert (Rate(0, 0).share, Rate(0, 0).interval, mean([])) == (None, None, None)
    assert rate([True, False, True]) == Rate(2, 3)
    assert mean([1.0, 2.0]) == 1.5
