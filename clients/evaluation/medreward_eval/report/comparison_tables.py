"""What two models' difference looks like, in a terminal and as CSV."""

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Final

from rich.table import Table
from rich.text import Text

from medreward_eval.report.markup import visible
from medreward_eval.report.tables import NOTHING, provenance_warnings
from medreward_eval.statistics.comparison import AverageDifference, TaskDifference, conclusions
from medreward_eval.statistics.paired import Compared

CSV_COLUMNS: Final = (
    "task", "items", "first", "second", "difference", "low", "high", "only_first", "only_second",
    "p", "p_adjusted",
)  # fmt: skip

Difference = TaskDifference | AverageDifference


def comparison_table(compared: Compared) -> Table:
    """Draw the differences, second minus first, in points of 100; notes belong below."""
    table = Table(box=None, pad_edge=False)
    for title in ("task", "items"):
        table.add_column(title, justify="left" if title == "task" else "right")
    for name in (compared.first, compared.second):
        table.add_column(Text(f"{visible(name)} %"), justify="right", overflow="fold")
    for title in ("difference", "95 % interval", "only A : B right", "p"):
        table.add_column(title, justify="right")
    for row in compared.comparison.tasks:
        table.add_row(*map(Text, _cells(row)))
    for average in compared.comparison.averages:
        table.add_row(*map(Text, _cells(average)), style="bold")
    return table


def comparison_conclusions(compared: Compared) -> list[str]:
    """Say in plain words what can be concluded, of each task and overall."""
    return conclusions(compared.comparison, compared.first, compared.second)


def comparison_csv(compared: Compared) -> str:
    """Write the differences as CSV; accuracies are from 0 to 1."""
    out = io.StringIO()
    writer = csv.DictWriter(out, CSV_COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    rows: list[Difference] = [*compared.comparison.tasks, *compared.comparison.averages]
    for row in rows:
        writer.writerow(dict(zip(CSV_COLUMNS, _record(row), strict=True)))
    return out.getvalue()


def comparison_notes(compared: Compared) -> Iterator[str]:
    """Say in words how to read the table, and what is not in it."""
    named = zip((compared.first, compared.second), compared.provenance, strict=True)
    for name, told in named:
        yield from provenance_warnings(told, whose=f" of {visible(name)}")
    yield (
        "Intervals by the Bayesian bootstrap of pairs; p is McNemar's, exact"
        + (
            ", adjusted for the number of tasks (Holm)."
            if len(compared.comparison.tasks) > 1
            else "."
        )
    )
    for why, count in sorted(compared.left_out.items()):
        yield f"Left out: {count:,} questions, {why}."
    if compared.comparison.without_items:
        names = ", ".join(map(visible, compared.comparison.without_items))
        yield f"Without a question that both were judged on: {names}."


def _cells(row: Difference) -> Sequence[str]:
    low, high = row.difference.interval
    found = row.discordant
    return (
        visible(_name(row)),
        f"{row.items:,}",
        f"{100 * row.first:.1f}",
        f"{100 * row.second:.1f}",
        f"{100 * row.difference.value:+.1f}",
        f"{100 * low:+.1f} to {100 * high:+.1f}",
        NOTHING if found is None else f"{found.only_first} : {found.only_second}",
        NOTHING if (p := _p(row)) is None else f"{p:.3f}" if p >= 0.001 else "<0.001",  # noqa: PLR2004 - the digits shown
    )


def _record(row: Difference) -> Sequence[object]:
    found = row.discordant
    apart = ("", "", "") if found is None else (found.only_first, found.only_second, found.p)
    adjusted = row.p_adjusted if isinstance(row, TaskDifference) else None
    numbers = (row.first, row.second, row.difference.value, *row.difference.interval)
    return (
        _name(row),
        row.items,
        *(round(number, 6) for number in numbers),
        *apart,
        "" if adjusted is None else adjusted,
    )


def _name(row: Difference) -> str:
    return row.task if isinstance(row, TaskDifference) else row.name


def _p(row: Difference) -> float | None:
    if isinstance(row, TaskDifference):
        return row.p_adjusted
    return None if row.discordant is None else row.discordant.p
