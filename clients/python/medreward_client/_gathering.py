"""Many small calls become few requests, and one large call becomes several.

A trainer that scores each rollout as it finishes makes thousands of calls at once. One request
each would cost it, and the service, many times the work of asking them together.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from medreward_client._types import Item, RewardReply, Sample, Scored, Terms, Unscored

GATHERING_S = 0.005
BATCH_SAMPLES = 512
BATCH_CHARACTERS = 4_000_000
"""At most six times as many bytes, which is far below what a service takes."""

Asked = TypeVar("Asked", Sample, Item)
Send = Callable[[Sequence[Sample], Terms, float], Awaitable[RewardReply]]


@dataclass(slots=True)
class Batch:
    """Samples that will be one request, and its reply."""

    samples: list[Sample] = field(default_factory=list)
    characters: int = 0
    full: asyncio.Event = field(default_factory=asyncio.Event)
    reply: asyncio.Future[RewardReply] = field(init=False)


class Gatherer:
    """Gathers what is asked for one by one on one event loop."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._open: dict[Terms, Batch] = {}

    async def reward(self, sample: Sample, terms: Terms, ends_at: float) -> Scored | Unscored:
        """Score a sample together with those that come in the next few milliseconds."""
        batch = self._open.get(terms)
        if batch is None:
            batch = self._open[terms] = Batch()
            batch.reply = asyncio.ensure_future(self._ask(batch, terms, ends_at))
        place = len(batch.samples)
        batch.samples.append(sample)
        batch.characters += _characters_of(sample)
        if _is_full(place + 1, batch.characters):
            self._close(batch, terms)
        try:
            # Shielded, since who gives up waiting gives up for himself alone.
            return (await asyncio.shield(batch.reply)).results[place]
        finally:
            # An error's traceback holds this frame, which must not hold the error.
            del batch

    async def _ask(self, batch: Batch, terms: Terms, ends_at: float) -> RewardReply:
        with suppress(TimeoutError):
            async with asyncio.timeout(GATHERING_S):
                await batch.full.wait()
        self._close(batch, terms)
        return await self._send(batch.samples, terms, ends_at)

    def _close(self, batch: Batch, terms: Terms) -> None:
        if self._open.get(terms) is batch:
            del self._open[terms]
            batch.full.set()


def batches_of(asked: Sequence[Asked]) -> Iterator[Sequence[Asked]]:
    """Cut what is asked into what one request may hold; nothing is one empty request."""
    batch: list[Asked] = []
    characters = 0
    for one in asked:
        batch.append(one)
        characters += _characters_of(one)
        if _is_full(len(batch), characters):
            yield batch
            batch, characters = [], 0
    if batch or not asked:
        yield batch


def _is_full(samples: int, characters: int) -> bool:
    return samples >= BATCH_SAMPLES or characters >= BATCH_CHARACTERS


def _characters_of(asked: Sample | Item) -> int:
    text = asked.response if isinstance(asked, Sample) else asked.answer
    references = asked.reference or ""
    reference = len(references) if isinstance(references, str) else sum(map(len, references))
    return len(text) + len(asked.question or "") + reference
