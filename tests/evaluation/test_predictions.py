"""Anyone's predictions."""

import gzip
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medreward_eval.errors import BadData
from medreward_eval.grading.predictions import (
    Reading,
    inspect_predictions,
    prediction_of,
    read_predictions,
)
from medreward_eval.records import Failure, Prediction
from tests.evaluation.conftest import rows_file

READING = Reading({"medqa": "equivalence", "mimic_cxr_report_generation": "report"})
ROW = {"id": "q1", "question": "Which lobe?", "reference": "left lower lobe", "response": "Left"}


def test_four_keys_are_enough() -> None:
    """Whatever has an id, a question, a reference and a response can be graded."""
    assert prediction_of(ROW, READING) == Prediction(
        "q1", "answers", "Which lobe?", "left lower lobe", "Left"
    )


def test_a_task_follows_from_the_id_where_it_names_one() -> None:
    """So the files of MediX-R1's own evaluation are read as they are, reports as reports."""
    theirs = {"id": "mimic_cxr_report_generation_7", "question": "", "answer": "Clear.",
              "response": "Clear lungs.", "answer_idx": None}  # fmt: skip
    read = prediction_of(theirs, READING)

    assert (read.task, read.template, read.reference) == (
        "mimic_cxr_report_generation",
        "report",
        "Clear.",
    )


def test_what_a_line_says_wins() -> None:
    """Over what the command line says of lines that say nothing."""
    reading = Reading(READING.tasks, task="mine", template="report")
    said = prediction_of({**ROW, "task": "other", "template": "equivalence"}, reading)
    unsaid = prediction_of(ROW, reading)

    assert (said.task, said.template) == ("other", "equivalence")
    assert (unsaid.task, unsaid.template) == ("mine", "report")


def test_options_are_a_list_or_an_object_of_letters() -> None:
    """Data sets have both."""
    listed = prediction_of({**ROW, "options": ["liver", "lung"]}, READING)
    lettered = prediction_of({**ROW, "choices": {"B": "lung", "A": "liver"}}, READING)

    assert listed.options == lettered.options == ("liver", "lung")


def test_a_response_that_never_came_keeps_its_reason() -> None:
    """It is not an empty response, which would be wrong."""
    error = {"kind": "timeout", "message": "no answer in 180 s", "retryable": True}

    assert prediction_of({**ROW, "response": None, "error": error}, READING).error == Failure(
        "timeout", "no answer in 180 s", retryable=True
    )
    assert prediction_of({**ROW, "response": None}, READING).error == Failure(
        "no_response", "the model gave no response"
    )


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"id": None}, "must have an `id`"),
        ({"reference": None}, "ground truth as text in `reference`"),
        ({"response": 3}, "must have text in `response`, and has int"),
        ({"question": ["Mrs Roe?"]}, "must have text in `question`, and has list"),
        ({"options": "A, B"}, "a list of texts in `options`"),
        ({"options": [1, 2]}, "a list of texts in `options`"),
        ({"options": {"A": "liver", "C": "lung"}}, "the letters A, B, C ... in `options`"),
        ({"response": None, "error": {"kind": [], "message": ""}}, "a `kind` and a `message`"),
        ({"template": "bleu"}, "unknown `template`; choose from equivalence, report"),
    ],
)
def test_a_line_that_is_none_is_named_with_what_is_missing(
    wrong: dict[str, object], told: str, tmp_path: Path
) -> None:
    """All of them before anything is spent; nothing of what they say is shown."""
    path = rows_file(tmp_path / "p.jsonl", [ROW, {**ROW, "id": "q2", **wrong}])
    with pytest.raises(BadData, match="line 2") as refused:
        inspect_predictions(path, READING)

    assert told in str(refused.value)
    assert "Roe" not in str(refused.value)


def test_many_bad_lines_are_counted(tmp_path: Path) -> None:
    """The first five are named."""
    rows = [{"id": n} for n in range(12)]
    with pytest.raises(BadData, match=r"line 1 .*line 5 .*; and 7 more") as refused:
        inspect_predictions(rows_file(tmp_path / "p.jsonl", rows), READING)

    assert "line 6" not in str(refused.value)


def test_lines_that_share_an_id_are_named(tmp_path: Path) -> None:
    """Which of them would a grade be of?"""
    path = rows_file(tmp_path / "p.jsonl", [ROW, {**ROW, "id": "q2"}, ROW])
    with pytest.raises(BadData, match=r"line 3 that of line 1\); ids must be unique"):
        inspect_predictions(path, READING)


def test_stock_tells_what_there_is(tmp_path: Path) -> None:
    """The inventory has the number of lines and the file's headers."""
    header = {"medreward_eval": "predictions", "model": "m"}
    path = rows_file(tmp_path / "p.jsonl", [header, {**ROW, "id": "medqa_0"}, ROW])
    stock = inspect_predictions(path, READING)

    assert (stock.total, stock.headers) == (2, [header])
    assert [one.id for one in read_predictions(path, READING)] == ["medqa_0", "q1"]


def test_a_last_line_that_was_cut_off_is_left_out_of_a_run_of_ours(tmp_path: Path) -> None:
    """A generation that was killed can be graded as far as it came, and its header tells how far."""
    header = {"medreward_eval": "predictions", "questions": 3}
    path = rows_file(tmp_path / "p.jsonl", [header, ROW])
    path.write_text(path.read_text() + '{"id": "q2", "que')
    stock = inspect_predictions(path, READING)

    assert (stock.total, stock.questions) == (1, 3)


def test_a_last_line_that_was_cut_off_is_told_of_anyone_elses_file(tmp_path: Path) -> None:
    """A copy that was interrupted would pass for the whole."""
    path = rows_file(tmp_path / "p.jsonl", [ROW, {**ROW, "id": "q2"}])
    path.write_bytes(path.read_bytes()[:-9])

    with pytest.raises(BadData, match="line 2 is not a JSON object; it may be cut off"):
        inspect_predictions(path, READING)


LINE = json.dumps(ROW)
OTHERS = {
    "empty": (b"", "is empty; it takes one JSON object a line"),
    "blank": (b"\n \n", "is empty"),
    "header": (b'{"medreward_eval": "predictions"}\n', "no predictions yet; run `medreward-eval gen"),
    "array": (f"[{LINE}]".encode(), "line 1 is not a JSON object.* one JSON array: .*jq"),
    "array over lines": (f"[\n{LINE}\n]\n".encode(), "one JSON array"),
    "array behind a mark": (f"\ufeff\n[{LINE}]".encode(), "one JSON array"),
    "indented": (json.dumps(ROW, indent=2).encode(), "JSON over several lines"),
    "gzip": (gzip.compress(LINE.encode()), "compressed by gzip: unpack it first"),
    "zip": (b"PK\x03\x04 and so on", "a zip file"),
    "Parquet": (b"PAR1 and so on", "Parquet"),
    "UTF-16": (LINE.encode("utf-16"), "UTF-16: save it as UTF-8"),
    "Latin-1": ('{"id": "Ménière"}\n'.encode("latin-1"), "line 1 .* it is not UTF-8 at byte 10"),
    "one word": (b'"spleen"', "line 1 is not a JSON object"),
}  # fmt: skip


@pytest.mark.parametrize("kind", OTHERS)
def test_a_file_of_no_predictions_is_told_by_what_it_seems_to_be(kind: str, tmp_path: Path) -> None:
    """Of none of them 0 of 0 predictions are right."""
    content, told = OTHERS[kind]
    path = tmp_path / "p.jsonl"
    path.write_bytes(content)

    with pytest.raises(BadData, match=told):
        inspect_predictions(path, READING)


def test_a_pipe_is_told_to_be_one(tmp_path: Path) -> None:
    """What was read from it once cannot be read again; nothing waits for its other end."""
    path = tmp_path / "p.jsonl"
    os.mkfifo(path)

    with pytest.raises(BadData, match=r"is a pipe or a device, .* name a file instead"):
        inspect_predictions(path, READING)


@given(st.dictionaries(st.sampled_from([*ROW, "task", "options", "template", "error", "answer"]),
       st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text()) |
       st.dictionaries(st.text(), st.text())))  # fmt: skip
def test_any_object_is_a_prediction_or_is_told_why_not(row: dict[str, object]) -> None:
    """By the one error that knows how to be told."""
    try:
        prediction_of(row, READING)
    except ValueError as exc:
        assert str(exc).startswith(("must have", "has"))  # noqa: PT017 - either is fine


@pytest.mark.parametrize("key", ["again", "medreward_eval"])
def test_in_a_file_of_somebody_elses_our_keys_are_theirs(tmp_path: Path, key: str) -> None:
    """No line of it is left out."""
    path = rows_file(tmp_path / "answers.jsonl", [ROW, {**ROW, "id": "q2", key: True}])

    assert inspect_predictions(path, READING).total == 2
    assert [one.id for one in read_predictions(path, READING)] == ["q1", "q2"]


def test_a_file_of_several_models_is_all_of_theirs(tmp_path: Path) -> None:
    """Each is named once, in the order in which they came."""
    headers = [{"medreward_eval": "predictions", "model": name} for name in ("b", "a", "b")]
    path = rows_file(tmp_path / "p.jsonl", [*headers, ROW])

    assert inspect_predictions(path, READING).model == "b + a"


def test_references_that_name_no_option_are_counted(tmp_path: Path) -> None:
    """They count if there are options and the template is `equivalence`; no rule settles these."""
    options = {"options": ["liver", "lung"]}
    rows: list[dict[str, object]] = [
        {**ROW, **options, "reference": "spleen"},
        {**ROW, **options, "reference": "E"},
        {**ROW, **options, "reference": "B"},
        {**ROW, **options, "reference": "liver"},
        {**ROW, **options, "reference": "a letter", "template": "report"},
        {**ROW},
    ]
    path = rows_file(tmp_path / "p.jsonl", ({**row, "id": n} for n, row in enumerate(rows)))

    assert inspect_predictions(path, READING).unnamed == 2
