"""JSON into records: the annotations of a record are its only schema.

What no record names is ignored, so that a newer service may say more. What has no default
must be there, with the type it is annotated with.
"""

from collections.abc import Callable, Iterable
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import (
    Any,
    Literal,
    NoReturn,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

import orjson

from medreward_client._errors import BadReply

T = TypeVar("T")
Reader = Callable[[Any], Any]


def read_as(kind: type[T], content: bytes) -> T:
    """Read a JSON document as *kind*.

    Raises BadReply, which names the field that is wrong but never its value: that may
    be patient text.
    """
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError:
        # The decoder's error would bring the whole document along, in `doc`.
        raise BadReply("the reply is not JSON") from None
    try:
        return cast("T", _reader_of(cast("Any", kind))(document))
    except BadReply as misread:
        raise BadReply(f"reply{misread}") from None


@cache
def _reader_of(kind: Any) -> Reader:
    origin, inside = get_origin(kind), get_args(kind)
    if origin in (UnionType, Union):
        return _optional_reader(inside) if NoneType in inside else _variant_reader(inside)
    if origin is Literal:
        return lambda value: value if value in inside else _refuse(value, " or ".join(inside))
    if origin is tuple:
        return _array_reader(_reader_of(inside[0]))
    if origin is dict:
        return _table_reader(_reader_of(inside[1]))
    return _record_reader(kind) if is_dataclass(kind) else _scalar_reader(kind)


def _refuse(value: object, expected: str) -> NoReturn:
    found = "missing" if value is MISSING else f"{type(value).__name__}, not {expected}"
    raise BadReply(f" is {found}")


def _scalar_reader(kind: type) -> Reader:
    # Not isinstance: to it, True is an int, and would pass for a reward of 1.
    accepted = (float, int) if kind is float else (kind,)
    return lambda value: kind(value) if type(value) in accepted else _refuse(value, kind.__name__)


def _optional_reader(kinds: tuple[Any, ...]) -> Reader:
    (read,) = (_reader_of(kind) for kind in kinds if kind is not NoneType)
    return lambda value: None if value is None else read(value)


def _variant_reader(kinds: tuple[Any, ...]) -> Reader:
    """Tell records apart by their `status`."""
    readers = {kind.status: _reader_of(kind) for kind in kinds}

    def read(value: object) -> object:
        status = value.get("status") if isinstance(value, dict) else None
        # A str first: a list has no hash to look it up by.
        if not (isinstance(status, str) and status in readers):
            raise BadReply(f".status is not {' or '.join(readers)}")
        return readers[status](value)

    return read


def _array_reader(read_entry: Reader) -> Reader:
    def read(value: object) -> object:
        entries = value if isinstance(value, list) else _refuse(value, "array")
        return tuple(_read_each((f"[{n}]", read_entry, entry) for n, entry in enumerate(entries)))

    return read


def _table_reader(read_entry: Reader) -> Reader:
    def read(value: object) -> object:
        table = value if isinstance(value, dict) else _refuse(value, "object")
        parts = ((f".{name}", read_entry, entry) for name, entry in table.items())
        return dict(zip(table, _read_each(parts), strict=True))

    return read


def _record_reader(kind: Any) -> Reader:
    hints = get_type_hints(kind)
    named = [(f.name, f".{f.name}", _reader_of(hints[f.name]), f.default) for f in fields(kind)]

    def read(value: object) -> object:
        table = value if isinstance(value, dict) else _refuse(value, "object")
        return kind(*_read_each((place, r, table.get(name, d)) for name, place, r, d in named))

    return read


def _read_each(parts: Iterable[tuple[str, Reader, object]]) -> list[object]:
    read = []
    for place, reader, value in parts:
        try:
            read.append(reader(value))
        except BadReply as misread:
            raise BadReply(f"{place}{misread}") from None
    return read
