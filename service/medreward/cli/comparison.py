"""Two recipes, the same samples: what changes."""

import statistics
from typing import NamedTuple

from rich.console import Console
from rich.text import Text

from medreward.cli.reward_tables import plain_table, reward_cell
from medreward.cli.runs import RewardRun
from medreward.cli.terminal import shown

ROWS_SHOWN = 20
SAME = 1e-9
"""Rewards that differ by less differ by their rounding."""


class Change(NamedTuple):
    """One sample's two rewards."""

    label: str
    before: float
    after: float

    @property
    def difference(self) -> float:
        """By how much the second recipe gives more."""
        return self.after - self.before


def print_comparison(console: Console, before: RewardRun, after: RewardRun) -> None:
    """Show which rewards change most, and by how much on average."""
    names = (before.provenance.recipe, after.provenance.recipe)
    changes = _changes(before, after)
    changed = [change for change in changes if abs(change.difference) > SAME]
    changed.sort(key=lambda change: -abs(change.difference))
    if changed:
        table = plain_table("id", *names, "difference")
        for change in changed[:ROWS_SHOWN]:
            table.add_row(
                shown(change.label),
                reward_cell(change.before),
                reward_cell(change.after),
                Text(f"{change.difference:+.4f}", "green" if change.difference > 0 else "red"),
            )
        console.print(table)
    if len(changed) > ROWS_SHOWN:
        console.print(Text(f"… and {len(changed) - ROWS_SHOWN} more that change", "dim"))
    console.print(shown(_in_words(names, changes, len(changed), len(before.scored))))


def _changes(before: RewardRun, after: RewardRun) -> list[Change]:
    return [
        Change(one.label, one.result.reward, other.result.reward)
        for one, other in zip(before.scored, after.scored, strict=True)
        if one.result.reward is not None and other.result.reward is not None
    ]


def _in_words(names: tuple[str, str], changes: list[Change], changed: int, total: int) -> str:
    if not changes:
        return f"No sample has a reward under both {names[0]} and {names[1]}."
    mean = statistics.fmean(change.difference for change in changes)
    unscored = total - len(changes)
    left_out = f" Left out, without a reward under one of them: {unscored}." if unscored else ""
    return (
        f"From {names[0]} to {names[1]}, {changed} of {len(changes)} rewards change; "
        f"the mean difference is {mean:+.4f}.{left_out}"
    )
