"""Any number of samples into a file of results, a few requests at a time, resumable."""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from itertools import islice
from os import PathLike
from typing import Unpack

from medreward_client._client import RewardClient
from medreward_client._progress import Show, showing
from medreward_client._results import Named, ResultsFile, name
from medreward_client._types import Asking, RewardReply, Sample, Unscored

BATCH = 256
IN_FLIGHT = 4
FOUND_SHOWN = 1000
"""Samples that cost nothing go by faster than they can be drawn."""


@dataclass(frozen=True, slots=True)
class Tally:
    """How many samples have a reward now, and how many have none.

    `found` of the `scored` were in the file already and were not asked about. `reasons` counts
    the unscored by the kind of their error.
    """

    scored: int
    unscored: int
    found: int
    reasons: dict[str, int]


def score_many(
    client: RewardClient,
    samples: Iterable[Sample],
    path: str | PathLike[str],
    *,
    batch: int = BATCH,
    in_flight: int = IN_FLIGHT,
    progress: bool | None = None,
    **asking: Unpack[Asking],
) -> Tally:
    """Score samples into a file: one JSON line a sample, in the order in which replies come.

    A run that was interrupted goes on where it was: what has a reward in the file is skipped,
    what has none is asked about again. `read_results` gives the last word on each sample.

    Ids must be unique; a sample without one is named by its position, `#0`, `#1`, so let the
    order stay the same, or give ids. Samples are read as they are needed: `in_flight` requests of
    `batch` samples are in memory, and about 200 bytes for each sample that was seen.
    `asking` is that of `RewardClient.reward`; its deadline is each request's. `progress` draws a
    bar (needs rich); None draws one on a terminal.

    Raises:
        OtherResults: the file holds rewards of another recipe, judge or embedder, other samples
            under the same ids, or no results at all. They are left as they are.
        ValueError: two samples have one id, or a number is less than 1.
        MedrewardError: a request failed until its deadline, or was refused; the other answers
            are in the file, so run it again.
    """
    if batch < 1 or in_flight < 1:
        raise ValueError("batch and in_flight must be at least 1")
    total = len(samples) if isinstance(samples, Sized) else None
    with (
        ResultsFile(path, recipe=asking.get("recipe")) as file,
        showing(progress=progress, total=total) as show,
    ):
        count = _Count(show)

        def ask(asked: Sequence[Named]) -> None:
            reply = client.reward([one.sample for one in asked], **asking)
            if file.add(asked, reply):
                count.add(reply)

        left = _without_reward(samples, file, count)
        _each(ask, iter(lambda: tuple(islice(left, batch)), ()), in_flight)
        count.tell()
    return count.tally


class _Count:
    """Counts what became of the samples, and shows it."""

    def __init__(self, show: Show) -> None:
        self._show = show
        self._lock = threading.Lock()
        self._scored = self._found = 0
        self._reasons: Counter[str] = Counter()

    def add(self, reply: RewardReply) -> None:
        """Count a reply."""
        reasons = [r.error.kind for r in reply.results if isinstance(r, Unscored)]
        with self._lock:
            self._scored += len(reply.results) - len(reasons)
            self._reasons.update(reasons)
            self.tell()

    def find(self) -> None:
        """Count a sample that has its reward already."""
        with self._lock:
            self._found += 1
            if self._found % FOUND_SHOWN == 0:
                self.tell()

    @property
    def tally(self) -> Tally:
        """The counts, once all is done."""
        unscored = self._reasons.total()
        return Tally(self._scored + self._found, unscored, self._found, dict(self._reasons))

    def tell(self) -> None:
        """Show the counts."""
        self._show(scored=self._scored, unscored=self._reasons.total(), found=self._found)


def _without_reward(samples: Iterable[Sample], file: ResultsFile, count: _Count) -> Iterator[Named]:
    for position, sample in enumerate(samples):
        named = name(sample, position)
        if file.has_reward_of(named):
            count.find()
        else:
            yield named


def _each(
    ask: Callable[[Sequence[Named]], None], batches: Iterator[Sequence[Named]], in_flight: int
) -> None:
    """Ask about each batch, so many at a time; raise the first failure when all are back.

    The batches are made in this thread, which an interruption reaches at once. The threads that
    ask are daemons: nobody who interrupts wants to wait for what is still on its way.
    """
    slots = threading.Semaphore(in_flight)
    failures: list[Exception] = []

    def work(asked: Sequence[Named]) -> None:
        try:
            ask(asked)
        except Exception as exc:  # noqa: BLE001 - raised again by the thread that waits
            exc.add_note(f"Samples asked about: {asked[0].id!r} to {asked[-1].id!r}.")
            failures.append(exc)
        finally:
            slots.release()

    try:
        while True:
            slots.acquire()
            if failures or not (asked := next(batches, ())):
                slots.release()
                break
            threading.Thread(target=work, args=(asked,), daemon=True).start()
    except Exception as exc:  # noqa: BLE001 - raised below, once what is on its way is back
        slots.release()
        failures.insert(0, exc)
    for _ in range(in_flight):
        slots.acquire()
    if failures:
        raise failures[0]
