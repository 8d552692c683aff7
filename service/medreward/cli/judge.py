"""`medreward judge`: a file of answers becomes grades."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from medreward.cli.connection import Connection, Target, connected
from medreward.cli.failures import CommandError
from medreward.cli.files import Line, labels, read_lines, read_object
from medreward.cli.fitness import print_fitness
from medreward.cli.grade_tables import print_grade_summary, print_grades
from medreward.cli.keeping import Keeper
from medreward.cli.progress import counting
from medreward.cli.runs import Graded, GradeRun
from medreward.cli.sending import batches, exchange, in_order
from medreward.cli.terminal import output
from medreward.engines.status import EngineState
from medreward.errors import InvalidRequest
from medreward.http.bodies import parse
from medreward.http.schemas import JudgeReply, JudgeRequest
from medreward.samples import Item


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
