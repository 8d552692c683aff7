"""Reading JSON Lines: every line is looked at before the first is used."""

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Generic, Self, TypeVar

from medreward.bodies import parse
from medreward.cli.terminal import CommandError, Misuse, messages, shown
from medreward.errors import InvalidRequest, MalformedBody
from medreward.wire import Sample

T = TypeVar("T")

STANDARD_INPUT = Path("-")
BAD_LINES_TOLD = 5
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Line(Generic[T]):
    """One line of a file, and what it holds."""

    number: int
    value: T


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that cannot be used, and why; never what it says."""

    number: int
    reason: str


def read_samples(path: Path, limit: int | None = None) -> list[Line[Sample]]:
    """Read a file of samples.

    Raises:
        Misuse: it cannot be read, is empty, or a line is no sample; the first of those are named.
    """
    return read_lines(path, read_sample_line, limit)


def read_lines(path: Path, read: Callable[[bytes], T], limit: int | None = None) -> list[Line[T]]:
    """Read a file with *read*, which raises `InvalidRequest` for a line that it cannot use.

    Raises:
        Misuse: as `read_samples`.
    """
    good, bad = sort_lines(path, read, limit)
    if bad:
        raise_bad_lines(path, bad, len(good) + len(bad))
    return good


def sort_lines(
    path: Path, read: Callable[[bytes], T], limit: int | None = None
) -> tuple[list[Line[T]], list[BadLine]]:
    """Tell the lines that can be used from those that cannot.

    Raises:
        Misuse: the file cannot be read, or is empty.
    """
    good: list[Line[T]] = []
    bad: list[BadLine] = []
    for number, raw in islice(_written_lines(path), limit):
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
    told = [f"line {line.number}: {line.reason}" for line in bad[:BAD_LINES_TOLD]]
    more = [f"and {len(bad) - BAD_LINES_TOLD} more"] if len(bad) > BAD_LINES_TOLD else []
    raise Misuse(
        f"{name_of(path)}: {len(bad)} of {total} lines cannot be used, so nothing was sent; "
        "mend them first",
        details=[*told, *more],
    )


def read_sample_line(raw: bytes) -> Sample:
    """Read one line as a sample.

    Raises:
        InvalidRequest: it is none; the message names the field.
    """
    try:
        return parse(Sample, raw)
    except (MalformedBody, InvalidRequest) as exc:
        # Says it better where the line is no object at all.
        read_object(raw, example='{"response": "…", "reference": "…"}')
        raise InvalidRequest(str(exc)) from None


def read_object(raw: bytes, *, example: str) -> dict[str, object]:
    """Read one line as a JSON object.

    Raises:
        InvalidRequest: it is none; the message says where it stops being one.
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
    """Name each line by its id; by its number too where ids are missing or occur twice."""
    seen = Counter(id_of(line.value) for line in lines)

    def label(line: Line[T]) -> str:
        name = id_of(line.value)
        if not name:
            return f"line {line.number}"
        return name if seen[name] == 1 else f"{name} (line {line.number})"

    return [label(line) for line in lines]


def name_of(path: Path) -> str:
    """What to call a file in a message."""
    return "standard input" if path == STANDARD_INPUT else str(path)


def _written_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Number the lines from 1 and leave out the empty ones."""
    try:
        content = sys.stdin.buffer.read() if path == STANDARD_INPUT else path.read_bytes()
    except OSError as exc:
        raise Misuse(f"{path}: cannot be read ({exc.strerror}); check the path") from exc
    # Split at line feeds alone: JSON may hold the other line ends that Python knows.
    for number, raw in enumerate(content.removeprefix(BYTE_ORDER_MARK).split(b"\n"), start=1):
        if raw.strip():
            yield number, raw


class Keeper:
    """Writes results as JSON Lines; without a path it keeps nothing."""

    def __init__(self, path: Path | None, *, source: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None
        self._kept = 0
        if path is not None:
            _check(path, source)

    def keep(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write rows and hand them to the system at once.

        Raises:
            CommandError: the disk does not take them.
        """
        if self._path is None:
            return
        try:
            # Not before there is something to write: a run that fails at once empties no file.
            self._file = self._file or self._path.open("w", encoding="utf-8")
            for row in rows:
                self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
                self._kept += 1
            self._file.flush()
        except OSError as exc:
            raise CommandError(f"{self._path}: cannot be written ({exc.strerror})") from exc

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file; after a failure, say what it holds."""
        if self._file is None:
            return
        self._file.close()
        if error is not None:
            text = f"{self._path} keeps the {self._kept} results there were"
            messages().print(shown(text), soft_wrap=True)


def _check(path: Path, source: Path) -> None:
    if not path.parent.is_dir():
        raise Misuse(f"--out: no folder {path.parent}; make it first")
    if path.is_dir():
        raise Misuse(f"--out: {path} is a folder; name a file")
    if source != STANDARD_INPUT and path.exists() and path.samefile(source):
        raise Misuse(f"--out: {path} is the file that is read; name another")
