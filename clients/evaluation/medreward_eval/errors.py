"""Errors that stop a command; messages name the cause and the remedy, and finished lines are kept."""

from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

OF_ONE_ITEM: Final = frozenset(
    {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.UNPROCESSABLE_ENTITY,
    }
)
"""Statuses of a request that a single question or item may have caused."""
MISTAKES_SHOWN: Final = 5


class EvalError(Exception):
    """Base of all errors that the user has to fix."""


class BadTask(EvalError):
    """A task is unknown, or an entry of a task file is invalid."""


class BadData(EvalError):
    """A file or a row cannot be read; rows are named by file and line, never quoted."""


class OtherRun(EvalError):
    """A file holds lines of another run, or another run is writing to it."""


class Failed(EvalError):
    """A server refuses requests, or failed for longer than its deadline."""


@dataclass(slots=True)
class Mistakes:
    """The number of invalid rows or lines, and messages on the first of them."""

    count: int = 0
    shown: list[str] = field(default_factory=list)

    def add(self, mistake: str) -> None:
        """Count an invalid row; messages name it by its number and never quote it."""
        self.count += 1
        if len(self.shown) < MISTAKES_SHOWN:
            self.shown.append(mistake)

    def __str__(self) -> str:
        more = self.count - len(self.shown)
        return "; ".join(self.shown) + (f"; and {more:,} more" if more else "")
