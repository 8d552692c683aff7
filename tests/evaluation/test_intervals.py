"""Confidence intervals of accuracies, and corrections for the judge's errors."""

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from medreward.audit import binomial
from medreward_eval.statistics.intervals import (
    CONFIDENCE,
    Calibrated,
    Stratum,
    agreement,
    contradicts,
    corrected,
    macro,
    mean_interval,
    wilson,
)
from medreward_eval.statistics.scores import Estimate, Interval
from tests.evaluation.sample_scores import sure

GOOD = Calibrated(true_positives=188, positives=200, true_negatives=176, negatives=200)
"""Sensitivity 0.94, specificity 0.88."""

trials = st.integers(1, 5_000)
hits_and_trials = trials.flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(hits_and_trials)
def test_wilsons_interval_is_scipys(counts: tuple[int, int]) -> None:
    """The bounds are the known ones, and within 0 and 1."""
    known = stats.binomtest(*counts).proportion_ci(CONFIDENCE, method="wilson")

    assert wilson(*counts) == pytest.approx((known.low, known.high), abs=1e-12)


@pytest.mark.parametrize(("hits", "of"), [(0, 0), (-1, 5), (6, 5)])
def test_a_share_that_cannot_be_has_no_interval(hits: int, of: int) -> None:
    """Without judged items there is no accuracy, not an accuracy of 0."""
    with pytest.raises(ValueError, match="no share"):
        wilson(hits, of)


@pytest.mark.parametrize("mean", [lambda: mean_interval(0, 0.0, 0.0), lambda: macro([])])
def test_a_mean_of_nothing_has_no_interval(mean: Callable[[], object]) -> None:
    """No reports are not reports of 0, nor no tasks tasks of 0."""
    with pytest.raises(ValueError, match="nothing"):
        mean()


@given(st.lists(st.sampled_from([0, 0.2, 0.4, 2 / 3, 0.8, 1]), min_size=2, max_size=200))
def test_the_interval_of_a_mean_holds_it_and_has_a_width(credits_: list[float]) -> None:
    """Whatever the scores, the mean lies in bounds that are apart and within 0 and 1."""
    low, high = mean_interval(len(credits_), sum(credits_), sum(c * c for c in credits_))

    assert 0 <= low <= sum(credits_) / len(credits_) + 1e-12
    assert sum(credits_) / len(credits_) - 1e-12 <= high <= 1
    assert high - low > 1e-3


def test_the_interval_of_a_mean_is_students() -> None:
    """The sums are enough for the known interval."""
    credits_ = [0.2, 0.4, 0.4, 0.6, 0.8, 0.6, 0.4]
    known = stats.ttest_1samp(credits_, 0).confidence_interval(CONFIDENCE)

    bounds = mean_interval(7, sum(credits_), sum(c * c for c in credits_))

    assert bounds == pytest.approx((known.low, known.high))


@pytest.mark.parametrize("reports", [1, 3, 500])
def test_perfect_reports_do_not_make_sure(reports: int) -> None:
    """Reports that are all 5 of 5 are bounded as so many right answers."""
    assert mean_interval(reports, float(reports), float(reports)) == wilson(reports, reports)


def test_a_macro_average_counts_each_task_the_same() -> None:
    """Distances to the bounds add up in squares, each side for itself."""
    parts = [Estimate(0.5, Interval(0.47, 0.56)), Estimate(0.9, Interval(0.86, 0.98))]

    found = macro(parts)

    assert found.value == pytest.approx(0.7)
    assert found.interval == pytest.approx((0.7 - 0.05 / 2, 0.7 + 0.1 / 2))


def test_what_is_settled_without_the_judge_is_not_corrected() -> None:
    """Only the judge's share of YES is; 30 settled answers count as they are."""
    found = sure(corrected([(30, 40, [Stratum(60, 45, GOOD, "short")])]))

    assert found.value == pytest.approx((30 + 60 * (0.75 - 0.12) / 0.82) / 100)


def test_without_a_judge_the_interval_is_that_of_the_share() -> None:
    """If rules settled all items, there is no judge's error to add."""
    found = sure(corrected([(150, 200, [])]))

    assert found.value == 0.75
    assert found.interval == pytest.approx(wilson(150, 200), abs=0.01)


def test_fewer_labels_leave_more_open() -> None:
    """The value stays, and the interval grows."""
    few = Calibrated(47, 50, 44, 50)

    many, fewer = (sure(corrected([(0, 0, [Stratum(1_000, 600, c, "any")])])) for c in (GOOD, few))

    assert fewer.value == pytest.approx(many.value)
    assert width(fewer) > 1.3 * width(many)


def test_an_error_that_tasks_share_does_not_average_out() -> None:
    """Ten tasks of one calibration are less sure than ten with a calibration each."""
    shared = [(0, 0, [Stratum(2_000, 1_200, GOOD, "any")])] * 10
    separate = [(0, 0, [Stratum(2_000, 1_200, GOOD, str(i))]) for i in range(10)]

    assert width(sure(corrected(shared))) > 2 * width(sure(corrected(separate)))


@pytest.mark.parametrize(
    "judge",
    [
        Calibrated(50, 100, 50, 100),  # says YES to anything as often
        Calibrated(0, 0, 90, 100),  # no right answer among the labels
        Calibrated(90, 100, 0, 0),
    ],
)
def test_a_judge_no_better_than_chance_corrects_nothing(judge: Calibrated) -> None:
    """Its verdicts carry no information, so the corrected accuracy is None."""
    assert corrected([(10, 20, [Stratum(80, 40, judge, "any")])]) is None


def test_a_judge_that_was_not_asked_spoils_nothing() -> None:
    """An empty stratum needs no calibration."""
    assert corrected([(10, 20, [Stratum(0, 0, Calibrated(0, 0, 0, 0), "any")])]) is not None


def test_a_judge_that_may_be_no_better_than_chance_leaves_all_open() -> None:
    """With a handful of labels the bounds go to 0 and 1."""
    found = corrected([(0, 0, [Stratum(200, 100, Calibrated(6, 10, 6, 10), "any")])])

    assert sure(found).interval == (0, 1)


def test_nothing_judged_is_not_corrected() -> None:
    """It is None, and not 0; in an average such a task is left out."""
    assert corrected([(0, 0, [])]) is None
    assert corrected([]) is None
    assert corrected([(0, 0, []), (150, 200, [])]) == corrected([(150, 200, [])])


def test_reports_that_nothing_corrects_count_as_they_are() -> None:
    """An average takes a task's sum of shares with the bounds of as many right answers."""
    reports, answers = (320.5, 500, ()), (0, 0, [Stratum(500, 300, GOOD, "any")])

    alone, both = sure(corrected([reports])), sure(corrected([reports, answers]))

    assert alone.value == 320.5 / 500
    assert alone.interval == pytest.approx(wilson(320, 500), abs=0.01)
    assert both.value == pytest.approx((alone.value + (0.6 - 0.12) / 0.82) / 2)


@given(yes=st.integers(0, 300), right=st.integers(0, 50))
def test_a_corrected_accuracy_lies_in_its_interval(yes: int, right: int) -> None:
    """Even where the judge said YES more or less often than it can."""
    found = sure(corrected([(right, 50, [Stratum(300, yes, GOOD, "any")])], draws=500))

    assert 0 <= found.interval.low <= found.value <= found.interval.high <= 1


@given(st.integers(0, 100), st.integers(0, 100), st.integers(0, 100), st.integers(0, 100))
def test_agreement_is_the_services(
    both_yes: int, only_judge: int, only_label: int, both_no: int
) -> None:
    """Kappa and AC1 are those that `medreward calibrate` tells."""
    known = binomial.Agreement(both_yes, only_judge, only_label, both_no)

    kappa, ac1 = agreement(
        Calibrated(both_yes, both_yes + only_label, both_no, both_no + only_judge)
    )

    assert (kappa is None) == (known.cohen_kappa is None)
    assert (ac1 is None) == (known.gwet_ac1 is None)
    assert math.isclose(kappa or 0, known.cohen_kappa or 0, abs_tol=1e-9)
    assert math.isclose(ac1 or 0, known.gwet_ac1 or 0, abs_tol=1e-9)


def width(estimate: Estimate) -> float:
    """The width of an interval."""
    return estimate.interval.high - estimate.interval.low


@pytest.mark.parametrize(
    ("yes", "expected"), [(0, True), (6, False), (50, False), (94, False), (97, False), (100, True)]
)
def test_more_yes_than_right_answers_get_contradicts_the_labels(yes: int, expected: bool) -> None:
    """With sensitivity 0.94 and specificity 0.88, 97 of 100 may be chance, and 0 or 100 are not."""
    assert contradicts(Stratum(100, yes, GOOD, "any")) is expected


def test_a_judge_of_no_use_contradicts_nothing() -> None:
    """There is nothing that its YES could tell."""
    assert not contradicts(Stratum(100, 100, Calibrated(50, 100, 40, 100), "any"))
