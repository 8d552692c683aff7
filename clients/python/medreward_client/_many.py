"""`score_many`: any number of samples into a file of results, resumable, a few requests at a time."""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from itertools import islice
from os import PathLike
from typing import Unpack

from medreward_client._client import RewardClient
from medreward_client._progress import Show, Tally, showing
from medreward_client._results import Named, ResultsFile, name
from medreward_client._types import Asking, RewardReply, Sample, Unscored

BATCH = 256
IN_FLIGHT = 4
FOUND_SHOWN = 1000
"""Samples found in the file pass faster than the bar can be drawn."""


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
    """Score samples into a file: one JSON line a sample, in the order in which replies arrive.

    A second run continues an interrupted one: samples with a reward in the file are skipped, and
    those without one are sent again. `read_results` returns the last result of each sample.

    Ids must be unique; a sample without one is named by its position, `#0`, `#1`, so keep the
    order, or set ids. Samples are read as they are needed: `in_flight` requests of `batch`
    samples are in memory, and about 200 bytes for each sample that was read.
    `asking` is that of `RewardClient.reward`; its deadline is each request's. `progress` draws a
    bar (needs rich); None draws one on a terminal.

    Raises:
        OtherResults: the file holds rewards of another recipe, judge or embedder, other samples
            under the same ids, or something else than results. It is left as it is.
        ValueError: two samples have one id, or a number is less than 1.
        MedrewardError: a request failed until its deadline, or was refused; the other results
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

        def score(named: Sequence[Named]) -> None:
            reply = client.reward([one.sample for one in named], **asking)
            if file.add(named, reply):
                count.add(reply)

        left = _without_reward(samples, file, count)
        _each(score, iter(lambda: tuple(islice(left, batch)), ()), in_flight)
        show(count.tally)
    return count.tally


class _Count:
    """Counts and shows the results; threads may share it."""

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
            self._show(self.tally)

    def add_found(self) -> None:
        """Count a sample that has its reward already."""
        with self._lock:
            self._found += 1
            if self._found % FOUND_SHOWN == 0:
                self._show(self.tally)

    @property
    def tally(self) -> Tally:
        """The counts so far; not locked, since the lock is held or all threads have ended."""
        unscored = self._reasons.total()
        return Tally(self._scored + self._found, unscored, self._found, dict(self._reasons))


def _without_reward(samples: Iterable[Sample], file: ResultsFile, count: _Count) -> Iterator[Named]:
    for position, sample in enumerate(samples):
        named = name(sample, position)
        if file.has_reward_of(named):
            count.add_found()
        else:
            yield named


def _each(
    score: Callable[[Sequence[Named]], None], batches: Iterator[Sequence[Named]], in_flight: int
) -> None:
    """Score each batch, *in_flight* at a time; raise the first failure when all have returned.

    The batches are made in this thread, which an interruption reaches at once. The threads that
    score are daemons, so that an interrupted program does not wait for pending requests.
    """
    slots = threading.Semaphore(in_flight)
    failures: list[Exception] = []

    def work(named: Sequence[Named]) -> None:
        try:
            score(named)
        except Exception as exc:  # noqa: BLE001 - raised again by the thread that waits
            exc.add_note(f"Samples asked about: {named[0].id!r} to {named[-1].id!r}.")
            failures.append(exc)
        finally:
            slots.release()

    try:
        while True:
            slots.acquire()
            if failures or not (named := next(batches, ())):
                slots.release()
                break
            threading.Thread(target=work, args=(named,), daemon=True).start()
    except Exception as exc:  # noqa: BLE001 - raised below, once pending requests have returned
        slots.release()
        failures.insert(0, exc)
    # All slots are free only when every thread has ended, and its results are in the file.
    for _ in range(in_flight):
        slots.acquire()
    if failures:
        raise failures[0]
