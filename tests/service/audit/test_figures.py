"""Rates, ROC curves and reliability against what can be counted by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medreward.audit.figures import Point, Rate, Scored, area, mean, rate, reliability, roc, wilson
from medreward.audit.fit import calibration_error

# Few distinct probabilities, so that ties are the rule.
probabilities = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0]) | st.floats(0, 1)
judgements = st.lists(st.builds(Scored, probabilities, st.booleans()), max_size=60)


@given(judgements)
def test_the_area_is_the_chance_that_the_right_one_wins(scored: list[Scored]) -> None:
    """It equals the count over all pairs of an equivalent and a different one, a tie being half."""
    right = [one.p for one in scored if one.is_yes]
    wrong = [one.p for one in scored if not one.is_yes]
    wins = [1.0 if a > b else 0.5 if a == b else 0.0 for a in right for b in wrong]
    found = area(roc(scored))

    if wins:
        assert found == pytest.approx(sum(wins) / len(wins), abs=1e-12)
    else:
        assert found is None


@given(judgements)
def test_a_curve_climbs_from_corner_to_corner(scored: list[Scored]) -> None:
    """Neither share falls, and the ends are nothing and everything."""
    curve = roc(scored)

    assert curve == sorted(curve)
    if curve:
        assert (curve[0], curve[-1]) == (Point(0, 0), Point(1, 1))


@given(judgements)
def test_no_figure_depends_on_the_order(scored: list[Scored]) -> None:
    """Turning the list round changes nothing, ties or not."""
    turned = scored[::-1]

    assert roc(turned) == roc(scored)
    assert reliability(turned) == reliability(scored)


@given(judgements, st.integers(1, 20))
def test_bins_hold_everything_in_equal_parts(scored: list[Scored], count: int) -> None:
    """Sizes differ by one at most, and their means add up to the whole."""
    bins = reliability(scored, count)
    sizes = [one.size for one in bins]

    assert sum(sizes) == len(scored)
    assert not sizes or max(sizes) - min(sizes) <= 1
    said = math.fsum(one.mean_p * one.size for one in bins)
    was = math.fsum(one.share_yes * one.size for one in bins)
    assert said == pytest.approx(math.fsum(one.p for one in scored))
    assert was == pytest.approx(sum(one.is_yes for one in scored))


@given(judgements.filter(bool))
def test_the_plotted_bins_are_those_of_the_error(scored: list[Scored]) -> None:
    """The gaps in the plot, weighted by size, are the expected calibration error."""
    gaps = [one.size * abs(one.mean_p - one.share_yes) for one in reliability(scored)]
    p, is_yes = np.array([one.p for one in scored]), np.array([one.is_yes for one in scored])

    assert math.fsum(gaps) / len(scored) == pytest.approx(calibration_error(p, is_yes), abs=1e-9)


@pytest.mark.parametrize(
    ("hits", "of", "low", "high"),
    [
        (0, 10, 0.0, 0.27753),
        (10, 10, 0.72247, 1.0),
        (1, 10, 0.01788, 0.40415),
        (50, 100, 0.40383, 0.59617),
        (1, 1000, 0.00018, 0.00564),
    ],
)
def test_wilson_gives_the_published_bounds(hits: int, of: int, low: float, high: float) -> None:
    """Values computed apart, to five places."""
    assert wilson(hits, of) == pytest.approx((low, high), abs=5e-6)


@given(st.integers(1, 10_000).flatmap(lambda of: st.tuples(st.integers(0, of), st.just(of))))
def test_an_interval_holds_its_share(counts: tuple[int, int]) -> None:
    """And stays between 0 and 1."""
    low, high = wilson(*counts)

    assert 0 <= low <= counts[0] / counts[1] <= high <= 1


def test_a_share_of_nothing_is_none() -> None:
    """It is no zero."""
    assert (Rate(0, 0).share, Rate(0, 0).interval, mean([])) == (None, None, None)
    assert rate([True, False, True]) == Rate(2, 3)
    assert mean([1.0, 2.0]) == 1.5
