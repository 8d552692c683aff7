"""Proportions: bounds that published tables give, corrections that cover what they promise."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medreward.audit.binomial import (
    Agreement,
    Share,
    beta_cdf,
    corrected_accuracy,
    least_trials,
    most_errors,
    upper_bound,
)

RATES = st.floats(0.001, 0.5)
SIMULATIONS = 4000
COUNTS = st.integers(0, 500)


@pytest.mark.parametrize(
    ("x", "a", "b", "expected"),
    [
        (0.0, 2, 3, 0.0),
        (0.5, 2, 3, 0.6875),
        (0.3, 0.5, 0.5, 0.369010119566),
        (0.02, 4, 397, 0.95904834493),
        (0.9, 50, 3, 0.0966332851373),
        (0.001, 1, 2000, 0.864800074603),
        (1.0, 2, 3, 1.0),
    ],
)
def test_the_incomplete_beta_function_has_its_known_values(
    x: float, a: float, b: float, expected: float
) -> None:
    """On both sides of the mean, and far out."""
    assert beta_cdf(x, a, b) == pytest.approx(expected, rel=1e-10)


@given(st.integers(1, 60), st.floats(0, 1), st.data())
def test_it_is_the_tail_of_a_binomial(trials: int, rate: float, data: st.DataObject) -> None:
    """P(X ≤ k) summed term by term is the same."""
    k = data.draw(st.integers(0, trials - 1))
    terms = (math.comb(trials, i) * rate**i * (1 - rate) ** (trials - i) for i in range(k + 1))

    assert beta_cdf(1 - rate, trials - k, k + 1) == pytest.approx(math.fsum(terms), abs=1e-9)


@pytest.mark.parametrize(
    ("hits", "trials", "bound"),
    [
        (0, 299, 0.0099691467929),
        (1, 20, 0.216106164207),
        (3, 100, 0.0757107937498),
        (10, 500, 0.0336882723311),
        (50, 100, 0.586378285369),
        (20, 20, 1.0),
        (0, 0, 1.0),
    ],
)
def test_the_upper_bound_has_its_known_values(hits: int, trials: int, bound: float) -> None:
    """One-sided, at 95 %."""
    assert upper_bound(Share(hits, trials)) == pytest.approx(bound, rel=1e-10)


@pytest.mark.parametrize(("rate", "trials"), [(0.01, 299), (0.005, 598), (0.001, 2995)])
def test_so_many_trials_without_error_certify_a_rate(rate: float, trials: int) -> None:
    """One fewer does not."""
    assert least_trials(rate) == trials
    assert most_errors(trials, rate) == 0
    assert most_errors(trials - 1, rate) is None


@given(st.integers(1, 3000), RATES)
def test_the_most_errors_are_the_last_whose_bound_is_within(trials: int, rate: float) -> None:
    """One more is over."""
    errors = most_errors(trials, rate)

    assert errors is None or upper_bound(Share(errors, trials)) <= rate + 1e-12
    assert upper_bound(Share(0 if errors is None else errors + 1, trials)) >= rate - 1e-12


@pytest.mark.parametrize(
    ("accuracy", "sensitivity", "specificity", "items", "labels"),
    [
        (0.7, 0.90, 0.85, 500, 100),
        pytest.param(0.3, 0.80, 0.90, 300, 100, marks=pytest.mark.slow),
        pytest.param(0.9, 0.95, 0.95, 1000, 200, marks=pytest.mark.slow),
        pytest.param(0.5, 0.70, 0.70, 500, 200, marks=pytest.mark.slow),
        pytest.param(0.8, 0.95, 0.90, 200, 50, marks=pytest.mark.slow),
    ],
)
def test_the_interval_covers_the_accuracy_as_often_as_it_says(
    accuracy: float, sensitivity: float, specificity: float, items: int, labels: int
) -> None:
    """Between 93 and 97 of 100 intervals at 95 % hold what is true, though the judge errs."""
    rng = np.random.default_rng(1)
    right = rng.binomial(items, accuracy, SIMULATIONS)
    yes = rng.binomial(right, sensitivity) + rng.binomial(items - right, 1 - specificity)
    found = zip(
        yes.tolist(),
        rng.binomial(labels, sensitivity, SIMULATIONS).tolist(),
        rng.binomial(labels, specificity, SIMULATIONS).tolist(),
        strict=True,
    )
    estimates = [
        corrected_accuracy(Share(y, items), Share(se, labels), Share(sp, labels))
        for y, se, sp in found
    ]
    covering = sum(e is not None and e.low <= accuracy <= e.high for e in estimates)

    assert 0.93 <= covering / SIMULATIONS <= 0.97


def test_a_perfect_judge_needs_no_correction() -> None:
    """The value is the share of YES."""
    estimate = corrected_accuracy(Share(70, 100), Share(500, 500), Share(500, 500))

    assert estimate is not None
    assert estimate.value == pytest.approx(0.7)
    assert 0.55 < estimate.low < 0.7 < estimate.high < 0.85


def test_fewer_labels_make_a_wider_interval() -> None:
    """What is not known of the judge is part of it."""
    few = corrected_accuracy(Share(700, 1000), Share(45, 50), Share(45, 50))
    many = corrected_accuracy(Share(700, 1000), Share(900, 1000), Share(900, 1000))

    assert few is not None
    assert many is not None
    assert few.value == pytest.approx(many.value)
    assert few.low < many.low < many.high < few.high


@pytest.mark.parametrize(
    ("yes", "sensitivity", "specificity"),
    [
        (Share(0, 0), Share(9, 10), Share(9, 10)),
        (Share(5, 10), Share(0, 0), Share(9, 10)),
        (Share(5, 10), Share(9, 10), Share(0, 0)),
        (Share(5, 10), Share(5, 10), Share(5, 10)),
        (Share(5, 10), Share(1, 10), Share(1, 10)),
        (Share(0, 1), Share(1, 7), Share(1, 1)),  # better than chance by a label that may be luck
    ],
)
def test_a_judge_of_no_worth_corrects_nothing(
    yes: Share, sensitivity: Share, specificity: Share
) -> None:
    """At chance, or with hardly a label, there is no estimate rather than a wild one."""
    assert corrected_accuracy(yes, sensitivity, specificity) is None


@given(st.integers(1, 500), st.integers(1, 500), st.integers(1, 500), st.data())
def test_an_estimate_lies_between_0_and_1(n: int, m1: int, m0: int, data: st.DataObject) -> None:
    """Whatever the counts."""
    yes, se, sp = (Share(data.draw(st.integers(0, trials)), trials) for trials in (n, m1, m0))
    estimate = corrected_accuracy(yes, se, sp)

    assert estimate is None or 0 <= estimate.low <= estimate.high <= 1
    assert estimate is None or 0 <= estimate.value <= 1


@pytest.mark.parametrize(
    ("counts", "kappa", "ac1"),
    [
        ((20, 5, 10, 15), 0.4, 0.4059),
        # Gwet's paradox: raters that agree on 118 of 125, nearly all of them YES.
        ((118, 5, 2, 0), -0.0234, 0.9407),
        ((50, 0, 0, 50), 1.0, 1.0),
        ((0, 50, 50, 0), -1.0, -1.0),
        ((9, 0, 0, 0), None, 1.0),
        ((0, 0, 0, 0), None, None),
    ],
)
def test_agreement_beyond_chance_has_its_known_values(
    counts: tuple[int, int, int, int], kappa: float | None, ac1: float | None
) -> None:
    """Cohen's falls to nothing where nearly all are YES; Gwet's does not."""
    agreement = Agreement(*counts)

    assert agreement.cohen_kappa == (None if kappa is None else pytest.approx(kappa, abs=1e-4))
    assert agreement.gwet_ac1 == (None if ac1 is None else pytest.approx(ac1, abs=1e-4))


@given(COUNTS, COUNTS, COUNTS, COUNTS)
def test_agreement_knows_no_first_and_second(a: int, b: int, c: int, d: int) -> None:
    """Who rated what does not matter."""
    one, other = Agreement(a, b, c, d), Agreement(a, c, b, d)

    assert one.gwet_ac1 == other.gwet_ac1
    assert one.cohen_kappa == other.cohen_kappa
