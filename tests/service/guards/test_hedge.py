"""Several answers at once, and references that are several themselves."""

import pytest

from medreward.guards.hedge import hedge
from tests.service.guards.pairs import rule

REFERENCE = "left lower lobe pneumonia"


@pytest.mark.parametrize(
    "answer",
    [
        "left lower lobe or right lower lobe pneumonia",
        "left lower lobe pneumonia or atelectasis",
        "either atelectasis or left lower lobe pneumonia",
        "left lower lobe pneumonia vs. atelectasis",
        "atelectasis / left lower lobe pneumonia",
        "left lower lobe pneumonia, not sure, or atelectasis",
        "not atelectasis, left lower lobe pneumonia or edema",
        "left/right lower lobe pneumonia",
        "Differential: left lower lobe pneumonia, atelectasis",
        "left lower lobe pneumonia, atelectasis, edema, embolism, abscess, fibrosis",
        "(1) left lower lobe pneumonia (2) atelectasis (3) edema (4) embolism",
        "atelectasis, edema, left lower lobe pneumonia or embolism",
        "atelectasis, or failing that left lower lobe pneumonia",
        "If not left lower lobe pneumonia, then atelectasis",
        "left lower lobe pneumonia, but atelectasis cannot be excluded",
    ],
)
def test_the_reference_beside_another_answer_is_vetoed(answer: str) -> None:
    """Two and more candidates of which one is right are no answer."""
    assert rule(hedge, answer, REFERENCE) == "hedge.alternatives"


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("atelectasis or pneumonia", "pneumonia or atelectasis"),
        ("redness of skin or mucous membrane", "erythema"),
        ("decreased or absent tendon reflexes", "reduced tendon reflexes"),
        ("left lower lobe pneumonia with or without effusion", REFERENCE),
        ("pneumonia, left lower lobe, viral or bacterial", REFERENCE),
        ("left lower lobe pneumonia, possibly viral", REFERENCE),
        ("left lower lobe pneumonia, small effusion, no pneumothorax", REFERENCE),
        ("hypoplastic/small finger", "small finger"),
        ("120/80 mmHg", "120/80"),
        ("Essential (primary) hypertension, stage 1", "hypertension"),
        ("Abscess: 3 cm, left lobe; note the wall", "abscess"),
        ("pneumonia, left lower lobe, viral, mild", "pneumonia"),
        ("Variable, unlike early or late ones", "variable"),
        ("Autosomal dominant; not X-linked or recessive", "autosomal dominant"),
        ("6.8 mmol/L of potassium", "6.8 mmol/L"),
        ("Yes, central, without shift to the right or left", "yes"),
        ("Yes. Nothing in either lung", "yes"),
        ("Neutrophils, with few lymphocytes or macrophages", "neutrophils"),
        ("An axial, or transverse, plane", "axial"),
        ("lorazepam or another benzodiazepine", "a benzodiazepine"),
        ("90 / (90 + 10) = 90%; more cannot be computed", "90%"),
        ("Surgery had fewer (4% vs 7%), so medical treatment", "medical (7%)"),
    ],
)
def test_an_or_may_belong_to_the_answer(answer: str, reference: str) -> None:
    """Where both sides belong to the same finding, or to the reference, nothing is hedged."""
    assert rule(hedge, answer, reference) is None


@pytest.mark.parametrize(
    ("question", "answer", "expected"),
    [
        ("Diagnosis?", "The opposite of asthma", "hedge.retracted"),
        ("Diagnosis?", "at risk for asthma", "hedge.retracted"),
        ("Diagnosis?", "anything but asthma", "hedge.retracted"),
        ("Diagnosis?", "asthma mimic", "hedge.retracted"),
        ("Diagnosis?", "Asthma is unlikely; this is COPD", "hedge.retracted"),
        ("Diagnosis?", "Initially asthma was suspected, but it is COPD", "hedge.retracted"),
        ("Diagnosis?", "A history of asthma; now COPD", "hedge.retracted"),
        ("What is the diagnosis?", "Asthma together with a pneumothorax", "hedge.retracted"),
        ("Diagnosis?", "Initially COPD was suspected, but it is asthma", None),
        ("Diagnosis?", "none other than asthma", None),
        ("Diagnosis?", "It is not anything other than asthma", None),
        ("Diagnosis?", "Asthma rather than COPD", None),
        ("Diagnosis?", "Asthma, less likely COPD", None),
        ("Diagnosis?", "Asthma, with a history of smoking", None),
        ("What is she at risk for?", "She has a high risk of asthma", None),
        ("What was ruled out?", "Asthma was ruled out", None),
        ("What does the vaccine prevent?", "It is a vaccine against asthma", None),
        ("What does the film show?", "Asthma together with a pneumothorax", None),
    ],
)
def test_a_reference_that_is_taken_back_is_vetoed(
    question: str, answer: str, expected: str | None
) -> None:
    """Whoever names the reference only to deny it, or adds a second diagnosis, gives another answer."""
    assert rule(hedge, answer, "asthma", question) == expected


@pytest.mark.parametrize(
    ("question", "expected"),
    [("What is the first-line drug?", "hedge.retracted"), ("Which drug caused this?", None)],
)
def test_what_should_be_stopped_is_no_treatment(question: str, expected: str | None) -> None:
    """A drug that is withheld answers no question for a treatment, but other questions."""
    assert rule(hedge, "Warfarin should be discontinued", "warfarin", question) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (f"{REFERENCE}?", "hedge.question"),
        (f"Is it a {REFERENCE} ?", "hedge.question"),
        (f'"{REFERENCE}?"', "hedge.question"),
        ("Atelectasis?", None),
        (f"Is it atelectasis? No, {REFERENCE}.", None),
        (REFERENCE, None),
    ],
)
def test_who_asks_does_not_answer(answer: str, expected: str | None) -> None:
    """The reference as a question is a guess; a question that is answered is not."""
    assert rule(hedge, answer, REFERENCE) == expected


def test_a_reference_may_be_a_question() -> None:
    """Then the answer may be one too."""
    assert rule(hedge, "Does it hurt?", "does it hurt?") is None
