"""Packaging of trained weights for a service: calibration with thresholds, and a manifest."""

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from medreward.audit.fit import ErrorRates, Fitted, Label, Origin, fit_entry
from medreward.engines.calibration import ANY, Calibration, Entry, family_of, load_calibration
from medreward.engines.models import CALIBRATION, MANIFEST, sha256_of
from medreward.engines.templates import load_templates
from medreward.errors import SetupError
from medreward.verifier.evaluate import GROUPS, Scores, lowest_threshold, measure
from medreward.verifier.examples import Example, held_out
from medreward.verifier.train import CHECKPOINT, Scorer, scorer

NAME, LICENCE = "medreward-verifier", "Apache-2.0"
TEMPLATES = ("equivalence", "match")
RATES = ErrorRates(alpha_fpr=0.02, alpha_fnr=0.10)
CHOOSING, REPORTING = (5,), (6,)
"""Last digits of HPO ids: the first for choosing thresholds, the second for reported scores."""
CERTIFIED = ("auc", "carried_auc", "defined_auc")
"""Areas whose pairs the calibration is fitted on."""
SIZE = 800
"""Pairs of each kind; either digit has about a thousand far synonyms."""


def load_scorer(folder: Path) -> Scorer:
    """Load weights in float32, as a service does."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    return scorer(model, AutoTokenizer.from_pretrained(folder, use_fast=True))


def pack(folder: Path, version: str, score: Scorer) -> Scores:
    """Write calibration and manifest into the *folder* of the weights.

    Returns the scores at the calibrated threshold, on pairs that neither training nor the choice
    of the threshold used.

    Raises:
        SetupError: the model does not separate right from wrong answers.
    """
    files = {
        file.name: sha256_of(file)
        for file in sorted(folder.iterdir())
        if file.name not in {CALIBRATION, MANIFEST, CHECKPOINT, "README.md"}
    }
    listed = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:12]
    # What is certified are terms: rules settle quantities, and of abbreviations it knows few.
    certified = {kind for area in CERTIFIED for kind in GROUPS[area]}
    chosen = [e for e in held_out(size=SIZE, digits=CHOOSING) if e.kind in certified]
    p_yes = score([(e.reference, e.answer) for e in chosen])
    at = lowest_threshold(p_yes, np.array([e.kind for e in chosen]))
    entries = [
        _entry(template, f"{NAME}@{version}+{listed}", chosen, p_yes, at) for template in TEMPLATES
    ]
    calibration = Calibration(entries=tuple(entries))
    (folder / CALIBRATION).write_text(calibration.model_dump_json(indent=1) + "\n", "utf-8")
    files[CALIBRATION] = sha256_of(folder / CALIBRATION)
    manifest = {"name": NAME, "version": version, "licence": LICENCE, "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", "utf-8")
    return measure(held_out(size=SIZE, digits=REPORTING), score, at)


def shipped_threshold(folder: Path) -> float | None:
    """Return the threshold in a model's calibration file, on the model's own scale, if it has one."""
    file = folder / CALIBRATION
    if not file.is_file():
        return None
    entry = load_calibration(file).entries[0]
    logit = math.log(entry.threshold / (1 - entry.threshold))
    return 1 / (1 + math.exp(-(logit - entry.bias) * entry.temperature))


def _entry(
    template: str, model: str, examples: Sequence[Example], p_yes: np.ndarray, at: float
) -> Entry:
    """Fit the map, certify the band between NO and YES, and put the threshold inside the band."""
    # This must equal the identity of the engine that runs the model (kind, model, precision, label
    # of YES); otherwise the service would not apply the calibration.
    engine = f"cross_encoder:{model}:torch.float32:1:1"
    sha = load_templates()[template].sha
    labels = [
        Label(float(p), e.equivalent, family_of(e.reference), _digest(e))
        for e, p in zip(examples, p_yes, strict=True)
    ]
    fitted = fit_entry(labels, Origin(engine, template, sha), RATES, ANY)
    if not isinstance(fitted, Fitted):
        raise SetupError(f"the verifier cannot be calibrated: {fitted.reason}")
    entry = fitted.entry
    threshold = min(entry.yes_above, max(entry.no_below, entry.calibrated(at)))
    is_yes = np.array([entry.calibrated(float(p)) > threshold for p in p_yes])
    truth = np.array([e.equivalent for e in examples])
    return entry.model_copy(
        update={
            "threshold": threshold,
            "sensitivity": float(is_yes[truth].mean()),
            "specificity": float(1 - is_yes[~truth].mean()),
        }
    )


def _digest(example: Example) -> str:
    return hashlib.sha256(json.dumps(example).encode()).hexdigest()
