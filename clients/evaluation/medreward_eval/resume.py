"""Resumption of a run from the lines that earlier runs of the same work left in a journal."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple, Protocol, TypeVar

from medreward_eval.errors import OtherRun
from medreward_eval.journal import Journal, Row, latest_rows

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
    """The result for a thing: its line, and the kind of its error, if any."""

    id: str
    trouble: str | None
    row: Row


class Resumed:
    """The state of a journal; `found` counts the things that earlier runs finished.

    Memory grows with the ids of failed things, not with the lines.
    """

    def __init__(self, journal: Journal, *, tell: Callable[[], None]) -> None:
        self._journal = journal
        self._tell = tell
        self.found = 0
        self.troubled: dict[str, str] = {}
        """Kinds of error of the things that earlier runs failed on, by id."""

    def new(
        self, things: Iterable[Thing], trouble_in: Callable[[Row, Thing], str | None]
    ) -> Iterator[Thing]:
        """Yield the things without a line, and record those whose line has an error.

        *trouble_in* returns the kind of error in a thing's line, or None. It raises OtherRun if the
        line belongs to another thing.

        Raises:
            OtherRun: the journal has more lines than there are things.
        """
        rows = latest_rows(self._journal.path)
        for thing in things:
            row = next(rows, None)
            if row is None:
                yield thing
                continue
            trouble = trouble_in(row, thing)
            if trouble is not None:
                self.troubled[thing.id] = trouble
            else:
                self._find()
        if next(rows, None) is not None:
            raise OtherRun(
                f"{self._journal.path} has lines of more than there is now; write to a new file"
            )

    def keep(self, outcomes: Sequence[Outcome]) -> None:
        """Append lines of new things, and retried lines of failed ones if their outcome changed."""
        self._journal.append([one.row for one in outcomes if one.id not in self.troubled])
        news = [
            one.row
            for one in outcomes
            # The same error again would add a line without information.
            if one.id in self.troubled and one.trouble != self.troubled[one.id]
        ]
        self._journal.append_again(news)

    def _find(self) -> None:
        self.found += 1
        if self.found % FOUND_SHOWN == 0:
            self._tell()


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
