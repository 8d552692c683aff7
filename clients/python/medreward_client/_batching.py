"""Samples into requests: many small calls share one, and one large call is split.

A trainer that scores each rollout as it finishes makes thousands of calls at once. One request
each would cost it, and the service, many times the work of a few large requests.
"""

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass, field, replace
from functools import partial
from itertools import takewhile
from typing import Any

from medreward_client._errors import BadReply
from medreward_client._http import Call, Connections, Reply, document_in
from medreward_client._parts import (
    Answers,
    Part,
    Patience,
    Wait,
    answers_of,
    joined,
    latest,
    raise_refusals,
    total_ms,
)
from medreward_client._reading import read_as
from medreward_client._types import (
    UNIT,
    Counts,
    GroupResult,
    Item,
    Problem,
    Provenance,
    RewardReply,
    Sample,
    Scored,
    Terms,
    Unscored,
    changes,
)

COLLECTION_S = 0.005
BATCH_SAMPLES = 512
BATCH_CHARACTERS = 4_000_000
"""At most six times as many bytes, which is far below a service's limit."""

Rewarded = tuple[Scored | Unscored, Provenance, tuple[float, float]]
"""The result of one sample, and the provenance and the range of its reply."""
Result = Rewarded | Exception
BatchKey = tuple[Terms, Patience]
"""The terms and the patience that the calls of a batch share."""

log = logging.getLogger("medreward_client")


@dataclass(slots=True)
class Batch:
    """Samples of one request, and the future of each."""

    samples: list[Sample] = field(default_factory=list)
    futures: list[asyncio.Future[Rewarded]] = field(default_factory=list)
    characters: int = 0
    full: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True)
class _Body:
    """A response of /reward whose results are not yet read."""

    results: list[Any]
    counts: Counts
    provenance: Provenance
    timings_ms: dict[str, float]
    range: tuple[float, ...] | None = None
    """None stands for 0 to 1."""
    groups: tuple[GroupResult, ...] | None = None


class Batcher:
    """Puts the samples of one event loop's calls into requests."""

    def __init__(self, connections: Connections) -> None:
        self.connections = connections
        self._open: dict[BatchKey, Batch] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def reward_all(self, samples: Sequence[Sample], terms: Terms, wait: Wait) -> RewardReply:
        """Score samples, in as many requests as they need."""
        route = RewardRoute(terms)
        found = await self._answers(samples, terms, wait)
        parts = [part for _, answers in found for part in answers.parts]
        for _, answers in found:
            # A batch without a result costs the others nothing.
            raise_refusals(replace(answers, parts=parts))
        replies = [
            joined(route, batch, answers)
            if answers.parts
            else _without_result(batch, answers.problems, parts[0].reply)
            for batch, answers in found
        ]
        return replies[0] if len(replies) == 1 else _merged(samples, replies)

    async def _answers(
        self, samples: Sequence[Sample], terms: Terms, wait: Wait
    ) -> list[tuple[Sequence[Sample], Answers[RewardReply]]]:
        """Ask for batches of samples at the same time."""
        route = RewardRoute(terms)
        batches = list(batches_of(samples))
        if len(batches) == 1:
            return [(samples, await answers_of(self.connections, route, samples, wait))]
        try:
            async with asyncio.TaskGroup() as group:
                asked = [
                    group.create_task(answers_of(self.connections, route, batch, wait))
                    for batch in batches
                ]
        except ExceptionGroup as failed:
            # One error is enough, and callers catch it by its class.
            raise failed.exceptions[0] from None
        return [(batch, one.result()) for batch, one in zip(batches, asked, strict=True)]

    async def reward(self, sample: Sample, terms: Terms, patience: Patience) -> Rewarded:
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
        future: asyncio.Future[Rewarded] = asyncio.get_running_loop().create_future()
        batch.samples.append(sample)
        batch.futures.append(future)
        batch.characters += characters
        is_full = len(batch.samples) >= BATCH_SAMPLES or batch.characters >= BATCH_CHARACTERS
        if is_full and not _is_within_group(batch.samples):
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
        """Score samples; a sample that is refused has the error of its call."""
        found: list[Result] = []
        for batch, answers in await self._answers(samples, terms, wait):
            if not answers.parts:
                found += [answers.refused[place] for place in range(len(batch))]
                continue
            reply = joined(RewardRoute(terms), batch, answers)
            found += [
                answers.refused.get(place) or (result, reply.provenance, reply.range)
                for place, result in enumerate(reply.results)
            ]
        return found

    def _close(self, batch: Batch, key: BatchKey) -> None:
        if self._open.get(key) is batch:
            del self._open[key]
            batch.full.set()


def batches_of(samples: Sequence[Sample]) -> Iterator[Sequence[Sample]]:
    """Split samples into those of one request each; no samples are one empty request."""
    start = 0
    while start == 0 or start < len(samples):
        end = _between_groups(samples, start, start + BATCH_SAMPLES)
        yield from _halved(samples[start:end])
        start = end


def _halved(samples: Sequence[Sample]) -> Iterator[Sequence[Sample]]:
    """Halve samples until each part is short enough."""
    half, characters = len(samples) // 2, sum(map(_characters_of, samples))
    half = _between_groups(samples, 0, half)
    if half == 0 or characters <= BATCH_CHARACTERS:
        yield samples
    else:
        yield from _halved(samples[:half])
        yield from _halved(samples[half:])


def _between_groups(samples: Sequence[Sample], start: int, cut: int) -> int:
    """Return the last place up to *cut* that divides no group of a declared size; else *cut*."""
    place = cut
    while start < place < len(samples) and _are_compared(samples[place - 1], samples[place]):
        place -= 1
    return place if place > start else cut


def _is_within_group(samples: Sequence[Sample]) -> bool:
    """Return whether more samples of the last one's group are to be expected, by its declared size."""
    last = samples[-1]
    if last.group_size is None:
        return False
    return (
        len(list(takewhile(lambda s: s.group == last.group, reversed(samples)))) < last.group_size
    )


def _are_compared(one: Sample, other: Sample) -> bool:
    return other.group_size is not None and one.group == other.group


def _characters_of(sample: Sample) -> int:
    """Count the characters; TypeError, which names the field, if one is not a str."""
    for name, text in (("response", sample.response), ("question", sample.question or "")):
        if not isinstance(text, str):
            which = "a sample" if sample.id is None else f"the sample {sample.id!r}"
            raise TypeError(f"the {name} of {which} is {type(text).__name__}, not str")
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

    def cut(self, samples: Sequence[Sample], at: int) -> int:
        """Return the last place up to *at* that divides no group of a declared size; else *at*."""
        return _between_groups(samples, 0, at)

    def together(self, samples: Sequence[Sample], some: Sequence[int]) -> Sequence[int]:
        """Return the places of *some* samples, and of the others of groups that declare a size."""
        groups = {samples[n].group for n in some if samples[n].group_size is not None}
        wanted = set(some)
        return [n for n, sample in enumerate(samples) if n in wanted or sample.group in groups]

    def joined(
        self,
        samples: Sequence[Sample],
        parts: Sequence[Part[RewardReply]],
        problems: Mapping[int, Problem],
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
        told = [
            _row_of(sample, problems[place]) if row is None else row
            for place, (sample, row) in enumerate(zip(samples, rows, strict=True))
        ]
        return RewardReply(
            tuple(rewards),
            counts,
            _provenance_of(replies),
            total_ms([reply.timings_ms for reply in replies]),
            told,
            replies[0].range,
            _joined_groups(samples, replies, told),
        )


def _joined_groups(
    samples: Sequence[Sample], replies: Sequence[RewardReply], rows: list[Any]
) -> tuple[GroupResult, ...] | None:
    """Join the groups of replies; one that took several of them is not whole, nor are its *rows* compared."""
    told: dict[str, list[GroupResult]] = {}
    for reply in replies:
        for group in reply.groups or ():
            told.setdefault(group.id, []).append(group)
    places: dict[str, list[int]] = {name: [] for name in told}
    for place, sample in enumerate(samples):
        if sample.group in places:
            places[sample.group].append(place)
    groups = []
    for name, (*_, last) in told.items():
        # A group that was not done by the deadline was asked about again, as a whole.
        is_split = last.seen != len(places[name])
        groups.append(_split(samples, places[name], rows) if is_split else last)
    return tuple(groups) or None


def _split(samples: Sequence[Sample], places: Sequence[int], rows: list[Any]) -> GroupResult:
    """Return the group of the samples at these places as one that is not whole."""
    for place in places:
        rows[place] = {**rows[place], "relative": None}
    sizes = {samples[place].group_size for place in places}
    return GroupResult(
        samples[places[0]].group or "",
        sizes.pop() if len(sizes) == 1 else None,
        len(places),
        sum(rows[place]["status"] == Scored.status for place in places),
        whole=False,
        reason="split",
    )


def _without_result(
    samples: Sequence[Sample], problems: Mapping[int, Problem], origin: RewardReply
) -> RewardReply:
    """Make the reply of a batch that has no result, with the provenance of another."""
    rows = [_row_of(sample, problems[place]) for place, sample in enumerate(samples)]
    counts = Counts(0, len(samples), 0, 0, 0)
    none = (None,) * len(samples)
    return RewardReply(none, counts, origin.provenance, {}, rows, origin.range)


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
    try:
        least, most = body.range or UNIT
    except ValueError:
        raise BadReply("reply.range is not two numbers") from None
    return RewardReply(
        rewards,
        body.counts,
        body.provenance,
        body.timings_ms,
        body.results,
        (least, most),
        body.groups,
    )


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
    first = replies[0].provenance
    for reply in replies:
        if changed := changes(first, reply.provenance):
            log.warning(
                "the service changed during a call: not all of its rewards are comparable (%s)",
                changed,
            )
            break
    return first


def _merged(samples: Sequence[Sample], replies: Sequence[RewardReply]) -> RewardReply:
    """Merge the replies to requests of the same time, in their order."""
    first = replies[0]
    rows = [row for reply in replies for row in reply.rows]
    return RewardReply(
        tuple(reward for reply in replies for reward in reply.rewards),
        _total([reply.counts for reply in replies]),
        _provenance_of(replies),
        {stage: max(r.timings_ms.get(stage, 0.0) for r in replies) for stage in first.timings_ms},
        rows,
        first.range,
        _joined_groups(samples, replies, rows),
    )
