"""Fitting a readout: labelled pairs, a classifier that is measured on other groups."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from medreward.engines.templates import load_templates
from medreward.errors import SetupError

if TYPE_CHECKING:
    from medreward.verifier.readout import Pair

pytestmark = pytest.mark.xdist_group("models")

EQUIVALENCE = load_templates()["equivalence"]


def write(file: Path, *rows: Mapping[str, object]) -> Path:
    """Write rows as JSONL."""
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return file


def pairs_of(count: int) -> "list[Pair]":
    """Pairs in groups of four, half of them right."""
    from medreward.verifier.readout import Pair

    return [Pair(None, "a", "b", n % 2 == 0, f"group {n // 4}") for n in range(count)]


def test_pairs_are_those_of_a_split(tmp_path: Path) -> None:
    """A line that names no split is for fitting."""
    from medreward.verifier.readout import read_pairs

    row = {"question": "What is seen?", "reference": "collapsed lung", "label": "right"}
    file = write(
        tmp_path / "labels.jsonl",
        row | {"answer": "pneumothorax"},
        row | {"answer": "air in the pleural space", "split": "testing", "label": "wrong"},
    )

    (tuning,) = read_pairs(file, "tuning")
    (testing,) = read_pairs(file, "testing")

    assert (tuning.answer, tuning.is_right) == ("pneumothorax", True)
    assert (testing.answer, testing.is_right) == ("air in the pleural space", False)


@pytest.mark.parametrize(
    "broken", [{"reference": "a", "answer": "b"}, {"answer": "b", "label": "right"}, 5]
)
def test_a_line_without_a_label_is_named(tmp_path: Path, broken: object) -> None:
    """By file and line."""
    from medreward.verifier.readout import read_pairs

    file = tmp_path / "labels.jsonl"
    file.write_text(json.dumps(broken), "utf-8")

    with pytest.raises(SetupError, match=r"labels.jsonl, line 1"):
        read_pairs(file, "tuning")


def test_a_readout_finds_the_direction_that_separates_right_from_wrong() -> None:
    """Its P(YES) is a probability, and one wrong pair in twelve is above its threshold."""
    from medreward.verifier.readout import MOST_WRONG, fit

    rng = np.random.default_rng(0)
    pairs = pairs_of(800)
    is_right = np.array([pair.is_right for pair in pairs])
    states = rng.normal(size=(800, 24)) * np.linspace(0.5, 20, 24)
    states[:, 3] += 4 * np.where(is_right, 1.0, -1.0)

    fitted = fit(states, pairs, EQUIVALENCE, layers=2)

    p_yes = fitted.scores_N
    assert abs(p_yes.mean() - 0.5) < 0.05
    above = p_yes > fitted.readout.threshold
    assert above[~is_right].mean() == pytest.approx(MOST_WRONG, abs=0.01)
    assert above[is_right].mean() > 0.6
    assert fitted.readout.template_sha == EQUIVALENCE.sha


def test_too_few_labels_are_refused() -> None:
    """With how many there are of each kind."""
    from medreward.verifier.readout import fit

    with pytest.raises(SetupError, match="there are 20 and 20"):
        fit(np.zeros((40, 4)), pairs_of(40), EQUIVALENCE, layers=2)


def test_terms_are_drawn_by_the_seed() -> None:
    """Right and wrong ones, of every kind."""
    from medreward.verifier.readout import term_pairs

    drawn = term_pairs(40, seed=1)

    assert drawn == term_pairs(40, seed=1)
    assert 30 < len(drawn) <= 40  # some kinds have fewer pairs than their share
    assert {pair.is_right for pair in drawn} == {True, False}
