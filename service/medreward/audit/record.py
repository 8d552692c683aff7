"""A report card as JSON; docs/audit.md describes the fields."""

from dataclasses import asdict
from typing import Any

from medreward.audit.figures import Rate
from medreward.audit.outcomes import Outcome
from medreward.audit.plots import thinned
from medreward.audit.report import Card, Contrast, Stratum
from medreward.audit.targets import Bar, bars

SCHEMA = 1
"""Increased whenever a field changes its meaning or is removed."""


def record(card: Card) -> dict[str, Any]:
    """Return everything that the page shows, as JSON values."""
    return {
        "schema": SCHEMA,
        "audited": asdict(card.audited),
        "lost": _rate(card.lost),
        "bars": [_bar(bar) for bar in bars(card)],
        "strata": [_stratum(stratum) for stratum in card.strata],
        "contrasts": [_contrast(contrast) for contrast in card.contrasts],
        "failures": [
            found._asdict() | {"worst": [_outcome(outcome) for outcome in found.worst]}
            for found in card.failures
        ],
    }


def _rate(rate: Rate) -> dict[str, Any]:
    low, high = rate.interval or (None, None)
    return {"hits": rate.hits, "of": rate.of, "share": rate.share, "low": low, "high": high}


def _bar(bar: Bar) -> dict[str, Any]:
    low, high = bar.interval or (None, None)
    return {
        "name": bar.name,
        "measures": bar.measures,
        "bound": "at_most" if bar.is_ceiling else "at_least",
        "limit": bar.limit,
        "value": bar.value,
        "low": low,
        "high": high,
        "of": bar.of,
        "status": bar.status,
    }


def _stratum(stratum: Stratum) -> dict[str, Any]:
    return {
        "suite": stratum.suite,
        "stratum": stratum.name,
        "title": stratum.title,
        "equivalent": stratum.is_equivalent,
        "partial": stratum.is_partial,
        "cases": stratum.cases,
        "yes": _rate(stratum.yes),
        "graded": _rate(stratum.graded),
        "paid": _rate(stratum.paid),
        "paid_known": _rate(stratum.paid_known),
        "paid_held_out": _rate(stratum.paid_held_out),
        "refused": _rate(stratum.refused),
        "mean_reward": stratum.mean_reward,
        "unjudged": dict(stratum.unjudged),
        "unscored": dict(stratum.unscored),
    }


def _contrast(contrast: Contrast) -> dict[str, Any]:
    return {
        "suite": contrast.suite,
        "different": contrast.name,
        "equivalent_pairs": contrast.equivalent,
        "different_pairs": contrast.different,
        "auc": contrast.auc,
        "ece": contrast.ece,
        "brier": contrast.brier,
        "false_positives": _rate(contrast.false_positives),
        "false_negatives": _rate(contrast.false_negatives),
        # Rows of (FPR, TPR), and of (mean p, share YES, size).
        "roc": [list(point) for point in thinned(contrast.curve)],
        "reliability": [list(one) for one in contrast.bins],
    }


def _outcome(outcome: Outcome) -> dict[str, Any]:
    case = outcome.case
    return {
        "answer": case.answer,
        "reference": case.reference,
        "question": case.question,
        "equivalent": case.equivalent,
        "held_out": case.held_out,
        "verdict": outcome.verdict,
        "graded": outcome.graded,
        "p_yes": outcome.p_yes,
        "unjudged": outcome.unjudged,
        "paid": outcome.is_paid,
        "reward": outcome.reward,
        "refused_by": outcome.refused_by,
        "unscored": outcome.unscored,
    }
