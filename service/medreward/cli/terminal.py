"""Output of commands: results on standard output, progress and failures on standard error.

Exit codes: 0 all is well; 1 something failed, or more is unscored than allowed; 2 the command line
or the environment is wrong; 130 interrupted.
"""

import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from medreward.audit.markup import visible
from medreward.errors import MedrewardError, SetupError

PLAIN_WIDTH = 120
"""Width in columns if the output is not a terminal."""
PRINTERS = {"rich", "typer", "click", "_click"}
"""Packages that write to the standard streams."""
LINES_PER_RUN = 4
"""Lines of progress in a log, for one run."""


def output() -> Console:
    """Return the console of results."""
    return _console(sys.stdout)


def messages() -> Console:
    """Return the console of progress and failures, so that piped results stay clean."""
    return _console(sys.stderr)


def shown(text: str, style: str = "") -> Text:
    r"""Make foreign text safe to print: markup and control sequences have no effect.

    Invisible characters are escaped (`\xa0`, `\u200b`), since they often explain why two texts
    differ.
    """
    return Text(visible(text), style=style)


def _console(stream: IO[str]) -> Console:
    is_measured = stream.isatty() or "COLUMNS" in os.environ
    return Console(
        file=stream, width=None if is_measured else PLAIN_WIDTH, highlight=False, emoji=False
    )


class CommandError(MedrewardError):
    """The command failed; the message says what to do next."""

    exit_code = 1

    def __init__(self, message: str, *, details: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.details = details
        """Lines below the message."""


class Misuse(CommandError):
    """The command line, the environment or an input file is wrong; nothing was done."""

    exit_code = 2


@contextmanager
def exiting_on_failure() -> Iterator[None]:
    """Turn an exception into one line on standard error, and an exit code."""
    try:
        yield
    except (typer.Exit, typer.Abort):
        raise
    except CommandError as exc:
        _print_failure(str(exc), exc.details)
        raise typer.Exit(exc.exit_code) from exc
    except SetupError as exc:
        _print_failure(str(exc))
        raise typer.Exit(Misuse.exit_code) from exc
    except BrokenPipeError:
        # Whoever read the result has had enough; typer ends the command without a word.
        raise
    except OSError as exc:
        _print_failure(_told_by_system(exc))
        raise typer.Exit(CommandError.exit_code) from exc
    except KeyboardInterrupt as exc:
        _print_failure("interrupted")
        raise typer.Exit(130) from exc
    except Exception as exc:
        if sys.flags.dev_mode:
            raise
        _print_failure(_fault(exc))
        raise typer.Exit(CommandError.exit_code) from exc


def _told_by_system(error: OSError) -> str:
    what = error.strerror or type(error).__name__
    if error.filename is not None:
        return f"{error.filename}: {what}"
    # Our own writes to files are named; without a name it is what rich or typer print.
    frames = traceback.extract_tb(error.__traceback__)
    is_printing = any(Path(frame.filename).parent.name in PRINTERS for frame in frames)
    return f"standard output cannot be written: {what}" if is_printing else what


def _fault(error: Exception) -> str:
    """Describe an unexpected exception by its place: its text may quote a sample."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    places = ", ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames)
    return (
        f"a fault of this program: {type(error).__name__} at {places}; please report it. "
        "`python -X dev -m medreward ...` shows all of it"
    )


def _print_failure(message: str, details: Sequence[str] = ()) -> None:
    console = messages()
    console.print(shown(f"medreward: {message}", "red"), soft_wrap=True)
    for detail in details:
        console.print(shown(f"  {detail}"), soft_wrap=True)


def silence_other_bars() -> None:
    """Stop the progress bars of the libraries that load models."""
    # All of them use tqdm, which reads this variable when it is imported; so this function must
    # run before those imports.
    os.environ.setdefault("TQDM_DISABLE", "1")


@contextmanager
def waiting(first: str) -> Iterator[Callable[[str], None]]:
    """Show a text while waiting; yields a function that replaces it."""
    console = messages()
    if not console.is_terminal:
        console.print(shown(f"{first} …"), soft_wrap=True)
        yield lambda _: None
        return
    with console.status(shown(first)) as status:
        yield lambda text: status.update(shown(text))


@contextmanager
def counting(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show how many of *total* are done; yields a function that adds to them."""
    console = messages()
    if not console.is_terminal:
        yield _lines(console, title, total)
        return
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    ) as bar:
        task = bar.add_task(title, total=total)
        yield lambda count: bar.advance(task, count)


def _lines(console: Console, title: str, total: int) -> Callable[[int], None]:
    done = told = 0

    def add(count: int) -> None:
        nonlocal done, told
        done += count
        reached = LINES_PER_RUN * done // total
        if reached > told:
            told = reached
            console.print(shown(f"{title}: {done} of {total}"), soft_wrap=True)

    return add


class _Rate(ProgressColumn):
    """A column with the number done in a second."""

    def render(self, task: Task) -> Text:
        """Show the rate, or nothing until the first measurement."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f}/s", style="cyan")
