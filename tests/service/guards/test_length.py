"""How long an answer may be, and how often it may say the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medreward.guards.length import cap, length
from medreward.guards.normal import Normal
from tests.service.guards.pairs import rule

WORDS = " ".join(f"word{i}" for i in range(100))


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        (WORDS, "pneumonia", "length.flood"),
        (WORDS, WORDS[:100], None),
        (" ".join(WORDS.split()[:64]), "pneumonia", None),
        ("pneumonia pneumonia pneumonia", "pneumonia", "length.repetition"),
        ("left lung " * 8, "left lung", "length.repetition"),
        ("5 5 5", "5", None),
        ("肺炎" * 80, "肺炎", "length.flood"),
    ],
)
def test_a_flood_and_a_stutter_are_vetoed(
    answer: str, reference: str, expected: str | None
) -> None:
    """An answer has 64 words, or eight times its reference's, and does not repeat itself."""
    assert rule(length, answer, reference) == expected


@given(st.text())
def test_the_reference_is_never_too_long_for_itself(text: str) -> None:
    """Every text is within its own cap, and none is vetoed beside itself."""
    assert Normal(text).size <= cap(Normal(text))
    assert rule(length, text, text) is None
