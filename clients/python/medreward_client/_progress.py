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
    # Imported here, since a trainer need not have it.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    bar = Progress(
        BarColumn(bar_width=20),
        MofNCompleteColumn(separator=" of "),
        TextColumn("[green]{task.fields[scored]:,} scored"),
        TextColumn("[{task.fields[warning]}]{task.fields[unscored]:,} unscored"),
        TextColumn("[cyan]{task.fields[rate]:,.0f}/s"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    task = bar.add_task("", total=total, scored=0, unscored=0, warning="dim", rate=0.0)
    began_s = time.monotonic()

    def show(tally: Tally) -> None:
        done = tally.scored + tally.unscored
        bar.update(
            task,
            completed=done,
            scored=tally.scored,
            unscored=tally.unscored,
            warning="red" if tally.unscored else "dim",
            # Samples found in the file take no time, so only those that were sent count.
            rate=(done - tally.found) / max(time.monotonic() - began_s, 1e-9),
        )

    with bar:
        yield show
