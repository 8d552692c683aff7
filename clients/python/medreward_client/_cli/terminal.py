"""Errors of the client's commands, as messages and exit codes."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from medreward_client._errors import BadReply, MedrewardError, TryAgain
from medreward_client.terminal import FAILED, INTERRUPTED, MISUSED, ended, unforeseen_told

PROGRAM = "medreward-client"


class Misuse(Exception):
    """The command line or an input file is wrong; nothing was sent."""


@contextmanager
def failing_in_words() -> Iterator[None]:
    """Convert an exception into a message and an exit code."""
    end = partial(ended, PROGRAM)
    with unforeseen_told(PROGRAM):
        try:
            yield
        except Misuse as exc:
            raise end(exc, MISUSED) from exc
        except (TryAgain, BadReply) as exc:
            raise end(f"{exc}; `{PROGRAM} doctor URL` tells more", FAILED) from exc
        except (MedrewardError, ValueError) as exc:
            raise end(" ".join([str(exc), *getattr(exc, "__notes__", ())]), FAILED) from exc
        except KeyboardInterrupt as exc:
            raise end("interrupted", INTERRUPTED) from exc
