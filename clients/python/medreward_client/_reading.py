"""JSON into records: the annotations of a record are its only schema.

What no record names is ignored, so that a newer service may say more. What has no default
must be there, with the type it is annotated with.
"""

import gc
from collections.abc import Callable
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

SCALARS = (str, float, int, bool)


def load(content: bytes) -> object:
    """Read JSON; BadReply if it is none."""
    # Nothing becomes garbage meanwhile, and to look for it again and again, among thousands of new
    # objects, takes as long as the reading.
    was_collecting = gc.isenabled()
    gc.disable()
    try:
        return cast("object", orjson.loads(content))
    except orjson.JSONDecodeError:
        # The decoder's error would bring the whole document along, in `doc`.
        raise BadReply("the reply is not JSON") from None
    finally:
        if was_collecting:
            gc.enable()


def read_as(kind: type[T], document: object, place: str = "reply") -> T:
    """Read what JSON held at *place* as *kind*.

    Raises BadReply, which names the field that is wrong but never its value: that may
    be patient text.
    """
    try:
        return cast("T", _reader_of(cast("Any", kind))(document))
    except BadReply as misread:
        raise BadReply(f"{place}{misread}") from None


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
    return _record_reader(kind) if is_dataclass(kind) else _scalar_reader(origin or kind)


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
        found: list[object] = []
        try:
            for entry in entries:
                found.append(read_entry(entry))  # noqa: PERF401 - how far it came is the place
        except BadReply as misread:
            raise BadReply(f"[{len(found)}]{misread}") from None
        return tuple(found)

    return read


def _table_reader(read_entry: Reader) -> Reader:
    def read(value: object) -> object:
        table = value if isinstance(value, dict) else _refuse(value, "object")
        found: dict[str, object] = {}
        try:
            for name, entry in table.items():
                found[name] = read_entry(entry)
        except BadReply as misread:
            raise BadReply(f".{name}{misread}") from None
        return found

    return read


def _plain(kind: Any) -> type | None:
    """Give the scalar type that a field may simply have; None where there is none."""
    inside = [one for one in get_args(kind) if one is not NoneType] or [kind]
    return inside[0] if len(inside) == 1 and inside[0] in SCALARS else None


def _record_reader(kind: Any) -> Reader:
    hints = get_type_hints(kind)
    # What is of the very type needs no reading, and most is.
    named = [
        (f.name, _plain(hints[f.name]), _reader_of(hints[f.name]), f.default) for f in fields(kind)
    ]

    def read(value: object) -> object:
        table = value if isinstance(value, dict) else _refuse(value, "object")
        found: list[object] = []
        try:
            for name, plain, read_field, default in named:
                value = table.get(name, default)
                found.append(value if type(value) is plain else read_field(value))
        except BadReply as misread:
            raise BadReply(f".{name}{misread}") from None
        return kind(*found)

    return read
