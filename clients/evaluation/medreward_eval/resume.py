"""The run that `generate` and `grade` share: it continues where earlier runs of the same work stopped."""

import math
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol, TypeVar

from medreward_eval.errors import Failed, OtherRun
from medreward_eval.journal import Journal, Row, latest_rows
from medreward_eval.records import Failure

FOUND_SHOWN: Final = 1000
"""Lines of earlier runs per update of the progress bar; they pass faster than it can be drawn."""


class Show(Protocol):
    """Shows a run's progress: things done, things in trouble, and things done by earlier runs."""

    def __call__(self, *, done: int, trouble: int, found: int) -> None:
        """Show the counts so far."""
        ...


class Named(Protocol):
    """An object with an id."""

    @property
    def id(self) -> str:
        """An id that is unique within the run."""
        ...


Thing = TypeVar("Thing", bound=Named)


class Outcome(NamedTuple):
    """The result for a thing: its line, and its error, if any."""

    id: str
    row: Row
    error: Failure | None
    is_barren: bool
    """True if the error may concern every thing, not only this one."""


@dataclass(slots=True)
class Counts:
    """Counts of things that a run finished, that earlier runs had finished, and that failed."""

    done: int = 0
    found: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    """Things without a result, by the kind of their error."""
    reasons: dict[str, str] = field(default_factory=dict)
    """The first message of each kind."""


async def resume(
    journal: Journal,
    things: Callable[[], Iterable[Thing]],
    ask: Callable[[Iterable[Thing]], AsyncGenerator[Sequence[Outcome], None]],
    failure_in: Callable[[Row, Thing], str | None],
    *,
    show: Show,
    most_barren: int,
    stopped: str,
) -> Counts:
    """Ask about the things without a line in the journal, then again about those that failed before.

    *things* must return the same ones in the same order at each call. *ask* yields outcomes in that
    order, in batches. *failure_in* returns the kind of error in a thing's line, or None, and raises
    OtherRun if the line belongs to another thing. Memory grows with the ids of failed things, not
    with the lines.

    Raises:
        OtherRun: the journal's lines are of other things, or of more than there are.
        Failed: *most_barren* batches in a row had only barren outcomes. *stopped* is the message;
            its field `error` is the last failure.
    """
    run = _Run(journal, show)

    async def finish(left: Iterable[Thing], most_barren: float) -> None:
        barren = 0
        async with aclosing(ask(left)) as batches:
            async for outcomes in batches:
                run.add(outcomes)
                barren = barren + 1 if all(one.is_barren for one in outcomes) else 0
                if barren == most_barren:
                    raise Failed(stopped.format(error=outcomes[-1].error))

    await finish(run.new(things(), failure_in), most_barren)
    if run.failed_before:
        # No limit on failures in a row here: things that fail every time would end the run before the
        # things behind them are asked about.
        await finish((one for one in things() if one.id in run.failed_before), math.inf)
    run.tell()
    return run.counts


class _Run:
    """The journal of a run with its counts, which are shown as they change."""

    def __init__(self, journal: Journal, show: Show) -> None:
        self.counts = Counts()
        self.failed_before: dict[str, str] = {}
        """Kinds of error of the things that earlier runs failed on, by id."""
        self._journal = journal
        self._show = show

    def tell(self) -> None:
        counts = self.counts
        self._show(done=counts.done, trouble=counts.failed.total(), found=counts.found)

    def new(
        self, things: Iterable[Thing], failure_in: Callable[[Row, Thing], str | None]
    ) -> Iterator[Thing]:
        """Yield the things without a line; the others are counted as found or failed before."""
        rows = latest_rows(self._journal.path)
        for thing in things:
            row = next(rows, None)
            if row is None:
                yield thing
            elif (kind := failure_in(row, thing)) is not None:
                self.failed_before[thing.id] = kind
            else:
                self.counts.found += 1
                if self.counts.found % FOUND_SHOWN == 0:
                    self.tell()
        if next(rows, None) is not None:
            raise OtherRun(
                f"{self._journal.path} has lines of more than there is now; write to a new file"
            )

    def add(self, outcomes: Sequence[Outcome]) -> None:
        """Append lines of new things, and retried lines of failed ones if their outcome changed."""
        before = self.failed_before
        errors = {one.id: one.error for one in outcomes if one.error is not None}
        kinds = {id_: error.kind for id_, error in errors.items()}
        for error in errors.values():
            self.counts.reasons.setdefault(error.kind, error.message)
        self._journal.append([one.row for one in outcomes if one.id not in before])
        # The same error again would add a line without information.
        self._journal.append_again(
            [
                one.row
                for one in outcomes
                if one.id in before and before[one.id] != kinds.get(one.id)
            ]
        )
        self.counts.failed.update(kinds.values())
        self.counts.done += len(outcomes) - len(kinds)
        self.tell()


def see_that_same(differing: Sequence[str], thing: Named, journal: Journal) -> None:
    """Raise an error if a line's content differs from *thing*, whose place it takes.

    Raises:
        OtherRun: *differing* is not empty.
    """
    if differing:
        raise OtherRun(
            f"{journal.path}: the line that should be of {thing.id!r} is of another "
            f"({', '.join(sorted(differing))}); write to a new file"
        )
