"""The suite of answers: the development set, by what an answer is."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from medreward.audit.answers import LabelledAnswer, answers, labelled_answers
from medreward.audit.page import ANSWERS
from medreward.audit.suites import cases_of

ROW = LabelledAnswer(
    id="effusion_side-1",
    family="effusion_side",
    style="vqa",
    split="tuning",
    kind="side",
    form="bare",
    question="Which side shows the effusion?",
    reference="Left",
    answer="Right",
    label="wrong",
)


def test_every_labelled_answer_is_a_case() -> None:
    """Right answers are equivalent, and the testing half is held out."""
    cases = cases_of(["answer"], seed=0, limit=None)

    assert [
        (case.question, case.reference, case.answer, case.equivalent, case.held_out)
        for case in cases
    ] == [
        (row.question, row.reference, row.answer, row.label == "right", row.split == "testing")
        for row in labelled_answers()
    ]


def test_a_stratum_has_right_and_wrong_answers_of_both_halves() -> None:
    """Each half has five of each or more, and the page has words for each stratum."""
    sizes = Counter((case.stratum, case.equivalent, case.held_out) for case in answers())

    assert {stratum for stratum, _, _ in sizes} == set(ANSWERS)
    assert len(sizes) == 4 * len(ANSWERS)
    assert min(sizes.values()) >= 5


@pytest.mark.parametrize(
    ("changes", "stratum"),
    [
        ({}, "question"),
        ({"form": "boxed"}, "question"),
        ({"form": "carrier"}, "sentence"),
        ({"form": "german"}, "sentence"),
        ({"form": "explained"}, "long"),
        ({"style": "impression"}, "long"),
        ({"style": "impression", "kind": "negation"}, "denial"),
        ({"form": "explained", "kind": "normal"}, "denial"),
        ({"style": "number", "kind": "negation"}, "quantity"),
        ({"style": "multiple_choice", "form": "explained"}, "option"),
        ({"style": "yes_no_maybe", "kind": "denial"}, "yes_no"),
        ({"reference": "No, it is enlarged.", "kind": "negation"}, "yes_no"),
        ({"reference": "No acute findings.", "kind": "negation"}, "denial"),
    ],
)
def test_an_answer_has_the_first_stratum_that_fits(changes: dict[str, Any], stratum: str) -> None:
    """The kind of question comes first, then denials, then length."""
    assert replace(ROW, **changes).stratum == stratum
