"""How a command fails: one line that says what to do next, and an exit code.

0 all is well; 1 something failed, or more is unscored than allowed; 2 the command line or the
environment is wrong; 130 interrupted.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import typer

from medreward.cli.terminal import messages, shown
from medreward.errors import MedrewardError, SetupError


class CommandError(MedrewardError):
    """The command cannot go on; the message says what to do next."""

    exit_code = 1

    def __init__(self, message: str, *, details: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.details = details
        """Told below the message, one a line."""


class Misuse(CommandError):
    """The command line, the environment or an input file is wrong; nothing was done."""

    exit_code = 2


@contextmanager
def failing_in_words() -> Iterator[None]:
    """Turn what stops a command into words and an exit code."""
    try:
        yield
    except CommandError as exc:
        _tell(str(exc), exc.details)
        raise typer.Exit(exc.exit_code) from exc
    except SetupError as exc:
        _tell(str(exc))
        raise typer.Exit(Misuse.exit_code) from exc
    except KeyboardInterrupt as exc:
        _tell("interrupted")
        raise typer.Exit(130) from exc


def _tell(message: str, details: Sequence[str] = ()) -> None:
    console = messages()
    console.print(shown(f"medreward: {message}", "red"), soft_wrap=True)
    for detail in details:
        console.print(shown(f"  {detail}"), soft_wrap=True)
