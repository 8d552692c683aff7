"""One entry of a calibration, for the scripted judge and the template `match`."""

from typing import Any

from medreward.engines.calibration import Entry
from medreward.engines.templates import load_templates

FIELDS: dict[str, Any] = {
    "engine": "scripted",
    "template": "match",
    "template_sha": load_templates()["match"].sha,
    "threshold": 0.5,
    "no_below": 0.2,
    "yes_above": 0.9,
    "labels": 600,
    "positives": 300,
    "labels_sha256": "7" * 64,
    "alpha_fpr": 0.02,
    "alpha_fnr": 0.1,
    "confidence": 0.95,
    "ece_before": 0.2,
    "ece_after": 0.02,
    "sensitivity": 0.9,
    "specificity": 0.95,
    "abstained": 0.1,
}


def entry(**given: Any) -> Entry:
    """Build an entry with some fields of the test's choice."""
    return Entry.model_validate(FIELDS | given)
