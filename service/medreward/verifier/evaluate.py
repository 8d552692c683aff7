"""Measurements of a verifier on labelled pairs."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from medreward.audit.figures import area_under_curve
from medreward.verifier.examples import Example

MOST: Mapping[str, float] = MappingProxyType(
    {
        "swap": 0.01,
        "sibling": 0.08,
        "carried_wrong": 0.08,
        "denied_wrong": 0.08,
        "defined_sibling": 0.08,
    }
)
"""Highest shares of wrong pairs, by kind, that may get YES at the threshold.

Swaps of bare terms and siblings behind a definition decide it. Swaps behind a definition have no
limit: 1 % would refuse half of the far synonyms, and guards veto most swaps before.
"""


class Scores(NamedTuple):
    """Areas under ROC curves, and the share of each kind that gets YES at one threshold."""

    threshold: float
    auc: float
    far: float
    near: float
    sibling: float
    swap: float
    unrelated: float
    carried_auc: float
    """Of terms in carriers, and of denials."""
    carried_right: float
    carried_wrong: float
    denied_right: float
    denied_wrong: float
    defined_auc: float
    """Of terms behind a question with the definition."""
    defined_far: float
    defined_sibling: float
    defined_swap: float
    defined_unrelated: float
    abbreviation_auc: float
    abbreviation_right: float
    abbreviation_wrong: float
    code_auc: float
    """Of texts of ICD-10-CM."""
    code_right: float
    code_wrong: float
    quantity_auc: float
    quantity_right: float
    quantity_wrong: float


GROUPS: Mapping[str, Sequence[str]] = MappingProxyType(
    {
        "auc": ("far", "near", "sibling", "swap", "unrelated"),
        "carried_auc": ("carried_right", "carried_wrong", "denied_right", "denied_wrong"),
        "defined_auc": ("defined_far", "defined_sibling", "defined_swap", "defined_unrelated"),
        **{
            f"{kind}_auc": (f"{kind}_right", f"{kind}_wrong")
            for kind in ("abbreviation", "code", "quantity")
        },
    }
)
"""The kinds of pairs that each area is of."""


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
    figures = {"threshold": at}
    for area, members in GROUPS.items():
        belongs = np.isin(kinds, members)
        figures[area] = area_under_curve(p_yes[belongs & truth], p_yes[belongs & ~truth])
        figures |= {kind: float((p_yes[kinds == kind] > at).mean()) for kind in members}
    return Scores(**figures)


def lowest_threshold(p_yes: np.ndarray, kinds: np.ndarray) -> float:
    """Return the lowest threshold at which few enough wrong pairs of each kind get YES."""
    return max(float(np.quantile(p_yes[kinds == kind], 1 - most)) for kind, most in MOST.items())
