"""Exit codes and messages of failing commands, and the progress bar of a run."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from medreward_client import MedrewardError
from medreward_client.terminal import (
    FAILED,
    INTERRUPTED,
    MISUSED,
    ended,
    messages,
    tell,
    unforeseen_told,
)
from medreward_eval.errors import BadData, BadTask, EvalError
from medreward_eval.resume import Show

PROGRAM = "medreward-eval"
PLAIN_WIDTH = 160
"""Columns of output that does not go to a terminal."""


@contextmanager
def failing_in_words() -> Iterator[None]:
    """Convert exceptions of a command to a one-line message and an exit code."""
    end = partial(ended, PROGRAM)
    with unforeseen_told(PROGRAM):
        try:
            yield
        # A ValueError comes from the command line: a URL, a key, a number of seconds.
        except (BadTask, BadData, ValueError) as exc:
            raise end(exc, MISUSED) from exc
        except (EvalError, MedrewardError) as exc:
            raise end(exc, FAILED) from exc
        except KeyboardInterrupt as exc:
            tell("interrupted; what was done is in its file: run the same command again to go on")
            raise typer.Exit(INTERRUPTED) from exc


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
