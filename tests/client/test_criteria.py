"""Criteria as JSON and data sets have them."""

from typing import Any

import pytest

from medreward_client import Choice, ChoiceCriterion, Criterion
from medreward_client.criteria import read_criteria

SCALE = [{"text": "no", "points": 0}, {"text": "yes", "points": 2}]


def test_criteria_have_points_or_choices() -> None:
    """Points may be negative, and choices keep their order."""
    given = [{"text": "Is rude.", "points": -3}, {"text": "Is sure.", "choices": SCALE}]

    assert read_criteria(given) == (
        Criterion("Is rude.", -3.0),
        ChoiceCriterion("Is sure.", (Choice("no", 0.0), Choice("yes", 2.0))),
    )
    assert read_criteria(None) == ()


def test_columns_and_the_names_of_healthbench_are_read() -> None:
    """Parquet gives each key to each row, and HealthBench has `criterion` and `tags`."""
    given = [
        {"text": "a", "points": 1.0, "choices": None},
        {"criterion": "b", "points": 2, "tags": ["x"]},
    ]

    assert read_criteria(given) == (Criterion("a", 1.0), Criterion("b", 2.0))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("Is rude.", "criteria: must be a list"),
        (["Is rude."], r"criteria\[0\]: must be an object"),
        ([{"points": 1}], r"criteria\[0\]\.text: must be a text"),
        ([{"text": "Is rude."}], r"criteria\[0\]: must have either"),
        ([{"text": "Is rude.", "points": 1, "choices": SCALE}], r"criteria\[0\]: must have either"),
        ([{"text": "a", "points": 1}, {"text": "Is rude.", "points": "3"}], r"\[1\]\.points: must be"),
        ([{"text": "Is rude.", "points": True}], r"\[0\]\.points: must be a number"),
        ([{"text": "Is rude.", "points": float("nan")}], r"\[0\]\.points: must be a number"),
        ([{"text": "Is rude.", "points": 10**400}], r"\[0\]\.points: must be a number"),
        ([{"text": "Is rude.", "choices": {}}], r"\[0\]\.choices: must be a list"),
        ([{"text": "Is rude.", "choices": ["a"]}], r"choices\[0\]: must be an object"),
        ([{"text": "a", "choices": [{"text": "Is rude."}]}], r"choices\[0\]\.points: must be"),
    ],
)  # fmt: skip
def test_what_is_no_criterion_is_told_by_its_place(given: Any, told: str) -> None:
    """The message shows no text."""
    with pytest.raises(ValueError, match=told) as caught:
        read_criteria(given)

    assert "rude" not in str(caught.value)
