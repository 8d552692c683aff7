"""Bounds of error rates and agreement, against SciPy and published values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from medreward.audit.binomial import Agreement, least_trials, most_errors

COUNTS = st.integers(0, 500)


@pytest.mark.parametrize(("rate", "trials"), [(0.01, 299), (0.005, 598), (0.001, 2995)])
def test_so_many_trials_without_error_certify_a_rate(rate: float, trials: int) -> None:
    """One fewer does not."""
    assert least_trials(rate) == trials
    assert most_errors(trials, rate) == 0
    assert most_errors(trials - 1, rate) is None


@given(st.integers(1, 100_000), st.floats(0.001, 0.5))
def test_the_most_errors_are_the_last_whose_bound_is_within(trials: int, rate: float) -> None:
    """One more is over, by SciPy's binomial distribution."""
    errors = most_errors(trials, rate)

    assert errors is None or stats.binom.cdf(errors, trials, rate) <= 0.05 + 1e-9
    assert stats.binom.cdf(0 if errors is None else errors + 1, trials, rate) >= 0.05 - 1e-9


@pytest.mark.parametrize(
    ("counts", "kappa", "ac1"),
    [
        ((20, 5, 10, 15), 0.4, 0.4059),
        # Gwet's paradox: raters that agree on 118 of 125, nearly all of them YES.
        ((118, 5, 2, 0), -0.0234, 0.9407),
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
