"""A file of samples: the JSON objects of /reward, one a line, as `medreward score` reads them."""

import io
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from medreward_client._cli.terminal import Misuse
from medreward_client._types import Sample
from medreward_client.criteria import read_criteria
from medreward_client.jsonl import numbered_lines

STANDARD_INPUT = Path("-")
BAD_LINES_TOLD = 5
TEXTS = ("id", "group", "question", "modality")
FIELDS = {"response", "reference", *TEXTS, "group_size", "criteria", "extra"}


class SampleFile:
    """Samples of a file, which each iteration reads again, a line at a time.

    All lines are checked first: Misuse if one is not a sample, before anything is sent.
    """

    def __init__(self, path: Path) -> None:
        self._name = "standard input" if path == STANDARD_INPUT else str(path)
        self._path = path
        self._content = self._read_once()
        self._number = self._check()

    def __len__(self) -> int:
        return self._number

    def __iter__(self) -> Iterator[Sample]:
        with self._open() as file:
            for _, line in numbered_lines(file):
                yield _sample(line)

    def line_of(self, name: str) -> int:
        """Return the line of a sample, by its id or its position as `#0`."""
        with self._open() as file:
            lines = enumerate(numbered_lines(file))
            return next(
                at for place, (at, line) in lines if name in (_sample(line).id, f"#{place}")
            )

    def _read_once(self) -> bytes | None:
        """Return the content of what can be read only once, such as a pipe; None of a file."""
        if self._path == STANDARD_INPUT:
            return sys.stdin.buffer.read()
        with self._readable():
            return self._path.read_bytes() if self._path.is_fifo() else None

    def _open(self) -> BinaryIO:
        with self._readable():
            return self._path.open("rb") if self._content is None else io.BytesIO(self._content)

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            raise Misuse(f"{self._path}: cannot be read ({exc.strerror}); check the path") from exc

    def _check(self) -> int:
        bad: list[str] = []
        first_of: dict[str, int] = {}
        number = 0
        with self._open() as file:
            for at, line in numbered_lines(file):
                number += 1
                try:
                    sample = _sample(line)
                    if sample.id is not None and first_of.setdefault(sample.id, at) != at:
                        raise ValueError(f"id: that of line {first_of[sample.id]} as well")  # noqa: TRY301
                except ValueError as exc:
                    bad.append(f"line {at}: {exc}")
        if bad:
            more = f"; and {len(bad) - BAD_LINES_TOLD} more" if len(bad) > BAD_LINES_TOLD else ""
            raise Misuse(
                f"{self._name}: {len(bad)} of {number} lines cannot be used, so nothing was sent; "
                f"mend them first\n  " + "\n  ".join(bad[:BAD_LINES_TOLD]) + more
            )
        if not number:
            raise Misuse(f"{self._name}: empty; give one JSON object a line")
        return number


def _sample(line: bytes) -> Sample:
    """Parse a line; ValueError names the wrong field, never its value."""
    found = _object(line)
    unknown = found.keys() - FIELDS
    if unknown:
        raise ValueError(
            f"{min(unknown)}: no field of a sample; those are {', '.join(sorted(FIELDS))}"
        )
    missing = {"response", "reference"} - found.keys()
    if missing:
        raise ValueError(f"{min(missing)}: required, but missing")
    extra = found.get("extra") or {}
    if not isinstance(extra, dict):
        raise ValueError("extra: must be an object")  # noqa: TRY004 - of the file, not of our caller
    size = found.get("group_size")
    if size is not None and type(size) is not int:
        raise ValueError("group_size: must be a whole number")
    texts = {name: _text(name, found[name]) for name in TEXTS if found.get(name) is not None}
    return Sample(
        _text("response", found["response"]),
        _references(found["reference"]),
        **texts,
        criteria=read_criteria(found.get("criteria")) or None,
        extra=extra,
        group_size=size,
    )


def _object(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as exc:
        raise ValueError(f"not UTF-8 at byte {exc.start + 1}; save the file as UTF-8") from None
    except json.JSONDecodeError as exc:
        raise ValueError(f"not JSON at column {exc.colno}: {exc.msg}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError('not a JSON object, such as {"response": "...", "reference": "..."}')  # noqa: TRY004 - as above
    return found


def _text(field: str, value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{field}: must be a text")  # noqa: TRY004 - as above
    # Programs that cut texts by UTF-16 leave half an emoji, which is read as the service reads it.
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _references(value: object) -> str | list[str]:
    if isinstance(value, list) and value:
        return [_text("reference", one) for one in value]
    if isinstance(value, str):
        return _text("reference", value)
    raise ValueError("reference: must be a text, or a list of accepted texts")
