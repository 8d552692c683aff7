"""Where a command writes: what was asked for on standard output, all else on standard error."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from medreward_client import MedrewardError
from medreward_eval.errors import BadData, BadTask, EvalError

FAILED, MISUSED, INTERRUPTED = 1, 2, 130
PLAIN_WIDTH = 160
"""Columns where there is no terminal to measure."""


def output() -> Console:
    """What the command was asked for."""
    console = Console(file=sys.stdout, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    return console


def messages() -> Console:
    """Progress and failures, so that a piped result stays clean."""
    return Console(file=sys.stderr, highlight=False, emoji=False, soft_wrap=True)


def shown(text: str, style: str = "") -> Text:
    """Text of others, as it can be shown: neither markup nor control sequences work."""
    visible = "".join(
        char if char.isprintable() or char in "\n\t" else char.encode("unicode_escape").decode()
        for char in text
    )
    return Text(visible, style=style)


def tell(message: str, style: str = "") -> None:
    """Say something beside the result."""
    messages().print(shown(message, style))


@contextmanager
def failing_in_words() -> Iterator[None]:
    """Turn what stops a command into a line of words and an exit code."""
    try:
        yield
    # A ValueError is of what the command line gave: a URL, a key, a number of seconds.
    except (BadTask, BadData, ValueError) as exc:
        tell(f"medreward-eval: {exc}", "red")
        raise typer.Exit(MISUSED) from exc
    except (EvalError, MedrewardError, OSError) as exc:
        tell(f"medreward-eval: {exc}", "red")
        raise typer.Exit(FAILED) from exc
    except KeyboardInterrupt as exc:
        tell("interrupted; what was done is in its file: run the same command again to go on")
        raise typer.Exit(INTERRUPTED) from exc


class Bar(Protocol):
    """Shows how many are done, of which some are in trouble and some were found."""

    def __call__(self, *, done: int, trouble: int, found: int) -> None:
        """Show the counts so far."""
        ...


@contextmanager
def progress(total: int | None, *, done: str, trouble: str) -> Iterator[Bar]:
    """Draw a bar on a terminal's standard error; *done* and *trouble* are the words for counts."""
    console = messages()
    if not console.is_terminal:
        yield lambda **_: None
        return
    bar = Progress(
        BarColumn(bar_width=20),
        TextColumn("{task.completed:,} of " + ("?" if total is None else f"{total:,}")),
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
