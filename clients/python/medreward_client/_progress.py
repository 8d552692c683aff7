"""The counts of a long run, and a progress bar on a terminal if rich is installed."""

import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tally:
    """The number of samples with a reward, and of those without one.

    `found` of the `scored` were in the file already and were not sent. `reasons` counts the
    unscored by the kind of their error.
    """

    scored: int
    unscored: int
    found: int
    reasons: dict[str, int]


Show = Callable[[Tally], None]


@contextmanager
def showing(*, progress: bool | None, total: int | None) -> Iterator[Show]:
    """Draw a bar on standard error; None draws one if rich is installed, on a terminal.

    Raises ModuleNotFoundError if *progress* is True without rich.
    """
    if progress is None:
        progress = sys.stderr.isatty() and importlib.util.find_spec("rich") is not None
    if not progress:
        yield lambda _: None
        return
    with _bar(total) as show:
        yield show


@contextmanager
def _bar(total: int | None) -> Iterator[Show]:
    # Imported here, since a trainer need not have it.
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

    def show(tally: Tally) -> None:
        done = tally.scored + tally.unscored
        # Samples found in the file take no time, so only those that were sent count for the rate.
        rate = (done - tally.found) / max(time.monotonic() - began_s, 1e-9)
        bar.update(
            task,
            completed=done,
            scored=tally.scored,
            unscored=tally.unscored,
            warning="red" if tally.unscored else "dim",
            rate=rate,
            left=f"{_clock((total - done) / rate)} left" if total and rate else "",
        )

    with bar:
        yield show


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
