"""The labelled rubric items: whether an answer to a medical question meets a criterion."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medreward.engines.templates import load_templates
from medreward.parsing.sample import parse_sample
from medreward.recipes.recipe import load_recipes
from medreward.rewards.rubric import plan_rubric
from medreward.samples import Limits, Sample

Row = dict[str, Any]

ROWS: list[Row] = [
    json.loads(line)
    for line in Path(__file__).with_name("rubric_items.jsonl").read_text("utf-8").splitlines()
]
RECIPE, TEMPLATE, LIMITS = load_recipes()["rubric"], load_templates()["rubric"], Limits()
PAGE = Path(__file__).parents[2] / "docs" / "development_set.md"

LABEL_OF = {
    "stated": "YES",
    "reworded": "YES",
    "fault": "YES",
    "lacking": "YES",
    "absent": "NO",
    "partial": "NO",
    "mentioned": "NO",
    "negated": "NO",
    "opposite": "NO",
    "other": "NO",
    "clean": "NO",
    "given": "NO",
    "injection": "NO",
    "course": "CANNOT_ASSESS",
    "image": "CANNOT_ASSESS",
    "record": "CANNOT_ASSESS",
    "sound": "CANNOT_ASSESS",
    "source": "CANNOT_ASSESS",
}
TEXTS = ("id", "group", "split", "style", "kind", "form", "question", "answer", "criterion")


def words(text: str) -> list[str]:
    """List the words of a text in lower case."""
    return re.findall(r"\w+", text.lower())


def share(row: Row) -> float:
    """Return the share of the criterion's words that the answer has."""
    wanted = set(words(row["criterion"]))
    return len(wanted & set(words(row["answer"]))) / len(wanted)


def auc(number: Callable[[Row], float]) -> float:
    """Return the share of pairs, YES and NO, in which the YES has the higher number."""
    met, unmet = ([number(row) for row in ROWS if row["label"] == label] for label in ("YES", "NO"))
    wins = sum((high > low) + (high == low) / 2 for high in met for low in unmet)
    return wins / (len(met) * len(unmet))


def test_each_line_has_its_fields() -> None:
    """No text is empty or has white space around it, and points have a sign and no size."""
    for row in ROWS:
        assert row.keys() == {*TEXTS, "points", "label"}
        assert all(row[field] and row[field] == row[field].strip() for field in TEXTS)
        assert row["points"] in {1, -1}


def test_each_kind_has_one_label() -> None:
    """The kind is the reason for the label."""
    assert {(row["kind"], row["label"]) for row in ROWS} == set(LABEL_OF.items())


def test_no_line_stands_twice() -> None:
    """Neither an id nor an answer with a criterion, so no line has two labels."""
    assert len({row["id"] for row in ROWS}) == len(ROWS)
    assert len({(row["group"], row["answer"], row["criterion"]) for row in ROWS}) == len(ROWS)


def test_a_question_lies_in_one_split() -> None:
    """So does each answer: nothing is measured on a text that something was fitted on."""
    splits = defaultdict(set)
    for row in ROWS:
        for field in ("group", "question", "answer"):
            splits[field, row[field]].add(row["split"])
    questions = {(row["group"], row["question"]) for row in ROWS}

    assert {text: found for text, found in splits.items() if len(found) > 1} == {}
    assert len(questions) == len({row["group"] for row in ROWS}) >= 48


@pytest.mark.parametrize("split", ["tuning", "testing"])
def test_labels_have_their_shares(split: str) -> None:
    """In both splits alike, of which the one for tuning has 55 to 65 per cent of the lines."""
    rows = [row for row in ROWS if row["split"] == split]
    labels = Counter(row["label"] for row in rows)
    part = len(rows) / len(ROWS)

    assert 0.55 <= (part if split == "tuning" else 1 - part) <= 0.65
    assert 0.38 <= labels["YES"] / len(rows) <= 0.46
    assert 0.40 <= labels["NO"] / len(rows) <= 0.50
    assert 0.10 <= labels["CANNOT_ASSESS"] / len(rows) <= 0.15


def test_each_style_has_each_label() -> None:
    """No style has less than 5 per cent of the lines."""
    labels = {(row["style"], row["label"]) for row in ROWS}
    styles = Counter(row["style"] for row in ROWS)

    assert len(labels) == 3 * len(styles)
    assert min(styles.values()) >= 0.05 * len(ROWS)


def test_neither_length_nor_sign_tells_whether_a_criterion_is_met() -> None:
    """Shared words tell a little, since an answer that meets a criterion often uses its words."""
    assert 0.40 <= auc(lambda row: len(row["answer"])) <= 0.60
    assert 0.45 <= auc(lambda row: row["points"]) <= 0.55
    assert 0.40 <= auc(lambda row: "Fails to" in row["criterion"]) <= 0.60
    assert 0.40 <= auc(share) <= 0.68


def is_vetoed(question: str, answer: str) -> bool:
    """Return whether the recipe `rubric` asks no judge about an answer."""
    criteria = [{"text": "Names a cause.", "points": 1}]
    sample = Sample.model_validate(
        {"response": answer, "reference": "", "question": question, "criteria": criteria}
    )
    parsed, rubric = parse_sample(sample, RECIPE, LIMITS), RECIPE.signals.rubric
    assert rubric is not None
    plan = plan_rubric(sample, parsed, RECIPE, rubric, TEMPLATE, limits=LIMITS, reading=None)
    return not any(plan.inquiries)


def test_the_guard_vetoes_orders_and_no_other_answers() -> None:
    """An answer that is vetoed earns the least of its rubric."""
    for row in ROWS:
        assert is_vetoed(row["question"], row["answer"]) == (row["form"] == "injected")


def test_the_page_has_the_counts() -> None:
    """docs/development_set.md counts the lines of each kind."""
    counts = Counter((row["kind"], row["split"]) for row in ROWS)
    page = PAGE.read_text("utf-8")
    for kind, label in LABEL_OF.items():
        tuning, testing = (counts[kind, split] for split in ("tuning", "testing"))
        assert re.search(
            rf"^\| `{kind}` \| {label} \| {tuning} \| {testing} \|", page, re.MULTILINE
        )
    assert f"{len(ROWS)} rubric items" in page
