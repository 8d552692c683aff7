"""`medreward audit`: the report card of a running service, or of one started for it."""

import asyncio
import json
import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.text import Text

from medreward.audit.bars import Bar, Status, bars
from medreward.audit.card import SUITES, Audited, Card, Stratum, make_card
from medreward.audit.cases import Case, Suite
from medreward.audit.outcomes import Outcome, item_of, outcome_of, sample_of
from medreward.audit.page import STATUS, page, percent
from medreward.audit.record import record
from medreward.audit.suites import cases_of
from medreward.cli.client import Connection, Reply, Target, batches, connected, in_order, refusal
from medreward.cli.recipes import find_recipe, rebuild_recipe
from medreward.cli.tables import NOTHING, facts_grid, number, plain_table, print_fitness, short
from medreward.cli.terminal import CommandError, Misuse, counting, output, shown, waiting
from medreward.recipe import Recipe
from medreward.wire import (
    EngineState,
    JudgeReply,
    JudgeRequest,
    RecipeReply,
    RewardReply,
    RewardRequest,
)

R = TypeVar("R", JudgeReply, RewardReply)
Cases = Sequence[Case]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to audit, with which cases, and where to write what came of it."""

    target: Target
    recipe: str | None
    suites: Sequence[str]
    """None of them stands for all."""
    limit: int | None
    seed: int
    date: str
    examples: int
    batch: int | None
    out: Path
    json: Path | None
    is_strict: bool


def audit_service(plan: Plan) -> None:
    """Run the suites and write the report card; an interrupted run writes nothing.

    Raises:
        Misuse: a path cannot be written to, or the service has no such recipe.
        CommandError: the service fails or changes, or a bar is not met and the plan is strict.
    """
    for option, path in (("--out", plan.out), ("--json", plan.json)):
        _check_path(option, path)
    suites = _suites(plan.suites)
    with waiting("gathering the cases"):
        cases = cases_of(suites, seed=plan.seed, limit=plan.limit)
    card, engines = asyncio.run(_audit(plan, suites, cases))
    _write(plan.out, page(card))
    if plan.json is not None:
        _write(plan.json, json.dumps(record(card), indent=1) + "\n")
    console = output()
    print_card(console, card)
    print_fitness(console, engines)
    console.print(shown(f"\nThe report card is in {plan.out}"), soft_wrap=True)
    if plan.is_strict:
        _check_bars(card)


async def _audit(
    plan: Plan, suites: Sequence[Suite], cases: Cases
) -> tuple[Card, Mapping[str, EngineState]]:
    async with connected(plan.target) as service:
        reply = find_recipe(await service.recipes(), plan.recipe)
        recipe = _auditable(service, reply)
        judged = await _judge(service, plan, cases)
        scored = await _reward(service, plan, cases, recipe)
        outcomes = _join(cases, judged, scored)
        audited = _audited(plan, _chosen(plan, suites, cases), judged, scored)
        return make_card(outcomes, audited, examples=plan.examples), service.engines


def _auditable(service: Connection, reply: RecipeReply) -> Recipe:
    recipe = rebuild_recipe(reply)
    if recipe is None:
        raise CommandError(
            f"{service.url} describes the recipe {reply.name!r} in a way that this version cannot "
            "read; check that both have the same version"
        )
    if recipe.signals.accuracy_llm is None and recipe.signals.accuracy_embed is None:
        raise Misuse(f"--recipe: {recipe.name!r} does not look at the answer; choose another")
    return recipe


async def _judge(service: Connection, plan: Plan, cases: Cases) -> list[JudgeReply]:
    async def ask(batch: Cases) -> JudgeReply:
        items = tuple(map(item_of, batch))
        body = JudgeRequest(items=items, deadline_ms=plan.target.deadline_ms)
        return await _exchange(service, "judge", body.model_dump_json(), len(batch), JudgeReply)

    return await _all("judging", plan, cases, ask)


async def _reward(
    service: Connection, plan: Plan, cases: Cases, recipe: Recipe
) -> list[RewardReply]:
    async def ask(batch: Cases) -> RewardReply:
        body = RewardRequest(
            samples=tuple(sample_of(case, recipe.tags) for case in batch),
            recipe=recipe.name,
            deadline_ms=plan.target.deadline_ms,
        )
        return await _exchange(service, "reward", body.model_dump_json(), len(batch), RewardReply)

    return await _all(f"scoring under {recipe.name}", plan, cases, ask)


async def _all(
    title: str, plan: Plan, cases: Cases, ask: Callable[[Cases], Coroutine[Any, Any, R]]
) -> list[R]:
    """Ask about all cases in batches.

    Raises:
        CommandError: the service was not the same from the first batch to the last.
    """
    replies: list[R] = []
    with counting(title, len(cases)) as add:
        async for reply in in_order(batches(cases, plan.batch), ask):
            replies.append(reply)
            add(len(reply.results))
    if any(reply.provenance != replies[0].provenance for reply in replies):
        raise CommandError("the service changed its recipe or its models on the way; audit again")
    return replies


async def _exchange(
    service: Connection, path: str, body: str, count: int, model: type[Reply]
) -> Reply:
    response = await service.post(path, body)
    if response.is_error:
        raise CommandError(f"{service.url} refuses a batch of cases: {refusal(response)}")
    reply = service.read(response, model)
    if len(reply.results) != count:
        raise CommandError(
            f"{service.url} gave {len(reply.results)} results for {count} cases; "
            "something between here and there is not medreward"
        )
    return reply


def _join(
    cases: Cases, judged: Sequence[JudgeReply], scored: Sequence[RewardReply]
) -> list[Outcome]:
    grades = [result for reply in judged for result in reply.results]
    rewards = [result for reply in scored for result in reply.results]
    return list(map(outcome_of, cases, grades, rewards))


def _audited(
    plan: Plan, cases: str, judged: Sequence[JudgeReply], scored: Sequence[RewardReply]
) -> Audited:
    grades, rewards = judged[0].provenance, scored[0].provenance
    return Audited(
        date=plan.date,
        judge=rewards.judge,
        embedder=rewards.embedder,
        recipe=rewards.recipe,
        recipe_fingerprint=rewards.fingerprint,
        template_fingerprint=grades.fingerprint,
        service=rewards.service,
        cases=cases,
    )


def _chosen(plan: Plan, suites: Sequence[Suite], cases: Cases) -> str:
    which = "all there are" if plan.limit is None else f"at most {plan.limit:,} of each kind"
    return f"{len(cases):,} of {', '.join(suites)}; {which}, seed {plan.seed}"


def _suites(names: Sequence[str]) -> list[Suite]:
    unknown = [name for name in names if name not in SUITES]
    if unknown:
        raise Misuse(f"--suite: no suite {unknown[0]!r}; choose from {', '.join(SUITES)}")
    return [suite for suite in SUITES if not names or suite in names]


def _check_path(option: str, path: Path | None) -> None:
    if path is None:
        return
    if not path.parent.is_dir():
        raise Misuse(f"{option}: no folder {path.parent}; make it first")
    if path.is_dir():
        raise Misuse(f"{option}: {path} is a folder; name a file")


def _write(path: Path, text: str) -> None:
    """Write all of it or none: a page cut short would look like a whole one."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            draft.write_text(text, "utf-8")
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as exc:
        raise CommandError(f"{path}: cannot be written ({exc.strerror})") from exc


def _check_bars(card: Card) -> None:
    short = [f"{bar.name} ({bar.status})" for bar in bars(card) if bar.status != "met"]
    if short:
        raise CommandError(f"--strict: not every bar is met: {', '.join(short)}")


STYLES: dict[Status, str] = {"met": "green", "missed": "red", "unknown": "yellow"}


def print_card(console: Console, card: Card) -> None:
    """Show what the page tells, in short."""
    _print_strata(console, card)
    _print_bars(console, card)
    audited = card.audited
    facts: dict[str, Text | str] = {
        "judge": shown(audited.judge),
        "embedder": shown(audited.embedder),
        "recipe": shown(f"{audited.recipe} {short(audited.recipe_fingerprint)}"),
        "cases": shown(audited.cases),
    }
    if card.lost.hits:
        facts["lost"] = Text(f"{card.lost.hits} of {card.lost.of}: an engine was away", "red")
    console.print(facts_grid(facts))


def _print_strata(console: Console, card: Card) -> None:
    table = plain_table(
        "suite", "stratum", "cases", "judged YES", "paid", "refused", "unscored", "mean reward"
    )
    for stratum in card.strata:
        table.add_row(*_row(stratum))
    console.print(table)


def _row(stratum: Stratum) -> list[str | Text]:
    return [
        stratum.suite,
        shown(stratum.title),
        f"{stratum.cases:,}",
        percent(stratum.yes.share),
        percent(stratum.paid.share),
        percent(stratum.refused.share),
        shown(", ".join(f"{kind} {count}" for kind, count in stratum.unscored.items()) or NOTHING),
        number(stratum.mean_reward),
    ]


def _print_bars(console: Console, card: Card) -> None:
    table = plain_table("bar", "measures", "limit", "value", "of", "")
    for bar in bars(card):
        status = Text(STATUS[bar.status], STYLES[bar.status])
        table.add_row(bar.name, bar.measures, _limit(bar), _value(bar), f"{bar.of:,}", status)
    console.print(table)


def _limit(bar: Bar) -> str:
    sign = "≤" if bar.is_ceiling else "≥"
    return f"{sign} {100 * bar.limit:g}%" if bar.is_share else f"{sign} {bar.limit:g}"


def _value(bar: Bar) -> str:
    return percent(bar.value) if bar.is_share else number(bar.value)
