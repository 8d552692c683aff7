"""The comparison of two models as a table, as sentences, and as CSV."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from rich.table import Table
from rich.text import Text

from medreward_eval.report.markup import visible
from medreward_eval.report.tables import NOTHING, provenance_warnings
from medreward_eval.statistics.comparison import (
    FEWEST_APART,
    Compared,
    Comparison,
    Difference,
    excludes_zero,
)

CSV_COLUMNS: Final = (
    "task", "items", "first", "second", "difference", "low", "high", "only_first", "only_second",
    "p", "p_adjusted",
)  # fmt: skip

KINDS: Final[Mapping[str, str]] = {
    "LLM": "text tasks",
    "VLM": "image tasks",
    "Overall": "tasks",
    "Own": "tasks of yours",
}


def comparison_table(compared: Compared) -> Table:
    """Draw the differences, second minus first, in points of 100; print the notes below it."""
    table = Table(box=None, pad_edge=False)
    for title in ("task", "items"):
        table.add_column(title, justify="left" if title == "task" else "right")
    for name in (compared.first, compared.second):
        table.add_column(Text(f"{visible(name)} %"), justify="right", overflow="fold")
    for title in ("difference", "95 % interval", "only A : B right", "p"):
        table.add_column(title, justify="right")
    for row in _rows(compared):
        table.add_row(*map(Text, _cells(row)), style="bold" if row.tasks else None)
    return table


def comparison_csv(compared: Compared) -> str:
    """Write the differences as CSV; accuracies are from 0 to 1."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    writer.writerows(map(_record, _rows(compared)))
    return out.getvalue()


def comparison_notes(compared: Compared) -> Iterator[str]:
    """Yield notes on how to read the table and on questions that are not in it."""
    named = zip((compared.first, compared.second), compared.provenance, strict=True)
    for name, told in named:
        yield from provenance_warnings(told, whose=f" of {visible(name)}")
    several = len(compared.comparison.tasks) > 1
    adjusted = ", adjusted for the number of tasks (Holm)" if several else ""
    yield f"Intervals by the Bayesian bootstrap of pairs; p is McNemar's, exact{adjusted}."
    for why, count in sorted(compared.left_out.items()):
        yield f"Left out: {count:,} questions, {why}."
    if compared.comparison.without_items:
        names = ", ".join(map(visible, compared.comparison.without_items))
        yield f"Without a question that both were judged on: {names}."


def conclusions(comparison: Comparison, first: str, second: str) -> list[str]:
    """Return one sentence or two for each average, each task, and each task without items.

    Averages over one task are left out, and of averages that are equal all but one.
    """
    averages = {
        average.difference: average
        for average in reversed(comparison.averages)
        if average.tasks > 1
    }
    rows = [*averages.values(), *comparison.tasks]
    return [
        *(conclusion(row, first, second) for row in rows),
        *(
            f"On {task} nothing can be said: no answer was judged for both models."
            for task in comparison.without_items
        ),
    ]


def conclusion(row: Difference, first: str, second: str) -> str:
    """State in a sentence or two which model is better, or that the data do not show it.

    Points are per cent of the best score, for reports too.
    """
    where = f"on average over {row.tasks} {KINDS[row.name]}" if row.tasks else f"on {row.name}"
    low, high = (100 * bound for bound in row.difference.interval)
    if row.is_told:
        better, worse, least, most = (
            (second, first, low, high) if low > 0 else (first, second, -high, -low)
        )
        return (
            f"{better} scores {100 * abs(row.difference.value):.1f} points more than {worse} "
            f"{where} (95 % interval {least:.1f} to {most:.1f}); chance alone would rarely give "
            "this."
        )
    answers = "this 1 answer" if row.items == 1 else f"these {row.items:,} answers"
    fits = (
        f"anything from {_lead(low, first, second)} to {_lead(high, first, second)} fits {answers}"
    )
    if row.discordant is not None and not row.tasks:
        if row.discordant.total < FEWEST_APART:
            return (
                f"Too few answers tell the two apart {where}: {row.discordant.total} of "
                f"{row.items:,}, and it takes {FEWEST_APART} or more; {fits}."
            )
        if excludes_zero(row.difference):
            return (
                f"No difference can be told {where}: {fits}, but chance alone would give as much "
                f"too often (p = {row.p_adjusted:.2g}, adjusted for the number of tasks)."
            )
    return f"No difference can be told {where}: {fits}."


def _rows(compared: Compared) -> list[Difference]:
    return [*compared.comparison.tasks, *compared.comparison.averages]


def _cells(row: Difference) -> Sequence[str]:
    low, high = row.difference.interval
    found = row.discordant
    # An average has no adjusted p.
    p = found.p if found is not None and row.tasks else row.p_adjusted
    return (
        visible(row.name),
        f"{row.items:,}",
        f"{100 * row.first:.1f}",
        f"{100 * row.second:.1f}",
        f"{100 * row.difference.value:+.1f}",
        f"{100 * low:+.1f} to {100 * high:+.1f}",
        NOTHING if found is None else f"{found.only_first} : {found.only_second}",
        NOTHING if p is None else f"{p:.3f}" if p >= 0.001 else "<0.001",  # noqa: PLR2004 - the digits shown
    )


def _record(row: Difference) -> Sequence[object]:
    found = row.discordant
    apart = (None, None, None) if found is None else (found.only_first, found.only_second, found.p)
    numbers = (row.first, row.second, row.difference.value, *row.difference.interval)
    rounded = (round(number, 6) for number in numbers)
    return (row.name, row.items, *rounded, *apart, row.p_adjusted)


def _lead(points: float, first: str, second: str) -> str:
    if not round(points, 1):
        return "no difference"
    return f"{second if points > 0 else first} {abs(points):.1f} points better"
