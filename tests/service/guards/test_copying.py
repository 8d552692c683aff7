"""The question and its options given back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medreward.guards.copying import copying
from medreward.guards.normal import normal
from medreward.guards.options import read_options
from tests.service.guards.pairs import rule

OPTIONS = "Which one is it? A. gout B. pseudogout C. sepsis D. trauma"

ALL = "Which cause it? A. gout B. sepsis C. trauma D. All of them"


@pytest.mark.parametrize(
    ("question", "texts"),
    [
        (OPTIONS, {"a": {"gout"}, "b": {"pseudogout"}, "c": {"sepsi"}, "d": {"trauma"}}),
        ("Which?\nA) gout\nB) sepsis", {"a": {"gout"}, "b": {"sepsi"}}),
        ("Which? (A) gout (B) sepsis", {"a": {"gout"}, "b": {"sepsi"}}),
        ("Which? {'A': 'gout', 'B': 'sepsis'}", {"a": {"gout"}, "b": {"sepsi"}}),
        ("What is hepatitis A. or B?", {}),
        ("What is it?", {}),
    ],
)
def test_options_are_read_in_each_usual_form(question: str, texts: dict[str, set[str]]) -> None:
    """Letters in their order, with a stop or in brackets, on one line or several."""
    assert read_options(normal(question)).content == texts


@pytest.mark.parametrize(
    ("answer", "reference", "question", "expected"),
    [
        ("What does the film show?", "pneumonia", "What does the film show?", "copying.question"),
        ("THE FILM SHOWS", "pneumonia", "What does the film show?", "copying.question"),
        ("gout, pseudogout, sepsis, trauma", "gout", OPTIONS, "copying.options"),
        ("A, B, C and D", "B", OPTIONS, "copying.options"),
        ("gout, sepsis", "gout", OPTIONS, "hedge.options"),
        ("pseudogout, not gout", "pseudogout", OPTIONS, None),
        ("B. pseudogout", "pseudogout", OPTIONS, None),
        ("A and C", "A, C", OPTIONS, None),
        ("A, C", "AC", OPTIONS, None),
        ("A", "A, C", OPTIONS, "contrast.part"),
        ("A and B", "A, C", OPTIONS, "hedge.options"),
        (
            "A. gout, B. pseudogout",
            "gout",
            "Which? A. gout B. pseudogout C. tophus",
            "copying.options",
        ),
        ("The answer is C, since gout and trauma cause no fever.", "C", OPTIONS, None),
        ("**C**: gout and trauma cause no fever.", "C", OPTIONS, None),
        ("gout, sepsis and trauma, so D.", "All of them", ALL, None),
        ("gout, sepsis and trauma", "gout", ALL, "hedge.options"),
        ("Do not think of gout or trauma; sepsis it is.", "sepsis", OPTIONS, None),
        ("Gout has crystals and trauma a cause, so this is sepsis.", "sepsis", OPTIONS, None),
        ("Gout has crystals and trauma a cause, so gout or sepsis.", "C", OPTIONS, "hedge.options"),
        ("C) sepsis\n\nA) no B) no C) yes D) no", "C", OPTIONS, None),
        ("There is an effusion", "yes", "Is there an effusion?", None),
        ("The lesion is malignant", "malignant", "Is the lesion malignant or benign?", None),
        ("the left one", "left", "Which lung is affected, the left or the right?", None),
        ("pneumonia", "pneumonia", None, None),
    ],
)
def test_a_copy_is_no_answer(
    answer: str, reference: str, question: str | None, expected: str | None
) -> None:
    """The question back, or two options, is vetoed; one choice made of its words is not."""
    assert rule(copying, answer, reference, question) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Gout; sepsis would cause fever", None),
        ("Gout, never sepsis", None),
        ("Gout, pseudogout, sepsis and trauma are it", "copying.options"),
        ("Gout, more than pseudogout, sepsis or trauma", None),
        ("Gout. Pseudogout, sepsis and trauma are seen in older people.", None),
        ("Sepsis; gout would cause pain", "hedge.options"),
        ("Gout; sepsis", "hedge.options"),
        ("Gout, possibly also sepsis", "hedge.options"),
        ("Gout and sepsis, which hurt", "hedge.options"),
        ("Gout; pseudogout; sepsis; trauma", "copying.options"),
    ],
)
def test_an_option_named_first_is_a_choice_if_the_others_explain_it(
    answer: str, expected: str | None
) -> None:
    """One option alone, then a clause about others, is a choice; a list or another one is none."""
    assert rule(copying, answer, "gout", OPTIONS) == expected


@given(st.text(), st.text(), st.text())
def test_any_question_can_be_read(answer: str, reference: str, question: str) -> None:
    """Whatever the texts, the guard answers with one of its rules or none."""
    known = {None, "copying.question", "copying.options", "hedge.options"}
    assert rule(copying, answer, reference, question) in known


@pytest.mark.parametrize(
    ("answer", "reference", "is_vetoed"),
    [
        ("A. left main B. left anterior descending artery C. circumflex", "left main", True),
        ("(a) pneumonia\n(b) asthma", "pneumonia", True),
        ("B. pneumonia", "pneumonia", False),
        ("A. pneumonia B. effusion", "A. pneumonia B. effusion", False),
        ("vitamin B. A deficiency", "vitamin B deficiency", False),
    ],
)
def test_a_list_of_options_is_no_answer_whatever_was_asked(
    answer: str, reference: str, is_vetoed: bool
) -> None:
    """Also where the question shows none, unless the reference is such a list."""
    assert (rule(copying, answer, reference) == "copying.options") is is_vetoed
