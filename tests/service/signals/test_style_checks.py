"""Checks of an answer's style, which are data."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from medreward.errors import Problem
from medreward.signals.measure import measure
from medreward.signals.style_checks import KIND, Inputs, Options
from tests.service.signals.rollouts import answered, responded

REPORT = "# Findings\n\n- **Effusion**, left\n- no fracture\n\n1. Drain it\n| a | b |\n```\nx\n```"


def value_of(
    answer: str, *checks: dict[str, Any], recipe: tuple[dict[str, Any], ...] = ()
) -> float:
    """The value of checks of a sample and of the recipe."""
    inputs = Inputs.model_validate({"checks": checks})
    return KIND.value(answered(answer), inputs, Options.model_validate({"checks": recipe}))


@pytest.mark.parametrize(
    ("check", "passes", "fails"),
    [
        ({"kind": "length", "at_most": 3}, "one two three", "one two three four"),
        ({"kind": "length", "at_least": 2}, "one two", "one"),
        ({"kind": "length", "unit": "characters", "at_most": 4}, "肺炎です", "肺炎です。"),
        ({"kind": "length", "unit": "lines", "at_most": 2}, "a\n\n \nb\n", "a\nb\nc"),
        ({"kind": "markdown", "element": "heading", "at_least": 1}, REPORT, "#1 finding"),
        ({"kind": "markdown", "element": "bullet", "at_least": 2}, REPORT, "- one\n-two"),
        ({"kind": "markdown", "element": "numbered", "at_least": 1}, REPORT, "1.5 mg"),
        ({"kind": "markdown", "element": "table_row", "at_least": 1}, REPORT, "|x"),
        ({"kind": "markdown", "element": "bold", "at_least": 1}, REPORT, "2**3"),
        ({"kind": "markdown", "element": "code_block", "at_least": 1}, REPORT, "```x"),
        ({"kind": "markdown", "element": "heading", "at_most": 0}, "plain", REPORT),
        ({"kind": "json"}, ' {"a": [1, null]} ', "{'a': 1}"),
        ({"kind": "json"}, "1", "[" * 100_000),
        ({"kind": "json", "keys": ["a"]}, '{"a": 1, "b": 2}', '{"b": 2}'),
        ({"kind": "json", "keys": ["a"]}, '{"a": 1}', '["a"]'),
        ({"kind": "pattern", "pattern": "(?i)^diagnosis: "}, "Diagnosis: x", "no diagnosis: x"),
        ({"kind": "pattern", "pattern": "must", "found": False}, "may", "must"),
        ({"kind": "pattern", "pattern": r"\p{Thai}"}, "ปอดบวม", "pneumonia"),
        ({"kind": "pattern", "pattern": "^.$"}, "é", "\ud800\ud800"),
    ],
)
def test_a_check_tells_answers_apart(check: dict[str, Any], passes: str, fails: str) -> None:
    """Each kind of check, by an answer that passes and one that fails."""
    assert value_of(passes, check) == 1.0
    assert value_of(fails, check) == 0.0


WEIGHTS = st.lists(st.tuples(st.booleans(), st.floats(1e-3, 1000)), min_size=1, max_size=8)


@given(WEIGHTS, st.integers(0, 8))
def test_the_value_is_the_share_of_the_passed_weights(
    weights: list[tuple[bool, float]], split: int
) -> None:
    """A check counts alike if it is the recipe's or the sample's."""
    checks = [
        {"kind": "length", "at_least": 2 * (not passes), "weight": weight}
        for passes, weight in weights
    ]
    passed = sum(weight for passes, weight in weights if passes)

    value = value_of("word", *checks[:split], recipe=tuple(checks[split:]))

    assert value == pytest.approx(passed / sum(weight for _, weight in weights))


def test_a_sample_without_checks_has_no_value() -> None:
    """Nothing was checked, which is neither right nor wrong."""
    with pytest.raises(ValueError, match="checks: none"):
        value_of("x")


@pytest.mark.parametrize(
    "check",
    [
        {"kind": "code", "code": "def check(text): return True"},
        {"kind": "pattern", "pattern": r"(a)\1"},
        {"kind": "pattern", "pattern": "(?=a)"},
        {"kind": "pattern", "pattern": "("},
        {"kind": "pattern", "pattern": "(((a{100}){100}){100})"},
        {"kind": "pattern", "pattern": "\ud800"},
        {"kind": "length", "at_least": 2, "at_most": 1},
        {"kind": "length", "weight": 0},
        {"kind": "length", "weight": float("nan")},
        {"kind": "length", "unit": "pages"},
        {"kind": "json", "key": "a"},
    ],
)
def test_what_is_no_check_is_refused(check: dict[str, Any]) -> None:
    """Code, patterns that need backtracking or much memory, bounds that exclude everything."""
    with pytest.raises(ValidationError):
        Inputs.model_validate({"checks": [check]})


@pytest.mark.parametrize("patterns", [[".{300}"], ["a[ab]{900}c"] * 3])
def test_patterns_are_small_together(patterns: list[str]) -> None:
    """Each instruction of a pattern may run for each byte of an answer."""
    checks = [{"kind": "pattern", "pattern": pattern} for pattern in patterns]

    with pytest.raises(ValidationError, match="too large together"):
        Inputs.model_validate({"checks": checks})
    with pytest.raises(ValidationError, match="too large together"):
        Options.model_validate({"checks": checks})


def test_a_pattern_that_makes_others_backtrack_ends() -> None:
    """Python's `re` would take 2 to the power of the answer's length."""
    assert value_of("a" * 100_000, {"kind": "pattern", "pattern": "^(a|a)*b$"}) == 0.0


@pytest.mark.parametrize("blank", ["", " \n"])
def test_a_blank_answer_has_no_style(blank: str) -> None:
    """It passes each check that forbids something, and would be paid for silence."""
    assert value_of(blank, {"kind": "length", "at_most": 5}) == 0.0


def test_an_unknown_kind_is_told_without_its_text() -> None:
    """The text may be of a patient."""
    extra = {"checks": [{"kind": "Jane Doe"}]}

    told = measure("style_checks", KIND, responded("x"), extra, KIND.options())

    assert isinstance(told, Problem)
    assert told.message == "extra.checks[0]: of no known kind; the signal style_checks reads it"
