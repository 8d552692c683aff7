"""Requests into bytes, replies into results or errors: plain functions, no network in them."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields, is_dataclass
from functools import partial
from http import HTTPStatus
from typing import Any, Generic, TypeVar

import orjson

from medreward_client._errors import (
    BadReply,
    MedrewardError,
    Overloaded,
    RequestRefused,
    TimedOut,
    Unavailable,
)
from medreward_client._reading import load, read_as
from medreward_client._types import (
    Counts,
    Health,
    Item,
    JudgeReply,
    Problem,
    Provenance,
    RewardReply,
    Sample,
    Scored,
    Terms,
    Unscored,
)
from medreward_client.pauses import retry_after_s

T = TypeVar("T")

PASSING = frozenset({408, 429, 502, 503, 504})
"""What may pass; any other status is about the request, or a bug, and would come again."""

log = logging.getLogger("medreward_client")


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP reply, whichever library brought it; header names ignore case."""

    status: int
    headers: Mapping[str, str]
    content: bytes


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One exchange: what to send, how to read the reply, which statuses are worth another try.

    Without a `body` it is a GET.
    """

    path: str
    read: Callable[[Reply], T]
    body: Mapping[str, object] | None = None
    passing: frozenset[int] = PASSING

    def content(self, left_s: float) -> bytes | None:
        """Write what to send, and how much time is left for it; TypeError where JSON cannot."""
        if self.body is None:
            return None
        return _json_of({"deadline_ms": max(1, round(1000 * left_s)), **self.body})


@dataclass(frozen=True, slots=True)
class Refusal:
    """The body of an HTTP error."""

    error: Problem
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class _Body:
    """A reply of /reward, its results not yet looked at."""

    results: list[Any]
    counts: Counts
    provenance: Provenance
    timings_ms: dict[str, float]


def reward_call(samples: Sequence[Sample], terms: Terms) -> Call[RewardReply]:
    """Ask for the reward of each sample; a step means nothing without its run."""
    run = None if terms.run_id is None else {"id": terms.run_id, "step": terms.step}
    body = {"recipe": terms.recipe, "run": run, "samples": samples}
    return Call("/reward", partial(_read_rewards, samples), body)


def judge_call(items: Sequence[Item], template: str, votes: int) -> Call[JudgeReply]:
    """Ask for the judge's say about each item."""
    body = {"template": template, "votes": votes, "items": items}
    return Call("/judge", partial(_read_judgements, items), body)


def health_call() -> Call[Health]:
    """Ask whether the service takes work."""
    return Call("/readyz", _read_health, passing=frozenset())


def _json_of(body: Mapping[str, object]) -> bytes:
    try:
        return orjson.dumps(body, default=_as_builtin)
    except orjson.JSONEncodeError as exc:
        if "surrogates" not in str(exc):
            raise
        # A degenerate rollout may hold half a character, which only an escape can carry.
        return json.dumps(body, default=_as_builtin).encode()


def _as_builtin(value: object) -> object:
    """Let records, and every mapping and sequence, into JSON: not only dict, list and tuple."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    match value:
        case Mapping():
            return dict(value)
        case [*entries]:
            return entries
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _read_rewards(samples: Sequence[Sample], reply: Reply) -> RewardReply:
    """Read the rewards, and leave the rest of each result for when somebody looks at it."""
    body = read_as(_Body, _answer_in(reply))
    try:
        rewards = tuple([_reward_of(row) for row in body.results])
        ids = [row["id"] for row in body.results]
    except (KeyError, TypeError):
        # Reading all of it finds the words for what is wrong.
        read_as(tuple[Scored | Unscored, ...], body.results, "reply.results")
        raise BadReply("reply.results cannot be read") from None
    _check_ids(samples, ids)
    return RewardReply(rewards, body.counts, body.provenance, body.timings_ms, body.results)


def _reward_of(row: dict[str, Any]) -> float | None:
    if row["status"] == "unscored":
        return None
    # Not isinstance: to it, True is an int, and would pass for a reward of 1.
    if row["status"] == "scored" and type(row["reward"]) in (float, int):
        return float(row["reward"])
    raise TypeError


def _read_judgements(items: Sequence[Item], reply: Reply) -> JudgeReply:
    answers = read_as(JudgeReply, _answer_in(reply))
    _check_ids(items, [result.id for result in answers.results])
    return answers


def _answer_in(reply: Reply) -> object:
    if reply.status != HTTPStatus.OK:
        raise error_of(reply)
    return load(reply.content)


def _check_ids(asked: Sequence[Sample | Item], ids: Sequence[str | None]) -> None:
    """See that each result is its sample's own: a neighbour's number is worse than none."""
    if len(ids) != len(asked):
        raise BadReply(f"the reply has {len(ids)} results for {len(asked)} asked")
    for index, (one, found) in enumerate(zip(asked, ids, strict=True)):
        if one.id is not None and one.id != found:
            raise BadReply(f"reply.results[{index}].id is not the id that was sent")


def merged(replies: Sequence[RewardReply]) -> RewardReply:
    """Make one reply of those to the parts of a call, in their order."""
    first = replies[0]
    if len(replies) == 1:
        return first
    if len({reply.provenance.fingerprint for reply in replies}) > 1:
        log.warning("the service changed during a call: not all of its rewards are comparable")
    counts = (astuple(reply.counts) for reply in replies)
    return RewardReply(
        tuple(reward for reply in replies for reward in reply.rewards),
        Counts(*map(sum, zip(*counts, strict=True))),
        first.provenance,
        {stage: max(r.timings_ms.get(stage, 0.0) for r in replies) for stage in first.timings_ms},
        [row for reply in replies for row in reply.rows],
    )


def _read_health(reply: Reply) -> Health:
    """Read /readyz, whose 503 has the body of a 200."""
    try:
        return read_as(Health, load(reply.content))
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
        return Overloaded(message, retry_after_s=retry_after_s(reply.headers, otherwise=1.0))
    if status == HTTPStatus.REQUEST_TIMEOUT:
        return TimedOut(message)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Unavailable(message, retry_after_s=retry_after_s(reply.headers, otherwise=0.0))
    if status >= HTTPStatus.BAD_REQUEST:
        return RequestRefused(message, kind=kind, status=status, request_id=refusal.request_id)
    return BadReply(message)


def _refusal_in(reply: Reply) -> Refusal:
    try:
        return read_as(Refusal, load(reply.content))
    except BadReply:
        # Not ours, so it may quote the request: say the status and no more.
        unexplained = Problem(f"http_{reply.status}", "no reason given", retryable=False)
        return Refusal(unexplained, reply.headers.get("x-request-id"))
