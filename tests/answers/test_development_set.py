"""The development set is balanced, and its labels cannot be told by the surface of the answers."""

from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from medreward.audit.answers import LabelledAnswer, labelled_answers
from tests.answers.baselines import BASELINES, auc

ROWS = labelled_answers()
STYLES = sorted({row.style for row in ROWS})
PAGE = Path(__file__).parents[2] / "docs" / "development_set.md"

baselines = pytest.mark.parametrize("baseline", BASELINES.values(), ids=BASELINES)


def of(style: str) -> list[LabelledAnswer]:
    """Answers of one style."""
    return [row for row in ROWS if row.style == style]


def test_there_is_enough_of_each_style() -> None:
    """No style has less than an eighth of the answers or fewer than 26 questions."""
    assert len(ROWS) >= 600
    for style in STYLES:
        assert len(of(style)) >= len(ROWS) / 8
        assert len({row.question for row in of(style)}) >= 26


def test_every_answer_has_its_id_and_stands_once() -> None:
    """No id is used twice, and no question has the same answer twice."""
    assert len({row.id for row in ROWS}) == len(ROWS)
    assert len({(row.question, row.reference, row.answer) for row in ROWS}) == len(ROWS)


def test_no_text_is_empty() -> None:
    """Every field says something, and has no white space around it."""
    texts = [text for row in ROWS for text in (row.question, row.reference, row.answer, row.kind)]

    assert [text for text in texts if not text or text != text.strip()] == []


def test_a_family_lies_in_one_split_and_style() -> None:
    """What is tuned on a family is not measured on it."""
    places = defaultdict(set)
    for row in ROWS:
        places[row.family].add((row.split, row.style))

    assert {family: found for family, found in places.items() if len(found) > 1} == {}


def test_splits_are_about_halves() -> None:
    """Each style has 45 to 55 per cent of its answers in each split."""
    for style in STYLES:
        tuning = sum(row.split == "tuning" for row in of(style))
        assert 0.45 <= tuning / len(of(style)) <= 0.55


def test_every_question_has_right_and_wrong_answers_alike() -> None:
    """A question has two or three right answers, and as many wrong ones."""
    counts = Counter((row.question, row.reference, row.label) for row in ROWS)
    for question, reference, _ in counts:
        right = counts[question, reference, "right"]
        assert 2 <= right <= 3
        assert counts[question, reference, "wrong"] == right


def test_forms_are_as_frequent_among_right_as_among_wrong() -> None:
    """No form of answer tells the label."""
    counts = Counter((row.form, row.label) for row in ROWS)
    for form in {row.form for row in ROWS}:
        assert abs(counts[form, "right"] - counts[form, "wrong"]) <= 2


@baselines
def test_a_baseline_is_near_chance(baseline: Callable[[LabelledAnswer], float]) -> None:
    """Over all answers a trivial baseline has an AUC of 0.45 to 0.55."""
    assert 0.45 <= auc(ROWS, baseline) <= 0.55


@baselines
@pytest.mark.parametrize("style", STYLES)
def test_a_baseline_is_near_chance_in_each_style(
    style: str, baseline: Callable[[LabelledAnswer], float]
) -> None:
    """Within a style a trivial baseline has an AUC of 0.40 to 0.60."""
    assert 0.40 <= auc(of(style), baseline) <= 0.60


def test_the_page_has_the_counts_and_the_baselines() -> None:
    """docs/development_set.md has the figures of the file."""
    counts = Counter[tuple[str, str, str]]((row.style, row.split, row.label) for row in ROWS)
    columns = [(split, label) for split in ("tuning", "testing") for label in ("right", "wrong")]
    lines = [
        f"| {style} | {len({(row.question, row.reference) for row in of(style)})} | "
        + " | ".join(str(counts[style, split, label]) for split, label in columns)
        + " |"
        for style in STYLES
    ]
    lines += [
        f"| {name} | {auc(ROWS, baseline):.2f} | "
        + " | ".join(f"{auc(of(style), baseline):.2f}" for style in STYLES)
        + " |"
        for name, baseline in BASELINES.items()
    ]

    page = PAGE.read_text("utf-8").splitlines()
    assert [line for line in lines if line not in page] == []
