"""Requests into bytes, replies into results or errors: plain functions, no network in them."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from http import HTTPStatus
from typing import Generic, TypeVar

import orjson

from medreward_client._errors import (
    BadReply,
    MedrewardError,
    Overloaded,
    RequestRefused,
    TimedOut,
    Unavailable,
)
from medreward_client._reading import read_as
from medreward_client._types import Item, JudgeReply, Problem, Readiness, RewardReply, Sample

# What a wait allows beyond the service's own deadline: large bodies travel both ways.
MARGIN_S = 5.0
READY_TIMEOUT_S = 10.0

T = TypeVar("T")
Answers = TypeVar("Answers", RewardReply, JudgeReply)


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP reply, whichever library brought it; header names ignore case."""

    status: int
    headers: Mapping[str, str]
    content: bytes


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One exchange: what to send, how to read the reply, how many seconds to wait.

    Without `content` it is a GET; without `timeout_s` the client's own holds.
    """

    path: str
    read: Callable[[Reply], T]
    content: bytes | None = None
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """The body of an HTTP error."""

    error: Problem
    request_id: str | None = None


def reward_call(
    samples: Sequence[Sample],
    recipe: str | None,
    run_id: str | None,
    step: int | None,
    deadline_s: float | None,
) -> Call[RewardReply]:
    """Ask for the reward of each sample."""
    run = _given(id=run_id, step=step)
    body = _given(recipe=recipe, run=run or None, samples=_records(samples))
    return _post("/reward", body, deadline_s, partial(_read_answers, RewardReply, samples))


def judge_call(
    items: Sequence[Item], template: str, votes: int, deadline_s: float | None
) -> Call[JudgeReply]:
    """Ask for the judge's say about each item."""
    body = _given(template=template, votes=votes, items=_records(items))
    return _post("/judge", body, deadline_s, partial(_read_answers, JudgeReply, items))


def ready_call() -> Call[Readiness]:
    """Ask whether the service takes work."""
    return Call("/readyz", _read_readiness, timeout_s=READY_TIMEOUT_S)


def _post(
    path: str, body: dict[str, object], deadline_s: float | None, read: Callable[[Reply], T]
) -> Call[T]:
    timeout_s = None
    if deadline_s is not None:
        body["deadline_ms"] = round(deadline_s * 1000)
        timeout_s = max(deadline_s, 0.0) + MARGIN_S
    return Call(path, read, orjson.dumps(body, default=_as_builtin), timeout_s)


def _records(asked: Sequence[Sample | Item]) -> list[dict[str, object]]:
    return [_given(**{f.name: getattr(one, f.name) for f in fields(one)}) for one in asked]


def _given(**named: object) -> dict[str, object]:
    return {name: value for name, value in named.items() if value is not None}


def _as_builtin(value: object) -> object:
    """Let every mapping and sequence into JSON, not only dict, list and tuple."""
    match value:
        case Mapping():
            return dict(value)
        case [*entries]:
            return entries
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _read_answers(kind: type[Answers], asked: Sequence[Sample | Item], reply: Reply) -> Answers:
    """Read what came back for *asked*; a number that may be a neighbour's is no answer."""
    if reply.status != HTTPStatus.OK:
        raise error_of(reply)
    answers = read_as(kind, reply.content)
    if len(answers.results) != len(asked):
        raise BadReply(f"the reply has {len(answers.results)} results for {len(asked)} asked")
    for index, (one, result) in enumerate(zip(asked, answers.results, strict=True)):
        if one.id not in (None, result.id):
            raise BadReply(f"reply.results[{index}].id is not the id that was sent")
    return answers


def _read_readiness(reply: Reply) -> Readiness:
    """Read /readyz, whose 503 has the body of a 200."""
    try:
        return read_as(Readiness, reply.content)
    except BadReply:
        if reply.status == HTTPStatus.OK:
            raise
        raise error_of(reply) from None


def error_of(reply: Reply) -> MedrewardError:
    """Name what a status other than 200 means, in the service's words where there are any."""
    status, refusal = reply.status, _refusal_in(reply)
    kind = refusal.error.kind
    message = f"status {status}, {kind}: {refusal.error.message}"
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return Overloaded(message, retry_after_s=_retry_after_s(reply))
    if status == HTTPStatus.REQUEST_TIMEOUT:
        return TimedOut(message)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Unavailable(message)
    if status >= HTTPStatus.BAD_REQUEST:
        return RequestRefused(message, kind=kind, status=status, request_id=refusal.request_id)
    return BadReply(message)


def _refusal_in(reply: Reply) -> Refusal:
    try:
        return read_as(Refusal, reply.content)
    except BadReply:
        # Not ours, so it may quote the request: say the status and no more.
        unexplained = Problem(f"http_{reply.status}", "no reason given", retryable=False)
        return Refusal(unexplained, reply.headers.get("x-request-id"))


def _retry_after_s(reply: Reply) -> float:
    """Read Retry-After in seconds; 1 where it is absent, a date, or no use."""
    try:
        wait_s = float(reply.headers.get("retry-after", ""))
    except ValueError:
        return 1.0
    return wait_s if 0.0 <= wait_s < math.inf else 1.0
