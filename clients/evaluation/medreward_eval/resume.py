"""Going on where earlier runs of the same work were, by the lines that they left in a journal."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple, Protocol, TypeVar

from medreward_eval.errors import OtherRun
from medreward_eval.journal import Journal, Row, latest_rows

FOUND_SHOWN: Final = 1000
"""What costs nothing goes by faster than it can be drawn."""


class Show(Protocol):
    """Shows a run's progress: things done, things in trouble, and things done by earlier runs."""

    def __call__(self, *, done: int, trouble: int, found: int) -> None:
        """Show the counts so far."""
        ...


class Named(Protocol):
    """Whatever has an id."""

    @property
    def id(self) -> str:
        """Unique among what is worked on."""
        ...


Thing = TypeVar("Thing", bound=Named)


class Outcome(NamedTuple):
    """What came of a thing: its line, and the kind of trouble, if there was some."""

    id: str
    trouble: str | None
    row: Row


class Resumed:
    """A journal, and how far it is; `found` is how many were done before this run.

    Memory does not grow with the lines, but with what is in trouble (ids).
    """

    def __init__(self, journal: Journal, *, tell: Callable[[], None]) -> None:
        self._journal = journal
        self._tell = tell
        self.found = 0
        self.troubled: dict[str, str] = {}
        """What earlier runs left undone, by id, with the kind of trouble."""

    def new(
        self, things: Iterable[Thing], trouble_in: Callable[[Row, Thing], str | None]
    ) -> Iterator[Thing]:
        """Give the things without a line, and take note of those whose line tells of trouble.

        *trouble_in* reads a thing's line. It raises OtherRun if the line is another thing's.

        Raises:
            OtherRun: there are lines of more things.
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
        """Add lines: of new things in their order, of others behind all, if there is news."""
        self._journal.append([one.row for one in outcomes if one.id not in self.troubled])
        news = [
            one.row
            for one in outcomes
            # The same trouble again is known already.
            if one.id in self.troubled and one.trouble != self.troubled[one.id]
        ]
        self._journal.append_again(news)

    def _find(self) -> None:
        self.found += 1
        if self.found % FOUND_SHOWN == 0:
            self._tell()


def see_that_same(differing: Sequence[str], thing: Named, journal: Journal) -> None:
    """Refuse a line that should be of *thing* and has other content.

    Raises:
        OtherRun: *differing* names keys.
    """
    if differing:
        raise OtherRun(
            f"{journal.path}: the line that should be of {thing.id!r} is of another "
            f"({', '.join(sorted(differing))}); write to a new file"
        )
