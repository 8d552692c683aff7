"""The language of short answers, and the tags of CURE-Med by count."""

import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from medreward.signals.kind import Rollout
from medreward.signals.language import CODES, KIND, Inputs, Options, is_in

ANSWERS: dict[str, list[str]] = tomllib.loads(
    Path(__file__).with_name("short_answers.toml").read_text("utf-8")
)
TAGGED = "<thinking>x</thinking><answer>y</answer>"
PIECES = st.sampled_from(["<thinking>", "</thinking>", "<answer>", "</answer>", "x", "\n"])


def value_of(answer: str, language: str, response: str = TAGGED, **options: object) -> float:
    """The value of an answer."""
    rollout = Rollout(response, "", answer, (), None)
    return KIND.value(rollout, Inputs(language=language), Options.model_validate(options))


def test_short_answers_are_in_their_own_language() -> None:
    """All but two words that look the same in several of the 14."""
    missed = [
        answer
        for language, answers in ANSWERS.items()
        for answer in answers
        if not is_in(answer, language, tuple(ANSWERS))
    ]

    assert set(ANSWERS) == set(CODES.values())
    assert missed == ["Pneumonia", "Nimonia"]


@pytest.mark.parametrize("language", [code for code in ANSWERS if code != "en"])
def test_english_is_not_taken_for_another_language(language: str) -> None:
    """A policy that has not learned the other language answers in English."""
    assert [answer for answer in ANSWERS["en"] if is_in(answer, language, tuple(ANSWERS))] in (
        [],
        ["Pneumonia"],
    )


@given(st.lists(PIECES, max_size=20).map("".join))
def test_tags_are_counted_as_published(response: str) -> None:
    """Exactly one block of each, as the paper's expressions count, in any order."""
    found = [re.findall(f"<{t}>.*?</{t}>", response, re.DOTALL) for t in ("thinking", "answer")]

    assert value_of("", "yo", response, tags_share=1) == all(len(each) == 1 for each in found)


def test_the_shares_are_those_of_the_paper() -> None:
    """With a weight of 0.35, the language is worth 0.30 and the tags 0.05."""
    right, wrong = "Ọmọ náà kò gba abẹ́rẹ́ àjẹsára", "The child was not vaccinated"

    assert 0.35 * value_of(right, "yo") == pytest.approx(0.35)
    assert 0.35 * value_of(right, "yo", "no tags") == pytest.approx(0.30)
    assert 0.35 * value_of(wrong, "yo") == pytest.approx(0.05)
    assert value_of(wrong, "yo", "no tags") == 0


@pytest.mark.parametrize(
    ("answer", "value"), [("", 0), ("...", 0), ("120/80", 1), ("١٢٠", 1), ("🙂", 0)]
)
def test_a_number_is_in_every_language(answer: str, value: float) -> None:
    """And what has neither letters nor digits is in none."""
    assert value_of(answer, "am", tags_share=0) == value


@pytest.mark.parametrize(
    ("given", "code"), [("yo", "yo"), ("Yoruba", "yo"), (" HAUSA ", "ha"), ("sw-KE", "sw")]
)
def test_a_language_is_given_by_code_or_name(given: str, code: str) -> None:
    """The names are those of CURE-Med's data."""
    assert Inputs(language=given).language == code


@pytest.mark.parametrize("given", ["zxx", "xx", "Klingon", "", "-"])
def test_an_unknown_language_is_refused(given: str) -> None:
    """In a sample and in a recipe: no answer could be in it."""
    with pytest.raises(ValidationError, match="ISO 639"):
        Inputs(language=given)
    with pytest.raises(ValidationError, match="ISO 639"):
        Options.model_validate({"among": [given]})


def test_piled_marks_change_nothing() -> None:
    """They are dropped before the text is normalised."""
    answer = ANSWERS["yo"][1]

    assert is_in(answer + "\u0301" * 100_000, "yo", tuple(ANSWERS))
