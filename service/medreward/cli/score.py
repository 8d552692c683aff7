"""`medreward score`: a file of samples becomes rewards."""

import asyncio
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import starmap
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from medreward.cli.client import Connection, Target, batches, connected
from medreward.cli.jsonl import (
    Line,
    ResultWriter,
    labels,
    raise_bad_lines,
    read_lines,
    read_sample_line,
)
from medreward.cli.recipes import find_recipe, rebuild_recipe, unknown_modality
from medreward.cli.tables import (
    RewardRun,
    Scored,
    plain_table,
    print_disclaimer,
    print_rewards,
    print_summary,
    reward_cell,
)
from medreward.cli.terminal import CommandError, output, shown
from medreward.engines.status import EngineState
from medreward.http.schemas import RecipeReply, RewardReply, RewardRequest
from medreward.samples import Sample

Lines = Sequence[Line[Sample]]

CHANGES_SHOWN = 20
SAME = 1e-9
"""Rewards that differ by less differ by their rounding."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The options of one run."""

    file: Path
    target: Target
    recipe: str | None
    compare: str | None
    out: Path | None
    batch: int | None
    limit: int | None
    max_unscored: float
    shows_all: bool


def score_file(plan: Plan) -> None:
    """Score a file and print the rewards.

    Raises:
        CommandError: the service fails, or more is unscored than the plan allows.
    """
    lines = read_lines(plan.file, read_sample_line, plan.limit)
    with ResultWriter(plan.out, source=plan.file) as writer:
        runs, engines = asyncio.run(_score(plan, lines, writer))
    console = output()
    print_rewards(console, runs[0], shows_all=plan.shows_all)
    print_summary(console, runs[0])
    for other in runs[1:]:
        print_comparison(console, runs[0], other)
    print_disclaimer(console, engines)
    worst = max(runs, key=lambda run: run.unscored_share)
    if worst.unscored_share > plan.max_unscored:
        total = len(worst.scored)
        raise CommandError(
            f"{total - len(worst.rewards)} of {total} samples have no reward, more than "
            f"--max-unscored {plan.max_unscored:g} allows; the table says why"
        )


async def _score(
    plan: Plan, lines: Lines, writer: ResultWriter
) -> tuple[list[RewardRun], Mapping[str, EngineState]]:
    async with connected(plan.target) as service:
        known = await service.recipes()
        names = [plan.recipe] if plan.compare is None else [plan.recipe, plan.compare]
        recipes = [find_recipe(known, name) for name in names]
        for recipe in recipes:
            # Before anything is sent, since a line of unknown modality fails its whole batch.
            readable = rebuild_recipe(recipe)
            bad = [unknown_modality(line, readable) for line in lines] if readable else []
            if any(bad):
                raise_bad_lines(plan.file, list(filter(None, bad)), len(lines))
        runs = [await _run(service, lines, recipe, plan, writer) for recipe in recipes]
        return runs, service.engines


async def _run(
    service: Connection, lines: Lines, recipe: RecipeReply, plan: Plan, writer: ResultWriter
) -> RewardRun:
    def request(batch: Lines) -> RewardRequest:
        samples = tuple(line.value for line in batch)
        deadline_ms = plan.target.deadline_ms
        return RewardRequest(samples=samples, recipe=recipe.name, deadline_ms=deadline_ms)

    started = time.perf_counter()
    replies = await service.send_all(
        batches(lines, plan.batch, together=_are_compared),
        request,
        RewardReply,
        title=f"scoring under {recipe.name}",
        on_reply=lambda batch, reply: writer.write(_rows(batch, reply)),
    )
    seconds = time.perf_counter() - started
    results = [result for reply in replies for result in reply.results]
    names = labels(lines, lambda sample: sample.id)
    scored = starmap(Scored, zip(names, (line.value for line in lines), results, strict=True))
    return RewardRun(list(scored), replies, seconds)


def _are_compared(one: Line[Sample], other: Line[Sample]) -> bool:
    """Return whether two lines are of one group that declares its size."""
    return other.value.group_size is not None and one.value.group == other.value.group


def _rows(lines: Lines, reply: RewardReply) -> Iterator[dict[str, Any]]:
    """Yield one object a sample: its line, and the result with the fingerprint of its recipe."""
    origin = reply.provenance.model_dump(include={"recipe", "fingerprint"})
    for line, result in zip(lines, reply.results, strict=True):
        place = {"line": line.number, "id": line.value.id, "group": line.value.group}
        yield {**place, **origin, **result.model_dump(mode="json")}


def print_comparison(console: Console, before: RewardRun, after: RewardRun) -> None:
    """Print the largest changes of rewards from one recipe to the other, and the mean difference."""
    names = (before.provenance.recipe, after.provenance.recipe)
    changes = [
        (one.label, one.result.reward, other.result.reward)
        for one, other in zip(before.scored, after.scored, strict=True)
        if one.result.reward is not None and other.result.reward is not None
    ]
    changed = [change for change in changes if abs(change[2] - change[1]) > SAME]
    changed.sort(key=lambda change: -abs(change[2] - change[1]))
    if changed:
        table = plain_table("id", *names, "difference")
        for label, old, new in changed[:CHANGES_SHOWN]:
            style = "green" if new > old else "red"
            difference = Text(f"{new - old:+.4f}", style)
            table.add_row(shown(label), reward_cell(old), reward_cell(new), difference)
        console.print(table)
    if len(changed) > CHANGES_SHOWN:
        console.print(Text(f"… and {len(changed) - CHANGES_SHOWN} more that change", "dim"))
    if not changes:
        console.print(shown(f"No sample has a reward under both {names[0]} and {names[1]}."))
        return
    mean = statistics.fmean(new - old for _, old, new in changes)
    unscored = len(before.scored) - len(changes)
    left_out = f" Left out, without a reward under one of them: {unscored}." if unscored else ""
    console.print(
        shown(
            f"From {names[0]} to {names[1]}, {len(changed)} of {len(changes)} rewards change; "
            f"the mean difference is {mean:+.4f}.{left_out}"
        )
    )
