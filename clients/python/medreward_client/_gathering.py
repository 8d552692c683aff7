"""Many small calls become few requests, and one large call becomes several.

A trainer that scores each rollout as it finishes makes thousands of calls at once. One request
each would cost it, and the service, many times the work of asking them together.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus

from medreward_client._errors import RequestRefused
from medreward_client._types import RewardReply, Sample, Scored, Terms, Unscored

GATHERING_S = 0.005
BATCH_SAMPLES = 512
BATCH_CHARACTERS = 4_000_000
"""At most six times as many bytes, which is far below what a service takes."""

Result = Scored | Unscored | Exception
Alike = tuple[Terms, float]
"""What calls must share to travel together: terms, and for how many seconds they wait."""
Send = Callable[[Sequence[Sample], Terms, float], Awaitable[RewardReply]]


@dataclass(slots=True)
class Batch:
    """Samples that will be one request, and who waits for each."""

    samples: list[Sample] = field(default_factory=list)
    waiting: list[asyncio.Future[Scored | Unscored]] = field(default_factory=list)
    characters: int = 0
    full: asyncio.Event = field(default_factory=asyncio.Event)


class MicroBatcher:
    """Gathers what is asked for one by one on one event loop."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._open: dict[Alike, Batch] = {}
        self._asking: set[asyncio.Task[None]] = set()

    async def reward(self, sample: Sample, terms: Terms, deadline_s: float) -> Scored | Unscored:
        """Score a sample together with those that come in the next few milliseconds."""
        # Before it joins the others: what cannot be counted is its own caller's to mend.
        characters = _characters_of(sample)
        # With another deadline, one would outlast its own, or be given up with the other.
        alike = (terms, deadline_s)
        batch = self._open.get(alike)
        if batch is None:
            batch = self._open[alike] = Batch()
            asking = asyncio.create_task(self._ask(batch, alike))
            self._asking.add(asking)
            asking.add_done_callback(self._asking.discard)
        # A future of its own: who gives up waiting gives up for himself alone.
        answer: asyncio.Future[Scored | Unscored] = asyncio.get_running_loop().create_future()
        batch.samples.append(sample)
        batch.waiting.append(answer)
        batch.characters += characters
        if len(batch.samples) == BATCH_SAMPLES or batch.characters >= BATCH_CHARACTERS:
            self._close(batch, alike)
        # An error's traceback holds this frame, which must not hold the error.
        del batch
        return await answer

    async def _ask(self, batch: Batch, alike: Alike) -> None:
        terms, deadline_s = alike
        ends_at = asyncio.get_running_loop().time() + deadline_s
        with suppress(TimeoutError):
            async with asyncio.timeout(GATHERING_S):
                await batch.full.wait()
        self._close(batch, alike)
        try:
            results = await self._results(batch.samples, terms, ends_at)
        except Exception as error:  # noqa: BLE001 - raised by each of those who wait
            results = [error] * len(batch.samples)
        for answer, result in zip(batch.waiting, results, strict=True):
            if answer.done():
                continue  # its caller gave up
            if isinstance(result, Exception):
                answer.set_exception(result)
            else:
                answer.set_result(result)

    async def _results(
        self, samples: Sequence[Sample], terms: Terms, ends_at: float
    ) -> Sequence[Result]:
        """Ask; where one of many samples cannot be asked about, find it, for the others' sake."""
        try:
            return (await self._send(samples, terms, ends_at)).results
        except (RequestRefused, TypeError) as refused:
            if not is_about_a_sample(refused):
                raise
            if len(samples) == 1:
                return [refused]
        half = len(samples) // 2
        return [
            *await self._results(samples[:half], terms, ends_at),
            *await self._results(samples[half:], terms, ends_at),
        ]

    def _close(self, batch: Batch, alike: Alike) -> None:
        if self._open.get(alike) is batch:
            del self._open[alike]
            batch.full.set()


def is_about_a_sample(refused: RequestRefused | TypeError) -> bool:
    """Tell what one sample may have brought on from what is about the request as a whole."""
    if isinstance(refused, TypeError):
        return True  # of one whose `extra` JSON cannot hold
    return refused.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE or "samples[" in str(refused)


def batches_of(samples: Sequence[Sample]) -> Iterator[Sequence[Sample]]:
    """Cut samples into what one request may hold; nothing is one empty request."""
    for start in range(0, len(samples) or 1, BATCH_SAMPLES):
        yield from _halved(samples[start : start + BATCH_SAMPLES])


def _halved(samples: Sequence[Sample]) -> Iterator[Sequence[Sample]]:
    """Halve samples until they are short enough."""
    half, characters = len(samples) // 2, sum(map(_characters_of, samples))
    if half == 0 or characters <= BATCH_CHARACTERS:
        yield samples
    else:
        yield from _halved(samples[:half])
        yield from _halved(samples[half:])


def _characters_of(sample: Sample) -> int:
    """Count them; TypeError, which names the field, where there is no text to count."""
    for name, text in (("response", sample.response), ("question", sample.question or "")):
        if not isinstance(text, str):
            raise TypeError(f"the {name} of a sample is {type(text).__name__}, not str")
    # References are short beside these, and a service bounds them.
    return len(sample.response) + len(sample.question or "")
