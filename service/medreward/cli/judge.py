"""`medreward judge`: a file of answers becomes grades."""

import asyncio
import json
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.text import Text

from medreward.bodies import parse
from medreward.cli.client import Connection, Target, batches, connected, exchange, in_order
from medreward.cli.jsonl import Keeper, Line, labels, read_lines, read_object
from medreward.cli.runs import Graded, GradeRun
from medreward.cli.tables import (
    NOTHING,
    ROWS_SHOWN,
    facts_grid,
    number,
    plain_table,
    print_fitness,
    print_hidden,
    short,
    work,
)
from medreward.cli.terminal import CommandError, counting, output, shown
from medreward.errors import InvalidRequest
from medreward.wire import EngineState, Item, ItemResult, JudgeReply, JudgeRequest


@dataclass(frozen=True, slots=True)
class Plan:
    """What to judge, and what to do with the grades."""

    file: Path
    target: Target
    template: str
    votes: int
    out: Path | None
    batch: int | None
    limit: int | None
    max_unjudged: float
    shows_all: bool


class Question(NamedTuple):
    """An item, and the template that it is judged by."""

    template: str
    item: Item


Lines = Sequence[Line[Question]]


def judge_file(plan: Plan) -> None:
    """Judge a file and show what came of it.

    Raises:
        CommandError: the service fails, or more is unjudged than the plan allows.
    """
    lines = read_lines(plan.file, _reader(plan.template), plan.limit)
    with Keeper(plan.out, source=plan.file) as keeper:
        run, engines = asyncio.run(_judge(plan, lines, keeper))
    console = output()
    print_grades(console, run, shows_all=plan.shows_all)
    print_grade_summary(console, run)
    print_fitness(console, {role: state for role, state in engines.items() if role == "judge"})
    if run.unjudged > plan.max_unjudged * len(lines):
        raise CommandError(
            f"{run.unjudged} of {len(lines)} items have no grade, more than --max-unjudged "
            f"{plan.max_unjudged:g} allows; the table says why"
        )


def _reader(default_template: str) -> Callable[[bytes], Question]:
    def read(raw: bytes) -> Question:
        fields = read_object(raw, example='{"answer": "…", "reference": "…"}')
        template = fields.pop("template", default_template)
        # As a request of its own, so that what the template needs is checked as the service does.
        request = {"template": template, "items": [fields]}
        try:
            asked = parse(JudgeRequest, json.dumps(request).encode())
        except InvalidRequest as exc:
            raise InvalidRequest(str(exc).replace("items[0].", "")) from None
        return Question(asked.template, asked.items[0])

    return read


async def _judge(
    plan: Plan, lines: Lines, keeper: Keeper
) -> tuple[GradeRun, Mapping[str, EngineState]]:
    groups: dict[str, list[Line[Question]]] = {}
    for line in lines:
        groups.setdefault(line.value.template, []).append(line)
    pieces = [piece for group in groups.values() for piece in batches(group, plan.batch)]
    async with connected(plan.target) as service:
        started = time.perf_counter()
        with counting("judging", len(lines)) as add:
            replies = await _replies(service, pieces, plan, keeper, add)
        seconds = time.perf_counter() - started
        return GradeRun(_join(lines, pieces, replies), replies, seconds), service.engines


async def _replies(
    service: Connection,
    pieces: Sequence[Lines],
    plan: Plan,
    keeper: Keeper,
    add: Callable[[int], None],
) -> list[JudgeReply]:
    async def ask(batch: Lines) -> JudgeReply:
        body = {
            "template": batch[0].value.template,
            "votes": plan.votes,
            "deadline_ms": plan.target.deadline_ms,
            "items": [
                line.value.item.model_dump(mode="json", exclude_unset=True) for line in batch
            ],
        }
        return await exchange(service, "judge", json.dumps(body), batch, JudgeReply)

    replies: list[JudgeReply] = []
    async for reply in in_order(pieces, ask):
        keeper.keep(_rows(pieces[len(replies)], reply))
        replies.append(reply)
        add(len(reply.results))
    return replies


def _rows(lines: Lines, reply: JudgeReply) -> Iterator[dict[str, Any]]:
    """One object an item: where it came from, what came of it, and what that depends on."""
    origin = reply.provenance.model_dump(include={"template", "fingerprint"})
    for line, result in zip(lines, reply.results, strict=True):
        place = {"line": line.number, "id": line.value.item.id}
        yield {**place, **origin, **result.model_dump(mode="json")}


def _join(lines: Lines, pieces: Sequence[Lines], replies: Sequence[JudgeReply]) -> list[Graded]:
    """Put the results, which came by template, back into the order of the lines."""
    results = {
        line.number: result
        for piece, reply in zip(pieces, replies, strict=True)
        for line, result in zip(piece, reply.results, strict=True)
    }
    names = labels(lines, lambda question: question.item.id)
    return [
        Graded(name, line.value.template, results[line.number])
        for name, line in zip(names, lines, strict=True)
    ]


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
