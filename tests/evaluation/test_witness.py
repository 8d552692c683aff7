"""Answers that a judge alone took for right."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medreward_eval.grading.witness import is_unwitnessed
from medreward_eval.records import Grade, Graded, Prediction

YES = Grade(1.0, "judge")


def graded(
    response: str, reference: str, grade: Grade = YES, options: tuple[str, ...] = ()
) -> Graded:
    """A response that the judge took for right, unless told otherwise."""
    return Graded(
        Prediction("q1", "answers", "Which?", reference, response, options=options), grade
    )


@pytest.mark.parametrize(
    ("response", "reference"),
    [
        ("It is the heart.", "heart"),
        ("<think>lung?</think>Fractured radius", "fracture of the radial head"),
        ("There are 7 of them.", "7"),
        ("No, it does not.", "no"),
        ("Renally excreted", "renal excretion"),
        ("Left", "left"),
    ],
)
def test_a_word_of_the_reference_is_a_witness(response: str, reference: str) -> None:
    """A stem or a number will do; where a reference has only short words, they count."""
    assert not is_unwitnessed(graded(response, reference))


@pytest.mark.parametrize(
    ("response", "reference"),
    [
        ("It is called the pelvis socket.", "acetabulum"),
        ("The number is typically 36.", "7"),
        ("Kidney stones", "nephrolithiasis"),
        ("Yes, it may.", "no"),
        ("<think>acetabulum</think>The hip", "acetabulum"),
    ],
)
def test_an_answer_without_one_rests_on_the_judge_alone(response: str, reference: str) -> None:
    """It may be a true synonym, or fluent nonsense: only a look can tell."""
    assert is_unwitnessed(graded(response, reference))


def test_the_right_options_letter_is_a_witness() -> None:
    """Its text need not be there."""
    options = ("liver", "spleen")

    assert not is_unwitnessed(graded("I would say B here", "spleen", options=options))
    assert is_unwitnessed(graded("I would say A here", "spleen", options=options))


@pytest.mark.parametrize(
    "grade", [Grade(0.0, "judge"), Grade(1.0, "option"), Grade(1.0, "exact"), Grade(None)]
)
def test_only_what_the_judge_took_for_right_is_asked_about(grade: Grade) -> None:
    """Items settled by a rule, wrong, or unjudged are never unwitnessed."""
    assert not is_unwitnessed(graded("hip", "acetabulum", grade))


@given(st.text(min_size=1))
def test_an_answer_that_holds_its_reference_has_a_witness(reference: str) -> None:
    """Whatever the writing, as long as there are words."""
    has_words = any(char.isalnum() for char in reference)

    assert not (has_words and is_unwitnessed(graded(f"So: {reference}", reference)))
