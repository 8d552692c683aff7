"""JSON Lines: input is checked as a whole before use, and results are written immediately."""

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Generic, TypeVar

from pydantic import BaseModel

from medreward.cli.terminal import CommandError, Misuse, messages, shown
from medreward.errors import InvalidRequest, MalformedBody
from medreward.http.bodies import parse
from medreward.samples import Sample

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

STANDARD_INPUT = Path("-")
BAD_LINES_SHOWN = 5
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Line(Generic[T]):
    """One line of a file: its number and its value."""

    number: int
    value: T


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that cannot be used, and the reason, which never quotes the line."""

    number: int
    reason: str


def read_lines(path: Path, read: Callable[[bytes], T], limit: int | None = None) -> list[Line[T]]:
    """Parse each line with *read*, which raises `InvalidRequest` for a bad line.

    Raises:
        Misuse: the file cannot be read, is empty, or has bad lines; the first of these are named.
    """
    good, bad = sort_lines(path, read, limit)
    if bad:
        raise_bad_lines(path, bad, len(good) + len(bad))
    return good


def sort_lines(
    path: Path, read: Callable[[bytes], T], limit: int | None = None
) -> tuple[list[Line[T]], list[BadLine]]:
    """Parse each line with *read*, and return the good lines and the bad ones.

    Raises:
        Misuse: the file cannot be read, or is empty.
    """
    good: list[Line[T]] = []
    bad: list[BadLine] = []
    for number, raw in islice(_numbered_lines(path), limit):
        try:
            good.append(Line(number, read(raw)))
        except InvalidRequest as exc:
            bad.append(BadLine(number, str(exc)))
    if not good and not bad:
        raise Misuse(f"{name_of(path)}: empty; give one JSON object a line")
    return good, bad


def raise_bad_lines(path: Path, bad: Sequence[BadLine], total: int) -> None:
    """Refuse a file for its bad lines, naming the first of them.

    Raises:
        Misuse: always.
    """
    details = [f"line {line.number}: {line.reason}" for line in bad[:BAD_LINES_SHOWN]]
    if len(bad) > BAD_LINES_SHOWN:
        details.append(f"and {len(bad) - BAD_LINES_SHOWN} more")
    raise Misuse(
        f"{name_of(path)}: {len(bad)} of {total} lines cannot be used, so nothing was sent; "
        "mend them first",
        details=details,
    )


def read_sample_line(raw: bytes) -> Sample:
    """Parse one line as a sample.

    Raises:
        InvalidRequest: the line is not a sample; the message names the field.
    """
    return read_model(Sample, raw, example='{"response": "…", "reference": "…"}')


def read_model(model: type[M], raw: bytes, *, example: str) -> M:
    """Parse one line as *model*; *example* appears in the message for a line that is not an object.

    Raises:
        InvalidRequest: the line does not fit the model; the message names the field.
    """
    try:
        return parse(model, raw)
    except (MalformedBody, InvalidRequest) as exc:
        # If the line is not a JSON object at all, `read_object` raises a clearer message.
        read_object(raw, example=example)
        raise InvalidRequest(str(exc)) from None


def read_object(raw: bytes, *, example: str) -> dict[str, object]:
    """Parse one line as a JSON object.

    Raises:
        InvalidRequest: the line is not one; the message has the column of the first error.
    """
    try:
        value = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as exc:
        raise InvalidRequest(f"not UTF-8 at byte {exc.start + 1}; save the file as UTF-8") from None
    except json.JSONDecodeError as exc:
        raise InvalidRequest(f"not JSON at column {exc.colno}: {exc.msg}") from None
    except (RecursionError, ValueError):
        raise InvalidRequest("nested too deeply, or has a number of thousands of digits") from None
    if not isinstance(value, dict):
        raise InvalidRequest(f"not a JSON object, such as {example}")
    return value


def labels(lines: Sequence[Line[T]], id_of: Callable[[T], str | None]) -> list[str]:
    """Label each line by its id, with its number if the id is missing or occurs twice."""
    ids = [id_of(line.value) for line in lines]
    seen = Counter(ids)

    def label(line: Line[T], name: str | None) -> str:
        if not name:
            return f"line {line.number}"
        return name if seen[name] == 1 else f"{name} (line {line.number})"

    return list(map(label, lines, ids))


def name_of(path: Path) -> str:
    """Return the name of a file for messages."""
    return "standard input" if path == STANDARD_INPUT else str(path)


class ResultWriter(AbstractContextManager["ResultWriter"]):
    """A writer of JSON Lines that flushes each batch, so that an interrupted run loses none.

    Without a path it writes nothing.
    """

    def __init__(self, path: Path | None, *, source: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None
        self._written = 0
        if path is not None:
            check_output("--out", path)
            if source != STANDARD_INPUT and path.exists() and path.samefile(source):
                raise Misuse(f"--out: {path} is the file that is read; name another")

    def write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write rows and flush them to the system.

        Raises:
            CommandError: the file cannot be written.
        """
        if self._path is None:
            return
        try:
            # The file is opened at the first batch, since a run that fails earlier must not
            # truncate the results of an older run.
            self._file = self._file or self._path.open("w", encoding="utf-8")
            lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
            self._file.writelines(lines)
            self._file.flush()
            self._written += len(lines)
        except OSError as exc:
            raise CommandError(f"{self._path}: cannot be written ({exc.strerror})") from exc

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file, and after a failure report the number of results in it."""
        if self._file is None:
            return
        # What a full disk refused is refused again, and was told the first time.
        with suppress(OSError):
            self._file.close()
        if error is not None:
            text = f"{self._path} keeps the {self._written} results there were"
            messages().print(shown(text), soft_wrap=True)


def check_output(option: str, path: Path) -> None:
    """Refuse a path where no file can be written.

    Raises:
        Misuse: the path's folder is missing, or the path is a folder.
    """
    if not path.parent.is_dir():
        raise Misuse(f"{option}: no folder {path.parent}; make it first")
    if path.is_dir():
        raise Misuse(f"{option}: {path} is a folder; name a file")


def write_whole(path: Path, text: str) -> None:
    """Replace a file atomically: a reader sees the old text or the new one, never a part.

    What is no file, such as `/dev/stdout`, is written to.

    Raises:
        CommandError: the file cannot be written.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if path.exists() and not path.is_file():
            # A device or a pipe is written to: to replace it would take it away from the system.
            path.write_text(text, "utf-8")
            return
        try:
            draft.write_text(text, "utf-8")
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as exc:
        raise CommandError(f"{path}: cannot be written ({exc.strerror})") from exc


def _numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that are not empty, numbered from 1."""
    try:
        content = sys.stdin.buffer.read() if path == STANDARD_INPUT else path.read_bytes()
    except OSError as exc:
        raise Misuse(f"{path}: cannot be read ({exc.strerror}); check the path") from exc
    # Only line feeds end a line here. `splitlines` would also split at characters such as U+2028,
    # which JSON strings may contain.
    for number, raw in enumerate(content.removeprefix(BYTE_ORDER_MARK).split(b"\n"), start=1):
        if raw.strip():
            yield number, raw
