"""What is decided without a model, and what is left to it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medreward.guards.normal import normal
from medreward.guards.pair import Pair
from medreward.guards.symbolic import settle

OPTIONS = "Which is it?\nA. Pneumonia\nB. Left lower lobe collapse\nC. Asthma"
INLINE = "Which is it? (A) Pneumonia (B) Left lower lobe collapse (C) Asthma"
BRACKETS = "Which is it?\nA) Pneumonia\nB) Left lower lobe collapse\nC) Asthma"


def decided(answer: str, reference: str, question: str | None = None) -> bool | None:
    """Tell what is settled: yes, no, or nothing."""
    asked = normal(question) if question is not None else None
    settled = settle(Pair(normal(answer), normal(reference), asked))
    return None if settled is None else settled.says_yes


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        # Case, space, article, hyphen, spelling and final stop change nothing; signs do.
        ("Pneumonia.", "pneumonia", True),
        ("the  left-sided pneumonia", "Left sided pneumonia", True),
        ("Haemorrhage", "hemorrhage", True),
        ("a fracture", "fracture", True),
        ("< 5", "5", False),
        ("HER2+", "HER2-", None),
        ("pneumonia", "asthma", None),
        ("", "", None),
        (".", ".", None),
        # A disease is called by their discoverer with and without an s.
        ("Barrett's oesophagus", "Barrett esophagus", True),
        # The yes or no that an answer begins with settles it, unless the answer takes it back.
        ("Yes", "yes", True),
        ("yes.", "No", False),
        ("YES YES YES", "no", False),
        ("No, there is no fracture.", "no", True),
        ("no", "No, there is no fracture", True),
        ("Yes, it is broken", "No, there is no fracture", False),
        ("No, it is dislocated", "No, there is no fracture", None),
        ("No fracture", "no", None),
        ("Yes or no", "yes", None),
        ("Yes. No.", "yes", None),
        ("yes", "pneumonia", None),
        ("oui", "yes", True),
        ("Nein.", "no", True),
        ("はい", "yes", True),
        ("No doubt", "no", None),
        # Without options, too, letters and numbers alone decide.
        ("(B)", "B", True),
        ("C.", "B", False),
        ("B", "hepatitis", None),
        ("500 mg", "0.5 g", True),
        ("50 mg", "0.5 g", False),
        ("5", "5.0", True),
        ("five", "5", True),
        ("6", "5", False),
        ("5 cm", "5", None),
        ("3-5 mg", "3 to 5 mg", True),
        ("about 5 mg", "5 mg", None),
    ],
)
def test_what_is_plain_is_settled_without_a_model(
    answer: str, reference: str, expected: bool | None
) -> None:
    """Spelling, case, space and final stop change nothing; yes, no, letters and numbers decide."""
    assert decided(answer, reference) is expected


@pytest.mark.parametrize("question", [OPTIONS, INLINE, BRACKETS])
@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("B", "B", True),
        ("(b)", "B", True),
        ("Option B", "B", True),
        ("The answer is B.", "B", True),
        ("B. Left lower lobe collapse", "B", True),
        ("left lower lobe collapse", "B", True),
        ("B", "Left lower lobe collapse", True),
        ("B", "B: left lower lobe collapse", True),
        ("C", "B", False),
        ("asthma", "B", False),
        ("C", "left lower lobe collapse", False),
        ("B. Asthma", "B", False),
        ("B. Something else", "B", None),
        ("collapse of a lobe", "B", None),
        ("pneumonia and asthma", "B", None),
    ],
)
def test_a_letter_and_its_text_are_one(
    question: str, answer: str, reference: str, expected: bool | None
) -> None:
    """With the options in the question, letter and text stand for each other."""
    assert decided(answer, reference, question) is expected


@given(st.text(max_size=100), st.text(max_size=100), st.none() | st.text(max_size=200))
def test_what_is_settled_is_settled_both_ways(one: str, other: str, question: str | None) -> None:
    """Answer and reference may change places."""
    assert decided(one, other, question) is decided(other, one, question)


@pytest.mark.parametrize(
    "piece", ["a. ", "(a) ", "yes ", "no, ", "- ", "a-", "the answer is ", "1 "]
)
def test_long_texts_are_read(piece: str) -> None:
    """A text at the limit of 16 KiB is read like any other."""
    text = (piece * 16_384)[:16_384]
    assert decided(text, "pneumonia", text) is None
