"""Answers that say nothing, and short ones that say enough."""

import pytest

from medreward.guards.vacuity import vacuity
from tests.service.guards.pairs import rule

REFERENCE = "left lower lobe pneumonia"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("", "vacuity.blank"),
        ("\u3164 …", "vacuity.blank"),
        ("x", "vacuity.opener"),
        ("Thought process:", "vacuity.opener"),
        ("解", "vacuity.opener"),
        ("La réponse est :", "vacuity.opener"),
        ("YES YES YES", "vacuity.verdict"),
        ("Y-E-S", "vacuity.opener"),
        ("not no", "vacuity.verdict"),
        ("a disease of the lung", "vacuity.generic"),
        ("an abnormal finding", "vacuity.generic"),
        ("cannot be determined", "vacuity.refusal"),
        ("无法确定", "vacuity.refusal"),
        ("To answer this we first consider the anatomy.", "vacuity.reasoning"),
    ],
)
def test_an_answer_without_content_is_vetoed(answer: str, expected: str) -> None:
    """Blank, opening, verdict, wide words, refusal and reasoning each have their rule."""
    assert rule(vacuity, answer, REFERENCE) == expected


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("B", "B"),
        ("Option A", "A"),
        ("3", "three"),
        ("左", "左侧"),
        ("solution", "a solution of glucose"),
        ("yes", "yes"),
        ("No.", "no, it is benign"),
        ("no", "none"),
        ("no abnormality", "normal"),
        ("kidney disease", "nephropathy"),
        ("abnormality of the heart", "abnormal heart morphology"),
        ("cannot be determined", "it cannot be determined"),
        ("not sure, but left lower lobe pneumonia", REFERENCE),
        ("We see pneumonia in the left lower lobe", REFERENCE),
        ("Let's see: pneumonia of the left lower lung", REFERENCE),
    ],
)
def test_a_short_answer_may_say_enough(answer: str, reference: str) -> None:
    """What the reference says itself, and what narrows it down, is an answer."""
    assert rule(vacuity, answer, reference) is None


@pytest.mark.parametrize(
    ("answer", "reference", "question", "expected"),
    [
        ("yes", "no", None, "vacuity.verdict"),
        ("yes", "there is an effusion", "Is there an effusion?", None),
        ("yes", "effusion", "What is there?", "vacuity.verdict"),
        ("yes no", "yes", "Is there an effusion?", "vacuity.verdict"),
    ],
)
def test_a_verdict_answers_what_asks_for_one(
    answer: str, reference: str, question: str | None, expected: str | None
) -> None:
    """A bare yes is an answer to a question of that kind, unless the reference says no."""
    assert rule(vacuity, answer, reference, question) == expected
