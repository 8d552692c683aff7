"""Rows of a data set: selection, parsing, and messages for invalid ones."""

import base64
import importlib.util
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medreward_client import Choice, ChoiceCriterion, Criterion
from medreward_trainer.config.config import Data
from medreward_trainer.data.examples import (
    MODALITIES,
    Example,
    digest_of,
    has_unknown_tag,
    labels_of,
    read_examples,
    split_solution,
)
from medreward_trainer.errors import BadData

GOOD = {"problem": "Which lung?", "solution": "<X_RAY>left lung"}
SECRET = "Mrs. Smith, born 1950"
TEXTS = st.text(st.characters(codec="utf-8"), min_size=1).filter(str.strip)


def jsonl(path: Path, rows: Iterable[Mapping[str, Any] | bytes]) -> str:
    """Write rows as JSON lines, and bytes unchanged."""
    lines = [row if isinstance(row, bytes) else orjson.dumps(row) for row in rows]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return str(path)


def parquet(path: Path, columns: Mapping[str, list[Any]]) -> str:
    """Write columns as Parquet."""
    pq.write_table(pa.table(dict(columns)), path)
    return str(path)


def complaint(data: Data, *files: str, **how: Any) -> str:
    """Return the message of files that cannot be read."""
    with pytest.raises(BadData) as caught:
        read_examples(data, files, **how)
    return str(caught.value)


@pytest.mark.parametrize(
    ("solution", "modality", "reference"),
    [
        ("<X_RAY>pneumonia", "X_RAY", "pneumonia"),
        ("  <ct_scan>  left lung ", "CT_SCAN", "left lung"),
        ("pneumonia", None, "pneumonia"),
        ("p > 0.05", None, "p > 0.05"),
        ("<SEX>male", None, "<SEX>male"),
        ("X_RAY>pneumonia", None, "X_RAY>pneumonia"),
        ("<X_RAY", None, "<X_RAY"),
    ],
)
def test_a_solution_is_taken_apart_only_at_one_of_the_tags(
    solution: str, modality: str | None, reference: str
) -> None:
    """A less-than sign or another tag is part of the reference."""
    assert split_solution(solution) == (modality, reference)


@pytest.mark.parametrize(
    ("solution", "modality", "reference"),
    [
        (["left lung", "lung"], None, ("left lung", "lung")),
        (["<X_RAY>left lung", "lung"], "X_RAY", ("left lung", "lung")),
        (["left lung"], None, "left lung"),
        (["left lung", None], None, "left lung"),
        ('["left lung", "lung"]', None, ("left lung", "lung")),
        ("['left lung', 'lung']", None, ("left lung", "lung")),
        ("['left lung' 'lung']", None, ("left lung", "lung")),
        ("[1.5, 2.5]", None, "[1.5, 2.5]"),
    ],
)
def test_a_list_of_references_is_kept(
    tmp_path: Path, solution: object, modality: str | None, reference: object
) -> None:
    """Also one that JSON, Python or numpy wrote into a text; numbers in brackets are an interval."""
    file = jsonl(tmp_path / "a.jsonl", [{**GOOD, "solution": solution}])
    (example,) = read_examples(Data(), [file])

    assert (example.modality, example.reference) == (modality, reference)


@pytest.mark.parametrize(
    ("solution", "words"),
    [
        ([], "has an empty list in `solution`"),
        ("[]", "has an empty list in `solution`"),
        ([None], "has an empty list in `solution`"),
        (["left lung", ""], "no reference behind it"),
        (["<X_RAY>left", "<MRI_SCAN>left"], "several tags in `solution`"),
        ([{"a": SECRET}], "must have a text or a list of texts in `solution`"),
        (f'{{"a": "{SECRET}"}}', "must have a text or a list of texts in `solution`"),
        ({"a": SECRET}, "must have a text in `solution` (data.answer_key) and has dict"),
    ],
)
def test_references_that_cannot_be_are_told(tmp_path: Path, solution: object, words: str) -> None:
    """Before the run begins, by their line, and unseen."""
    said = complaint(Data(), jsonl(tmp_path / "a.jsonl", [{**GOOD, "solution": solution}]))

    assert words in said
    assert SECRET not in said


@given(tag=st.sampled_from(MODALITIES), problem=TEXTS, reference=TEXTS)
def test_texts_of_a_line_are_read_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, tag: str, problem: str, reference: str
) -> None:
    """Line separators split no row, and what stands behind a tag is the reference."""
    row = {"problem": f"?{problem}?", "solution": f"<{tag}>{reference}"}
    file = jsonl(tmp_path_factory.mktemp("data") / "a.jsonl", [row])

    (example,) = read_examples(Data(), [file])

    assert example.problem == f"?{problem}?"
    assert (example.modality, example.reference) == (tag, reference.strip())


def test_files_are_read_in_their_order_up_to_a_limit(tmp_path: Path) -> None:
    """The limit covers all files together, and empty lines do not count."""
    first = jsonl(tmp_path / "a.jsonl", [b"\xef\xbb\xbf" + orjson.dumps(GOOD), b"", GOOD])
    second = parquet(tmp_path / "b.parquet", {key: [GOOD[key]] * 3 for key in GOOD})

    found = read_examples(Data(), [first, second], limit=4)

    assert [one.uid for one in found] == ["a.jsonl:1", "a.jsonl:3", "b.parquet:1", "b.parquet:2"]
    assert {(one.problem, one.reference, one.modality) for one in found} == {
        ("Which lung?", "left lung", "X_RAY")
    }


def test_rows_of_files_with_one_name_have_names_of_their_own() -> None:
    """Equal names would merge the groups of two data sets."""
    assert labels_of(["a/train.jsonl", "val.jsonl", "b/train.jsonl"]) == [
        "train.jsonl#1", "val.jsonl", "train.jsonl#3",
    ]  # fmt: skip


def test_all_bad_rows_are_counted_and_the_first_are_named(tmp_path: Path) -> None:
    """One message lists a file's errors by line and field."""
    file = jsonl(
        tmp_path / "a.jsonl",
        [
            GOOD,
            {"problem": SECRET},
            {**GOOD, "solution": "<MRI_SCAN> "},
            {**GOOD, "problem": 3},
            b"{" + SECRET.encode(),
            orjson.dumps([SECRET]),
            SECRET.encode("utf-16"),
            {**GOOD, "problem": " "},
        ],
    )

    said = complaint(Data(), file)

    assert said == (
        f"{file}: line 2 has no `solution` (data.answer_key); it has problem; "
        "line 3 has a tag in `solution` and no reference behind it; "
        "line 4 must have a text in `problem` (data.prompt_key) and has int; "
        "line 5 is not JSON: Expecting property name enclosed in double quotes, at character 2; "
        "line 6 must be an object whose keys are columns, not list; and 2 more"
    )


@pytest.mark.parametrize(
    "row",
    [
        SECRET.encode(),
        orjson.dumps(SECRET),
        SECRET.encode("utf-16"),
        {"problem": SECRET, "solution": ""},
        {"problem": SECRET, "solution": "<OTHER>"},
        {"problem": f"<image>{SECRET}", "solution": SECRET},
        {"problem": SECRET, "solution": SECRET, "image": SECRET},
        {"problem": SECRET, "solution": SECRET, "image": SECRET * 500},
        {"problem": SECRET, "solution": SECRET, "image": "data:image/png;base64," + SECRET},
        {"problem": SECRET, "solution": SECRET, "image": {"text": SECRET}},
    ],
)
def test_nothing_of_a_bad_row_is_shown(tmp_path: Path, row: Any) -> None:
    """An invalid row does not put patients' texts into the log."""
    said = complaint(Data(), jsonl(tmp_path / "a.jsonl", [row]))

    assert "line 1 " in said
    assert "Smith" not in said


def test_a_bad_row_before_the_limit_is_no_row_left_out(tmp_path: Path) -> None:
    """Every row up to the limit must be valid."""
    file = jsonl(tmp_path / "a.jsonl", [GOOD, {"problem": "?"}, GOOD, b"behind the limit"])

    assert "line 2" in complaint(Data(), file, limit=3)


def test_columns_are_those_that_the_configuration_names(tmp_path: Path) -> None:
    """A missing one is reported once for a file, with the columns that it has."""
    file = parquet(tmp_path / "a.parquet", {"question": ["?"] * 9, "solution": ["left"] * 9})

    found = read_examples(Data(prompt_key="question"), [file])

    assert {(one.problem, one.reference) for one in found} == {("?", "left")}
    assert complaint(Data(), file) == (
        f"{file} has no column `problem` (data.prompt_key); it has question, solution"
    )


def test_a_response_is_read_where_it_is_needed(tmp_path: Path) -> None:
    """Supervised steps require it, and rollouts never see it."""
    file = jsonl(tmp_path / "a.jsonl", [{**GOOD, "response": "left"}])
    bare = jsonl(tmp_path / "b.jsonl", [GOOD])

    assert read_examples(Data(), [file], needs_response=True)[0].response == "left"
    assert read_examples(Data(), [file])[0].response is None
    assert "has no `response`" in complaint(Data(), bare, needs_response=True)


def test_images_are_kept_as_they_are_stored(tmp_path: Path) -> None:
    """Structs of the hub, paths, data URLs and lists are not decoded yet."""
    (tmp_path / "a.png").write_bytes(b"one")
    url = "data:image/png;base64," + base64.b64encode(b"two").decode()
    images: list[Any] = ["a.png", url, ["a.png", url], None, ""]
    file = jsonl(tmp_path / "a.jsonl", [{**GOOD, "image": image} for image in images])
    hub = parquet(
        tmp_path / "b.parquet",
        {
            **{key: [GOOD[key]] * 2 for key in GOOD},
            "image": [{"bytes": b"three", "path": "a.png"}, {"bytes": None, "path": "a.png"}],
        },
    )

    found = [one.images for one in read_examples(Data(), [file, hub])]

    path = tmp_path / "a.png"
    assert found == [(path,), (b"two",), (path, b"two"), (), (), (b"three",), (path,)]


def test_image_paths_are_relative_to_a_folder_if_one_is_given(tmp_path: Path) -> None:
    """By default they are relative to the file that names them."""
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"one")
    file = jsonl(tmp_path / "a.jsonl", [{**GOOD, "image": "a.png"}])

    (example,) = read_examples(Data(image_dir=tmp_path / "images"), [file])

    assert example.images == (tmp_path / "images" / "a.png",)
    assert f"relative to {tmp_path}" in complaint(Data(), file)


def test_the_place_of_an_image_is_kept_beside_the_problem(tmp_path: Path) -> None:
    """The template gets the marks too, and a mark without an image is a mistake."""
    (tmp_path / "a.png").write_bytes(b"one")
    row = {**GOOD, "problem": "<image>Which lung?"}

    (example,) = read_examples(Data(), [jsonl(tmp_path / "a.jsonl", [{**row, "image": "a.png"}])])
    said = complaint(Data(), jsonl(tmp_path / "b.jsonl", [row]))

    assert (example.problem, example.content) == ("Which lung?", "<image>Which lung?")
    assert "1 <image> in `problem` and 0 images in `image` (data.image_key)" in said


def test_a_file_that_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    """The message also names the keys that list files."""
    file = tmp_path / "a.parquet"

    said = complaint(Data(), str(file))
    file.write_bytes(b"not Parquet")

    assert said == f"no file at {file}; see data.train_files and data.val_files"
    assert f"{file} cannot be read as Parquet" in complaint(Data(), str(file))


@pytest.mark.skipif(importlib.util.find_spec("datasets") is not None, reason="datasets is here")
def test_data_sets_of_the_hub_name_the_extra_they_need() -> None:
    """Files do not need it."""
    said = complaint(Data(), "owner/name@train")

    assert "pip install 'medreward-trainer[hub]'" in said


def test_a_saved_data_set_is_read_by_folder_and_split(tmp_path: Path) -> None:
    """Its images stay encoded."""
    datasets = pytest.importorskip("datasets")
    kinds = datasets.Features(
        {
            **dict.fromkeys(GOOD, datasets.Value("string")),
            "image": datasets.Sequence(datasets.Image()),
        }
    )
    rows = {**{key: [GOOD[key]] for key in GOOD}, "image": [[{"bytes": b"one", "path": None}]]}
    saved = datasets.Dataset.from_dict(rows, features=kinds)
    datasets.DatasetDict({"train": saved, "test": saved}).save_to_disk(tmp_path / "set")

    (example,) = read_examples(Data(), [f"{tmp_path}/set@test"])

    assert (example.uid, example.images) == ("set@test:1", (b"one",))
    assert "has no split val; it has train, test" in complaint(Data(), f"{tmp_path}/set@val")


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_a_file_without_rows_is_named(tmp_path: Path, content: str) -> None:
    """It is not the batch size that is wrong."""
    path = tmp_path / "train.jsonl"
    path.write_text(content, encoding="utf-8")

    with pytest.raises(BadData, match=r"train\.jsonl holds no rows"):
        read_examples(Data(), [str(path)])


RUBRIC = [
    {"text": "Names the lung.", "points": 3},
    {"text": "Tells to wait.", "points": -2},
    {"text": "Is sure.", "choices": [{"text": "no", "points": 0}, {"text": "yes", "points": 1}]},
]
READ = (
    Criterion("Names the lung.", 3.0),
    Criterion("Tells to wait.", -2.0),
    ChoiceCriterion("Is sure.", (Choice("no", 0.0), Choice("yes", 1.0))),
)


def test_a_row_may_have_a_rubric_in_place_of_a_reference(tmp_path: Path) -> None:
    """As objects of JSON, in a text, or in columns of Parquet; beside a reference, too."""
    row = {"problem": "Which lung?", "criteria": RUBRIC}
    rows = [row, {**row, "criteria": json.dumps(RUBRIC)}, {**row, "solution": "<X_RAY>left"}]
    lines = jsonl(tmp_path / "rows.jsonl", rows)
    table = parquet(tmp_path / "rows.parquet", {"problem": ["Which lung?"], "criteria": [RUBRIC]})

    examples = read_examples(Data(), [lines, table])

    assert [one.criteria for one in examples] == [READ] * 4
    assert [one.reference for one in examples] == ["", "", "left", ""]
    assert [one.modality for one in examples] == [None, None, "X_RAY", None]


def test_what_further_signals_read_is_kept(tmp_path: Path) -> None:
    """Keys that a column of Parquet adds to a row are left out."""
    lines = jsonl(tmp_path / "rows.jsonl", [GOOD | {"extra": {"language": "yo"}}, GOOD])
    columns: dict[str, list[Any]] = {
        "problem": ["a", "b"],
        "solution": ["c", "d"],
        "extra": [{"language": "yo"}, {"hint": "h"}],
    }
    table = parquet(tmp_path / "rows.parquet", columns)

    examples = read_examples(Data(), [lines, table])

    extras = [one.extra for one in examples]
    assert extras == [{"language": "yo"}, {}, {"language": "yo"}, {"hint": "h"}]


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"criteria": [{"text": SECRET}]}, "line 1 criteria[0]: must have either"),
        ({"criteria": SECRET}, "line 1 criteria: must be a list"),
        ({"extra": [SECRET]}, "line 1 must have an object in `extra`"),
        ({"criteria": [], "solution": ""}, "line 1 must have a text in `solution`"),
    ],
)
def test_a_rubric_that_cannot_be_read_is_told_by_its_place(
    tmp_path: Path, row: dict[str, Any], told: str
) -> None:
    """Without a rubric, a reference is needed; nothing of the row is shown."""
    words = complaint(Data(), jsonl(tmp_path / "rows.jsonl", [GOOD | row]))

    assert told in words
    assert SECRET not in words


def test_the_digest_of_examples_is_that_of_their_content(tmp_path: Path) -> None:
    """Another file name changes nothing; another question, reference, tag or image does."""
    (tmp_path / "a.png").write_bytes(b"image")
    first = Example("a:1", "Which?", "left", "X_RAY", (tmp_path / "a.png",))
    others = [
        replace(first, problem="Where?"),
        replace(first, reference="right"),
        replace(first, modality=None),
        replace(first, images=(b"image",)),
        replace(first, images=()),
        replace(first, criteria=READ),
        replace(first, criteria=READ[:2]),
        replace(first, extra={"language": "yo"}),
    ]

    assert digest_of([first]) == digest_of([replace(first, uid="b:7")])
    assert len({digest_of([one]) for one in (first, *others)}) == 1 + len(others)
    assert digest_of([first, others[0]]) != digest_of([others[0], first])


def test_a_file_of_another_format_is_no_data_set_of_the_hub(tmp_path: Path) -> None:
    """It is there, so nothing has to be installed for it."""
    for suffix in (".csv", ".json"):
        path = tmp_path / f"train{suffix}"
        path.write_text("problem,solution\n", encoding="utf-8")

        assert "neither .jsonl nor .parquet" in complaint(Data(), str(path))


@pytest.mark.parametrize(
    ("solution", "is_unknown"),
    [("<XRAY>left", True), ("<X_RAY>left", False), ("left", False), ("< 5 mm", False)],
)
def test_a_tag_that_is_none_of_the_sixteen_is_noticed(
    tmp_path: Path, solution: str, *, is_unknown: bool
) -> None:
    """It becomes a part of the reference, which no answer equals."""
    (example,) = read_examples(
        Data(), [jsonl(tmp_path / "a.jsonl", [GOOD | {"solution": solution}])]
    )

    assert has_unknown_tag(example) is is_unknown
