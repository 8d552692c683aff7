"""Reading files: every line is looked at before the first is sent."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from medreward.cli.jsonl import labels, read_lines, read_sample_line, write_whole
from tests.service.cli.conftest import PATIENT_TEXT, Outcome, Run

GOOD = {"response": PATIENT_TEXT, "reference": "left lower lobe"}
NOWHERE = "http://127.0.0.1:9"
"""Nothing listens there: what is refused before it is asked was refused without it."""

Write = Callable[..., Path]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("nonsense " + PATIENT_TEXT, "not JSON at column 1: Expecting value"),
        ('{"response": "' + PATIENT_TEXT, "not JSON at column 14: Unterminated string"),
        ([PATIENT_TEXT], 'not a JSON object, such as {"response": "…", "reference": "…"}'),
        ({"response": PATIENT_TEXT}, "reference: required, but missing"),
        (GOOD | {"anwser": PATIENT_TEXT}, "anwser: unknown field; leave it out"),
        (GOOD | {"response": 7}, "response: a text; got a number"),
        (GOOD | {"id": "x" * 257}, "id: String should have at most 256 characters"),
        ("[" * 100_000, "nested too deeply"),
        (b'{"response": "\xff"}', "not UTF-8 at byte 15; save the file as UTF-8"),
    ],
)
def test_a_bad_line_is_named_by_number_and_field(
    run: Run, jsonl: Write, row: object, reason: str
) -> None:
    """The message says where and what, and never quotes a sample."""
    told = run("score", jsonl(GOOD, row, GOOD), "--url", NOWHERE)

    assert told.code == 2
    assert "1 of 3 lines cannot be used, so nothing was sent" in told.stderr
    assert f"\n  line 2: {reason}" in told.stderr
    assert PATIENT_TEXT not in told.stderr


def test_the_first_five_bad_lines_are_named(run: Run, jsonl: Write) -> None:
    """More would bury what is wrong."""
    told = run("score", jsonl(GOOD, *["{}"] * 7), "--url", NOWHERE)

    assert [line.split(":")[0].strip() for line in told.stderr.splitlines()[1:]] == [
        "line 2",
        "line 3",
        "line 4",
        "line 5",
        "line 6",
        "and 2 more",
    ]


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_refused(run: Run, tmp_path: Path, content: bytes) -> None:
    """No sample is a mistake, not a success."""
    path = tmp_path / "empty.jsonl"
    path.write_bytes(content)

    assert _one_line(run("score", path)) == f"medreward: {path}: empty; give one JSON object a line"


@pytest.mark.parametrize(
    ("name", "reason"), [("none.jsonl", "No such file or directory"), ("", "Is a directory")]
)
def test_what_is_no_file_is_named(run: Run, tmp_path: Path, name: str, reason: str) -> None:
    """The path is what the user has to look at."""
    path = tmp_path / name
    told = _one_line(run("score", path))

    assert told == f"medreward: {path}: cannot be read ({reason}); check the path"


def test_empty_lines_and_a_byte_order_mark_do_no_harm(tmp_path: Path) -> None:
    """Lines keep the numbers that an editor shows."""
    path = tmp_path / "in.jsonl"
    line = b'{"response": "r", "reference": "x"}'
    path.write_bytes(b"\xef\xbb\xbf" + line + b"\r\n\r\n" + line)

    assert [line.number for line in read_lines(path, read_sample_line)] == [1, 3]


def test_other_line_ends_stay_inside_their_line(tmp_path: Path) -> None:
    """JSON may hold U+2028, which Python takes for the end of a line."""
    path = tmp_path / "in.jsonl"
    path.write_text('{"response": "one\u2028two", "reference": "x"}\n', "utf-8")

    assert [line.value.response for line in read_lines(path, read_sample_line)] == ["one\u2028two"]


def test_a_lone_surrogate_is_read_as_the_service_reads_it(jsonl: Write) -> None:
    """A degenerate rollout is still a rollout."""
    (line,) = read_lines(jsonl(r'{"response": "\ud800", "reference": "x"}'), read_sample_line)

    assert line.value.response == "\ufffd"


def test_a_limit_reads_no_further(jsonl: Write) -> None:
    """What stands behind it may be anything."""
    assert len(read_lines(jsonl(GOOD, GOOD, "nonsense"), read_sample_line, limit=2)) == 2


def test_a_line_without_an_id_is_called_by_its_number(jsonl: Write) -> None:
    """So is one whose id another has too."""
    file = jsonl(GOOD, GOOD | {"id": "a"}, GOOD | {"id": "b"}, GOOD | {"id": "a"})
    lines = read_lines(file, read_sample_line)

    assert labels(lines, lambda sample: sample.id) == ["line 1", "a (line 2)", "b", "a (line 4)"]


def _one_line(told: Outcome) -> str:
    assert told.code == 2
    assert told.stderr.count("\n") == 1
    return told.stderr.strip()


def test_what_is_no_file_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    """A pipe, `/dev/stdout` or another device stays what it is."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_whole(pipe, "a card")
        assert os.read(reader, 100) == b"a card"
    finally:
        os.close(reader)

    assert pipe.is_fifo()
