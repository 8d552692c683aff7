"""Fitting: a judge that is too sure of itself comes out honest, and bounds that are kept."""

import math
from itertools import pairwise
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from medreward.audit.binomial import most_errors
from medreward.audit.figures import Floats, Truths
from medreward.audit.fit import (
    LEAST_LABELS,
    ErrorRates,
    Fitted,
    Label,
    Origin,
    Scale,
    Thresholds,
    Unfitted,
    calibration_error,
    certify,
    cross_fitted,
    fit_entry,
    fit_families,
    fit_scale,
    highest_no,
    lowest_yes,
    quality,
)
from medreward.engines.calibration import Family

ORIGIN = Origin("noisy@1", "equivalence", "5" * 64)
RATES = ErrorRates()
NORMAL = NormalDist()
SEEDS = 1000
SURE = 8.0
"""How many times too large a scripted judge's logits are, about."""

RIGHT, WRONG = np.full(300, 0.9), np.full(300, 0.1)
"""Scores of right and of wrong answers."""


def noisy(
    seed: int, size: int, *, tpr: float, fpr: float, sure: float = SURE
) -> tuple[Floats, Truths]:
    """A judge with chosen error rates at 0.5 that is surer than it should be; half the answers right."""
    rng = np.random.default_rng(seed)
    is_right = np.arange(size) % 2 == 0
    centre = np.where(is_right, NORMAL.inv_cdf(tpr), NORMAL.inv_cdf(fpr))
    return 1 / (1 + np.exp(-sure * (centre + rng.standard_normal(size)))), is_right


def drawn_at(score: float, scale: Scale, rate: float) -> float:
    """The normal number that `noisy` draws for a calibrated score, of answers that get so many YES."""
    logit = (math.log(score / (1 - score)) - scale.bias) * scale.temperature
    return logit / SURE - NORMAL.inv_cdf(rate)


def labelled(p: Floats, is_right: Truths, family: Family = "short") -> list[Label]:
    """The same as labels."""
    pairs = zip(p.tolist(), is_right.tolist(), strict=True)
    return [
        Label(one, truth, family, f"{number:064x}") for number, (one, truth) in enumerate(pairs)
    ]


@pytest.mark.parametrize(
    ("tpr", "fpr", "sure"), [(0.80, 0.25, 8.0), (0.70, 0.30, 5.0), (0.90, 0.40, 6.0)]
)
def test_a_judge_that_is_too_sure_comes_out_honest(tpr: float, fpr: float, sure: float) -> None:
    """Its calibration error of 0.15 or more falls to 0.03 or less, on labels of another day."""
    scale = fit_scale(*noisy(0, 2000, tpr=tpr, fpr=fpr, sure=sure))
    p, is_right = noisy(1, 20_000, tpr=tpr, fpr=fpr, sure=sure)
    before, after = quality(p, is_right), quality(scale.of(p), is_right)

    assert before.ece >= 0.15
    assert after.ece <= 0.03
    assert after.nll < before.nll
    assert after.brier < before.brier


@pytest.mark.parametrize(("temperature", "bias"), [(1.0, 0.0), (4.0, 0.5), (0.5, -1.0)])
def test_the_map_is_found_again(temperature: float, bias: float) -> None:
    """Labels drawn from a map give its two numbers back."""
    rng = np.random.default_rng(2)
    p = 1 / (1 + np.exp(-rng.normal(0, 3, 50_000)))
    is_right = rng.random(len(p)) < Scale(temperature, bias).of(p)

    assert fit_scale(p, is_right) == pytest.approx((temperature, bias), rel=0.1, abs=0.05)


# One threshold parts them, so the likelihood has no maximum.
@example([(0.9, True), (0.1, False)] * 50)
@example([(1.0, True), (0.0, False)] * 50)
# The judge says YES rather to the wrong one.
@example([(0.1, True), (0.9, False)] * 50)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=30))
def test_a_fit_is_finite_and_keeps_the_order(labels: list[tuple[float, bool]]) -> None:
    """However odd the labels, a greater P(YES) never stands for less, and its quality is a number."""
    p, is_right = np.array([p for p, _ in labels]), np.array([y for _, y in labels])
    scale = fit_scale(p, is_right)
    moved = scale.of(np.linspace(0, 1, 101))

    assert np.isfinite(scale).all()
    assert scale.temperature > 0
    assert all(low <= high for low, high in pairwise(moved))
    assert np.isfinite(quality(cross_fitted(p, is_right), is_right)).all()


def test_the_calibration_error_is_that_of_pencil_and_paper() -> None:
    """Two bins of two: |0.2 - 0.5| and |0.85 - 1|, half each."""
    p, is_right = np.array([0.9, 0.1, 0.3, 0.8]), np.array([True, False, True, True])

    assert calibration_error(p, is_right, bins=2) == pytest.approx((0.3 + 0.15) / 2)


@pytest.mark.parametrize("size", [200, 400])
def test_a_certified_error_rate_is_kept(size: int) -> None:
    """In at least 95 of 100 calibrations, the true rates beyond both thresholds are as certified."""
    kept_fpr = kept_fnr = 0
    for seed in range(SEEDS):
        scores = np.random.default_rng(seed).standard_normal(size)
        yes_above, no_below = lowest_yes(scores, 0.02), highest_no(scores, 0.10)
        assert yes_above is not None
        assert no_below is not None
        kept_fpr += 1 - NORMAL.cdf(yes_above) <= 0.02
        kept_fnr += NORMAL.cdf(no_below) <= 0.10

    assert kept_fpr >= 0.95 * SEEDS
    assert kept_fnr >= 0.95 * SEEDS


@pytest.mark.parametrize("seeds", [100, pytest.param(SEEDS, marks=pytest.mark.slow)])
def test_the_whole_fit_keeps_both_rates(seeds: int) -> None:
    """Though map and thresholds come from the same labels, and thousands of thresholds were tried."""
    kept_fpr = kept_fnr = 0
    for seed in range(seeds):
        p, is_right = noisy(seed, 800, tpr=0.95, fpr=0.05)
        scale = fit_scale(p, is_right)
        scores = scale.of(p)
        found = certify(scores[is_right], scores[~is_right], RATES)
        assert isinstance(found, Thresholds)
        kept_fpr += 1 - NORMAL.cdf(drawn_at(found.yes_above, scale, 0.05)) <= RATES.alpha_fpr
        kept_fnr += NORMAL.cdf(drawn_at(found.no_below, scale, 0.95)) <= RATES.alpha_fnr

    assert kept_fpr >= 0.95 * seeds
    assert kept_fnr >= 0.95 * seeds


def test_what_hangs_between_the_thresholds_abstains() -> None:
    """A judge that errs more than is allowed says nothing where it errs."""
    fit = fit_entry(labelled(*noisy(3, 1000, tpr=0.9, fpr=0.1)), ORIGIN, RATES, "any")

    assert isinstance(fit, Fitted)
    assert fit.entry.no_below < fit.entry.threshold < fit.entry.yes_above
    assert 0 < fit.entry.abstained < 1
    assert fit.false_yes[0] > 0.05
    assert fit.false_yes[1] <= 0.02
    assert fit.false_no[1] <= 0.10


def test_a_judge_that_errs_seldom_never_abstains() -> None:
    """Where the thresholds would cross, one between them keeps both rates."""
    fit = fit_entry(labelled(*noisy(4, 1000, tpr=0.999, fpr=0.001)), ORIGIN, RATES, "any")

    assert isinstance(fit, Fitted)
    assert fit.entry.no_below == fit.entry.threshold == fit.entry.yes_above
    assert fit.entry.abstained == 0
    assert fit.entry.sensitivity > 0.99
    assert fit.entry.specificity > 0.99


@given(st.lists(st.integers(30, 60), min_size=4, max_size=4))
def test_equal_scores_certify_no_more_than_they_should(counts: list[int]) -> None:
    """However many share one, no more wrong answers pass than are allowed."""
    wrong = np.repeat([0.1, 0.5, 0.9, 1.0], counts)
    threshold = lowest_yes(wrong, 0.05)

    assert threshold is not None
    assert (wrong > threshold).sum() <= (most_errors(len(wrong), 0.05) or 0)


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        (RIGHT, WRONG[:148], "148 wrong answers are labelled, and 149 are the least that certify"),
        (RIGHT[:20], WRONG, "20 right answers are labelled, and 29 are the least that certify"),
        (RIGHT, WRONG[:0], "0 wrong answers are labelled"),
        (RIGHT, RIGHT, "no right answer gets a YES"),
        (np.r_[np.zeros(60), RIGHT], WRONG, "no wrong answer gets a NO"),
    ],
)
def test_what_cannot_be_certified_is_refused(right: Floats, wrong: Floats, told: str) -> None:
    """The reason says how many labels are missing, or which verdict would never be given."""
    reason = certify(right, wrong, RATES)

    assert isinstance(reason, str)
    assert reason.startswith(told)


def test_a_family_with_enough_labels_has_a_map_of_its_own() -> None:
    """The others are read by the map for any, which is fitted on all."""
    sure, meek = noisy(5, 600, tpr=0.95, fpr=0.05), noisy(6, 600, tpr=0.95, fpr=0.05, sure=0.5)
    few = noisy(7, LEAST_LABELS - 2, tpr=0.95, fpr=0.05)
    labels = [*labelled(*sure), *labelled(*meek, "quantity"), *labelled(*few, "passage")]
    pool, *families = fit_families(labels, ORIGIN, RATES)
    found = {fit.entry.family: fit.entry for fit in families if isinstance(fit, Fitted)}

    assert isinstance(pool, Fitted)
    assert (pool.entry.family, pool.entry.labels) == ("any", len(labels))
    assert found.keys() == {"short", "quantity"}
    assert found["quantity"].temperature < pool.entry.temperature < found["short"].temperature
    assert [fit.family for fit in families if isinstance(fit, Unfitted)] == ["passage"]


def test_a_family_whose_labels_certify_nothing_is_read_by_the_map_for_any() -> None:
    """A map of its own without thresholds would be of no use."""
    labels = [*labelled(*noisy(5, 600, tpr=0.95, fpr=0.05))]
    labels += labelled(*noisy(6, 100, tpr=0.95, fpr=0.05), "quantity")
    unfitted = [f for f in fit_families(labels, ORIGIN, RATES) if isinstance(f, Unfitted)]

    assert [(fit.family, fit.labels) for fit in unfitted] == [("quantity", 100)]
    assert "50 wrong answers are labelled, and 149 are the least" in unfitted[0].reason


def test_a_fit_depends_on_its_labels_and_not_on_their_order_in_name() -> None:
    """The digest of a set of labels is the same whatever their order."""
    labels = labelled(*noisy(5, 600, tpr=0.95, fpr=0.05))
    one, other = (fit_entry(rows, ORIGIN, RATES, "any") for rows in (labels, labels[::-1]))

    assert isinstance(one, Fitted)
    assert isinstance(other, Fitted)
    assert one.entry.labels_sha256 == other.entry.labels_sha256
    assert one.entry.temperature == pytest.approx(other.entry.temperature)
