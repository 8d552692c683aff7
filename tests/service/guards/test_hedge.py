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
        ("6.8 mmol/L of potassium", "6.8 mmol/L"),
    ],
)
def test_an_or_may_belong_to_the_answer(answer: str, reference: str) -> None:
    """Where both sides belong to the same finding, or to the reference, nothing is hedged."""
    assert rule(hedge, answer, reference) is None
