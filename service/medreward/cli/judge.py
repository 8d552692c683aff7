"""`medreward judge`: a file of answers becomes grades."""

import asyncio
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from medreward.cli import tables
from medreward.cli.client import Target, batches, connected
from medreward.cli.jsonl import Line, ResultWriter, labels, read_lines, read_object
from medreward.cli.tables import NOTHING, counted, mean, plain_table
from medreward.cli.terminal import CommandError, output, shown
from medreward.engines.status import EngineState
from medreward.errors import InvalidRequest
from medreward.http.bodies import parse
from medreward.http.schemas import ItemResult, JudgeReply, JudgeRequest


@dataclass(frozen=True, slots=True)
class Plan:
    """The options of one run."""

    file: Path
    target: Target
    template: str
    """The template of lines that name none."""
    votes: int
    rules: bool
    out: Path | None
    batch: int | None
    limit: int | None
    max_unjudged: float
    shows_all: bool


Lines = Sequence[Line[JudgeRequest]]
"""Each line is a request of one item."""
Results = Mapping[int, ItemResult]
"""Results by line number."""


def judge_file(plan: Plan) -> None:
    """Judge a file and print the grades.

    Raises:
        CommandError: the service fails, or more is unjudged than the plan allows.
    """
    lines = read_lines(plan.file, partial(_read, plan.template), plan.limit)
    # A request has one template, so lines are sent by template.
    groups: dict[str, list[Line[JudgeRequest]]] = {}
    for line in lines:
        groups.setdefault(line.value.template, []).append(line)
    with ResultWriter(plan.out, source=plan.file) as writer:
        replies, seconds, engines = asyncio.run(_judge(plan, groups.values(), writer))
    numbers = [line.number for group in groups.values() for line in group]
    found = [result for reply in replies for result in reply.results]
    results, console = dict(zip(numbers, found, strict=True)), output()
    _print_items(console, lines, results, most=len(lines) if plan.shows_all else tables.ROWS_SHOWN)
    _print_templates(console, groups, results)
    unjudged = [result for result in found if result.status == "unjudged"]
    kinds = counted(result.error.kind for result in unjudged if result.error is not None)
    origin = replies[0].provenance
    facts = {
        "items": f"{len(lines)}, "
        + (f"{len(unjudged)} without a grade: {kinds}" if unjudged else "all judged"),
        "work": tables.work(replies),
        "time": f"{seconds:.1f} s, {len(lines) / seconds:.1f} items/s",
        **{r.provenance.template: tables.short(r.provenance.fingerprint) for r in replies},
        "judge": origin.judge,
        "limits": origin.judge_limits or "none",
        "rules": origin.rules or "none",
    }
    console.print(tables.facts_grid({name: shown(fact) for name, fact in facts.items()}))
    tables.print_disclaimer(console, engines)
    if len(unjudged) > plan.max_unjudged * len(lines):
        raise CommandError(
            f"{len(unjudged)} of {len(lines)} items have no grade, more than --max-unjudged "
            f"{plan.max_unjudged:g} allows; the table says why"
        )


def _read(default_template: str, raw: bytes) -> JudgeRequest:
    fields = read_object(raw, example='{"answer": "…", "reference": "…"}')
    template = fields.pop("template", default_template)
    try:
        return parse(JudgeRequest, json.dumps({"template": template, "items": [fields]}).encode())
    except InvalidRequest as exc:
        raise InvalidRequest(str(exc).replace("items[0].", "")) from None


async def _judge(
    plan: Plan, groups: Iterable[Lines], writer: ResultWriter
) -> tuple[Sequence[JudgeReply], float, Mapping[str, EngineState]]:
    """Send every group, and return the replies, the seconds they took, and the judge's state."""

    def request(batch: Lines) -> JudgeRequest:
        return JudgeRequest(
            template=batch[0].value.template,
            votes=plan.votes,
            rules=plan.rules,
            deadline_ms=plan.target.deadline_ms,
            items=tuple(line.value.items[0] for line in batch),
        )

    async with connected(plan.target) as service:
        started_s = time.perf_counter()
        replies = await service.send_all(
            [piece for group in groups for piece in batches(group, plan.batch)],
            request,
            JudgeReply,
            title="judging",
            on_reply=lambda batch, reply: writer.write(_rows(batch, reply)),
        )
        seconds = time.perf_counter() - started_s
        return replies, seconds, {r: s for r, s in service.engines.items() if r == "judge"}


def _rows(lines: Lines, reply: JudgeReply) -> Iterator[dict[str, Any]]:
    """Yield one object an item: its line, and the result with the fingerprint of its template."""
    origin = reply.provenance.model_dump(include={"template", "fingerprint"})
    for line, result in zip(lines, reply.results, strict=True):
        place = {"line": line.number, "id": line.value.items[0].id}
        yield {**place, **origin, **result.model_dump(mode="json")}


def _print_items(console: Console, lines: Lines, results: Results, *, most: int) -> None:
    """Print one row an item: its grade, the numbers and the source behind it, and remarks."""
    table = plain_table("id", "template", "grade", "judge", "source", "remarks")
    names = labels(lines, lambda request: request.items[0].id)
    for name, line in list(zip(names, lines, strict=True))[:most]:
        result = results[line.number]
        behind = Text(_behind(result), "dim"), Text(tables.origin(result), "dim")
        votes = [vote.verdict or "none" for vote in result.votes]
        remarks = shown(f"votes {' '.join(votes)}" if len(set(votes)) > 1 else "", "yellow")
        if result.error is not None:
            remarks = shown(f"{result.error.kind}: {result.error.message}", "red")
        table.add_row(shown(name), line.value.template, _grade(result), *behind, remarks)
    console.print(table)
    tables.print_hidden(console, len(lines) - min(most, len(lines)))


def _grade(result: ItemResult) -> Text:
    """Return the verdict, or the score if the template gives points; never a 0 without either."""
    if result.status == "unjudged":
        return Text("none", "red")
    if result.verdict is not None:
        return Text(result.verdict, "green" if result.verdict == "YES" else "red")
    return Text(NOTHING if result.score is None else f"{result.score:.3g}")


def _behind(result: ItemResult) -> str:
    if result.p_yes is not None:
        return f"p {result.p_yes:.3f}"
    if result.expected is not None:
        return f"expected {result.expected:.2f}"
    if result.criteria is not None:
        met = sum(criterion.verdict == "YES" for criterion in result.criteria)
        return f"{met} of {len(result.criteria)} met"
    return NOTHING


def _print_templates(console: Console, groups: Mapping[str, Lines], results: Results) -> None:
    """Print one row a template: how many items it judged, and their means."""
    table = plain_table("template", "items", "judged", "YES", "mean grade", "mean expected")
    for template, lines in groups.items():
        judged = [r for line in lines if (r := results[line.number]).status == "judged"]
        verdicts = [result.verdict for result in judged if result.verdict is not None]
        yes = str(verdicts.count("YES")) if verdicts else NOTHING
        means = [mean(r.score for r in judged), mean(r.expected for r in judged)]
        table.add_row(template, str(len(lines)), str(len(judged)), yes, *means)
    console.print(table)
