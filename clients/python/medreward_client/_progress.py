"""Saying how far a long run is: a bar on a terminal, where rich is installed."""

import importlib.util
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Show(Protocol):
    """Shows how many samples have a reward, have none, and had one before this run."""

    def __call__(self, *, scored: int, unscored: int, found: int) -> None:
        """Show the counts so far."""
        ...


@contextmanager
def showing(*, progress: bool | None, total: int | None) -> Iterator[Show]:
    """Draw a bar on standard error; None draws one where rich is there, and a terminal.

    Raises ModuleNotFoundError if a bar is asked for without rich.
    """
    if progress is None:
        progress = sys.stderr.isatty() and importlib.util.find_spec("rich") is not None
    if not progress:
        yield lambda **_: None
        return
    with _bar(total) as show:
        yield show


@contextmanager
def _bar(total: int | None) -> Iterator[Show]:
    # Here, so that a trainer need not have it.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415

    bar = Progress(
        BarColumn(bar_width=20),
        TextColumn("{task.completed:,} of {task.fields[all]}"),
        TextColumn("[green]{task.fields[scored]:,} scored"),
        TextColumn("[{task.fields[warning]}]{task.fields[unscored]:,} unscored"),
        TextColumn("[cyan]{task.fields[rate]:,.0f}/s"),
        TextColumn("{task.fields[left]}"),
        console=Console(stderr=True),
    )
    shown_total = "?" if total is None else f"{total:,}"
    task = bar.add_task(
        "", total=total, all=shown_total, scored=0, unscored=0, warning="dim", rate=0.0, left=""
    )
    began_s = time.monotonic()

    def show(*, scored: int, unscored: int, found: int) -> None:
        # What was found costs nothing: only what was asked about tells how long the rest takes.
        rate = (scored + unscored) / max(time.monotonic() - began_s, 1e-9)
        done = scored + unscored + found
        bar.update(
            task,
            completed=done,
            scored=scored + found,
            unscored=unscored,
            warning="red" if unscored else "dim",
            rate=rate,
            left=f"{_clock((total - done) / rate)} left" if total and rate else "",
        )

    with bar:
        yield show


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
