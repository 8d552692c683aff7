"""`medreward verifier readout`: what it refuses before it reads for an hour."""

import json
from pathlib import Path

import pytest

from tests.service.cli.conftest import Run

pytestmark = pytest.mark.models

LABEL = {"question": "Where?", "reference": "left lung", "answer": "the left one", "label": "right"}


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """A file of enough labels, all alike but for their kind."""
    rows = [LABEL | {"label": label} for label in ("right", "wrong") for _ in range(100)]
    file = tmp_path / "labels.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    return file


def test_a_model_of_fewer_layers_is_refused(run: Run, labels: Path, tmp_path: Path) -> None:
    """With the number that it has."""
    out = str(tmp_path / "readouts.safetensors")
    model = ("--model", "smollm2-135m-instruct", "--terms", "0")
    told = run("verifier", "readout", str(labels), *model, "--layers", "31", "--out", out)

    assert told.code == 2
    assert "smollm2-135m-instruct has 30 layers" in told.stderr


def test_a_folder_that_is_not_there_is_refused(run: Run, labels: Path, tmp_path: Path) -> None:
    """Before the model is loaded."""
    out = str(tmp_path / "nowhere" / "readouts.safetensors")
    told = run("verifier", "readout", str(labels), "--out", out)

    assert told.code == 2
    assert "--out" in told.stderr


def test_too_few_labels_are_refused_at_once(run: Run, tmp_path: Path) -> None:
    """Before the model is loaded, with how many there are."""
    file, out = tmp_path / "labels.jsonl", str(tmp_path / "readouts.safetensors")
    file.write_text(json.dumps(LABEL | {"grade": 5}), "utf-8")

    told = run("verifier", "readout", str(file), "--template", "report", "--out", out)

    assert told.code == 2
    assert "0 of 4, 1 of 5" in told.stderr


def test_a_template_without_a_reference_is_refused(run: Run, labels: Path, tmp_path: Path) -> None:
    """With those that may be named."""
    out = str(tmp_path / "readouts.safetensors")
    told = run("verifier", "readout", str(labels), "--template", "rubric", "--out", out)

    assert told.code == 2
    assert "equivalence, match, report" in told.stderr
