"""From labelled judgements to calibration entries: maps, thresholds and their gain. Pure functions."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import numpy as np

from medreward.audit.binomial import CONFIDENCE, Agreement, least_trials, most_errors
from medreward.audit.figures import BINS, Floats, Truths, reliability
from medreward.engines.calibration import ANY, FAMILIES, LEAST_P, Entry, Family, rescaled

LEAST_LABELS: Final = 50
"""Fewest labels for a family's own map; with fewer, noise outweighs the correction."""
FOLDS: Final = 5
EVEN: Final = 0.5
LEAST_SLOPE: Final = 0.01
"""Lower bound of the slope: a map never reverses a scale, even if a judge prefers wrong answers."""
RIDGE: Final = 0.1
"""Penalty towards slope 1 and bias 0, weaker than one label; it keeps both finite."""
NEWTON_STEPS: Final = 100
CLOSE: Final = 1e-10


class Label(NamedTuple):
    """The judge's probability for a pair, and the truth."""

    p_yes: float
    equivalent: bool
    family: Family
    digest: str
    """Hexadecimal SHA-256 of the texts and the truth."""


class Origin(NamedTuple):
    """The engine and the template that the judgements come from."""

    engine: str
    template: str
    template_sha: str


class ErrorRates(NamedTuple):
    """Upper limits of the two error rates, each certified with the same confidence."""

    alpha_fpr: float = 0.02
    """Highest share of wrong answers that get a YES."""
    alpha_fnr: float = 0.10
    """Highest share of right answers that get a NO."""
    confidence: float = CONFIDENCE


class Scale(NamedTuple):
    """The parameters of a map."""

    temperature: float
    bias: float

    def of(self, p: Floats) -> Floats:
        """Rescale probabilities with the function that a service uses."""
        return np.array([rescaled(float(one), *self) for one in p])


class Quality(NamedTuple):
    """The errors of probabilities against the truth; lower is better."""

    ece: float
    nll: float
    brier: float


class Thresholds(NamedTuple):
    """The upper end of NO, the lower end of YES, and the boundary between them if none abstains."""

    no_below: float
    threshold: float
    yes_above: float


@dataclass(frozen=True, slots=True)
class Fitted:
    """A calibration entry, and the errors on its own labels before and after it."""

    entry: Entry
    before: Quality
    after: Quality
    """Cross-fitted: each probability is moved by a map that did not see its label."""
    false_yes: tuple[float, float]
    """Share of wrong answers that get a YES: of the judge alone, and with the thresholds."""
    false_no: tuple[float, float]
    """Share of right answers that get a NO: of the judge alone, and with the thresholds."""
    agreement: Agreement
    """Agreement of the judge at `threshold` with the labels."""


@dataclass(frozen=True, slots=True)
class Unfitted:
    """A family without an entry, and the reason."""

    family: Family | Literal["any"]
    labels: int
    reason: str


def fit_families(
    labels: Sequence[Label], origin: Origin, rates: ErrorRates
) -> list[Fitted | Unfitted]:
    """Fit one entry on all labels, and one for each family whose own labels certify it.

    The first serves every family without its own, so it is certified for the labels' mix of families.
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

    Both steps may use the same labels: the map never changes the order of two scores, and the
    certificate of the thresholds depends on the order alone.
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
    """Find the temperature and bias of maximum likelihood.

    It is logistic regression on the logit, by Newton's method (Platt 1999; Guo et al. 2017,
    arXiv 1706.04599).
    """
    logits = _logits(p)
    design = np.column_stack([logits, np.ones_like(logits)])
    # The judge's own logits are the offset, so the regression fits the difference from slope 1 and
    # bias 0, and the ridge pulls towards the unchanged scale.
    extra_slope, bias = _regress(design, is_right, offset=logits)
    slope = 1 + extra_slope
    if slope < LEAST_SLOPE:
        # The likelihood is concave: if its maximum is below the bound, the best slope is the bound.
        slope = LEAST_SLOPE
        (bias,) = _regress(design[:, 1:], is_right, offset=slope * logits)
    return Scale(1 / float(slope), float(bias))


def _regress(design: Floats, is_right: Truths, *, offset: Floats) -> Floats:
    weights = np.zeros(design.shape[1])
    loss = _loss(weights, design, is_right, offset)
    for _ in range(NEWTON_STEPS):
        p = sigmoid(offset + design @ weights)
        gradient = design.T @ (p - is_right) + RIDGE * weights
        curvature = (design.T * (p * (1 - p))) @ design + RIDGE * np.eye(len(weights))
        step = np.linalg.solve(curvature, gradient)
        # A full Newton step may overshoot far from the optimum. Halving it until the loss no longer
        # rises makes the method converge from any start.
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
    """Move each probability by a map fitted without its fold, so that the gain is not overstated."""
    fold = np.empty(len(p), dtype=np.intp)
    # Sorted by label and dealt out in turn, so each fold has the same share of right answers, and
    # the folds are the same in every run.
    fold[np.argsort(is_right, kind="stable")] = np.arange(len(p)) % FOLDS
    moved = np.empty(len(p))
    for number in range(FOLDS):
        is_held_out = fold == number
        scale = fit_scale(p[~is_held_out], is_right[~is_held_out])
        moved[is_held_out] = scale.of(p[is_held_out])
    return moved


def certify(right: Floats, wrong: Floats, rates: ErrorRates) -> Thresholds | str:
    """Choose thresholds that keep both error rates, from the scores of right and wrong answers.

    Return the reason instead if they cannot be certified, or if one of the verdicts would never
    occur. If both rates hold without abstaining, the three thresholds are equal.
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
    """Return the lowest threshold certified to leave at most *alpha* of the wrong answers above it.

    From the strictest threshold down, each is tested by its Clopper-Pearson bound, and the first that
    fails ends the search. Such a fixed sequence keeps its level at any length (Angelopoulos et al.,
    Learn then Test, arXiv 2110.01052, section 2.3). Since errors only increase as the threshold
    falls, the search ends at the score of the first wrong answer beyond the allowed number. That
    score is an order statistic, so the bound holds for any distribution. None if no number of errors
    is allowed, not even 0.
    """
    allowed = most_errors(len(wrong), alpha, confidence)
    return None if allowed is None else float(np.sort(wrong)[::-1][allowed])


def highest_no(right: Floats, alpha: float, confidence: float = CONFIDENCE) -> float | None:
    """Return the highest threshold certified to leave at most *alpha* of the right answers at or below.

    The search is that of `lowest_yes`, from the lowest score up.
    """
    allowed = most_errors(len(right), alpha, confidence)
    # A score equal to the threshold counts as NO. So the threshold is the float just below the first
    # score that would be one error too many.
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
    """Compute calibration error, log loss and Brier score."""
    p = np.clip(p, LEAST_P, 1 - LEAST_P)
    nll = -np.log(np.where(is_right, p, 1 - p)).mean()
    return Quality(calibration_error(p, is_right), float(nll), float(((p - is_right) ** 2).mean()))


def calibration_error(p: Floats, is_right: Truths, bins: int = BINS) -> float:
    """Compute the calibration error over bins of equal mass (Nixon et al. 2019, arXiv 1904.01685)."""
    found = reliability(p, is_right, bins)
    return sum(one.size * abs(one.mean_p - one.share_yes) for one in found) / len(p)


def agreement(is_yes: Truths, is_right: Truths) -> Agreement:
    """Count the combinations of verdict and label."""
    return Agreement(
        both_yes=int((is_yes & is_right).sum()),
        only_first=int((is_yes & ~is_right).sum()),
        only_second=int((~is_yes & is_right).sum()),
        both_no=int((~is_yes & ~is_right).sum()),
    )


def _digest(labels: Sequence[Label]) -> str:
    """Hash a set of labels, independent of their order."""
    return hashlib.sha256("".join(sorted(label.digest for label in labels)).encode()).hexdigest()


def _logits(p: Floats) -> Floats:
    p = np.clip(p, LEAST_P, 1 - LEAST_P)
    return np.log(p / (1 - p))


def sigmoid(z: Floats) -> Floats:
    """Compute the logistic function, without overflow."""
    return np.exp(-np.logaddexp(0, -z))


def _share(flags: Truths) -> float:
    return float(flags.mean())
