"""Lookup and reading of a task's rows."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medreward_eval.errors import BadData
from medreward_eval.tasks.datasets import ROWS_AT_A_TIME, open_rows
from medreward_eval.tasks.tasks import Task
from tests.evaluation.conftest import rows_file

ROWS = [{"question": f"Q{n}?", "answer": f"A{n}"} for n in range(3)]


def task(path: str = "org/set", folder: Path | None = None, **given: Any) -> Task:
    """A task of two columns."""
    columns = {"question_column": ("question",), "answer_column": ("answer",)}
    return Task(
        **{"name": "quiz", "group": "llm", "path": path, "folder": folder, **columns, **given}
    )


def written(path: Path, rows: Sequence[Mapping[str, Any]] = ROWS) -> Path:
    """A file of rows, by its ending."""
    return rows_file(path, rows)


def rows_of(one: Task, data_dir: Path | None = None) -> list[Mapping[str, Any]]:
    """All rows, without their places."""
    return [row for _, row in open_rows(one, data_dir=data_dir)]


@pytest.mark.parametrize(
    ("config", "file"),
    [
        ("anatomy", "anatomy/test-00000-of-00001.parquet"),
        ("anatomy", "anatomy/test-00000-of-00001-0a1b2c.parquet"),
        ("anatomy", "anatomy/test/0000.parquet"),
        ("anatomy", "data/anatomy/test-00000-of-00001.parquet"),
        ("anatomy", "anatomy/test.jsonl"),
        (None, "data/test-00000-of-00001.parquet"),
        (None, "test-00000-of-00001.parquet"),
        (None, "default/test/0000.parquet"),
        (None, "default/test-00000-of-00001.parquet"),
        (None, "test.jsonl"),
        (None, "test.json"),
        (None, "test.parquet"),
        (None, "data/test.json"),
    ],
)
def test_a_copy_of_a_hubs_data_set_is_read_as_it_lies(
    tmp_path: Path, config: str | None, file: str
) -> None:
    """The split's files are found in each of the usual layouts."""
    written(tmp_path / "org/set" / file)
    written(tmp_path / "org/set" / file.replace("test", "train"), [{"question": "", "answer": ""}])

    assert rows_of(task(config=config), tmp_path) == ROWS


@pytest.mark.parametrize("file", ["my.jsonl", "my.json", "my.parquet"])
def test_a_file_is_found_beside_its_task_file(tmp_path: Path, file: str) -> None:
    """Its rows have the file's name and their number, from 1, for a place."""
    written(tmp_path / file)
    unit = "line" if file == "my.jsonl" else "row"
    rows = open_rows(task(file, tmp_path))

    assert list(rows) == [
        (f"{tmp_path / file} {unit} {n}", row) for n, row in enumerate(ROWS, start=1)
    ]


def test_a_folder_beside_the_task_file_is_read_like_a_copy(tmp_path: Path) -> None:
    """Own data sets may be laid out as the hub's are."""
    written(tmp_path / "mine/data/test-00000-of-00001.parquet")

    assert rows_of(task("mine", tmp_path)) == ROWS


def test_json_lines_may_go_by_the_ending_of_json(tmp_path: Path) -> None:
    """Several data sets of the hub do this; blank lines and a byte order mark do not count as rows."""
    lines = written(tmp_path / "my.jsonl").read_bytes().replace(b"\n", b"\r\n\r\n")
    (tmp_path / "my.json").write_bytes(b"\xef\xbb\xbf" + lines)

    assert rows_of(task("my.json", tmp_path)) == ROWS


def test_parts_of_a_split_are_read_in_their_order(tmp_path: Path) -> None:
    """Rows are numbered within the part that they are in."""
    for n in range(3):
        written(tmp_path / f"org/set/data/test-0000{n}-of-00003.parquet", ROWS[n : n + 1])
    rows = open_rows(task(), data_dir=tmp_path)

    assert list(rows) == [
        (f"data/test-0000{n}-of-00003.parquet row 1", row) for n, row in enumerate(ROWS)
    ]


def test_a_part_of_a_split_does_not_pass_for_the_whole(tmp_path: Path) -> None:
    """A download that was interrupted would score another benchmark."""
    written(tmp_path / "org/set/data/test-00000-of-00002.parquet")

    with pytest.raises(
        BadData, match="has 1 files of the split test, and by their names there are 2"
    ):
        open_rows(task(), data_dir=tmp_path)


def test_only_the_columns_that_are_named_are_read(tmp_path: Path) -> None:
    """Images of a task of text stay on the disk."""
    rows = [row | {"image": b"large"} for row in ROWS]
    written(tmp_path / "my.parquet", rows)

    assert rows_of(task("my.parquet", tmp_path)) == ROWS
    assert rows_of(task("my.parquet", tmp_path, group="vlm")) == rows


def test_rows_are_read_as_they_are_asked_for(tmp_path: Path) -> None:
    """A damaged end of a file is come to only behind the rows before it."""
    many = [{"question": f"Q{n}" * 50, "answer": "A"} for n in range(ROWS_AT_A_TIME * 4)]
    path = tmp_path / "my.parquet"
    pq.write_table(pa.Table.from_pylist(many), path, row_group_size=ROWS_AT_A_TIME)
    content = bytearray(path.read_bytes())
    start = pq.ParquetFile(path).metadata.row_group(3).column(0).dictionary_page_offset
    content[start : start + 40] = b"\xff" * 40
    path.write_bytes(content)

    read = 0
    with pytest.raises(BadData, match=r"my\.parquet cannot be read"):  # noqa: PT012 - how far it comes
        for _ in open_rows(task("my.parquet", tmp_path)):
            read += 1
    assert read == ROWS_AT_A_TIME * 3


@given(
    rows=st.lists(
        st.fixed_dictionaries({"question": st.text(), "answer": st.text() | st.integers(0, 9)}),
        min_size=1,
        max_size=5,
    ),
    as_array=st.booleans(),
)
def test_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[dict[str, Any]],
    as_array: bool,
) -> None:
    """Whatever texts hold, rows come back as they were."""
    folder = tmp_path_factory.mktemp("rows")
    name = "my.json" if as_array else "my.jsonl"
    written(folder / name, rows)

    assert rows_of(task(name, folder)) == rows


@pytest.mark.parametrize("file", ["my.jsonl", "my.json", "my.parquet"])
def test_a_missing_column_is_told_with_those_there_are(tmp_path: Path, file: str) -> None:
    """At once, before any row is asked."""
    written(tmp_path / file, [{"query": "Q?", "answer": "A"}])

    with pytest.raises(BadData) as caught:
        open_rows(task(file, tmp_path))
    assert str(caught.value) == (
        f"quiz: {tmp_path / file} has no column question; it has query, answer"
    )


def test_a_task_of_images_needs_a_column_of_them(tmp_path: Path) -> None:
    """Either of the usual two, unless the task names another."""
    written(tmp_path / "my.jsonl")

    with pytest.raises(BadData, match="has no column image or image_id; it has question, answer"):
        open_rows(task("my.jsonl", tmp_path, group="vlm"))
    with pytest.raises(BadData, match="has no column scan; it has question, answer"):
        open_rows(task("my.jsonl", tmp_path, group="vlm", image_column="scan"))


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("my.jsonl", b'{"question": "Q", "answer": "A"}\nthe patient\n',
         "my.jsonl: line 2 is not a JSON object"),
        ("my.jsonl", b'"the patient"\n', "my.jsonl: line 1 is not a JSON object"),
        ("my.json", b'[{"question": "Q"}, "the patient"]', "my.json: row 2 is not a JSON object"),
        ("my.json", b'[{"question":\n the patient', "my.json is not JSON: see its line 2"),
        ("my.json", b"[]", "my.json holds no rows"),
        ("my.jsonl", b"\n", "my.jsonl holds no rows"),
        ("my.parquet", b"the patient", "my.parquet cannot be read: ArrowInvalid"),
    ],
)  # fmt: skip
def test_a_file_that_is_none_is_named(tmp_path: Path, file: str, content: bytes, said: str) -> None:
    """By its line, and without its content."""
    (tmp_path / file).write_bytes(content)

    with pytest.raises(BadData) as caught:
        list(open_rows(task(file, tmp_path)))
    assert str(caught.value) == f"{tmp_path}/{said}"


def test_an_array_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    """It would be read as a whole; lines are not."""
    with (tmp_path / "my.json").open("wb") as file:
        file.write(b"[")
        file.truncate(1 << 27)

    with pytest.raises(BadData, match=r"more than 64 MiB.*write it as \.jsonl"):
        open_rows(task("my.json", tmp_path))


def test_a_split_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    """The error lists the names that were tried and the command that fetches the data."""
    written(tmp_path / "org/set/data/train-00000-of-00001.parquet")

    with pytest.raises(BadData, match=r"no files of the split test; looked for test-\*\.p") as told:
        open_rows(task(revision="v2"), data_dir=tmp_path)
    fetching = "hf download org/set --repo-type dataset --revision v2 --local-dir"
    assert str(told.value).endswith(f"{fetching} {tmp_path / 'org/set'}")


def test_a_missing_file_of_ones_own_is_not_looked_for_on_the_hub(tmp_path: Path) -> None:
    """It is named as it was looked for."""
    with pytest.raises(BadData, match=r"my\.jsonl"):
        open_rows(task("my.jsonl", tmp_path))


def test_without_the_hubs_library_two_ways_out_are_named(tmp_path: Path) -> None:
    """To fetch the data set, or to install what fetches it; and what the task needs besides."""
    if "datasets" in sys.modules:
        pytest.skip("the hub's library is there")

    with pytest.raises(BadData) as caught:
        open_rows(task(needs="An account."), data_dir=tmp_path)
    said = str(caught.value).replace(str(tmp_path), "DIR")

    assert "`hf download org/set --repo-type dataset --local-dir DIR/org/set`" in said
    assert "--data-dir DIR" in said
    assert "`pip install 'medreward-eval[hub]'`" in said
    assert said.endswith("It needs: An account.")


class HubRows:
    """A fake of the hub library's data set: arrow tables, by columns."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self._rows = rows
        self.column_names = list(rows[0])

    def __len__(self) -> int:
        return len(self._rows)

    def select_columns(self, columns: list[str]) -> "HubRows":
        """Leave the others out."""
        return HubRows([{column: row[column] for column in columns} for row in self._rows])

    def with_format(self, name: str) -> "HubRows":
        """Only arrow's is asked for: it leaves images encoded."""
        assert name == "arrow"
        return self

    def iter(self, size: int) -> list[pa.Table]:
        """Tables of so many rows."""
        starts = range(0, len(self._rows), size)
        return [pa.Table.from_pylist(self._rows[start : start + size]) for start in starts]


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ({}, {"name": None, "revision": None}),
        ({"config": "anatomy", "revision": "v2"}, {"name": "anatomy", "revision": "v2"}),
        (
            {"config": "anatomy", "revision": "refs/convert/parquet"},
            {"data_dir": "anatomy", "revision": "refs/convert/parquet"},
        ),
    ],
)
def test_the_hub_is_asked_for_one_config(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], asked: dict[str, str | None]
) -> None:
    """In the branch of its own copies, a config is a folder and has no name."""
    calls: list[dict[str, Any]] = []
    library = ModuleType("datasets")

    def load_dataset(path: str, **options: Any) -> HubRows:
        calls.append({"path": path, **options})
        return HubRows([row | {"other": 1} for row in ROWS])

    library.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", library)
    monkeypatch.setitem(sys.modules, "huggingface_hub", ModuleType("huggingface_hub"))
    rows = open_rows(task(**given))

    assert list(rows) == [(f"org/set (test) row {n}", row) for n, row in enumerate(ROWS, start=1)]
    assert calls == [{"path": "org/set", "split": "test", **asked}]
