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

MOST_ERRORS = 5
MOST_NAME_CHARACTERS = 64
_PART = re.compile(r"[.\[]")


async def read_body(request: Request, permit: Permit, *, max_bytes: int, timeout_s: float) -> bytes:
    """Read a body within the limit of one request and the free part of the service's limits.

    Raises:
        BodyTooSlow: it did not arrive in time.
        TooLarge: it is over the limit of one request.
        Overloaded: the service holds too many bytes at the moment.
        Abandoned: the caller hung up halfway.
    """
    chunks: list[bytes] = []
    size_bytes = 0
    try:
        async with asyncio.timeout(timeout_s):
            has_more = True
            while has_more:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise Abandoned("the caller hung up while sending")
                chunk, has_more = message.get("body", b""), message.get("more_body", False)
                size_bytes += len(chunk)
                if size_bytes > max_bytes:
                    raise TooLarge(
                        f"the body is over {max_bytes} bytes; send fewer samples at once"
                    )
                # Chunk by chunk, since a declared length may be missing or wrong, and many slow
                # bodies at once must not add up to more than the service's limit.
                permit.take(Load(body_bytes=len(chunk)))
                chunks.append(chunk)
    except TimeoutError as exc:
        raise BodyTooSlow(f"the body did not arrive within {timeout_s:g} s") from exc
    return b"".join(chunks)


def parse(model: type[M], body: bytes) -> M:
    """Parse a JSON body as *model*.

    Raises:
        MalformedBody: it is not JSON.
        InvalidRequest: it does not fit the model; the message names sample and field.
    """
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        content = _forgiving_json(body)
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


def _forgiving_json(body: bytes) -> object:
    """Parse JSON with lone surrogates, which Python writes for broken rollouts, as U+FFFD."""
    try:
        # Written and read once more, so that surrogates are replaced in keys and values alike.
        text = json.dumps(json.loads(body.decode("utf-8")), ensure_ascii=False)
        return json.loads(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
    except RecursionError:
        raise MalformedBody("the body is nested too deeply") from None
    except json.JSONDecodeError as exc:
        # The exception's own text ends with the place and never quotes the body.
        raise MalformedBody(f"the body is not JSON: {exc}") from None
    except ValueError:
        raise MalformedBody(
            "the body is not UTF-8, or has a number of thousands of digits"
        ) from None


def _explain(error: ValidationError) -> str:
    """Return a message that names each wrong field and its correction, but quotes no value."""
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
