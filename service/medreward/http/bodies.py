"""The parsing of a request's body into a model, or an error that names the field."""

import asyncio
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import starmap
from typing import TypeVar

import orjson
from fastapi import Request
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from medreward.admission import Load, Permit
from medreward.errors import Abandoned, BodyTooSlow, InvalidRequest, MalformedBody, TooLarge

M = TypeVar("M", bound=BaseModel)

TEXT_COPIES = 2
"""Copies of a body's texts: the texts, and the parts that are read from them."""
PART_BYTES = {b'"': 32, b",": 40, b":": 64, b"[": 64, b"{": 512}
"""Memory of a quote, of a value in a list, of a key, of a list and of an object, at most: a sample's
or a label's model takes as much as the object. The peaks are measured by benchmarks/memory.py."""
_SIGNS = tuple(sign for sign in PART_BYTES if sign != b'"')
_PLAIN = bytes(set(range(256)) - {sign[0] for sign in PART_BYTES})
"""All other bytes."""
_ASCII = bytes(range(0x80))
_DULL = bytes(set(_ASCII) & set(_PLAIN))
"""Most of most bodies: what weighs nothing beyond its byte."""
_CONTINUING = bytes(range(0x80, 0xC0))
"""Bytes of UTF-8 that begin no character."""
_LATIN = bytes(range(0xC0, 0xC4))
"""First bytes of characters that take one byte in memory, as ASCII does."""
_TWO_WIDE = bytes(range(0xC4, 0xF0))
"""First bytes of characters that take two bytes in memory; those behind them take four."""
WIDEST = 4
_WEIGHTY_ESCAPE = re.compile(rb"\\(?:[\"\\u]|\Z)")
"""An escape that changes where texts end or what they weigh, or one that the next chunk goes on with."""
MANY_BYTES = 64
"""Bytes of a chunk for each of its backslashes, if they are many."""
_SURROGATES = tuple(rb"\u%b%b" % (d, n) for d in (b"d", b"D") for n in map(bytes, zip(b"89abAB")))
"""Beginnings of escapes for half a character of four bytes."""
COUNTED = ("samples", "items", "query", "prompts", "labels", "verify_responses")
"""Fields of bodies that are lists of samples."""
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(?P<lone>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
"""An escape of JSON; two that make one character are one."""

WEIGHED_BYTES = 256 * 1024
"""Bytes that are weighed at once: in smaller pieces, the threads of large requests would pass the
interpreter's lock to and fro for each chunk of the network."""

MOST_DIGITS = 20
MOST_ERRORS = 5
MOST_EXPLAINED = 100_000
"""Mistakes of which each is looked at."""
MOST_NAME_CHARACTERS = 64
_PART = re.compile(r"[.\[]")


class Weight:
    """The memory that a JSON body will take once it is decoded, by a high estimate, from its bytes.

    Estimated while the body arrives, so that nothing is built of a body that takes too much.
    """

    def __init__(self) -> None:
        self._size = self._characters = self._parts_bytes = 0
        self._width = 1
        self._is_in_text = False
        self._rest = b""

    @property
    def total_bytes(self) -> int:
        """Memory of the body with all that is made of it."""
        # One wide character widens all of its text, so it is counted for all of the body.
        return self._size + TEXT_COPIES * self._width * self._characters + self._parts_bytes

    def add(self, chunk: bytes) -> None:
        """Add the next bytes of the body."""
        self._size += len(chunk)
        # One pass over the whole chunk leaves the signs and what is not ASCII, about a twentieth.
        kept = chunk.translate(None, _DULL)
        self._count_characters(len(chunk), kept.translate(None, _ASCII))
        if self._rest or _may_escape(chunk):
            self._count_escapes(chunk)
            # Without escapes, an even number of quotes stands before what is in no text.
            chunk = (self._rest + chunk).replace(rb"\\", b"")
            self._rest = chunk[-1:] if chunk.endswith(b"\\") else b""
            kept = chunk.replace(rb"\"", b"")
        signs = kept.translate(None, _PLAIN)
        self._parts_bytes += PART_BYTES[b'"'] * signs.count(b'"')
        parts = signs.replace(b'""', b"").split(b'"')
        outside = b"".join(parts[self._is_in_text :: 2])
        self._parts_bytes += sum(PART_BYTES[sign] * outside.count(sign) for sign in _SIGNS)
        self._is_in_text ^= len(parts) % 2 == 0

    def _count_characters(self, size: int, foreign: bytes) -> None:
        """Count the characters of *size* bytes, of which some are *foreign* to ASCII."""
        first = foreign.translate(None, _CONTINUING)
        self._characters += size - (len(foreign) - len(first))
        if wide := first.translate(None, _LATIN):
            is_widest = bool(wide.translate(None, _TWO_WIDE))
            self._width = max(self._width, WIDEST if is_widest else 2)

    def _count_escapes(self, chunk: bytes) -> None:
        if escapes := chunk.count(rb"\u"):
            self._characters -= 5 * escapes
            if rb"\ud" in chunk.lower() and any(sign in chunk for sign in _SURROGATES):
                self._width = WIDEST
            elif escapes > chunk.count(rb"\u00"):
                self._width = max(self._width, 2)


def _may_escape(chunk: bytes) -> bool:
    """Return whether a chunk may escape a quote, a backslash or a number; mostly it escapes line ends.

    An expression finds a few backslashes in a third of the time that one replacement takes, but many
    of them in thirty times of it.
    """
    many = len(chunk) // MANY_BYTES
    return chunk.count(b"\\") > many or _WEIGHTY_ESCAPE.search(chunk) is not None


async def read_body(
    request: Request, permit: Permit, *, max_bytes: int, timeout_s: float
) -> bytearray:
    """Read a body within the limit of one request and the free part of the service's limits.

    Raises:
        BodyTooSlow: it did not arrive in time.
        TooLarge: it is over the limit of one request.
        Overloaded: the service holds too many bytes at the moment.
        Abandoned: the caller hung up halfway.
    """
    # One buffer that grows: a list of chunks would be joined, which takes the memory twice.
    body, weight, weighed, taken = bytearray(), Weight(), 0, 0
    too_large = TooLarge(f"the body is over {max_bytes} bytes; send fewer samples at once")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:MOST_DIGITS]) > max_bytes:
        raise too_large
    try:
        async with asyncio.timeout(timeout_s):
            has_more = True
            while has_more:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise Abandoned("the caller hung up while sending")
                chunk, has_more = message.get("body", b""), message.get("more_body", False)
                if len(body) + len(chunk) > max_bytes:
                    raise too_large
                # Chunk by chunk, since a declared length may be missing or wrong, and many slow
                # bodies at once must not add up to more than the service's limit.
                body += chunk
                if not has_more or len(body) - weighed >= WEIGHED_BYTES:
                    weight.add(bytes(memoryview(body)[weighed:]))
                    weighed = len(body)
                held = weight.total_bytes + len(body) - weighed
                permit.take(Load(body_bytes=held - taken))
                taken = held
    except TimeoutError as exc:
        raise BodyTooSlow(f"the body did not arrive within {timeout_s:g} s") from exc
    return body


def parse(model: type[M], body: bytes | bytearray, *, max_samples: int | None = None) -> M:
    """Parse a JSON body as *model*.

    Raises:
        MalformedBody: it is not JSON.
        TooLarge: it has more than *max_samples* samples.
        InvalidRequest: it does not fit the model; the message names sample and field.
    """
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        content = _forgiving_json(body)
    # Before models are made of them, which take ten times the memory.
    for field in COUNTED if isinstance(content, dict) else ():
        number = len(content[field]) if isinstance(content.get(field), list) else 0
        if max_samples is not None and number > max_samples:
            raise TooLarge(
                f"{field}: {number} of them; send at most {max_samples} at once", fits=max_samples
            )
    return validated(model, content)


def validated(model: type[M], content: object) -> M:
    """Validate decoded JSON, or the parameters of a URL, as *model*.

    Raises:
        InvalidRequest: it does not fit; the message names the fields.
    """
    try:
        return model.model_validate(content)
    except ValidationError as exc:
        raise InvalidRequest(_explain(exc)) from None


def _forgiving_json(body: bytes | bytearray) -> object:
    """Parse JSON with lone surrogates, which Python writes for broken rollouts, as U+FFFD."""
    try:
        # Replaced in the bytes, so that nothing is built twice. The length stays, for the message.
        return json.loads(_ESCAPE.sub(_whole_escape, body).decode("utf-8"))
    except RecursionError:
        raise MalformedBody("the body is nested too deeply") from None
    except json.JSONDecodeError as exc:
        # The exception's own text ends with the place and never quotes the body.
        raise MalformedBody(f"the body is not JSON: {exc}") from None
    except ValueError:
        raise MalformedBody(
            "the body is not UTF-8, or has a number of thousands of digits"
        ) from None


def _whole_escape(escape: re.Match[bytes]) -> bytes:
    """Return an escape of JSON as it is, or that of U+FFFD in place of a lone surrogate."""
    return rb"\ufffd" if escape["lone"] else escape[0]


def _explain(error: ValidationError) -> str:
    """Return a message that names each wrong field and its correction, but quotes no value."""
    if error.error_count() > MOST_EXPLAINED:
        return f"the body: {error.error_count()} mistakes, such as unknown fields"
    by_path: dict[str, list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False, include_context=False):
        by_path.setdefault(_path(detail["loc"]), []).append(detail)
    # pydantic also tells why a list with a wrong part is no text, and that too few parts are left.
    wholes = {path[: end.start()] for path in by_path for end in _PART.finditer(path)}
    wrong = {path: details for path, details in by_path.items() if path not in wholes}
    errors = list(dict.fromkeys(starmap(_explain_one, wrong.items())))
    more = [f"and {len(errors) - MOST_ERRORS} more"] if len(errors) > MOST_ERRORS else []
    return "; ".join([*errors[:MOST_ERRORS], *more])


def _explain_one(path: str, details: Sequence[ErrorDetails]) -> str:
    """Explain what is wrong with one field; there are several details if it may be of several types."""
    first, *others = details
    if first["type"] == "extra_forbidden":
        return f"{path}: unknown field; leave it out"
    if first["type"] == "missing":
        return f"{path}: required, but missing"
    if first["type"] == "value_error":
        return first["msg"].removeprefix("Value error, ")
    wanted = WANTED.get(first["type"])
    if wanted is None:
        return f"{path}: {first['msg']}"
    if others:
        wanted += " or a list of texts"
    return f"{path}: {wanted}; got {_kind(first['input'])}"


WANTED: Mapping[str, str] = {
    "string_type": "a text",
    "tuple_type": "a list",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}
"""What a field has to be, by pydantic's type of error."""


def _kind(value: object) -> str:
    """Name the JSON type of a value, but not the value."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case dict():
            return "an object"
        case _:
            return "a list" if value else "an empty list"


def _path(loc: Iterable[int | str]) -> str:
    """Write a location as the caller's code would: samples[3].response."""
    path = ""
    for part in loc:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part == "str" or part.startswith(("tuple[", "constrained-")):
            continue  # pydantic names the tried branch of a union, which is no field of the caller's
        else:
            path += f".{part[:MOST_NAME_CHARACTERS]}"
    return path.removeprefix(".") or "the body"
