"""Stage 1: from the bytes of a body to a request, or to an error that names the field."""

import asyncio
import json
from collections.abc import Iterable
from typing import TypeVar

import orjson
from fastapi import Request
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from medreward.admission import Load, Permit
from medreward.errors import Abandoned, BodyTooSlow, InvalidRequest, MalformedBody, TooLarge

M = TypeVar("M", bound=BaseModel)

ERRORS_TOLD = 5
NAME_CHARACTERS_TOLD = 64


async def read_body(request: Request, permit: Permit, *, max_bytes: int, timeout_s: float) -> bytes:
    """Read a body within the limits of one request and what the permit can still take.

    Raises:
        BodyTooSlow: it did not arrive in time.
        TooLarge: more than one request may send.
        Overloaded: more than the service holds at the moment.
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
                    raise _too_large(max_bytes)
                permit.take(Load(body_bytes=len(chunk)))
                chunks.append(chunk)
    except TimeoutError as exc:
        raise BodyTooSlow(f"the body did not arrive within {timeout_s:g} s") from exc
    return b"".join(chunks)


def _too_large(max_bytes: int) -> TooLarge:
    return TooLarge(f"the body is over {max_bytes} bytes; send fewer samples at once")


def parse(model: type[M], body: bytes) -> M:
    """Read a body as *model*.

    Raises:
        MalformedBody: it is not JSON.
        InvalidRequest: it is, but not as the route takes it; the message names sample and field.
    """
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        content = _forgiving_json(body)
    return validated(model, content)


def validated(model: type[M], content: object) -> M:
    """Read what was sent, taken out of its JSON or of its URL, as *model*.

    Raises:
        InvalidRequest: the message names what is wrong where.
    """
    try:
        return model.model_validate(content)
    except ValidationError as exc:
        raise InvalidRequest(_explain(exc)) from None


def _forgiving_json(body: bytes) -> object:
    """Read JSON with lone surrogates, as Python writes a degenerate rollout, as U+FFFD."""
    try:
        return json.loads(body.decode("utf-8"), object_pairs_hook=_mended_object)
    except RecursionError:
        raise MalformedBody("the body is nested too deeply") from None
    except json.JSONDecodeError as exc:
        # The exception's own text ends with the place and never quotes the body.
        raise MalformedBody(f"the body is not JSON: {exc}") from None
    except ValueError:
        raise MalformedBody(
            "the body is not UTF-8, or has a number of thousands of digits"
        ) from None


def _mended_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    return {_mended(key): _mended_value(value) for key, value in pairs}


def _mended_value(value: object) -> object:
    if isinstance(value, str):
        return _mended(value)
    # Objects below have been mended on the way; lists hold what has not been looked at.
    return [_mended_value(part) for part in value] if isinstance(value, list) else value


def _mended(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _explain(error: ValidationError) -> str:
    """Name each field that is wrong and what would mend it; never what was sent in it."""
    details = error.errors(include_url=False, include_input=False, include_context=False)
    told = list(dict.fromkeys(_explain_one(detail) for detail in details))
    more = [f"and {len(told) - ERRORS_TOLD} more"] if len(told) > ERRORS_TOLD else []
    return "; ".join([*told[:ERRORS_TOLD], *more])


def _explain_one(detail: ErrorDetails) -> str:
    where = _path(detail["loc"])
    if detail["type"] == "extra_forbidden":
        return f"{where}: unknown field; leave it out"
    if detail["type"] == "missing":
        return f"{where}: required, but missing"
    if detail["type"] == "value_error":
        return detail["msg"].removeprefix("Value error, ")
    return f"{where}: {detail['msg']}"


def _path(loc: Iterable[int | str]) -> str:
    """Write a location as the caller's own code would: samples[3].response."""
    path = ""
    for part in loc:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part == "str" or part.startswith(("tuple[", "constrained-")):
            continue  # which branch of a union was tried is our matter
        else:
            path += f".{part[:NAME_CHARACTERS_TOLD]}"
    return path.removeprefix(".") or "the body"
