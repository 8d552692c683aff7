"""Rules and guards on further answers, of which most were written without knowledge of them."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from medreward.parsing.sample import parse_sample
from medreward.recipes.recipe import Recipe, load_recipes
from medreward.samples import Limits, Sample

ROWS = [
    json.loads(line)
    for line in Path(__file__).with_name("further.jsonl").read_text("utf-8").splitlines()
]


def outcome(row: dict[str, Any], recipe: Recipe) -> str:
    """Settled as right, vetoed or settled as wrong, or left to the models."""
    response = row.get("response") or f"<thinking>.</thinking><answer>{row['answer']}</answer>"
    reference = row["reference"]
    references = reference if isinstance(reference, str) else tuple(reference)
    sample = Sample(question=row["question"], response=response, reference=references)
    accuracy = parse_sample(sample, recipe, Limits()).accuracy
    if accuracy is None:
        return "open"
    return "right" if accuracy.value > 0 else "wrong"


def outcomes(label: str, **fields: str) -> Counter[str]:
    """Count what becomes of the answers with a label, in per cent."""
    recipe = load_recipes()["medix-r1-guarded"]
    found = [row for row in ROWS if row["label"] == label and fields.items() <= row.items()]
    counts = Counter(outcome(row, recipe) for row in found)
    return Counter({became: 100 * count / len(found) for became, count in counts.items()})


def test_no_wrong_answer_is_settled_as_right() -> None:
    """A policy is not paid for one before a judge has read it."""
    assert outcomes("wrong")["right"] == 0


@pytest.mark.parametrize(
    ("fields", "most_vetoed"),
    [
        ({"set": "styles", "split": "testing"}, 0.25),
        ({"set": "styles", "split": "tuning"}, 0.6),
        # Four answers in mark-up that the guards take for an attack, each labelled right.
        ({"set": "kinds", "split": "testing"}, 1.4),
        ({"set": "kinds", "split": "tuning"}, 0.6),
        ({"set": "right"}, 0.8),
    ],
)
def test_few_right_answers_are_vetoed(fields: dict[str, Any], most_vetoed: float) -> None:
    """The true answer is left to a model where a rule cannot tell it."""
    assert outcomes("right", **fields)["wrong"] <= most_vetoed


@pytest.mark.parametrize(
    ("fields", "right", "wrong"),
    [
        ({"set": "styles", "split": "testing"}, 16, 45),
        ({"set": "kinds", "split": "testing"}, 52, 59),
    ],
)
def test_many_answers_need_no_model(fields: dict[str, Any], right: int, wrong: int) -> None:
    """Right ones are settled as right, and wrong ones vetoed or settled as wrong."""
    assert outcomes("right", **fields)["right"] >= right
    assert outcomes("wrong", **fields)["wrong"] >= wrong


def test_most_wrong_answers_near_the_reference_are_vetoed() -> None:
    """Those differ from the reference by one fact that a rule can name."""
    assert outcomes("wrong", set="wrong")["wrong"] >= 70
    assert outcomes("wrong", set="opposite")["wrong"] >= 88
