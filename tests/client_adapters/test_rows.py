"""Samples from the cells of a data set, as different libraries read them."""

import numpy as np
import pytest

from medreward_client.trainers._batches import Binding, samples_of
from medreward_client.trainers._rows import read_labelled, read_sample


@pytest.mark.parametrize(
    ("cell", "reference"),
    [
        ("left", "left"),
        (3, "3"),
        (np.int64(3), "3"),
        (["left", None, "LLL"], ["left", "LLL"]),
        (np.array(["left", "LLL"], dtype=object), ["left", "LLL"]),
        (None, ""),
        (float("nan"), ""),
        (np.float32("nan"), ""),
        ([None], ""),
        (np.array([]), ""),
    ],
)
def test_a_reference_is_text_and_what_is_missing_is_none(cell: object, reference: object) -> None:
    """A `nan` or a `None` would be graded against, as if someone had written it."""
    assert read_sample("", cell).reference == reference
    (sample,) = samples_of(BOUND, ["Which?"], ["left"], {"reference": [cell]})
    assert sample.reference == reference


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ('["myocardial infarction", "heart attack"]', ["myocardial infarction", "heart attack"]),
        ("['myocardial infarction', 'heart attack']", ["myocardial infarction", "heart attack"]),
        ("['heart attack' 'infarct']", ["heart attack", "infarct"]),
        ("['heart attack'\n 'infarct']", ["heart attack", "infarct"]),
        (' ["heart attack", null] ', ["heart attack"]),
        ("['heart attack', None]", ["heart attack"]),
        ("[\"Crohn's\", 'heart attack']", ["Crohn's", "heart attack"]),
        ('["caf\\u00e9"]', ["café"]),
        ('["5", 5]', ["5", "5"]),
        ("[]", ""),
        # What only looks like one stays a text.
        ("[2, 5]", "[2, 5]"),
        ("[left lung]", "[left lung]"),
        ("[sic] left lung", "[sic] left lung"),
        ("['\\d']", "['\\d']"),
        ("{left}", "{left}"),
        ("{['left']: 1}", "{['left']: 1}"),
        ("<X_RAY>left lung", "<X_RAY>left lung"),
        ("[" * 5000 + "]", "[" * 5000 + "]"),
    ],
)
def test_a_list_that_was_written_into_a_text_is_read(text: str, reference: object) -> None:
    """As one long reference, the right answer would be wrong; columns often hold only texts."""
    assert read_sample("", text).reference == reference
    assert read_labelled("", text).reference == reference
    assert read_labelled("", {"reference": text}).reference == reference


@pytest.mark.parametrize(
    "text", ['{"ground_truth": "Mrs Roe"}', "{'answer': 'Mrs Roe'}", '{"reference": {"a": "Roe"}}']
)
def test_an_object_that_was_written_into_a_text_is_refused_as_the_object_is(text: str) -> None:
    """It is no reference of anybody's; the error does not quote it."""
    with pytest.raises(TypeError) as plain:
        read_sample("", text)
    with pytest.raises(TypeError) as labelled:
        read_labelled("", text)

    assert "Roe" not in f"{plain.value} {labelled.value}"


@pytest.mark.parametrize(
    "label",
    [
        '{"reference": ["a", "b"], "modality": "X_RAY"}',
        "{'reference': ['a', 'b'], 'modality': 'X_RAY'}",
    ],
)
def test_a_label_may_be_an_object_in_a_text(label: str) -> None:
    """By JSON, or by Python."""
    sample = read_labelled("", label)

    assert (sample.reference, sample.modality) == (["a", "b"], "X_RAY")


@pytest.mark.parametrize("cell", [{"text": "Mrs Roe"}, [["Mrs Roe"]], [{"text": "Mrs Roe"}]])
def test_what_is_no_text_is_refused_by_its_type(cell: object) -> None:
    """The error does not quote the row."""
    with pytest.raises(TypeError, match=r"the ground truth is a (dict|list)") as caught:
        read_sample("", cell)
    assert "Roe" not in str(caught.value)


def test_a_row_without_a_question_is_asked_by_its_prompt() -> None:
    """The column may be there, as a numpy array, and the cell empty."""
    columns = {
        "reference": np.array(["left", "left"], dtype=object),
        "question": np.array([None, "Which lobe?"], dtype=object),
        "modality": np.array([float("nan"), "X_RAY"], dtype=object),
    }
    samples = samples_of(BOUND, ["Which?"] * 2, ["a", "b"], columns)

    assert [one.question for one in samples] == ["Which?", "Which lobe?"]
    assert [one.modality for one in samples] == [None, "X_RAY"]


BOUND = Binding("reference", "question", "modality", ())
