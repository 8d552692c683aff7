"""`medreward judge`: a file of answers becomes grades."""

import asyncio
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table
from rich.text import Text

from medreward.cli.client import Target, batches, connected
from medreward.cli.jsonl import Line, ResultWriter, labels, read_lines, read_object
from medreward.cli.tables import (
    NOTHING,
    ROWS_SHOWN,
    counted,
    facts_grid,
    mean,
    plain_table,
    print_disclaimer,
    print_hidden,
    short,
    work,
)
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
    """Of the lines that name none."""
    votes: int
    out: Path | None
    batch: int | None
    limit: int | None
    max_unjudged: float
    shows_all: bool


Lines = Sequence[Line[JudgeRequest]]
"""Each line is a request of one item."""


class Grades(NamedTuple):
    """The results by line number, and what they took."""

    results: Mapping[int, ItemResult]
    replies: Sequence[JudgeReply]
    seconds: float
    engines: Mapping[str, EngineState]


def judge_file(plan: Plan) -> None:
    """Judge a file and print the grades.

    Raises:
        CommandError: the service fails, or more is unjudged than the plan allows.
    """
    lines = read_lines(plan.file, partial(_read, plan.template), plan.limit)
    with ResultWriter(plan.out, source=plan.file) as writer:
        grades = asyncio.run(_judge(plan, lines, writer))
    console = output()
    shown_lines = lines if plan.shows_all else lines[:ROWS_SHOWN]
    names = labels(lines, lambda request: request.items[0].id)
    console.print(_items(zip(names, shown_lines, strict=False), grades.results))
    print_hidden(console, len(lines) - len(shown_lines))
    console.print(_templates(lines, grades.results))
    console.print(facts_grid(_facts(grades)))
    print_disclaimer(console, grades.engines)
    unjudged = sum(result.status == "unjudged" for result in grades.results.values())
    if unjudged > plan.max_unjudged * len(lines):
        raise CommandError(
            f"{unjudged} of {len(lines)} items have no grade, more than --max-unjudged "
            f"{plan.max_unjudged:g} allows; the table says why"
        )


def _read(default_template: str, raw: bytes) -> JudgeRequest:
    fields = read_object(raw, example='{"answer": "…", "reference": "…"}')
    template = fields.pop("template", default_template)
    try:
        return parse(JudgeRequest, json.dumps({"template": template, "items": [fields]}).encode())
    except InvalidRequest as exc:
        raise InvalidRequest(str(exc).replace("items[0].", "")) from None


async def _judge(plan: Plan, lines: Lines, writer: ResultWriter) -> Grades:
    # A request has one template, so lines are sent by template.
    groups: dict[str, list[Line[JudgeRequest]]] = {}
    for line in lines:
        groups.setdefault(line.value.template, []).append(line)
    pieces = [piece for group in groups.values() for piece in batches(group, plan.batch)]
    results: dict[int, ItemResult] = {}

    def body(batch: Lines) -> str:
        return JudgeRequest(
            template=batch[0].value.template,
            votes=plan.votes,
            deadline_ms=plan.target.deadline_ms,
            items=tuple(line.value.items[0] for line in batch),
        ).model_dump_json(exclude_unset=True)

    def keep(batch: Lines, reply: JudgeReply) -> None:
        writer.write(_rows(batch, reply))
        results.update(zip((line.number for line in batch), reply.results, strict=True))

    async with connected(plan.target) as service:
        started = time.perf_counter()
        replies = await service.send_all(pieces, body, JudgeReply, title="judging", on_reply=keep)
        seconds = time.perf_counter() - started
        engines = {role: state for role, state in service.engines.items() if role == "judge"}
        return Grades(results, replies, seconds, engines)


def _rows(lines: Lines, reply: JudgeReply) -> Iterator[dict[str, Any]]:
    """One object an item: its line, and the result with the fingerprint of its template."""
    origin = reply.provenance.model_dump(include={"template", "fingerprint"})
    for line, result in zip(lines, reply.results, strict=True):
        place = {"line": line.number, "id": line.value.items[0].id}
        yield {**place, **origin, **result.model_dump(mode="json")}


def _items(
    lines: Iterable[tuple[str, Line[JudgeRequest]]], results: Mapping[int, ItemResult]
) -> Table:
    """One row an item: its grade, the numbers behind it, and who gave it."""
    table = plain_table("id", "template", "grade", "judge", "source", "remarks")
    for name, line in lines:
        result = results[line.number]
        source, behind = Text(result.source or NOTHING, "dim"), Text(_behind(result), "dim")
        template = line.value.template
        table.add_row(shown(name), template, _grade(result), behind, source, _remarks(result))
    return table


def _grade(result: ItemResult) -> Text:
    """The verdict, or the score if the template gives points; never a 0 if there is none."""
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


def _remarks(result: ItemResult) -> Text:
    if result.error is not None:
        return shown(f"{result.error.kind}: {result.error.message}", "red")
    votes = [vote.verdict or "none" for vote in result.votes]
    return Text("votes " + " ".join(votes) if len(set(votes)) > 1 else "", "yellow")


def _templates(lines: Lines, results: Mapping[int, ItemResult]) -> Table:
    """One row a template: how many items it judged, and their means."""
    table = plain_table("template", "items", "judged", "YES", "mean grade", "mean expected")
    for template in dict.fromkeys(line.value.template for line in lines):
        found = [results[line.number] for line in lines if line.value.template == template]
        judged = [result for result in found if result.status == "judged"]
        verdicts = [result.verdict for result in judged if result.verdict is not None]
        yes = str(verdicts.count("YES")) if verdicts else NOTHING
        means = [mean(r.score for r in judged), mean(r.expected for r in judged)]
        table.add_row(template, str(len(found)), str(len(judged)), yes, *means)
    return table


def _facts(grades: Grades) -> dict[str, Text | str]:
    count = len(grades.results)
    kinds = [result.error.kind for result in grades.results.values() if result.error is not None]
    unjudged = f"{len(kinds)} without a grade: {counted(kinds)}" if kinds else "all judged"
    origins = {reply.provenance.template: reply.provenance for reply in grades.replies}
    return {
        "items": f"{count}, {unjudged}",
        "work": work(grades.replies),
        "time": f"{grades.seconds:.1f} s, {count / grades.seconds:.1f} items/s",
        **{template: shown(short(o.fingerprint)) for template, o in origins.items()},
        "judge": shown(grades.replies[0].provenance.judge),
    }
