"""Where a command writes: what was asked for on standard output, all else on standard error."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.text import Text

from medreward_client._errors import BadReply, MedrewardError, TryAgain

FAILED = 1
MISUSED = 2
INTERRUPTED = 130


class Misuse(Exception):
    """The command line or an input file is wrong; nothing was done."""


def output() -> Console:
    """What the command was asked for."""
    return Console(file=sys.stdout, highlight=False, emoji=False)


def messages() -> Console:
    """Progress and failures, so that a piped result stays clean."""
    return Console(file=sys.stderr, highlight=False, emoji=False)


def shown(text: str, style: str = "") -> Text:
    """Text of others, as it can be shown: neither markup nor control sequences work."""
    visible = "".join(
        char if char.isprintable() or char in "\n\t" else char.encode("unicode_escape").decode()
        for char in text
    )
    return Text(visible, style=style)


@contextmanager
def failing_in_words() -> Iterator[None]:
    """Turn what stops a command into a line of words and an exit code."""
    try:
        yield
    except Misuse as exc:
        _tell(str(exc))
        raise typer.Exit(MISUSED) from exc
    except (TryAgain, BadReply) as exc:
        _tell(f"{exc}; `medreward-client doctor URL` tells more")
        raise typer.Exit(FAILED) from exc
    except (MedrewardError, ValueError, OSError) as exc:
        _tell(" ".join([str(exc), *getattr(exc, "__notes__", ())]))
        raise typer.Exit(FAILED) from exc
    except KeyboardInterrupt as exc:
        _tell("interrupted")
        raise typer.Exit(INTERRUPTED) from exc


def _tell(message: str) -> None:
    messages().print(shown(f"medreward-client: {message}", "red"), soft_wrap=True)
