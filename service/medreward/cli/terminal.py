"""Where a command writes: results on standard output, everything else on standard error."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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

from medreward.errors import MedrewardError, SetupError

PLAIN_WIDTH = 120
"""Columns where there is no terminal to measure."""


def output() -> Console:
    """What the command was asked for."""
    return _console(sys.stdout)


def messages() -> Console:
    """Progress and failures, so that a piped result stays clean."""
    return _console(sys.stderr)


def shown(text: str, style: str = "") -> Text:
    r"""Text of others, as it can be shown: neither markup nor a terminal's control sequences work.

    What cannot be seen is written out (`\xa0`, `\u200b`): it is often why two texts differ.
    """
    visible = "".join(
        char if char.isprintable() or char in "\n\t" else char.encode("unicode_escape").decode()
        for char in text
    )
    return Text(visible, style=style)


def _console(stream: IO[str]) -> Console:
    is_measured = stream.isatty() or "COLUMNS" in os.environ
    return Console(
        file=stream,
        width=None if is_measured else PLAIN_WIDTH,
        highlight=False,
        emoji=False,
    )


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


LINES_TOLD = 4
"""Lines in a log for one run."""


def silence_other_bars() -> None:
    """Keep the libraries that load models from drawing bars of their own across ours."""
    # All of them use tqdm, which reads this when it is imported.
    os.environ.setdefault("TQDM_DISABLE", "1")


@contextmanager
def waiting(first: str) -> Iterator[Callable[[str], None]]:
    """Show what is waited for; gives a function that says it anew."""
    console = messages()
    if not console.is_terminal:
        console.print(shown(f"{first} …"), soft_wrap=True)
        yield lambda _: None
        return
    with console.status(shown(first)) as status:
        yield lambda text: status.update(shown(text))


@contextmanager
def counting(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show how many of *total* are done; gives a function that adds to them."""
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
        reached = LINES_TOLD * done // total
        if reached > told:
            told = reached
            console.print(shown(f"{title}: {done} of {total}"), soft_wrap=True)

    return add


class _Rate(ProgressColumn):
    """How many are done in a second."""

    def render(self, task: Task) -> Text:
        """Show the rate, once there is one."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f}/s", style="cyan")
