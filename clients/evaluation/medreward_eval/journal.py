"""Append-only JSONL files that survive a kill: lines are never rewritten.

The first line is a header with all that the lines depend on. A line for each item follows, in the
order of the input, so the same work gives the same file however often it was interrupted. Lines of
a later retry stand at the end, begin with `{"again":true`, and replace earlier ones.
"""

import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

import orjson

from medreward_client.jsonl import BYTE_ORDER_MARK, numbered_lines, object_in
from medreward_client.locks import lock
from medreward_eval.errors import BadData, Failed, OtherRun

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
"""Key of a header of grades: the number of lines expected."""
QUESTIONS_KEY: Final = "questions"
"""Key of a header: the number of questions that are asked, and so of the predictions expected."""
COUNT_KEYS: Final = frozenset({COUNT_KEY, QUESTIONS_KEY})
"""The keys that may differ when a run resumes."""
BLOCK_BYTES: Final = 1 << 16
FORMATS: Final = (
    (b"\x1f\x8b", "compressed by gzip: unpack it first (`gunzip`)"),
    (b"BZh", "compressed by bzip2: unpack it first"),
    (b"\xfd7zXZ", "compressed by xz: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd: unpack it first"),
    (b"PK\x03\x04", "a zip file: unpack it first"),
    (b"PAR1", "Parquet: write its rows as JSON, one a line"),
    (b"\xff\xfe", "UTF-16: save it as UTF-8"),
    (b"\xfe\xff", "UTF-16: save it as UTF-8"),
    (b"[", "one JSON array: write its objects one a line (`jq -c '.[]'`)"),
    (b"{\n", "JSON over several lines: write each object on one (`jq -c .`)"),
    (b"{\r\n", "JSON over several lines: write each object on one (`jq -c .`)"),
)
"""First bytes of files that hold no object a line, with what they are and the remedy."""

Row = dict[str, Any]


class Journal:
    """A file of lines with a header, locked by the one run that appends to it.

    Raises:
        OtherRun: another run has the lock, or the file's header differs and *mix* is off.
        BadData: the file holds something else, or is a pipe or a device.
        Failed: the file cannot be written; its finished lines are kept.
    """

    def __init__(self, path: Path, header: Mapping[str, Any], *, mix: bool = False) -> None:
        self.path = path
        check_place(path)
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab")
        try:
            with writing(path):
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
        with writing(self.path):
            self._file.close()

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append lines, and flush them to the operating system."""
        with writing(self.path):
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


def check_place(path: Path) -> None:
    """Check that a journal can be at *path*, before anything is spent on its lines.

    Raises:
        BadData: there is a folder, a pipe or a device, or a folder cannot be there.
    """
    try:
        if path.is_dir():
            raise BadData(f"{path} is a folder; name a file")
        if path.exists():
            # Of a pipe or a device a run could not read what earlier runs wrote.
            _check_kind(path)
        if (blocked := next((one for one in path.parents if one.exists()), path.parent)).is_file():
            raise BadData(f"{path} cannot be written: {blocked} is a file, not a folder")
    except OSError as exc:
        raise BadData(f"{path} cannot be written: {exc.strerror}") from exc


def line_of(row: Mapping[str, Any]) -> bytes:
    """Serialize an object as one line."""
    return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY)


def rows_of(path: Path) -> Iterator[tuple[int, Row]]:
    """Yield the objects of a file, headers too, with their line numbers.

    A last line that was cut off is skipped in a journal, whose next run replaces it. In any other
    file it is an error: its item would be missing from every count.

    Raises:
        BadData: the file cannot be read, or a line is not an object.
    """
    is_first = True
    with reading(path) as lines:
        for number, line in numbered_lines(lines):
            row = object_in(line)
            if row is not None:
                yield number, row
            elif line.endswith(b"\n") or not has_header(path):
                seems = seeming(path) if is_first else ""
                raise BadData(f"{path}: line {number} {_fault_of(line)}{seems}")
            is_first = False


def _fault_of(line: bytes) -> str:
    try:
        line.decode()
    except UnicodeDecodeError as exc:
        return f"is not a JSON object: it is not UTF-8 at byte {exc.start + 1}"
    return "is not a JSON object" + ("" if line.endswith(b"\n") else "; it may be cut off")


def seeming(path: Path) -> str:
    """Return the end of a message that names the format of a file, if it is a known other one."""
    with reading(path) as file:
        start = file.read(LOOKED_AT_BYTES).removeprefix(BYTE_ORDER_MARK).lstrip()
    return next(
        (f"; it seems to be {what}" for mark, what in FORMATS if start.startswith(mark)), ""
    )


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
    with reading(path) as file:
        return _HEADER_LINE.match(file.read(LOOKED_AT_BYTES)) is not None


def _is_header_or_retry(row: Row) -> bool:
    """Return True for a header or a retried line, by its first key."""
    first = next(iter(row), None)
    return first == HEADER_KEY or (first == AGAIN and row[AGAIN] is True)


def _beginning(path: Path, mark: re.Pattern[bytes]) -> Iterator[tuple[int, Row]]:
    """Yield objects of lines that match *mark*, with line numbers; other lines are not parsed."""
    with reading(path) as lines:
        for number, line in enumerate(lines, start=1):
            if mark.match(line) and (row := object_in(line)) is not None:
                yield number, row


@contextmanager
def reading(path: Path) -> Iterator[BinaryIO]:
    """Open a file that is read more than once.

    Raises:
        BadData: it cannot be read, or only once.
    """
    try:
        _check_kind(path)
        with path.open("rb") as file:
            yield file
    except OSError as exc:
        raise BadData(f"{path} cannot be read: {exc.strerror}") from exc


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Name the file in the system's errors of writing to it; a lock that another has passes.

    Raises:
        Failed: the file cannot be written.
    """
    try:
        yield
    except BlockingIOError:
        raise
    except OSError as exc:
        raise Failed(
            f"{path} cannot be written: {exc.strerror}; mend that, then run this again"
        ) from exc


def _check_kind(path: Path) -> None:
    """Raise BadData for a pipe or a device."""
    if not (stat.S_ISREG(mode := path.stat().st_mode) or stat.S_ISDIR(mode)):
        raise BadData(
            f"{path} is a pipe or a device, and is read more than once: name a file instead"
        )


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Format the keys in which two headers differ, with both values."""
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    return "; ".join(f"{key} {old.get(key)!r}, now {new.get(key)!r}" for key in keys)


def _without_count(header: Mapping[str, Any]) -> Row:
    return {key: value for key, value in header.items() if key not in COUNT_KEYS}


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
