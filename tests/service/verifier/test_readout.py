"""Fitting a readout: labelled pairs, a classifier that is measured on other groups."""

import json
import random
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

EQUIVALENCE, REPORT, RUBRIC = (
    load_templates()[name] for name in ("equivalence", "report", "rubric")
)


def write(file: Path, *rows: Mapping[str, object]) -> Path:
    """Write rows as JSONL."""
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return file


def pairs_of(count: int) -> "list[Pair]":
    """Pairs in groups of four, half of them right."""
    from medreward.verifier.readout import Pair

    return [Pair(None, "a", "b", n % 2, f"group {n // 4}") for n in range(count)]


def test_pairs_are_those_of_a_split(tmp_path: Path) -> None:
    """A line that names no split is for fitting."""
    from medreward.verifier.readout import read_pairs

    row = {"question": "What is seen?", "reference": "collapsed lung", "label": "right"}
    file = write(
        tmp_path / "labels.jsonl",
        row | {"answer": "pneumothorax"},
        row | {"answer": "air in the pleural space", "split": "testing", "label": "wrong"},
    )

    (tuning,) = read_pairs(file, "tuning", EQUIVALENCE)
    (testing,) = read_pairs(file, "testing", EQUIVALENCE)

    assert (tuning.answer, tuning.value) == ("pneumothorax", 1)
    assert (testing.answer, testing.value) == ("air in the pleural space", 0)


@pytest.mark.parametrize(
    "broken", [{"reference": "a", "answer": "b"}, {"answer": "b", "label": "right"}, 5]
)
def test_a_line_without_a_label_is_named(tmp_path: Path, broken: object) -> None:
    """By file and line."""
    from medreward.verifier.readout import read_pairs

    file = tmp_path / "labels.jsonl"
    file.write_text(json.dumps(broken), "utf-8")

    with pytest.raises(SetupError, match=r"labels.jsonl, line 1"):
        read_pairs(file, "tuning", EQUIVALENCE)


def test_a_readout_finds_the_direction_that_separates_right_from_wrong() -> None:
    """Its P(YES) is a probability, and one wrong pair in twelve is above its threshold."""
    from medreward.verifier.readout import MOST_WRONG, fit

    rng = np.random.default_rng(0)
    pairs = pairs_of(800)
    is_right = np.array([pair.value == 1 for pair in pairs])
    states = rng.normal(size=(800, 24)) * np.linspace(0.5, 20, 24)
    states[:, 3] += 4 * np.where(is_right, 1.0, -1.0)

    fitted = fit(states, pairs, EQUIVALENCE, layers=2)

    p_yes = fitted.scores_N
    assert abs(p_yes.mean() - 0.5) < 0.05
    above = p_yes > fitted.readout.threshold
    assert above[~is_right].mean() == pytest.approx(MOST_WRONG, abs=0.01)
    assert above[is_right].mean() > 0.6
    assert fitted.readout.template_sha == EQUIVALENCE.sha


def test_reports_carry_a_grade(tmp_path: Path) -> None:
    """A grade beyond those of the template, or a verdict, is refused."""
    from medreward.verifier.readout import read_pairs

    row: dict[str, object] = {
        "question": "Impression?",
        "reference": "collapsed lung",
        "answer": "pneumothorax",
    }
    file = write(tmp_path / "reports.jsonl", row | {"grade": 4})
    (report,) = read_pairs(file, "tuning", REPORT)
    assert (report.value, report.group) == (4, "collapsed lung")

    wrongs: list[dict[str, object]] = [{"grade": 6}, {"label": "right"}, {"grade": "all"}]
    for wrong in wrongs:
        write(file, row | wrong)
        with pytest.raises(SetupError, match=r"line 1: .* `grade` \(0 or 1 or .* 5\)"):
            read_pairs(file, "tuning", REPORT)


def test_a_readout_of_grades_expects_more_for_better_reports() -> None:
    """Its labels' probabilities add up to 1, and their mean is near the grade."""
    import torch

    from medreward.verifier.readout import Pair, fit, rightly_ordered

    rng = np.random.default_rng(0)
    pairs = [Pair(None, "a", "b", n % 6, f"group {n // 6}") for n in range(600)]
    grades = np.array([pair.value for pair in pairs])
    states = rng.normal(size=(600, 24)) * np.linspace(0.5, 20, 24)
    states[:, 3] += 6 * grades

    fitted = fit(states, pairs, REPORT, layers=2)

    shares = fitted.readout.logits(torch.from_numpy(states)).softmax(-1).double().numpy()
    expected = shares @ np.arange(6)
    assert shares.shape == (600, 6)
    assert np.abs(expected - fitted.scores_N).mean() < 0.2
    assert np.abs(fitted.scores_N - grades).mean() < 0.6
    assert rightly_ordered(pairs, fitted.scores_N) > 0.9
    means = [expected[grades == grade].mean() for grade in range(6)]
    assert means == sorted(means)


def test_criteria_carry_a_label_of_the_template(tmp_path: Path) -> None:
    """A line has a criterion in the place of a reference; answers to one question are one group."""
    from medreward.verifier.readout import inquiries_of, read_pairs

    row: dict[str, object] = {"question": "Fever?", "answer": "Yes.", "criterion": "Says yes."}
    file = write(tmp_path / "items.jsonl", row | {"label": "YES"}, row | {"label": "CANNOT_ASSESS"})

    pairs = read_pairs(file, "tuning", RUBRIC)

    assert [(pair.value, pair.group) for pair in pairs] == [(0, "Fever?"), (2, "Fever?")]
    asked, _ = inquiries_of(pairs, RUBRIC, random.Random(0))  # noqa: S311 - reproducible
    assert (asked.criterion, asked.reference) == ("Says yes.", None)

    for wrong in ({"label": "right"}, {"label": "NO", "criterion": None}):
        write(file, {key: value for key, value in (row | wrong).items() if value is not None})
        with pytest.raises(SetupError, match=r"`criterion`, `answer` and `label` \(YES or NO or "):
            read_pairs(file, "tuning", RUBRIC)


def test_a_readout_of_criteria_tells_three_labels() -> None:
    """Its probabilities add up to 1, and each label is the likeliest of most of its own."""
    import torch

    from medreward.verifier.readout import Pair, fit

    rng = np.random.default_rng(0)
    pairs = [Pair(None, None, "b", n % 3, f"group {n // 6}", "Says b.") for n in range(600)]
    places = np.array([pair.value for pair in pairs])
    states = rng.normal(size=(600, 24)) * np.linspace(0.5, 20, 24)
    states[:, 3] += 10 * (places == 0)
    states[:, 5] += 20 * (places == 2)

    fitted = fit(states, pairs, RUBRIC, layers=2)

    shares = fitted.readout.logits(torch.from_numpy(states)).softmax(-1).double().numpy()
    assert fitted.scores_N.shape == shares.shape == (600, 3)
    assert np.allclose(fitted.scores_N.sum(axis=1), 1)
    assert (fitted.scores_N.argmax(axis=1) == places).mean() > 0.7
    assert (shares.argmax(axis=1) == places).mean() > 0.7
    assert 0.2 < fitted.readout.threshold < 0.8


def test_order_is_that_within_a_group() -> None:
    """Equal grades are not compared, and a tie counts as half."""
    from medreward.verifier.readout import Pair, rightly_ordered

    grades = [("a", 0), ("a", 2), ("a", 2), ("b", 5), ("b", 4)]
    pairs = [Pair(None, "a", "b", grade, group) for group, grade in grades]

    assert rightly_ordered(pairs, np.array([0.0, 1.0, 0.0, 0.2, 0.3])) == pytest.approx(1.5 / 3)


def test_too_few_labels_are_refused() -> None:
    """With how many there are of each kind."""
    from medreward.verifier.readout import check_labels

    check_labels(pairs_of(200), EQUIVALENCE)
    with pytest.raises(
        SetupError, match="100 labels of each kind; there are 20 of right, 20 of wr"
    ):
        check_labels(pairs_of(40), EQUIVALENCE)
    with pytest.raises(
        SetupError, match="20 labels of each kind; there are 60 of 0, 60 of 1, 0 of"
    ):
        check_labels(pairs_of(120), REPORT)
    with pytest.raises(SetupError, match="answers to 5 questions, or references; there are 1"):
        check_labels([pair._replace(group="one") for pair in pairs_of(200)], EQUIVALENCE)


def test_terms_are_drawn_by_the_seed() -> None:
    """Right and wrong ones, of every kind."""
    from medreward.verifier.readout import term_pairs

    drawn = term_pairs(40, seed=1)

    assert drawn == term_pairs(40, seed=1)
    assert 30 < len(drawn) <= 40  # some kinds have fewer pairs than their share
    assert {pair.value for pair in drawn} == {0, 1}
