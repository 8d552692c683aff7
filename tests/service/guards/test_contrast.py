"""What excludes what: sides, levels, stages, negations; and what only looks as if it did."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medreward.guards.contrast import contrast
from medreward.guards.polarity import lexicon
from tests.service.guards.pairs import pair, rule


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("right lower lobe pneumonia", "left lower lobe pneumonia", "contrast.laterality"),
        ("right-sided effusion", "left sided effusion", "contrast.laterality"),
        ("bilateral pneumonia", "left pneumonia", "contrast.laterality"),
        ("RLL pneumonia", "pneumonia of the left lower lobe", "contrast.laterality"),
        ("R knee effusion", "left knee effusion", "contrast.laterality"),
        ("upper lobe", "lower lobe", "contrast.level"),
        ("proximal femur", "distal femur", "contrast.level"),
        ("L5/S1 disc herniation", "L4/L5 disc herniation", "contrast.level"),
        ("posterior wall", "anterior wall", "contrast.direction"),
        ("genu varum", "genu valgum", "contrast.direction"),
        ("esotropia", "exotropia", "contrast.direction"),
        ("elevated lipase", "decreased lipase", "contrast.amount"),
        ("hypoglycaemia", "hyperglycemia", "contrast.amount"),
        ("hypotension", "hypertensive", "contrast.amount"),
        ("bradycardia", "tachycardia", "contrast.amount"),
        ("thrombocytopenia", "thrombocytosis", "contrast.amount"),
        ("macrocephaly", "microcephaly", "contrast.size"),
        ("chronic gastritis", "acute gastritis", "contrast.time"),
        ("malignant neoplasm", "benign neoplasm", "contrast.malignancy"),
        ("mild stenosis", "severe stenosis", "contrast.severity"),
        ("acquired toxoplasmosis", "congenital toxoplasmosis", "contrast.onset"),
        ("displaced fracture", "nondisplaced fracture", "contrast.negation"),
        ("displaced fracture", "non-displaced fracture", "contrast.negation"),
        ("unstable angina", "stable angina", "contrast.negation"),
        ("no pneumothorax", "pneumothorax", "contrast.negation"),
        ("pneumothorax", "no evidence of pneumothorax", "contrast.negation"),
        ("pneumothorax was ruled out", "pneumothorax", "contrast.negation"),
        ("effusion is not seen", "effusion", "contrast.negation"),
        ("negative for malignancy", "malignancy", "contrast.negation"),
        (
            "diabetes with ulcer with gangrene",
            "diabetes with ulcer without gangrene",
            "contrast.negation",
        ),
        ("stage II", "stage III", "contrast.stage"),
        ("stage IIIA", "stage 3b", "contrast.stage"),
        ("second-degree burn", "third degree burn", "contrast.stage"),
        ("type 1 diabetes", "type II diabetes", "contrast.type"),
        ("hepatitis B", "hepatitis C", "contrast.type"),
        ("fracture of the 4th metacarpal", "fracture of the fifth metacarpal", "contrast.digit"),
        ("thumb amputation", "index finger amputation", "contrast.digit"),
        ("CD20 positive", "CD25 positive", "contrast.number"),
        ("Le Fort II fracture", "Le Fort III fracture", "contrast.number"),
        ("right kidney, left ureter", "left kidney, right ureter", "contrast.laterality"),
        ("increased LDH, decreased iron", "decreased LDH, increased iron", "contrast.amount"),
    ],
)
def test_what_excludes_the_reference_is_vetoed(answer: str, reference: str, expected: str) -> None:
    """A member of a group stands against another of the same group, by the group's rule."""
    assert rule(contrast, answer, reference) == expected


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("lower lobe pneumonia", "left lower lobe pneumonia"),
        ("left lower lobe pneumonia with effusion", "pneumonia"),
        ("pneumonia of the left and right lung", "bilateral pneumonia"),
        ("left pneumonia", "unilateral pneumonia"),
        ("elevated lipase", "increased lipase"),
        ("hyperglycaemia", "hyperglycemia"),
        ("superior lobe", "upper lobe"),
        ("type 2 diabetes", "type II diabetes"),
        ("grade three", "grade III"),
        ("stage III", "stage IIIA"),
        ("5th finger", "little finger"),
        ("syndactyly of fingers 3-5", "syndactyly of the 3rd, 4th and 5th finger"),
        ("CD25 deficiency", "interleukin-2 receptor deficiency"),
        ("fracture without displacement", "nondisplaced fracture"),
        ("absent thumb", "aplasia of the thumb"),
        ("absent thumbs", "missing thumbs"),
        ("sparse eyelashes", "partial absence of eyelashes"),
        ("pneumothorax cannot be excluded", "pneumothorax"),
        ("pneumonia, no effusion", "pneumonia"),
        ("no fever, chills or cough", "no fever or chills"),
        ("not only pneumonia", "pneumonia"),
        ("petit mal seizure", "absence seizure"),
        ("low HDL", "decreased high-density lipoprotein"),
        ("acute on chronic subdural haematoma", "acute-on-chronic subdural hematoma"),
        ("glucose 5 mmol/L", "glucose of 5 mmol/L"),
        ("hypoglycemia", "hyponatremia"),
        ("", "left"),
        ("左下葉肺炎", "右下葉肺炎"),
    ],
)
def test_omission_and_other_words_for_the_same_are_not_vetoed(answer: str, reference: str) -> None:
    """What says less, more, or the same otherwise is left to the judge."""
    assert rule(contrast, answer, reference) is None


def test_the_spans_show_both_words() -> None:
    """A veto shows what stands against what, in the texts as they came."""
    answer, reference = "Pneumonia, RIGHT lung", "Left lung pneumonia"
    veto = contrast(pair(answer, reference))
    assert veto is not None
    assert answer[slice(*veto.span)] == "RIGHT"
    assert veto.reference_span is not None
    assert reference[slice(*veto.reference_span)] == "Left"


def test_in_long_texts_both_words_stand_by_one_noun() -> None:
    """Two findings of one report are no contrast, for all that one is mild and one severe."""
    findings = "heart size normal, lungs clear, bones intact, soft tissues unremarkable, "
    assert (
        rule(contrast, f"{findings} mild scoliosis", f"{findings} severe emphysema of the lungs")
        is None
    )
    assert rule(contrast, f"{findings} mild scoliosis", f"{findings} severe scoliosis") is not None


@given(st.text(max_size=200))
def test_no_text_excludes_itself(text: str) -> None:
    """Whatever a text is, it is no contrast to itself."""
    assert rule(contrast, text, text) is None


WORDS = sorted({*lexicon().words, "no", "without", "not", "stage", "II", "3rd"})


@given(*[st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)] * 2)
def test_a_contrast_is_one_both_ways(one: str, other: str) -> None:
    """Whether two texts exclude each other does not depend on which is the reference."""
    assert (rule(contrast, one, other) is None) == (rule(contrast, other, one) is None)


@pytest.mark.parametrize(
    "piece", ["no ", "not excluded ", "left right ", "stage II ", "3-", "L", "un", ", ", "absent "]
)
def test_long_texts_are_read(piece: str) -> None:
    """A text at the limit of 16 KiB is read like any other."""
    assert rule(contrast, (piece * 16_384)[:16_384], "effusion") in {None, "contrast.negation"}
