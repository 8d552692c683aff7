"""`medreward verifier readout`: what it refuses before it reads for an hour."""

import json
from pathlib import Path

import pytest

from tests.service.cli.conftest import Run

pytestmark = pytest.mark.models

LABEL = {"question": "Where?", "reference": "left lung", "answer": "the left one", "label": "right"}


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """A file of enough labels."""
    rows = [
        LABEL | {"label": label, "question": f"Where is finding {n}?"}
        for label in ("right", "wrong")
        for n in range(100)
    ]
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


def test_an_unknown_template_is_refused(run: Run, labels: Path, tmp_path: Path) -> None:
    """With those that may be named."""
    out = str(tmp_path / "readouts.safetensors")
    told = run("verifier", "readout", str(labels), "--template", "nothing", "--out", out)

    assert told.code == 2
    assert "equivalence, match, report, rubric" in told.stderr


@pytest.mark.slow
def test_readouts_of_several_templates_share_a_file(run: Run, labels: Path, tmp_path: Path) -> None:
    """Fitting one leaves the others as they are, to the bit."""
    from medreward.engines.local.readout import load_readouts  # noqa: PLC0415 - loads torch

    graded = [
        {"reference": f"{n} nodules in the lung", "answer": f"{n + grade} nodules", "grade": grade}
        for n in range(20)
        for grade in range(6)
    ]
    reports, out = tmp_path / "reports.jsonl", tmp_path / "readouts.safetensors"
    reports.write_text("\n".join(map(json.dumps, graded)), "utf-8")
    tail = ("--model", "smollm2-135m-instruct", "--layers", "1", "--terms", "0", "--out", str(out))

    criteria = tmp_path / "criteria.jsonl"
    items = [
        {"question": f"Finding {n}?", "answer": f"{n} mm", "criterion": f"{n} mm", "label": label}
        for n in range(50)
        for label in ("YES", "NO", "CANNOT_ASSESS")
    ]
    criteria.write_text("\n".join(map(json.dumps, items)), "utf-8")

    first = run("verifier", "readout", str(reports), "--template", "report", *tail)
    (alone,) = load_readouts(out)
    second = run("verifier", "readout", str(labels), *tail)
    third = run("verifier", "readout", str(criteria), "--template", "rubric", *tail)
    kept = load_readouts(out)

    assert (first.code, second.code, third.code) == (0, 0, 0)
    assert "rightly ordered" in first.stdout
    assert "macro F1" in third.stdout
    assert [one.template for one in kept] == ["equivalence", "report", "rubric"]
    assert kept[1].identity == alone.identity
    assert alone.weights_KD.shape == (6, 576)
    assert kept[2].weights_KD.shape == (3, 576)
