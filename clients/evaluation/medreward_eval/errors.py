"""Errors that stop a command; messages name the cause and the remedy, and finished lines are kept."""

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
