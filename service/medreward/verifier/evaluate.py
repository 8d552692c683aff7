"""Measurements of a verifier on labelled pairs."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from medreward.audit.figures import area_under_curve
from medreward.verifier.examples import Example

MOST_SWAPS, MOST_SIBLINGS = 0.01, 0.08
"""Highest shares of wrong pairs that may get YES at the threshold."""


class Scores(NamedTuple):
    """The area under the ROC curve, and the share of each kind that gets YES at one threshold."""

    auc: float
    threshold: float
    far: float
    near: float
    sibling: float
    swap: float
    unrelated: float


def measure(
    examples: Sequence[Example],
    score: Callable[[Sequence[tuple[str, str]]], np.ndarray],
    threshold: float | None = None,
) -> Scores:
    """Score labelled pairs at a threshold; the default is computed by `lowest_threshold`."""
    p_yes = score([(e.reference, e.answer) for e in examples])
    truth = np.array([e.equivalent for e in examples])
    kinds = np.array([e.kind for e in examples])
    at = lowest_threshold(p_yes, kinds) if threshold is None else threshold
    share = {kind: float((p_yes[kinds == kind] > at).mean()) for kind in Scores._fields[2:]}
    return Scores(area_under_curve(p_yes[truth], p_yes[~truth]), at, **share)


def lowest_threshold(p_yes: np.ndarray, kinds: np.ndarray) -> float:
    """Return the lowest threshold at which few enough siblings and swaps get YES."""
    quantiles = ((kinds == "sibling", MOST_SIBLINGS), (kinds == "swap", MOST_SWAPS))
    return max(float(np.quantile(p_yes[chosen], 1 - most)) for chosen, most in quantiles)
