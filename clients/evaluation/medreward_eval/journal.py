"""Append-only JSONL files that survive a kill: lines are never rewritten.

The first line is a header with all that the lines depend on. A line for each item follows, in the
order of the input, so the same work gives the same file however often it was interrupted. Lines of
a later retry stand at the end, begin with `{"again":true`, and replace earlier ones.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

import orjson

from medreward_client.jsonl import numbered_lines, object_in
from medreward_client.locks import lock
from medreward_eval.errors import BadData, OtherRun

HEADER_KEY: Final = "medreward_eval"
"""The first key of a header; its value is the kind of lines, such as `predictions` or `grades`."""
HEADER_START: Final = f'{{"{HEADER_KEY}":'.encode()
AGAIN: Final = "again"
_HEADER_LINE: Final = re.compile(rf'\{{\s*"{HEADER_KEY}"\s*:'.encode())
_AGAIN_LINE: Final = re.compile(rf'\{{\s*"{AGAIN}"\s*:\s*true\b'.encode())
"""White space is allowed, since other programs may rewrite the file."""
LOOKED_AT_BYTES: Final = 64
"""Bytes read from a file to detect a header."""
GENERATED_KEY: Final = "generated"
"""Key of a header of grades: the models and sampling that generated the predictions."""
COUNT_KEY: Final = "predictions"
"""Key of a header: the number of lines expected, the only key that may differ when a run resumes."""
BLOCK_BYTES: Final = 1 << 16

Row = dict[str, Any]


class Journal:
    """A file of lines with a header, locked by the one run that appends to it.

    Raises:
        OtherRun: another run has the lock, or the file's header differs and *mix* is off.
        BadData: the file holds something else.
    """

    def __init__(self, path: Path, header: Mapping[str, Any], *, mix: bool = False) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        try:
            lock(self._file)
            self._check_start()
            truncate_partial_line(path)
            self._begin(dict(header), mix=mix)
        except BlockingIOError:
            self.close()
            raise OtherRun(f"{path}: another run is writing there; wait for it") from None
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, which releases its lock."""
        self._file.close()

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append lines, and flush them to the operating system."""
        self._file.write(b"".join(map(line_of, rows)))
        self._file.flush()

    def append_again(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append lines that replace earlier ones with the same ids."""
        self.append([{AGAIN: True, **row} for row in rows])

    def _check_start(self) -> None:
        """Raise OtherRun unless the file is empty or a journal, before `truncate_partial_line` could cut off its end."""
        with self.path.open("rb") as file:
            start = file.read(len(HEADER_START))
        if not HEADER_START.startswith(start):
            raise OtherRun(f"{self.path} has no header and is none of ours; name another file")

    def _begin(self, header: Row, *, mix: bool) -> None:
        found = headers_of(self.path)
        kind = header[HEADER_KEY]
        if found and any(one[HEADER_KEY] != kind for one in found):
            raise OtherRun(f"{self.path} holds {found[0][HEADER_KEY]}, not {kind}")
        if found and found[-1] == header:
            return
        was, now = (_without_count(one) for one in (found[-1] if found else header, header))
        if was != now and not mix:
            raise OtherRun(
                f"{self.path} was made otherwise ({differences(was, now)}), and the lines would not "
                "compare; write to a new file, or ask for the mixture with --mix"
            )
        self.append([header])


def line_of(row: Mapping[str, Any]) -> bytes:
    """Serialize an object as one line."""
    return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY)


def rows_of(path: Path) -> Iterator[tuple[int, Row]]:
    """Yield the objects of a file, headers too, with their line numbers.

    A last line that was cut off is skipped.

    Raises:
        BadData: the file cannot be read, or another line is not an object.
    """
    try:
        with path.open("rb") as lines:
            for number, line in numbered_lines(lines):
                row = object_in(line)
                if row is not None:
                    yield number, row
                elif line.endswith(b"\n"):
                    raise BadData(f"{path}: line {number} is not a JSON object")
    except OSError as exc:
        raise BadData(f"{path} cannot be read: {exc.strerror}") from exc


def headers_of(path: Path) -> list[Row]:
    """Return the headers of a file in their order: more than one if runs were mixed."""
    return [row for _, row in _beginning(path, _HEADER_LINE)] if has_header(path) else []


def latest_rows(path: Path) -> Iterator[Row]:
    """Yield rows in their order without headers; a row that was retried is the latest one."""
    return (row for _, row in standing_lines(path))


def standing_lines(path: Path) -> Iterator[tuple[int, Row]]:
    """Yield the latest version of each row with its line number.

    Memory holds the retried rows alone.

    Raises:
        BadData: the file cannot be read, or a retried line has no id.
    """
    again: dict[str, tuple[int, Row]] = {}
    for number, row in _beginning(path, _AGAIN_LINE) if has_header(path) else ():
        if not isinstance(row.get("id"), str):
            raise BadData(f"{path}: line {number} must have an `id`, of what it tells again")
        again[row["id"]] = number, row
    for number, row in first_rows(path):
        id_ = row.get("id")
        yield again.get(id_, (number, row)) if isinstance(id_, str) else (number, row)


def first_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Yield the first version of each row, with its line number.

    Headers and retried lines are skipped in a file that begins with a header. In other files, and
    if they are not a line's first key, these keys belong to the user.
    """
    is_ours = has_header(path)
    for number, row in rows_of(path):
        if not (is_ours and _is_header_or_retry(row)):
            yield number, row


def has_header(path: Path) -> bool:
    """Return True if a file is a journal, that is, begins with a header."""
    try:
        with path.open("rb") as file:
            return _HEADER_LINE.match(file.read(LOOKED_AT_BYTES)) is not None
    except OSError as exc:
        raise BadData(f"{path} cannot be read: {exc.strerror}") from exc


def _is_header_or_retry(row: Row) -> bool:
    """Return True for a header or a retried line, by its first key."""
    first = next(iter(row), None)
    return first == HEADER_KEY or (first == AGAIN and row[AGAIN] is True)


def _beginning(path: Path, mark: re.Pattern[bytes]) -> Iterator[tuple[int, Row]]:
    """Yield objects of lines that match *mark*, with line numbers; other lines are not parsed."""
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if mark.match(line) and (row := object_in(line)) is not None:
                    yield number, row
    except OSError as exc:
        raise BadData(f"{path} cannot be read: {exc.strerror}") from exc


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Format the keys in which two headers differ, with both values."""
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    return "; ".join(f"{key} {old.get(key)!r}, now {new.get(key)!r}" for key in keys)


def _without_count(header: Mapping[str, Any]) -> Row:
    return {key: value for key, value in header.items() if key != COUNT_KEY}


def truncate_partial_line(path: Path) -> None:
    """Truncate a file behind its last line feed: the rest is of a run that was killed mid-line."""
    with path.open("rb+") as file:
        file.truncate(_end_of_lines(file))


def _end_of_lines(file: BinaryIO) -> int:
    """Return the offset behind the last whole line, reading backwards."""
    end = file.seek(0, 2)
    while end:
        start = max(0, end - BLOCK_BYTES)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
