"""Samples from the cells of a data set, as different libraries read them."""

import numpy as np
import pytest

from medreward_client.trainers._batches import Binding, samples_of
from medreward_client.trainers._rows import read_sample


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
