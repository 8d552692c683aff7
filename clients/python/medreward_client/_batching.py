"""Samples into requests: many small calls share one, and one large call is split.

A trainer that scores each rollout as it finishes makes thousands of calls at once. One request
each would cost it, and the service, many times the work of a few large requests.
"""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass, field, replace
from functools import partial
from http import HTTPStatus
from typing import Any

from medreward_client._errors import BadReply, RequestRefused
from medreward_client._http import Call, Connections, Reply, document_in
from medreward_client._parts import Part, Patience, Wait, ask_in_parts, latest, total_ms
from medreward_client._reading import read_as
from medreward_client._types import (
    Counts,
    Item,
    Problem,
    Provenance,
    RewardReply,
    Sample,
    Scored,
    Terms,
    Unscored,
)

COLLECTION_S = 0.005
BATCH_SAMPLES = 512
BATCH_CHARACTERS = 4_000_000
"""At most six times as many bytes, which is far below a service's limit."""

Result = Scored | Unscored | Exception
BatchKey = tuple[Terms, Patience]
"""The terms and the patience that the calls of a batch share."""

log = logging.getLogger("medreward_client")


@dataclass(slots=True)
class Batch:
    """Samples of one request, and the future of each."""

    samples: list[Sample] = field(default_factory=list)
    futures: list[asyncio.Future[Scored | Unscored]] = field(default_factory=list)
    characters: int = 0
    full: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True)
class _Body:
    """A response of /reward whose results are not yet read."""

    results: list[Any]
    counts: Counts
    provenance: Provenance
    timings_ms: dict[str, float]


class Batcher:
    """Puts the samples of one event loop's calls into requests."""

    def __init__(self, connections: Connections) -> None:
        self.connections = connections
        self._open: dict[BatchKey, Batch] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def reward_all(self, samples: Sequence[Sample], terms: Terms, wait: Wait) -> RewardReply:
        """Score samples, in as many requests as they need."""
        ask = partial(ask_in_parts, self.connections, RewardRoute(terms))
        batches = list(batches_of(samples))
        if len(batches) == 1:
            return await ask(samples, wait)
        try:
            async with asyncio.TaskGroup() as group:
                parts = [group.create_task(ask(batch, wait)) for batch in batches]
        except ExceptionGroup as failed:
            # One error is enough, and callers catch it by its class.
            raise failed.exceptions[0] from None
        return _merged([part.result() for part in parts])

    async def reward(self, sample: Sample, terms: Terms, patience: Patience) -> Scored | Unscored:
        """Score a sample together with those that come in the next few milliseconds."""
        # Before it joins a batch: a sample of a wrong type fails its own call alone.
        characters = _characters_of(sample)
        # A batch has one deadline; with a shorter one, some calls would fail early.
        key = (terms, patience)
        batch = self._open.get(key)
        if batch is None:
            batch = self._open[key] = Batch()
            task = asyncio.create_task(self._run(batch, key))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        # Each call has a future of its own, so cancelling one cancels no other.
        future: asyncio.Future[Scored | Unscored] = asyncio.get_running_loop().create_future()
        batch.samples.append(sample)
        batch.futures.append(future)
        batch.characters += characters
        if len(batch.samples) == BATCH_SAMPLES or batch.characters >= BATCH_CHARACTERS:
            self._close(batch, key)
        # An error's traceback holds this frame, which must not hold the error.
        del batch
        return await future

    async def _run(self, batch: Batch, key: BatchKey) -> None:
        terms, patience = key
        wait = patience.from_now()
        with suppress(TimeoutError):
            async with asyncio.timeout(COLLECTION_S):
                await batch.full.wait()
        # Closed before the samples are read: a call that joined later would get no result.
        self._close(batch, key)
        try:
            results = await self._results(batch.samples, terms, wait)
        except Exception as error:  # noqa: BLE001 - raised by each waiting call
            results = [error] * len(batch.samples)
        for future, result in zip(batch.futures, results, strict=True):
            if future.done():
                continue  # its call was cancelled
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)

    async def _results(
        self, samples: Sequence[Sample], terms: Terms, wait: Wait
    ) -> Sequence[Result]:
        """Score samples; if one makes the request fail, bisect, so that only its call fails."""
        try:
            return (await self.reward_all(samples, terms, wait)).results
        except (RequestRefused, TypeError) as refused:
            if not is_about_a_sample(refused):
                raise
            if len(samples) == 1:
                return [refused]
        half = len(samples) // 2
        return [
            *await self._results(samples[:half], terms, wait),
            *await self._results(samples[half:], terms, wait),
        ]

    def _close(self, batch: Batch, key: BatchKey) -> None:
        if self._open.get(key) is batch:
            del self._open[key]
            batch.full.set()


def is_about_a_sample(refused: RequestRefused | TypeError) -> bool:
    """Return True if a single sample may be the cause, not the request as a whole."""
    if isinstance(refused, TypeError):
        return True  # JSON cannot hold the `extra` of one
    return refused.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE or "samples[" in str(refused)


def batches_of(samples: Sequence[Sample]) -> Iterator[Sequence[Sample]]:
    """Split samples into those of one request each; no samples are one empty request."""
    for start in range(0, len(samples) or 1, BATCH_SAMPLES):
        yield from _halved(samples[start : start + BATCH_SAMPLES])


def _halved(samples: Sequence[Sample]) -> Iterator[Sequence[Sample]]:
    """Halve samples until each part is short enough."""
    half, characters = len(samples) // 2, sum(map(_characters_of, samples))
    if half == 0 or characters <= BATCH_CHARACTERS:
        yield samples
    else:
        yield from _halved(samples[:half])
        yield from _halved(samples[half:])


def _characters_of(sample: Sample) -> int:
    """Count the characters; TypeError, which names the field, if one is not a str."""
    for name, text in (("response", sample.response), ("question", sample.question or "")):
        if not isinstance(text, str):
            raise TypeError(f"the {name} of a sample is {type(text).__name__}, not str")
    # References are short compared to these, and the service limits them.
    return len(sample.response) + len(sample.question or "")


@dataclass(frozen=True, slots=True)
class RewardRoute:
    """The route /reward."""

    terms: Terms

    def call(self, samples: Sequence[Sample]) -> Call[RewardReply]:
        """Build the call of one request; a step without its run is left out."""
        terms = self.terms
        run = None if terms.run_id is None else {"id": terms.run_id, "step": terms.step}
        body = {"recipe": terms.recipe, "run": run, "samples": samples}
        return Call("/reward", partial(_read_rewards, samples), body)

    def kinds(self, reply: RewardReply) -> list[str | None]:
        """Return the kind of each sample's problem."""
        if None not in reply.rewards:
            return [None] * len(reply.rewards)
        return [one.error.kind if isinstance(one, Unscored) else None for one in reply.results]

    def joined(
        self, samples: Sequence[Sample], parts: Sequence[Part[RewardReply]], missing: Problem
    ) -> RewardReply:
        """Join parts into one reply."""
        rewards = latest(samples, parts, lambda reply: reply.rewards)
        rows = latest(samples, parts, lambda reply: reply.rows)
        replies = [part.reply for part in parts]
        unscored = rewards.count(None)
        counts = replace(
            _total([reply.counts for reply in replies]),
            scored=len(rewards) - unscored,
            unscored=unscored,
        )
        return RewardReply(
            tuple(rewards),
            counts,
            _provenance_of(replies),
            total_ms([reply.timings_ms for reply in replies]),
            [_row_of(s, missing) if r is None else r for s, r in zip(samples, rows, strict=True)],
        )


def _row_of(sample: Sample, problem: Problem) -> object:
    """Write the result of a sample that is in no reply, as parsed JSON."""
    return {
        "id": sample.id,
        "status": "unscored",
        "reward": None,
        "components": {},
        "flags": [],
        "error": asdict(problem),
    }


def _read_rewards(samples: Sequence[Sample], reply: Reply) -> RewardReply:
    """Read the rewards; the rest of each result is read on first access."""
    body = read_as(_Body, document_in(reply))
    try:
        rewards = tuple([_reward_of(row) for row in body.results])
        ids = [row["id"] for row in body.results]
    except (KeyError, TypeError):
        # Reading all of it raises the error that names the wrong field.
        read_as(tuple[Scored | Unscored, ...], body.results, "reply.results")
        raise BadReply("reply.results cannot be read") from None
    check_ids(samples, ids)
    return RewardReply(rewards, body.counts, body.provenance, body.timings_ms, body.results)


def _reward_of(row: dict[str, Any]) -> float | None:
    if row["status"] == "unscored":
        return None
    # Not isinstance: to it, True is an int, and would pass for a reward of 1.
    if row["status"] == "scored" and type(row["reward"]) in (float, int):
        return float(row["reward"])
    raise TypeError


def check_ids(sent: Sequence[Sample | Item], ids: Sequence[str | None]) -> None:
    """Raise BadReply unless each result has the id that was sent in its place.

    Otherwise a sample could get the reward of another, which is worse than none.
    """
    if len(ids) != len(sent):
        raise BadReply(f"the reply has {len(ids)} results for {len(sent)} asked")
    for index, (one, found) in enumerate(zip(sent, ids, strict=True)):
        if one.id is not None and one.id != found:
            raise BadReply(f"reply.results[{index}].id is not the id that was sent")


def _total(counts: Sequence[Counts]) -> Counts:
    return Counts(*map(sum, zip(*map(astuple, counts), strict=True)))


def _provenance_of(replies: Sequence[RewardReply]) -> Provenance:
    """Return the provenance of the first reply; log if another one differs."""
    if len({reply.provenance.fingerprint for reply in replies}) > 1:
        log.warning("the service changed during a call: not all of its rewards are comparable")
    return replies[0].provenance


def _merged(replies: Sequence[RewardReply]) -> RewardReply:
    """Merge the replies to requests of the same time, in their order."""
    first = replies[0]
    return RewardReply(
        tuple(reward for reply in replies for reward in reply.rewards),
        _total([reply.counts for reply in replies]),
        _provenance_of(replies),
        {stage: max(r.timings_ms.get(stage, 0.0) for r in replies) for stage in first.timings_ms},
        [row for reply in replies for row in reply.rows],
    )
