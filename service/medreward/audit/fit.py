"""From labelled judgements to calibration entries: the map, the thresholds, and what they gain. Pure."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medreward.audit.binomial import CONFIDENCE, Agreement, least_trials, most_errors
from medreward.engines.calibration import ANY, FAMILIES, LEAST_P, Entry, Family, rescaled

Floats = NDArray[np.float64]
Truths = NDArray[np.bool_]

LEAST_LABELS: Final = 50
"""Of a family that gets a map of its own; with fewer, its noise is greater than what it mends."""
BINS: Final = 15
FOLDS: Final = 5
EVEN: Final = 0.5
LEAST_SLOPE: Final = 0.01
"""A judge may say YES rather to the wrong answers; the map never turns its scale around."""
RIDGE: Final = 0.1
"""Holds slope and bias near 1 and 0, by less than one label does, so that both are always finite."""
NEWTON_STEPS: Final = 100
CLOSE: Final = 1e-10


class Label(NamedTuple):
    """What the judge said of a pair, and what is true of it."""

    p_yes: float
    equivalent: bool
    family: Family
    digest: str
    """Of its texts and its truth, in hexadecimals."""


class Origin(NamedTuple):
    """Whose judgements they are."""

    engine: str
    template: str
    template_sha: str


class ErrorRates(NamedTuple):
    """What is to be certified, each with the same confidence."""

    alpha_fpr: float = 0.02
    """Share of the wrong answers that get a YES, at most."""
    alpha_fnr: float = 0.10
    """Share of the right answers that get a NO, at most."""
    confidence: float = CONFIDENCE


class Scale(NamedTuple):
    """The map's two numbers."""

    temperature: float
    bias: float

    def of(self, p: Floats) -> Floats:
        """Move probabilities, each by the very arithmetic that a service uses."""
        return np.array([rescaled(float(one), *self) for one in p])


class Quality(NamedTuple):
    """How well probabilities tell what is true; less is better."""

    ece: float
    nll: float
    brier: float


class Thresholds(NamedTuple):
    """Where NO ends, where YES begins, and where they meet if nothing abstains."""

    no_below: float
    threshold: float
    yes_above: float


@dataclass(frozen=True, slots=True)
class Fitted:
    """An entry, and what it mends on its own labels."""

    entry: Entry
    before: Quality
    after: Quality
    """By maps that did not see the label whose probability they move."""
    false_yes: tuple[float, float]
    """Share of the wrong answers that get a YES: the judge's own, and after thresholds."""
    false_no: tuple[float, float]
    """Share of the right answers that get a NO, likewise."""
    agreement: Agreement
    """Of the judge at `threshold` with the labels."""


@dataclass(frozen=True, slots=True)
class Unfitted:
    """No entry, and why."""

    family: Family | Literal["any"]
    labels: int
    reason: str


def fit_families(
    labels: Sequence[Label], origin: Origin, rates: ErrorRates
) -> list[Fitted | Unfitted]:
    """Fit one entry on all labels, and one for each family whose own labels certify it.

    The first is for any family that has none, so its certificate is for the labels' mix of families.
    """
    fitted = [fit_entry(labels, origin, rates, ANY)]
    for family in FAMILIES:
        own = [label for label in labels if label.family == family]
        if len(own) >= LEAST_LABELS:
            fitted.append(fit_entry(own, origin, rates, family))
        elif own:
            reason = f"{LEAST_LABELS} labels are the least for a map of its own"
            fitted.append(Unfitted(family, len(own), reason))
    return fitted


def fit_entry(
    labels: Sequence[Label], origin: Origin, rates: ErrorRates, family: Family | Literal["any"]
) -> Fitted | Unfitted:
    """Fit the map and certify the thresholds on the same labels.

    The map never changes the order of two scores, and the thresholds depend on nothing but the
    order: what they certify holds though the labels are used twice.
    """
    p = np.array([label.p_yes for label in labels])
    is_right = np.array([label.equivalent for label in labels], dtype=np.bool_)
    scale = fit_scale(p, is_right)
    scores = scale.of(p)
    thresholds = certify(scores[is_right], scores[~is_right], rates)
    if isinstance(thresholds, str):
        return Unfitted(family, len(labels), thresholds)
    before, after = quality(p, is_right), quality(cross_fitted(p, is_right), is_right)
    is_yes = scores > thresholds.threshold
    entry = Entry(
        **origin._asdict(),
        family=family,
        **scale._asdict(),
        **thresholds._asdict(),
        labels=len(labels),
        positives=int(is_right.sum()),
        labels_sha256=_digest(labels),
        **rates._asdict(),
        ece_before=before.ece,
        ece_after=after.ece,
        sensitivity=_share(is_yes[is_right]),
        specificity=_share(~is_yes[~is_right]),
        abstained=_share((scores > thresholds.no_below) & (scores <= thresholds.yes_above)),
    )
    return Fitted(
        entry,
        before,
        after,
        (_share(p[~is_right] > EVEN), _share(scores[~is_right] > thresholds.yes_above)),
        (_share(p[is_right] <= EVEN), _share(scores[is_right] <= thresholds.no_below)),
        agreement(is_yes, is_right),
    )


def fit_scale(p: Floats, is_right: Truths) -> Scale:
    """Find the temperature and bias under which the labels are likeliest.

    That is logistic regression on the logit, by Newton's method (Platt 1999; Guo et al. 2017,
    arXiv 1706.04599).
    """
    logits = _logits(p)
    design = np.column_stack([logits, np.ones_like(logits)])
    # Measured from the judge's own scale, so that the ridge draws towards leaving it as it is.
    extra_slope, bias = _regress(design, is_right, offset=logits)
    slope = 1 + extra_slope
    if slope < LEAST_SLOPE:
        # The likelihood is concave, so its best within the bound lies on the bound.
        slope = LEAST_SLOPE
        (bias,) = _regress(design[:, 1:], is_right, offset=slope * logits)
    return Scale(1 / float(slope), float(bias))


def _regress(design: Floats, is_right: Truths, *, offset: Floats) -> Floats:
    weights = np.zeros(design.shape[1])
    loss = _loss(weights, design, is_right, offset)
    for _ in range(NEWTON_STEPS):
        p = _sigmoid(offset + design @ weights)
        gradient = design.T @ (p - is_right) + RIDGE * weights
        curvature = (design.T * (p * (1 - p))) @ design + RIDGE * np.eye(len(weights))
        step = np.linalg.solve(curvature, gradient)
        while (next_loss := _loss(weights - step, design, is_right, offset)) > loss:
            step /= 2
            if np.abs(step).max() < CLOSE:
                return weights
        weights, loss = weights - step, next_loss
        if np.abs(step).max() < CLOSE:
            break
    return weights


def _loss(weights: Floats, design: Floats, is_right: Truths, offset: Floats) -> float:
    z = offset + design @ weights
    return float(np.logaddexp(0, z).sum() - z[is_right].sum() + RIDGE / 2 * weights @ weights)


def cross_fitted(p: Floats, is_right: Truths) -> Floats:
    """Move each probability by a map fitted without it, so that the gain shown is not flattered."""
    fold = np.empty(len(p), dtype=np.intp)
    fold[np.argsort(is_right, kind="stable")] = np.arange(len(p)) % FOLDS
    moved = np.empty(len(p))
    for number in range(FOLDS):
        is_held_out = fold == number
        scale = fit_scale(p[~is_held_out], is_right[~is_held_out])
        moved[is_held_out] = scale.of(p[is_held_out])
    return moved


def certify(right: Floats, wrong: Floats, rates: ErrorRates) -> Thresholds | str:
    """Choose thresholds that keep both error rates, from the scores of right and wrong answers.

    Gives the reason where they cannot be certified, or where one of the verdicts would never be
    given. Where both rates can be kept without abstaining, the three thresholds are one.
    """
    yes_above = lowest_yes(wrong, rates.alpha_fpr, rates.confidence)
    if yes_above is None:
        return _too_few("wrong", len(wrong), rates.alpha_fpr, rates.confidence)
    no_below = highest_no(right, rates.alpha_fnr, rates.confidence)
    if no_below is None:
        return _too_few("right", len(right), rates.alpha_fnr, rates.confidence)
    if no_below >= yes_above:
        meeting = min(no_below, max(yes_above, EVEN))
        return Thresholds(meeting, meeting, meeting)
    if not (right > yes_above).any():
        return _no_better("wrong", "right", "YES", rates.alpha_fpr)
    if not (wrong <= no_below).any():
        return _no_better("right", "wrong", "NO", rates.alpha_fnr)
    return Thresholds(no_below, min(yes_above, max(no_below, EVEN)), yes_above)


def lowest_yes(wrong: Floats, alpha: float, confidence: float = CONFIDENCE) -> float | None:
    """The lowest threshold certified to leave at most *alpha* of the wrong answers above it.

    From the strictest threshold down, each is tested by its Clopper-Pearson bound, and the first that
    fails ends the search. Such a fixed sequence keeps its level whatever its length (Angelopoulos et
    al., Learn then Test, arXiv 2110.01052, section 2.3). As the errors only grow on the way, it ends
    where their number passes the most that are allowed: at a wrong answer's own score, so the bound
    is that of an order statistic, and holds for any distribution. None where even 0 errors are over.
    """
    allowed = most_errors(len(wrong), alpha, confidence)
    return None if allowed is None else float(np.sort(wrong)[::-1][allowed])


def highest_no(right: Floats, alpha: float, confidence: float = CONFIDENCE) -> float | None:
    """The highest threshold certified to leave at most *alpha* of the right answers at or below it.

    As `lowest_yes`, from below.
    """
    allowed = most_errors(len(right), alpha, confidence)
    # What is at a threshold is below it, so it stays short of the first score that is too many.
    return None if allowed is None else math.nextafter(float(np.sort(right)[allowed]), -math.inf)


def _too_few(kind: str, found: int, alpha: float, confidence: float) -> str:
    least = least_trials(alpha, confidence)
    return (
        f"{found} {kind} answers are labelled, and {least} are the least that certify "
        f"{alpha:g} at {confidence:.0%}: label {least - found} more, or allow a larger share"
    )


def _no_better(kind: str, other: str, verdict: str, alpha: float) -> str:
    return (
        f"no {other} answer gets a {verdict} where at most {alpha:g} of the {kind} ones may: "
        "the judge does not tell them apart; use a better one, or allow a larger share"
    )


def quality(p: Floats, is_right: Truths) -> Quality:
    """Compare probabilities with what is true."""
    p = np.clip(p, LEAST_P, 1 - LEAST_P)
    nll = -np.log(np.where(is_right, p, 1 - p)).mean()
    return Quality(calibration_error(p, is_right), float(nll), float(((p - is_right) ** 2).mean()))


def calibration_error(p: Floats, is_right: Truths, bins: int = BINS) -> float:
    """The expected calibration error over bins of equal mass (Nixon et al. 2019, arXiv 1904.01685)."""
    values, place, counts = np.unique(p, return_inverse=True, return_counts=True)
    # Equal probabilities may fall into two bins; their mean makes it the same which goes where.
    truth = np.repeat(np.bincount(place, weights=is_right) / counts, counts)
    gaps = np.repeat(values, counts) - truth
    parts = np.array_split(gaps, min(bins, len(gaps)))
    return float(sum(abs(part.sum()) for part in parts) / len(gaps))


def agreement(is_yes: Truths, is_right: Truths) -> Agreement:
    """Count how often verdicts and labels agree."""
    return Agreement(
        both_yes=int((is_yes & is_right).sum()),
        only_first=int((is_yes & ~is_right).sum()),
        only_second=int((~is_yes & is_right).sum()),
        both_no=int((~is_yes & ~is_right).sum()),
    )


def _digest(labels: Sequence[Label]) -> str:
    """Name a set of labels, whatever their order."""
    return hashlib.sha256("".join(sorted(label.digest for label in labels)).encode()).hexdigest()


def _logits(p: Floats) -> Floats:
    p = np.clip(p, LEAST_P, 1 - LEAST_P)
    return np.log(p / (1 - p))


def _sigmoid(z: Floats) -> Floats:
    return np.exp(-np.logaddexp(0, -z))


def _share(flags: Truths) -> float:
    return float(flags.mean())
