"""Files that a run can be killed over."""

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medreward_eval.errors import BadData, OtherRun
from medreward_eval.journal import Journal, headers_of, latest_rows, rows_of, truncate_partial_line

HEADER = {"medreward_eval": "grades", "version": 1, "model": "m"}
ROWS = [{"id": f"q{n}", "score": n} for n in range(3)]


def filled(path: Path, *rows: dict[str, object]) -> Path:
    """A journal with rows."""
    with Journal(path, HEADER) as journal:
        journal.append(rows or ROWS)
    return path


def test_the_header_comes_first_and_once(tmp_path: Path) -> None:
    """A second run with the same header adds none."""
    path = filled(filled(tmp_path / "a.jsonl"))

    assert [row for _, row in rows_of(path)] == [HEADER, *ROWS, *ROWS]


def test_another_header_is_refused_and_the_difference_told(tmp_path: Path) -> None:
    """Grades of two judges in one file would not compare."""
    path = filled(tmp_path / "a.jsonl")
    with pytest.raises(OtherRun, match=r"model 'm', now 'other'.*--mix"):
        Journal(path, {**HEADER, "model": "other"})

    assert [row for _, row in rows_of(path)] == [HEADER, *ROWS]


def test_another_header_is_written_where_that_is_asked_for(tmp_path: Path) -> None:
    """It stands before the lines that depend on it; a new run is compared with the last header."""
    path = filled(tmp_path / "a.jsonl")
    other = {**HEADER, "model": "other"}
    with Journal(path, other, mix=True) as journal:
        journal.append([{"id": "late"}])
    Journal(path, other).close()

    assert headers_of(path) == [HEADER, other]
    assert [row for _, row in rows_of(path)][-2:] == [other, {"id": "late"}]


def test_a_file_of_something_else_is_left_alone(tmp_path: Path) -> None:
    """The file is refused and not changed."""
    for content in ['{"id": 1}\n', "notes\n", "notes without an end", '{"id": 1}\n{"id"']:
        path = tmp_path / "notes"
        path.write_text(content)
        with pytest.raises(OtherRun, match="none of ours"):
            Journal(path, HEADER)
        assert path.read_text() == content


def test_a_header_that_was_cut_off_is_written_anew(tmp_path: Path) -> None:
    """A run that was killed at once leaves half of one."""
    path = tmp_path / "a.jsonl"
    path.write_text('{"medrew')
    Journal(path, HEADER).close()

    assert [row for _, row in rows_of(path)] == [HEADER]


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    """Predictions are not added to grades."""
    path = filled(tmp_path / "a.jsonl")
    with pytest.raises(OtherRun, match="holds grades, not predictions"):
        Journal(path, {**HEADER, "medreward_eval": "predictions"}, mix=True)


def test_two_runs_do_not_write_to_one_file(tmp_path: Path) -> None:
    """The second one is told, whichever process it is in."""
    path = tmp_path / "a.jsonl"
    second = f"""
from pathlib import Path
from medreward_eval.errors import OtherRun
from medreward_eval.journal import Journal
try:
    Journal(Path({str(path)!r}), {HEADER!r})
except OtherRun as exc:
    print(exc)
"""
    with Journal(path, HEADER):
        told = subprocess.run(  # noqa: S603 - this very Python
            [sys.executable, "-c", second], capture_output=True, text=True, check=True
        )

    assert "another run is writing there" in told.stdout


@given(st.data())
def test_a_file_cut_anywhere_keeps_its_whole_lines(data: st.DataObject) -> None:
    """And nothing of the line that a kill cut in two."""
    lines = [orjson.dumps(row) + b"\n" for row in [HEADER, *ROWS]]
    content = b"".join(lines)
    cut = data.draw(st.integers(0, len(content)))
    whole = [line for n, line in enumerate(lines) if sum(map(len, lines[: n + 1])) <= cut]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "cut.jsonl"
        path.write_bytes(content[:cut])
        truncate_partial_line(path)
        assert path.read_bytes() == b"".join(whole)


def test_a_long_torn_line_is_cut_off_whole(tmp_path: Path) -> None:
    """The search for its beginning runs backwards, over any distance."""
    path = filled(tmp_path / "a.jsonl")
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"id":"' + b"x" * 200_000)
    truncate_partial_line(path)

    assert path.read_bytes() == whole


def test_what_was_told_again_stands_in_its_first_place(tmp_path: Path) -> None:
    """The last word on each, in the order in which they were first told."""
    path = filled(tmp_path / "a.jsonl")
    with Journal(path, HEADER) as journal:
        journal.append_again([{"id": "q1", "score": 7}])
        journal.append([{"id": "q3", "score": 3}])
        journal.append_again([{"id": "q1", "score": 8}])

    assert [(row["id"], row["score"]) for row in latest_rows(path)] == [
        ("q0", 0),
        ("q1", 8),
        ("q2", 2),
        ("q3", 3),
    ]


def test_a_line_in_the_middle_that_is_none_is_named(tmp_path: Path) -> None:
    """The error has the line's number and none of its text."""
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": 1}\nMrs Roe\n{"id": 2}\n')
    with pytest.raises(BadData, match="line 2 is not a JSON object") as refused:
        list(rows_of(path))

    assert "Roe" not in str(refused.value)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    """By its path and what the system says."""
    with pytest.raises(BadData, match=r"gone\.jsonl cannot be read: No such file"):
        list(rows_of(tmp_path / "gone.jsonl"))


def test_the_number_of_lines_to_come_may_change(tmp_path: Path) -> None:
    """A run that goes on with more of them is the same run; its newest header tells how many."""
    path = tmp_path / "grades.jsonl"
    for count in (1, 1, 3):
        with Journal(path, {**HEADER, "predictions": count}):
            pass

    assert [header["predictions"] for header in headers_of(path)] == [1, 3]


def test_lines_that_another_program_wrote_anew_are_ours_still(tmp_path: Path) -> None:
    """White space behind a colon hides neither a header nor a retried line."""
    rows = [HEADER, *ROWS, {"again": True, "id": "q1", "score": 7}]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))

    assert headers_of(path) == [HEADER]
    assert [row["score"] for row in latest_rows(path)] == [0, 7, 2]


@pytest.mark.parametrize(
    "own",
    [
        {"id": "q3", "again": True},
        {"id": "q3", "medreward_eval": "mine"},
        {"again": "and again", "id": "q3"},
    ],
    ids=str,
)
def test_a_line_of_somebody_elses_in_a_file_of_ours_is_kept(
    own: dict[str, object], tmp_path: Path
) -> None:
    """Our marks are first keys, with the values that we give them."""
    path = filled(tmp_path / "a.jsonl", *ROWS, own)

    assert list(latest_rows(path)) == [*ROWS, own]


@pytest.mark.parametrize("lost", [{}, {"id": ["q1"]}], ids=str)
def test_a_line_that_tells_nothing_again_is_named(lost: dict[str, object], tmp_path: Path) -> None:
    """The error has the line's number, since the id of the row that it replaces is missing."""
    path = filled(tmp_path / "a.jsonl", *ROWS, {"again": True, **lost})

    with pytest.raises(BadData, match=r"a\.jsonl: line 5 must have an `id`"):
        list(latest_rows(path))
