"""From trained weights to the folder that a service loads: thresholds, and a list of its files."""

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
from medreward.verifier.evaluate import Scores, lowest_threshold, measure
from medreward.verifier.examples import Example, held_out
from medreward.verifier.train import Scorer, scorer

NAME, LICENCE = "medreward-verifier", "Apache-2.0"
TEMPLATES = ("equivalence", "match")
RATES = ErrorRates(alpha_fpr=0.02, alpha_fnr=0.10)
CHOOSING, REPORTING = (5,), (6,)
"""Last digits of the HPO ids that thresholds are chosen on, and those they are reported on."""
SIZE = 800
"""Pairs of a kind; there are about a thousand far synonyms to either digit."""


def load_scorer(folder: Path) -> Scorer:
    """Load weights as a service does, in float32."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    return scorer(model, AutoTokenizer.from_pretrained(folder, use_fast=True))


def pack(folder: Path, version: str, score: Scorer) -> Scores:
    """Write calibration and manifest beside the weights in *folder*.

    Returns what the model is worth at the threshold that they set, on pairs that were used for
    nothing before.

    Raises:
        SetupError: the model does not tell right from wrong.
    """
    files = {
        file.name: sha256_of(file)
        for file in sorted(folder.iterdir())
        if file.name not in {CALIBRATION, MANIFEST, "README.md"}
    }
    listed = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:12]
    chosen = held_out(size=SIZE, digits=CHOOSING)
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
    """Give the threshold that comes with a model, on its own scale; None where none comes."""
    file = folder / CALIBRATION
    if not file.is_file():
        return None
    entry = load_calibration(file).entries[0]
    logit = math.log(entry.threshold / (1 - entry.threshold))
    return 1 / (1 + math.exp(-(logit - entry.bias) * entry.temperature))


def _entry(
    template: str, model: str, examples: Sequence[Example], p_yes: np.ndarray, at: float
) -> Entry:
    """Fit the map, certify the band between NO and YES, and put the threshold inside it."""
    # The identity of the engine that runs it: what it is, in which precision, which label is YES.
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
