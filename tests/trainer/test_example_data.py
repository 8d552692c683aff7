"""The small data sets of examples/: properties that recipes rely on."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from medreward_trainer.config.config import Data
from medreward_trainer.data.examples import MODALITIES, Example, read_examples

EXAMPLES = Path(__file__).parents[2] / "examples"
TRAINING, HELD_OUT, WRITTEN = "medical_questions", "medical_questions_val", "warm_up"
NAMES = (TRAINING, HELD_OUT, WRITTEN)
SHAPE = re.compile(r"<([A-Z_]+)><thinking>([^<>]+)</thinking><answer>([^<>]+)</answer>")
BRITISH = re.compile(
    r"\w*(?:aem|oed|oes[oa]|colour|tumour|fibre|litre|centre|grey|paed)\w*", re.IGNORECASE
)
SPOKEN_OF = {
    "X_RAY": "X-ray",
    "MICROSCOPY": "microscop",
    "CLINICAL_PHOTOGRAPHY": "clinical photograph",
    "CT_SCAN": "CT scan",
    "ANGIOGRAPHY": "angiogra",
    "PET_SCAN": "PET scan",
    "ULTRASOUND": "ultrasound",
    "MRI_SCAN": "MRI scan",
    "FUNDUS_PHOTOGRAPHY": "fundus photograph",
    "OCT_SCAN": "OCT scan",
    "ENDOSCOPY": "endoscop",
    "MAMMOGRAPHY": "mammogra",
    "FLUOROSCOPY": "fluoroscop",
    "SPECT": "SPECT",
}
"""How a question tells its modality; of graphics there are several kinds."""


def rows(name: str) -> list[Example]:
    """Read a data set with the trainer's reader."""
    return read_examples(Data(), [str(EXAMPLES / f"{name}.jsonl")], needs_response=name == WRITTEN)


def folded(text: str) -> str:
    """Return a text's words in lower case, without punctuation."""
    return " ".join(re.findall(r"\w+", text.casefold()))


@pytest.mark.parametrize("name", NAMES)
def test_each_row_has_the_columns_of_the_recipes(name: str) -> None:
    """They are those that `data.prompt_key` and `data.answer_key` name by default."""
    columns = {"problem", "solution"} | ({"response"} if name == WRITTEN else set())
    lines = (EXAMPLES / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()

    assert all(json.loads(line).keys() == columns for line in lines)


def test_no_question_is_asked_twice() -> None:
    """Training, validation and warm-up have different questions."""
    questions = Counter(folded(row.problem) for name in NAMES for row in rows(name))

    assert questions.most_common(1)[0][1] == 1


@pytest.mark.parametrize("name", NAMES)
def test_questions_and_references_are_short(name: str) -> None:
    """A question has fifteen words at most and ends as one; a reference has one to four.

    Answers of one character, or with `__`, `:` or `?`, earn nothing by the published recipe.
    """
    for row in rows(name):
        assert len(row.problem.split()) <= 15
        assert row.problem.endswith("?")
        assert isinstance(row.reference, str)
        assert 1 <= len(row.reference.split()) <= 4
        assert len(row.reference) > 1
        assert not re.search("__|[:?]", row.reference)


@pytest.mark.parametrize("name", NAMES)
def test_the_words_are_spelt_one_way(name: str) -> None:
    """American, in questions, references and responses."""
    texts = [f"{row.problem} {row.reference} {row.response or ''}" for row in rows(name)]

    assert [text for text in texts if BRITISH.search(text)] == []


def test_all_sixteen_modalities_are_trained_on() -> None:
    """Each occurs at least twice."""
    counts = Counter(row.modality for row in rows(TRAINING))

    assert {tag for tag in MODALITIES if counts[tag] >= 2} == set(MODALITIES)


@pytest.mark.parametrize("name", NAMES)
def test_a_modality_can_be_told_from_the_question(name: str) -> None:
    """Without an image, the text names every modality except OTHER."""
    for row in rows(name):
        assert row.modality in MODALITIES
        if said := SPOKEN_OF.get(row.modality):
            assert said.casefold() in row.problem.casefold()


def test_a_written_response_is_a_right_one() -> None:
    """It is well formed, with the tag and the answer of its solution, and a sentence of reasoning."""
    for row in rows(WRITTEN):
        found = SHAPE.fullmatch(row.response or "")
        assert found, row.response
        modality, thinking, answer = found.groups()
        assert (modality, answer) == (row.modality, row.reference)
        assert thinking.endswith(".")
