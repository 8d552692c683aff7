"""JSON into dataclasses: the annotations of a dataclass are the only schema of a reply.

Fields that a dataclass does not name are ignored, so a newer service may add some. A field
without a default must be present, with the type that it is annotated with.
"""

import gc
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
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

_paused_in: list[int] = []
"""The ids of the processes whose garbage collection is paused: of this one, or of the one that it
was forked from."""


def load(content: bytes) -> object:
    """Parse JSON; BadReply if it is malformed."""
    # Parsing makes no garbage, and collections among thousands of new objects take as long as the
    # parsing itself.
    with _without_collections():
        try:
            return cast("object", orjson.loads(content))
        except orjson.JSONDecodeError:
            # The decoder's error would bring the whole document along, in `doc`.
            raise BadReply("the reply is not JSON") from None


@contextmanager
def _without_collections() -> Iterator[None]:
    # If a fork came within the block of another thread, the child has no thread to end that block.
    is_ours = gc.isenabled() or any(pid != os.getpid() for pid in _paused_in)
    if not is_ours:
        yield
        return
    _paused_in[:] = [os.getpid()]
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        _paused_in.clear()


def read_as(kind: type[T], document: object, place: str = "reply") -> T:
    """Convert the JSON value at *place* to *kind*.

    Raises BadReply, which names the wrong field but never its value: that may be patient text.
    """
    try:
        return cast("T", _reader_of(cast("Any", kind))(document))
    except BadReply as misread:
        raise BadReply(f"{place}{misread}") from None


@cache
def _reader_of(kind: Any) -> Reader:
    """Compile the function that converts a value to *kind*."""
    origin, inside = get_origin(kind) or kind, get_args(kind)
    if origin in (UnionType, Union):
        return _union_reader(inside)
    if origin is Literal:
        return lambda value: value if value in inside else _refuse(value, " or ".join(inside))
    if origin is tuple:
        read = _reader_of(inside[0])
        return lambda value: tuple(_read_each(enumerate(_checked(value, list)), read, "[{}]"))
    if origin is dict:
        read = _reader_of(inside[1])
        return lambda value: dict(
            zip(value, _read_each(_checked(value, dict).items(), read, ".{}"), strict=True)
        )
    return _record_reader(kind) if is_dataclass(kind) else _scalar_reader(origin)


def _scalar_reader(kind: Any) -> Reader:
    # Not isinstance: to it, True is an int, and would pass for a reward of 1.
    accepted = (float, int) if kind is float else (kind,)
    return lambda value: kind(value) if type(value) in accepted else _refuse(value, kind.__name__)


def _union_reader(kinds: tuple[Any, ...]) -> Reader:
    """Compile `X | None`, or a union of dataclasses that are told apart by their `status`."""
    if NoneType in kinds:
        (read_other,) = (_reader_of(kind) for kind in kinds if kind is not NoneType)
        return lambda value: None if value is None else read_other(value)
    readers = [(kind.status, _reader_of(kind)) for kind in kinds]

    def read(value: object) -> object:
        status = value.get("status") if isinstance(value, dict) else None
        for expected, read_record in readers:
            if status == expected:
                return read_record(value)
        raise BadReply(f".status is not {' or '.join(expected for expected, _ in readers)}")

    return read


def _record_reader(kind: Any) -> Reader:
    hints = get_type_hints(kind)
    named = [(f.name, hints[f.name], _reader_of(hints[f.name]), f.default) for f in fields(kind)]

    def read(value: object) -> object:
        table, found, name = _checked(value, dict), [], ""
        try:
            for name, plain, read_field, default in named:
                value = table.get(name, default)
                # A value of the very class needs no conversion, and most values are.
                found.append(value if type(value) is plain else read_field(value))
        except BadReply as misread:
            raise BadReply(f".{name}{misread}") from None
        return kind(*found)

    return read


def _read_each(entries: Iterable[tuple[object, object]], read: Reader, place: str) -> list[Any]:
    found = []
    for name, entry in entries:
        try:
            found.append(read(entry))
        except BadReply as misread:
            raise BadReply(f"{place.format(name)}{misread}") from None
    return found


def _checked(value: Any, kind: type[T]) -> T:
    return value if isinstance(value, kind) else _refuse(value, kind.__name__)


def _refuse(value: object, expected: str) -> NoReturn:
    found = "missing" if value is MISSING else f"{type(value).__name__}, not {expected}"
    raise BadReply(f" is {found}")
