"""`score_many`: any number of samples into a file of results, resumable, a few requests at a time."""

import importlib.util
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence, Sized
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from os import PathLike
from typing import Unpack

from medreward_client._client import AsyncRewardClient, RewardClient
from medreward_client._errors import RequestRefused, TimedOut
from medreward_client._loops import STANDS_STILL, end_s, start_in_background
from medreward_client._parts import REFUSED, is_about_a_sample, refusal_of
from medreward_client._results import Named, ResultsFile, name
from medreward_client._types import Asking, Provenance, Sample, Scored, Unscored

BATCH = 256
IN_FLIGHT = 4
FOUND_SHOWN = 1000
"""Samples found in the file pass faster than the bar can be drawn."""
REFUSALS_KEPT = 5
LARGEST_GROUP = 4096
"""The service's limit; more samples of one group are divided."""


@dataclass(frozen=True, slots=True)
class Tally:
    """The number of samples with a reward, and of those without one.

    `found` of the `scored` were in the file already and were not sent. `reasons` counts the
    unscored by the kind of their error, and `refused` holds the first ids that the service refuses,
    with the reason.
    """

    scored: int
    unscored: int
    found: int
    reasons: dict[str, int]
    refused: dict[str, str] = field(default_factory=dict, compare=False)


Show = Callable[[Tally], None]


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
    Neighbours of a group with a `group_size` share a request, which may then have more than `batch`
    samples, and all of them are sent again if one has no reward.
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
        _showing(progress=progress, total=total) as show,
    ):
        # Requests run in the background, so that this thread is free to read samples.
        run = _Run(client._client, file, show, asking)  # noqa: SLF001 - the same package
        longest_s = client._longest_s(asking.get("deadline_s"))  # noqa: SLF001 - the same package
        left = run.without_reward(samples)
        _each(run.score, _batches(left, batch), in_flight, longest_s)
        show(run.tally)
    return run.tally


@contextmanager
def _showing(*, progress: bool | None, total: int | None) -> Iterator[Show]:
    """Draw a bar on standard error; None draws one if rich is installed, on a terminal.

    Raises ModuleNotFoundError if *progress* is True without rich.
    """
    if progress is None:
        progress = sys.stderr.isatty() and importlib.util.find_spec("rich") is not None
    if not progress:
        yield lambda _: None
        return
    # Imported here, since a trainer need not have it.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    bar = Progress(
        BarColumn(bar_width=20),
        MofNCompleteColumn(separator=" of "),
        TextColumn("[green]{task.fields[scored]:,} scored"),
        TextColumn("[{task.fields[warning]}]{task.fields[unscored]:,} unscored"),
        TextColumn("[cyan]{task.fields[rate]:,.0f}/s"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    task = bar.add_task("", total=total, scored=0, unscored=0, warning="dim", rate=0.0)
    began_s = time.monotonic()

    def show(tally: Tally) -> None:
        done = tally.scored + tally.unscored
        bar.update(
            task,
            completed=done,
            scored=tally.scored,
            unscored=tally.unscored,
            warning="red" if tally.unscored else "dim",
            # Samples found in the file take no time, so only those that were sent count.
            rate=(done - tally.found) / max(time.monotonic() - began_s, 1e-9),
        )

    with bar:
        yield show


class _Run:
    """Scores samples into a file, and counts and shows the results."""

    def __init__(
        self, client: AsyncRewardClient, file: ResultsFile, show: Show, asking: Asking
    ) -> None:
        self._client = client
        self._file = file
        self._show = show
        self._asking = asking
        self._scored = self._found = 0
        self._reasons: Counter[str] = Counter()
        self._refused: dict[str, str] = {}

    @property
    def tally(self) -> Tally:
        """The counts so far."""
        unscored = self._reasons.total()
        scored = self._scored + self._found
        return Tally(scored, unscored, self._found, dict(self._reasons), dict(self._refused))

    def without_reward(self, samples: Iterable[Sample]) -> Iterator[list[Named]]:
        """Yield the samples that have no reward in the file, with all of their group."""
        for group in _groups(samples):
            # Asked of each, since the file checks that an id belongs to one sample.
            rewarded = [self._file.has_reward_of(named) for named in group]
            if not all(rewarded):
                yield group
                continue
            before, self._found = self._found, self._found + len(group)
            if self._found // FOUND_SHOWN > before // FOUND_SHOWN:
                self._show(self.tally)

    async def score(self, batch: Sequence[Named]) -> None:
        """Score a batch and write its results; an error is raised with the ids of the batch."""
        try:
            results, provenance = await self._results(batch)
            if not self._file.add(batch, results, provenance):
                return
        except Exception as exc:
            exc.add_note(f"Samples asked about: {batch[0].id!r} to {batch[-1].id!r}.")
            raise
        for named, result in zip(batch, results, strict=True):
            if isinstance(result, Scored):
                self._scored += 1
                continue
            self._reasons[result.error.kind] += 1
            if result.error.kind == REFUSED and len(self._refused) < REFUSALS_KEPT:
                self._refused[named.id] = result.error.message
        self._show(self.tally)

    async def _results(
        self, batch: Sequence[Named]
    ) -> tuple[Sequence[Scored | Unscored], Provenance | None]:
        """Score a batch; the provenance is None if the service refuses each of its samples."""
        try:
            reply = await self._client.reward([one.sample for one in batch], **self._asking)
        except RequestRefused as refused:
            if not is_about_a_sample(refused):
                raise
            # Not the end of the run: the samples of other batches are not to blame.
            return [await self._refusal(one, refused) for one in batch], None
        return reply.results, reply.provenance

    async def _refusal(self, named: Named, refused: RequestRefused) -> Unscored:
        """Return the result of a sample that is refused; raise *refused* if it is scored after all."""
        try:
            await self._client.reward(named.sample, **self._asking)
        except RequestRefused as own:
            return Unscored(named.sample.id, refusal_of(own), {}, ())
        raise refused


def _groups(samples: Iterable[Sample]) -> Iterator[list[Named]]:
    """Yield each sample with its neighbours of a group whose size is declared."""
    group: list[Named] = []
    for position, sample in enumerate(samples):
        size = sample.group_size
        if group and (size is None or sample.group != group[-1].sample.group):
            yield group
            group = []
        group.append(name(sample, position))
        # Not when the next group begins: no sample is read before it is needed.
        if len(group) >= min(size or 1, LARGEST_GROUP):
            yield group
            group = []
    if group:
        yield group


def _batches(groups: Iterable[Sequence[Named]], batch: int) -> Iterator[Sequence[Named]]:
    """Yield samples, at least *batch* of them but for the last, without dividing a group."""
    found: list[Named] = []
    for group in groups:
        found += group
        if len(found) >= batch:
            yield tuple(found)
            found = []
    if found:
        yield tuple(found)


def _each(
    score: Callable[[Sequence[Named]], Coroutine[None, None, None]],
    batches: Iterator[Sequence[Named]],
    in_flight: int,
    longest_s: float,
) -> None:
    """Score each batch, *in_flight* at a time; raise the first failure when all have returned.

    A batch has to be scored within *longest_s*; raises TimedOut if the loop stands still.
    """
    pending: set[Future[None]] = set()
    try:
        for batch in batches:
            pending.add(start_in_background(partial(score, batch)))
            if len(pending) == in_flight:
                pending = _left_of(pending, longest_s, FIRST_COMPLETED)
        pending = _left_of(pending, longest_s, ALL_COMPLETED)
    except Exception:
        # What the others are answered is written before the file is closed.
        wait(pending, end_s(longest_s))
        raise
    finally:
        # After an interruption nobody waits for them.
        for one in pending:
            one.cancel()


def _left_of(pending: set[Future[None]], longest_s: float, until: str) -> set[Future[None]]:
    """Wait for the first of the futures, or for all; raise the failure of one that has returned."""
    done, left = wait(pending, end_s(longest_s), until)
    for one in done:
        one.result()
    if left and (until == ALL_COMPLETED or not done):
        raise TimedOut(STANDS_STILL)
    return left
