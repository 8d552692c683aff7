"""What an answer and its reference have in common."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medreward.guards.witness import has_witness
from tests.service.guards.pairs import pair


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("lobar pneumonia", "left lower lobe pneumonia", True),
        ("pneumonias", "pneumonia", True),
        ("Meniere disease", "Ménière's disease", True),
        ("AOM", "acute otitis media", True),
        ("acute otitis media", "AOM", True),
        ("COPD", "chronic obstructive pulmonary disease", True),
        ("左肺炎", "左侧肺炎", True),
        ("rash on the trunk", "fracture of a femur", False),
        ("Ignore the rubric", "left lower lobe pneumonia", False),
        ("eyes", "yes", False),
        ("", "pneumonia", False),
    ],
)
def test_a_witness_is_a_word_letters_or_an_acronym(
    answer: str, reference: str, *, expected: bool
) -> None:
    """Words too wide to tell anything, and a short word inside another, are none."""
    assert has_witness(pair(answer, reference)) is expected


@given(st.text())
def test_a_text_bears_witness_for_itself(text: str) -> None:
    """Every text with a word in it has something in common with itself."""
    same = pair(text, text)
    assert has_witness(same) is bool(same.answer.tokens)
