"""What grades look like: one row an item, then what each template gave."""

import statistics
from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from medreward.cli.reward_tables import (
    NOTHING,
    ROWS_SHOWN,
    facts_grid,
    number,
    plain_table,
    print_hidden,
    short,
    work,
)
from medreward.cli.runs import Graded, GradeRun
from medreward.cli.terminal import shown
from medreward.http.schemas import ItemResult


def print_grades(console: Console, run: GradeRun, *, shows_all: bool) -> None:
    """Show each item's grade and where it came from."""
    rows = run.graded if shows_all else run.graded[:ROWS_SHOWN]
    table = plain_table("id", "template", "grade", "judge", "source", "remarks")
    for label, template, result in rows:
        source = Text(result.source or NOTHING, "dim")
        table.add_row(
            shown(label), template, _grade(result), _behind(result), source, _remarks(result)
        )
    console.print(table)
    print_hidden(console, len(run.graded) - len(rows))


def print_grade_summary(console: Console, run: GradeRun) -> None:
    """Show what each template gave, and what it depends on."""
    _print_templates(console, run.graded)
    facts: dict[str, Text | str] = {
        "items": f"{len(run.graded)}, {_unjudged(run)}",
        "work": work(run.counts),
        "time": f"{run.seconds:.1f} s, {len(run.graded) / run.seconds:.1f} items/s",
    }
    facts |= {o.template: shown(short(o.fingerprint)) for o in run.provenances}
    facts["judge"] = shown(run.provenances[0].judge)
    console.print(facts_grid(facts))


def _print_templates(console: Console, graded: Sequence[Graded]) -> None:
    table = plain_table("template", "items", "judged", "YES", "mean grade", "mean expected")
    for template in dict.fromkeys(item.template for item in graded):
        results = [g.result for g in graded if g.template == template]
        judged = [result for result in results if result.status == "judged"]
        verdicts = [result.verdict for result in judged if result.verdict is not None]
        table.add_row(
            template,
            str(len(results)),
            str(len(judged)),
            str(verdicts.count("YES")) if verdicts else NOTHING,
            _mean([result.score for result in judged]),
            _mean([result.expected for result in judged]),
        )
    console.print(table)


def _mean(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return number(statistics.fmean(known) if known else None)


def _grade(result: ItemResult) -> Text:
    """The verdict, or the score where the template gives points; never a 0 where there is none."""
    if result.status == "unjudged":
        return Text("none", "red")
    if result.verdict is not None:
        return Text(result.verdict, "green" if result.verdict == "YES" else "red")
    return Text(NOTHING if result.score is None else f"{result.score:.3g}")


def _behind(result: ItemResult) -> Text:
    """The numbers behind the grade."""
    if result.p_yes is not None:
        return Text(f"p {result.p_yes:.3f}", "dim")
    if result.expected is not None:
        return Text(f"expected {result.expected:.2f}", "dim")
    if result.criteria is not None:
        met = sum(criterion.verdict == "YES" for criterion in result.criteria)
        return Text(f"{met} of {len(result.criteria)} met", "dim")
    return Text(NOTHING, "dim")


def _remarks(result: ItemResult) -> Text:
    if result.error is not None:
        return shown(f"{result.error.kind}: {result.error.message}", "red")
    votes = [vote.verdict or "none" for vote in result.votes]
    return Text("votes " + " ".join(votes) if len(set(votes)) > 1 else "", "yellow")


def _unjudged(run: GradeRun) -> Text | str:
    kinds = Counter(g.result.error.kind for g in run.graded if g.result.error is not None)
    if not kinds:
        return "all judged"
    told = ", ".join(f"{kind} {count}" for kind, count in kinds.most_common())
    return f"{sum(kinds.values())} without a grade: {told}"
