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
        ("See above.", "vacuity.refusal"),
        ("Same as the reference.", "vacuity.refusal"),
        ("It is as described in the thinking section.", "vacuity.refusal"),
        ("The image shows an abnormality.", "vacuity.generic"),
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
        ("L", "left lung"),
        ("Y", "yes"),
        ("M", "male"),
        ("LA", "left atrium"),
        ("The answer is maybe.", "Maybe; the trial was too small."),
        ("It remains unclear.", "maybe"),
        ("not negative", "positive"),
        ("Let's convert this: 5000 mcg", "5 mg"),
        ("Looking at the film, the opacity is in the left lower zone.", "basal pneumonia"),
        ("Let's look at it. The left lower zone is opaque.", "basal pneumonia"),
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
        ("The answer is **B**.", "gout", "Which?\nA. sepsis\nB. gout", None),
        ("The answer is **X**.", "gout", "Which?\nA. sepsis\nB. gout", "vacuity.opener"),
        ("Let's think: it is B.", "B. gout", "Which?\nA. sepsis\nB. gout", None),
        ("Maybe", "the evidence is too thin to tell", "Does aspirin lower mortality?", None),
        ("No evidence.", "no", "Does aspirin lower mortality?", None),
        ("Not enough evidence", "no", "Does aspirin lower mortality?", None),
        ("Not enough evidence", "yes", "Does aspirin lower mortality?", "vacuity.refusal"),
        ("The appendix could not be identified", "no", "Is the appendix visible?", None),
        ("It cannot be determined", "no", "Can the sex be determined?", None),
        ("It cannot be determined", "no", "Is the appendix visible?", "vacuity.refusal"),
        ("I cannot say if the appendix is", "no", "Is the appendix visible?", "vacuity.refusal"),
        ("Na+", "sodium", None, None),
        ("N/A", "sodium", None, "vacuity.opener"),
        ("NA", "sodium", None, "vacuity.refusal"),
        ("TPMT before starting treatment", "TPMT activity", None, None),
        ("30 minutes before eating", "before meals", None, None),
        ("Before answering, the image", "pneumonia", None, "vacuity.reasoning"),
        ("H&E", "Hematoxylin and eosin", None, None),
        ("P-A", "PA", None, None),
        ("I", "iodine", None, None),
        ("K+", "potassium", None, None),
        ("X", "iodine", None, "vacuity.opener"),
        ("x y", "Hematoxylin and eosin", None, None),
        ("Sure, the ratio is above one half", "yes", "Is the heart enlarged?", None),
        ("Sure, let me see", "yes", "Is the heart enlarged?", "vacuity.reasoning"),
        ("Sure, the ratio is above one half", "cardiomegaly", None, "vacuity.reasoning"),
        ("Unable to determine from this image", "It cannot be determined", None, None),
        ("Unable to determine from this image", "male", None, "vacuity.refusal"),
        ("I would go for the womb", "uterus", None, None),
        ("I would go through the findings", "uterus", None, "vacuity.reasoning"),
        ("It is not used for anything other than gout", "gout", None, None),
        ("It could be anything", "gout", None, "vacuity.refusal"),
        ("The heart is anything but large", "yes", "Is the heart large?", "vacuity.refusal"),
        ("↑", "increased", None, None),
        ("++", "increased", None, None),
        ("↑", "pneumonia", None, "vacuity.blank"),
        ("...", "increased", None, "vacuity.blank"),
        (
            "There was not enough evidence that aspirin lowers mortality.",
            "no",
            "Does aspirin lower mortality?",
            None,
        ),
    ],
)
def test_it_depends_on_the_question(
    answer: str, reference: str, question: str | None, expected: str | None
) -> None:
    """A bare yes, a letter or a lack of evidence is an answer where the question asks for it."""
    assert rule(vacuity, answer, reference, question) == expected
