"""`medreward audit`: a report card of a running service, or of one started for the audit."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import starmap
from pathlib import Path

from pydantic import BaseModel
from rich.console import Console
from rich.text import Text

from medreward.audit.cases import Case, Suite
from medreward.audit.outcomes import item_of, outcome_of, sample_of
from medreward.audit.page import STATUS, limit_of, page, percent
from medreward.audit.record import record
from medreward.audit.report import SUITES, Audited, Card, make_card
from medreward.audit.suites import cases_of
from medreward.audit.targets import Status, bars
from medreward.cli.client import Connection, Reply, Target, batches, connected
from medreward.cli.jsonl import Line, check_output, write_whole
from medreward.cli.recipes import readable_recipe
from medreward.cli.tables import NOTHING, facts_grid, number, plain_table, print_disclaimer, short
from medreward.cli.terminal import CommandError, Misuse, output, shown, waiting
from medreward.engines.status import EngineState
from medreward.http.schemas import JudgeReply, JudgeRequest, RewardReply, RewardRequest

Cases = Sequence[Case]
Lines = Sequence[Line[Case]]


@dataclass(frozen=True, slots=True)
class Plan:
    """The options of one audit."""

    target: Target
    recipe: str | None
    suites: Sequence[str]
    """Suites to run; all of them if empty."""
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
    check_output("--out", plan.out)
    if plan.json is not None:
        check_output("--json", plan.json)
    suites = _suites(plan.suites)
    with waiting("gathering the cases"):
        cases = cases_of(suites, seed=plan.seed, limit=plan.limit)
    card, engines = asyncio.run(_audit(plan, suites, cases))
    write_whole(plan.out, page(card))
    if plan.json is not None:
        write_whole(plan.json, json.dumps(record(card), indent=1) + "\n")
    console = output()
    print_card(console, card)
    print_disclaimer(console, engines)
    console.print(shown(f"\nThe report card is in {plan.out}"), soft_wrap=True)
    short_of = [f"{bar.name} ({bar.status})" for bar in bars(card) if bar.status != "met"]
    if plan.is_strict and short_of:
        raise CommandError(f"--strict: not every bar is met: {', '.join(short_of)}")


async def _audit(
    plan: Plan, suites: Sequence[Suite], cases: Cases
) -> tuple[Card, Mapping[str, EngineState]]:
    async with connected(plan.target) as service:
        recipe = readable_recipe(service.url, await service.recipes(), plan.recipe)
        if recipe.signals.accuracy_llm is None and recipe.signals.accuracy_embed is None:
            raise Misuse(f"--recipe: {recipe.name!r} does not look at the answer; choose another")
        lines = list(starmap(Line, enumerate(cases, start=1)))
        deadline_ms = plan.target.deadline_ms

        def items(batch: Lines, *, rules: bool) -> JudgeRequest:
            asked = tuple(item_of(line.value) for line in batch)
            return JudgeRequest(items=asked, rules=rules, deadline_ms=deadline_ms)

        def samples(batch: Lines) -> RewardRequest:
            asked = tuple(sample_of(line.value, recipe.tags) for line in batch)
            return RewardRequest(samples=asked, recipe=recipe.name, deadline_ms=deadline_ms)

        title = f"scoring under {recipe.name}"
        alone, ruled = partial(items, rules=False), partial(items, rules=True)
        judged = await _send(service, plan, lines, alone, JudgeReply, title="judging")
        # The judge's answers are known by now, so the second time costs little.
        graded = await _send(service, plan, lines, ruled, JudgeReply, title="grading by rules, too")
        scored = await _send(service, plan, lines, samples, RewardReply, title=title)
        verdicts, grades = (
            [result for reply in replies for result in reply.results]
            for replies in (judged, graded)
        )
        rewards = [result for reply in scored for result in reply.results]
        outcomes = list(map(outcome_of, cases, verdicts, grades, rewards))
        audited = _audited(plan, _chosen(plan, suites, cases), graded, scored)
        return make_card(outcomes, audited, examples=plan.examples), service.engines


async def _send(
    service: Connection,
    plan: Plan,
    cases: Lines,
    request: Callable[[Lines], BaseModel],
    model: type[Reply],
    *,
    title: str,
) -> list[Reply]:
    pieces = batches(cases, plan.batch)
    replies = await service.send_all(pieces, request, model, title=title, noun="cases")
    if any(reply.provenance != replies[0].provenance for reply in replies):
        raise CommandError("the service changed its recipe or its models on the way; audit again")
    return replies


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
        rules=grades.rules,
    )


def _chosen(plan: Plan, suites: Sequence[Suite], cases: Cases) -> str:
    which = "all there are" if plan.limit is None else f"at most {plan.limit:,} of each kind"
    return f"{len(cases):,} of {', '.join(suites)}; {which}, seed {plan.seed}"


def _suites(names: Sequence[str]) -> list[Suite]:
    unknown = [name for name in names if name not in SUITES]
    if unknown:
        raise Misuse(f"--suite: no suite {unknown[0]!r}; choose from {', '.join(SUITES)}")
    return [suite for suite in SUITES if not names or suite in names]


STYLES: dict[Status, str] = {"met": "green", "missed": "red", "unknown": "yellow"}


def print_card(console: Console, card: Card) -> None:
    """Print the figures of the report card."""
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
        *("suite", "stratum", "cases", "judged YES", "with rules", "paid", "refused", "unscored"),
        "mean reward",
    )
    for stratum in card.strata:
        kinds = ", ".join(f"{kind} {count}" for kind, count in stratum.unscored.items())
        table.add_row(
            stratum.suite,
            shown(stratum.title),
            f"{stratum.cases:,}",
            *(
                percent(s.share)
                for s in (stratum.yes, stratum.graded, stratum.paid, stratum.refused)
            ),
            shown(kinds or NOTHING),
            number(stratum.mean_reward),
        )
    console.print(table)


def _print_bars(console: Console, card: Card) -> None:
    found = bars(card)
    if not found:
        return
    table = plain_table("bar", "measures", "limit", "value", "of", "")
    for bar in found:
        status = Text(STATUS[bar.status], STYLES[bar.status])
        limit = f"{'≤' if bar.is_ceiling else '≥'} {limit_of(bar)}"
        value = percent(bar.value) if bar.is_share else number(bar.value)
        table.add_row(bar.name, bar.measures, limit, value, f"{bar.of:,}", status)
    console.print(table)
