"""Files of JSON objects, one a line."""

from collections.abc import Iterable, Iterator
from typing import Any

import orjson

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""Some editors write it at the start of a file; joined files also have it in the middle."""


def numbered_lines(file: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield each line that is not empty with its number, from 1, and without a byte order mark."""
    for number, line in enumerate(file, start=1):
        written = line.removeprefix(BYTE_ORDER_MARK)
        if written.strip():
            yield number, written


def object_in(line: bytes) -> dict[str, Any] | None:
    """Read a line; None if it is not a JSON object."""
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None
