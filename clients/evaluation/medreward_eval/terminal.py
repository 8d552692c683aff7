"""Exit codes and messages of failing commands, and the progress bar of a run."""

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO, cast

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from medreward_client import MedrewardError
from medreward_client.terminal import FAILED, INTERRUPTED, MISUSED, ended, messages, tell
from medreward_eval.errors import BadData, BadTask, EvalError
from medreward_eval.resume import Show

PLAIN_WIDTH = 160
"""Columns of output that does not go to a terminal."""
PRINTERS = {"rich", "typer", "click", "_click"}
"""Packages that write to the standard streams."""


def open_streams() -> None:
    """Make the standard streams usable, whatever a command is started with."""
    # For a closed stream Python has None. One that refuses to be written to takes the place of
    # standard output, so that a lost result is an error like that of a full disk.
    if sys.stdin is None:
        sys.stdin = _nothing("r", os.O_RDONLY)
    if sys.stdout is None:
        sys.stdout = _nothing("w", os.O_RDONLY)
    if sys.stderr is None:
        sys.stderr = _nothing("w", os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A character that the terminal cannot show becomes a question mark, not an error.
            stream.reconfigure(errors="replace")


def release_streams() -> None:
    """Flush the standard streams; Python would print a traceback if it could not when it ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _nothing(mode: str, flags: int) -> TextIO:
    return cast("TextIO", os.fdopen(os.open(os.devnull, flags), mode, encoding="utf-8"))


@contextmanager
def failing_in_words() -> Iterator[None]:
    """Convert exceptions of a command to a one-line message and an exit code."""
    end = partial(ended, "medreward-eval")
    try:
        yield
    except (typer.Exit, typer.Abort):
        raise
    # A ValueError comes from the command line: a URL, a key, a number of seconds.
    except (BadTask, BadData, ValueError) as exc:
        raise end(exc, MISUSED) from exc
    except (EvalError, MedrewardError) as exc:
        raise end(exc, FAILED) from exc
    except BrokenPipeError:
        # Whoever read the result has had enough; typer ends the command without a word.
        raise
    except OSError as exc:
        raise end(_told_by_system(exc), FAILED) from exc
    except KeyboardInterrupt as exc:
        tell("interrupted; what was done is in its file: run the same command again to go on")
        raise typer.Exit(INTERRUPTED) from exc
    except Exception as exc:
        if sys.flags.dev_mode:
            raise
        raise end(_told_as_fault(exc), FAILED) from exc


def _told_by_system(error: OSError) -> str:
    what = error.strerror or type(error).__name__
    if error.filename is not None:
        return f"{error.filename}: {what}"
    # Our own writes to files are named; without a name it is what rich or typer print.
    frames = traceback.extract_tb(error.__traceback__)
    is_printing = any(Path(frame.filename).parent.name in PRINTERS for frame in frames)
    return f"standard output cannot be written: {what}" if is_printing else what


def _told_as_fault(error: Exception) -> str:
    """Describe an unexpected exception by its place: its text may quote a sample."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    places = ", ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames)
    return (
        f"a fault of this program: {type(error).__name__} at {places}; please report it. "
        "`python -X dev -m medreward_eval ...` shows all of it"
    )


@contextmanager
def progress(total: int, *, done: str, trouble: str) -> Iterator[Show]:
    """Draw a progress bar on standard error; *done* and *trouble* are the labels of its counts."""
    console = messages()
    if not console.is_terminal:
        yield lambda **_: None
        return
    bar = Progress(
        BarColumn(bar_width=20),
        TextColumn(f"{{task.completed:,}} of {total:,}"),
        TextColumn(f"[green]{{task.fields[good]:,}} {done}"),
        TextColumn(f"[{{task.fields[warning]}}]{{task.fields[trouble]:,}} {trouble}"),
        TimeRemainingColumn(),
        console=console,
    )
    with bar:
        task = bar.add_task("", total=total, good=0, trouble=0, warning="dim")

        def show(*, done: int, trouble: int, found: int) -> None:
            bar.update(
                task,
                completed=done + trouble + found,
                good=done + found,
                trouble=trouble,
                warning="red" if trouble else "dim",
            )

        yield show
