"""Saying how far a command is: on a terminal as it goes, elsewhere a few lines at most."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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

from medreward.cli.terminal import messages, shown

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
