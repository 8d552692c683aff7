"""Labelled answers under the rules and guards of a recipe alone, without a model.

usage: python benchmarks/answers.py [FILE] [--recipe medix-r1-guarded] [--by FIELD ...] [--show]

FILE is JSONL with `question`, `reference`, `label` (right or wrong), and `answer` or the whole
`response`; by default our development set (docs/development_set.md), by split and style. Prints,
in per cent, what becomes of right and of wrong answers: settled as right, settled as wrong, or
left to the models. `--show` lists the misjudged ones with their rule, but none of a testing half.
"""

import argparse
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from figures import WIDTH
from medreward.audit.answers import FILE
from medreward.parsing.sample import ParsedSample, parse_sample
from medreward.recipes.recipe import Recipe, load_recipes
from medreward.samples import Limits, Sample

OUTCOMES = ("right", "wrong", "open")
"""Settled as right, vetoed or settled as wrong, and left to the models."""


TEXTS = ("kind", "question", "reference", "answer", "response")
"""Fields that are shown of a misjudged answer."""


class Judged(NamedTuple):
    """A labelled answer and what becomes of it."""

    row: dict[str, Any]
    outcome: str
    rule: str


def judge(row: dict[str, Any], recipe: Recipe) -> Judged:
    """Apply the rules and guards of a recipe to one labelled answer."""
    response = row.get("response")
    if response is None:
        response = f"<thinking>.</thinking><answer>{row['answer']}</answer>"
    reference = row["reference"]
    sample = Sample(
        question=row.get("question"),
        response=response,
        reference=reference if isinstance(reference, str) else tuple(reference),
    )
    return Judged(row, *outcome(parse_sample(sample, recipe, Limits())))


def outcome(parsed: ParsedSample) -> tuple[str, str]:
    """Return the outcome and the rule behind it."""
    if parsed.accuracy is None:
        return "open", "" if parsed.problem is None else parsed.problem.kind
    veto = parsed.accuracy.veto
    rule = parsed.accuracy.source if veto is None else veto.rule
    return "right" if parsed.accuracy.value > 0 else "wrong", rule


def table(judged: Sequence[Judged], by: Sequence[str]) -> Table:
    """Tabulate the outcomes by the values of some fields, and over all."""
    groups: dict[tuple[str, ...], list[Judged]] = defaultdict(list)
    for one in judged:
        groups[tuple(str(one.row.get(field, "")) for field in by)].append(one)
    shown = Table(*by)
    for label in ("right", "wrong"):
        shown.add_column(f"{label}: n", justify="right")
        for name in OUTCOMES:
            shown.add_column(name if name == "open" else f"as {name}", justify="right")
    if by:
        for values in sorted(groups):
            shown.add_row(*values, *_cells(groups[values]))
        shown.add_section()
    shown.add_row(*("all", *[""] * len(by))[: len(by)], *_cells(judged))
    return shown


def _cells(judged: Sequence[Judged]) -> list[str]:
    cells = []
    for label in ("right", "wrong"):
        counts = Counter(one.outcome for one in judged if one.row["label"] == label)
        total = counts.total()
        cells.append(str(total))
        cells += [f"{100 * counts[name] / total:.1f}" if total else "" for name in OUTCOMES]
    return cells


def main() -> None:
    """Judge and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path, default=FILE)
    parser.add_argument("--recipe", default="medix-r1-guarded")
    parser.add_argument("--by", nargs="*", metavar="FIELD", help="default: split style")
    parser.add_argument("--show", action="store_true", help="list the misjudged answers")
    arguments = parser.parse_args()
    recipe = load_recipes()[arguments.recipe]
    rows = [json.loads(line) for line in arguments.file.read_text("utf-8").splitlines()]
    judged = [judge(row, recipe) for row in rows]
    by = arguments.by
    if by is None:
        by = [field for field in ("split", "style") if field in rows[0]]
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    console.print(table(judged, by))
    if arguments.show:
        for row, as_what, rule in judged:
            # A testing half is only for measuring: nobody mends what is seen there.
            if row.get("split") != "testing" and as_what not in {"open", row["label"]}:
                texts = [json.dumps(row[name], ensure_ascii=False) for name in TEXTS if name in row]
                console.print(
                    f"{row['label']} as {as_what} ({rule}):",
                    *texts,
                    markup=False,
                    highlight=False,
                    soft_wrap=True,
                )


if __name__ == "__main__":
    main()
