"""What can be said of a file of samples without asking a model."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.text import Text

from medreward.cli.files import BadLine, Line, name_of, read_sample_line, sort_lines
from medreward.cli.known_recipes import unknown_modality
from medreward.cli.reward_tables import facts_grid, plain_table
from medreward.cli.terminal import shown
from medreward.parsing.sample import Reading, read_sample
from medreward.recipes.recipe import Recipe
from medreward.samples import Limits, Sample

ROWS_SHOWN = 20


@dataclass(slots=True)
class Findings:
    """What the lines of a file would come to."""

    refused: list[BadLine] = field(default_factory=list)
    unscored: list[BadLine] = field(default_factory=list)
    settled: Counter[str] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=Counter)

    def add(self, line: Line[Sample], reading: Reading) -> None:
        """Count one sample."""
        self.flags.update(reading.flags)
        if reading.problem is not None:
            problem = reading.problem
            self.unscored.append(BadLine(line.number, f"{problem.kind}: {problem.message}"))
        elif reading.accuracy is not None:
            self.settled[reading.accuracy.source] += 1
        else:
            self.settled["asked"] += 1


def check_samples(console: Console, path: Path, recipe: Recipe, limits: Limits) -> bool:
    """Show what would be refused or unscored, and how the rest would be settled; tell if all is well.

    Raises:
        Misuse: the file cannot be read, or is empty.
    """
    good, bad = sort_lines(path, read_sample_line)
    findings = Findings(refused=bad)
    for line in good:
        unknown = unknown_modality(line, recipe)
        if unknown is None:
            findings.add(line, read_sample(line.value, recipe, limits))
        else:
            findings.refused.append(unknown)
    findings.refused.sort(key=lambda line: line.number)
    console.print(shown(f"{name_of(path)} under {recipe.name}", "bold underline"))
    _print_lines(console, "refused: mend them, or no line is scored", findings.refused)
    _print_lines(console, "unscored, whatever the models say", findings.unscored)
    console.print(facts_grid(_facts(findings)))
    return not findings.refused and not findings.unscored


def _print_lines(console: Console, title: str, lines: Sequence[BadLine]) -> None:
    if not lines:
        return
    table = plain_table("line", title)
    for line in lines[:ROWS_SHOWN]:
        table.add_row(str(line.number), shown(line.reason, "red"))
    console.print(table)
    if len(lines) > ROWS_SHOWN:
        console.print(Text(f"… and {len(lines) - ROWS_SHOWN} more\n", "dim"))


def _facts(findings: Findings) -> dict[str, Text | str]:
    settled = findings.settled
    total = len(findings.refused) + len(findings.unscored) + settled.total()
    facts: dict[str, Text | str] = {
        "samples": str(total),
        "refused": str(len(findings.refused)),
        "unscored": str(len(findings.unscored)),
        "wrong by rule": str(settled["rule"]),
        "equal to it": str(settled["exact"]),
        "asked": f"{settled['asked']} of the judge and the embedder",
    }
    if findings.flags:
        told = (f"{name} {count}" for name, count in findings.flags.most_common())
        facts["flags"] = shown(", ".join(told))
    return facts
