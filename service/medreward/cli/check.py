"""`medreward check`: a test of a deployment's settings and models before it serves."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.text import Text

from medreward.cli.client import LOADING, LoadingLimit, loading_text, log_quietly
from medreward.cli.environment import misspelt_variables, read_settings, without_password
from medreward.cli.exam import print_exam
from medreward.cli.jsonl import BadLine, name_of, read_sample_line, sort_lines
from medreward.cli.models import changed_files, remedy_for
from medreward.cli.recipes import find_local_recipe, unknown_modality
from medreward.cli.tables import counted, facts_grid, plain_table
from medreward.cli.terminal import CommandError, Misuse, output, shown, silence_other_bars, waiting
from medreward.engines.accelerator import Probe, measure_platform
from medreward.engines.judge import Inquiry
from medreward.engines.judges.cascade import engines_of
from medreward.engines.judges.openai import OpenAiJudge
from medreward.engines.models import CATALOGUE, locate
from medreward.engines.registry import check_choices
from medreward.engines.status import Readiness
from medreward.engines.supervisor import WARM_UP_TEXT
from medreward.engines.templates import load_templates
from medreward.errors import Problem, SetupError
from medreward.exam.examiner import TEMPLATE, take_exam
from medreward.exam.result import ExamResult
from medreward.parsing.sample import parse_sample
from medreward.recipes.recipe import Recipe, load_recipes
from medreward.samples import Limits
from medreward.service import Service, check_recipes
from medreward.settings import Choice, Settings
from medreward.signals.registry import load_kinds

LOCAL_ENGINES = frozenset({"causal_lm", "cross_encoder", "vllm", "sentence_transformer"})
_ENGINES = ("judge", "llm", "embedder")
URLS = frozenset({"judge_url", "embedder_url"})
ROWS_SHOWN = 20


class Check(NamedTuple):
    """The result of one check."""

    name: str
    is_fine: bool
    found: str
    mend: str = ""
    """The remedy, if it is not fine."""


def run_checks(
    file: Path | None,
    *,
    recipe: str | None,
    profile: str | None,
    loads: bool,
    is_exam: bool = False,
    probe: Probe = measure_platform,
) -> None:
    """Check everything that a service would need, and a file of samples if one is given.

    Raises:
        Misuse: an exam is wanted of a judge that is not loaded.
        CommandError: a check failed.
    """
    if is_exam and not loads:
        raise Misuse("--exam asks the judge, so it cannot be combined with --no-load")
    console = output()
    try:
        settings = read_settings(profile=profile)
    except Misuse as exc:
        _print_checks(console, [Check("settings", False, str(exc), "set the variable anew")])
        raise CommandError("the settings are wrong, so nothing else was looked at") from None
    log_quietly(settings)
    silence_other_bars()
    if is_exam and settings.role == "embed":
        raise Misuse("--exam asks the judge, and a process with the role embed has none")
    _print_settings(console, settings)
    checks = [*_look(settings, probe)]
    result = None
    if loads and all(check.is_fine for check in checks):
        told, result = asyncio.run(_load(settings, probe, is_exam=is_exam))
        checks += told
    _print_checks(console, checks)
    if result is not None:
        print_exam(console, result)
    failed = [check.name for check in checks if not check.is_fine]
    if file is not None:
        console.print()
        chosen = find_local_recipe(settings, recipe)
        if not check_samples(console, file, chosen, settings.limits):
            failed.append(str(file))
    if failed:
        raise CommandError(f"not as it should be: {', '.join(failed)}")


def _look(settings: Settings, probe: Probe) -> Iterator[Check]:
    """Yield the checks that load no model."""
    yield from _variables()
    yield _recipes(settings)
    try:
        check_choices(settings, probe)
    except SetupError as exc:
        yield Check("engines", False, str(exc))
        return
    chosen = settings.choices
    yield Check("engines", True, ", ".join(choice.engine for choice in chosen.values()))
    for name, choice in chosen.items():
        yield _model(f"{name} model", choice, settings.models_dir)


def _variables() -> list[Check]:
    """Find misspelt variables, which would be ignored without a message."""
    found = [
        Check("settings", False, f"{name} is no setting", mend)
        for name, mend in misspelt_variables().items()
    ]
    return found or [Check("settings", is_fine=True, found="every MEDREWARD_ variable is known")]


def _recipes(settings: Settings) -> Check:
    try:
        recipes = load_recipes(settings.recipes, load_kinds(settings.signals))
        check_recipes(recipes, load_templates(), default=settings.recipe)
    except SetupError as exc:
        return Check("recipes", False, str(exc))
    return Check("recipes", True, f"{', '.join(recipes)}; {settings.recipe} by default")


def _model(name: str, choice: Choice, models_dir: Path) -> Check:
    if choice.engine not in LOCAL_ENGINES:
        return Check(name, True, f"{choice.model or 'none'}, not loaded in this process")
    if not choice.model:
        mend = f"set MEDREWARD_{name.upper().replace(' ', '_')}"
        return Check(name, False, "not named", mend)
    try:
        where = locate(choice.model, models_dir)
    except SetupError as exc:
        return Check(name, False, str(exc))
    model = CATALOGUE.get(choice.model)
    if model is None:
        is_folder = Path(where).is_dir()
        return Check(name, True, where if is_folder else f"{where}, from a hub or its cache")
    changed = changed_files(model, models_dir)
    if changed:
        mend = remedy_for(model)
        return Check(name, False, f"{choice.model}: changed on disk: {', '.join(changed)}", mend)
    return Check(name, True, f"{choice.model}, every file as it was fetched")


async def _load(
    settings: Settings, probe: Probe, *, is_exam: bool
) -> tuple[list[Check], ExamResult | None]:
    """Load the engines as a service does, and measure the judge: its coverage, and by an exam."""
    service = Service(settings, probe=probe)
    loading, limit = asyncio.create_task(service.load()), LoadingLimit()
    result = None
    try:
        with waiting("loading the engines") as say:
            while service.engines.status == "loading":
                limit.check(service.engines.readiness)
                say(loading_text(service.engines.readiness))
                # `asyncio.wait` neither cancels the task after the timeout nor raises its error;
                # the status tells when it has ended.
                await asyncio.wait({loading}, timeout=0.1)
        checks = _engine_checks(service.engines.readiness)
        # A process of the role `embed` has no judge.
        if service.engines.status == "ready" and service.settings.role != "embed":
            checks += [*_formats(service), *_limits(service), await _coverage(service)]
            if is_exam:
                check, result = await _exam(service)
                checks.append(check)
    except CommandError as exc:
        checks = [Check("loading", is_fine=False, found=str(exc))]
    finally:
        loading.cancel()
        await asyncio.gather(loading, return_exceptions=True)
        await service.aclose()
    return checks, result


def _engine_checks(readiness: Readiness) -> list[Check]:
    return [
        Check(f"load {role}", state.ready, f"{state.model}: {state.message}".removeprefix(": "))
        for role, state in readiness.engines.items()
        # If the judge fails, the embedder is never loaded; a line about it would hide the cause.
        if state.ready or state.message != LOADING
    ]


def _formats(service: Service) -> Iterator[Check]:
    """Report the request format of a remote judge, and why cheaper formats were rejected."""
    for judge in engines_of(service.engines.judge):
        if isinstance(judge, OpenAiJudge):
            reasons = (f"; not by {name}: {why}" for name, why in judge.why_not_cheaper.items())
            yield Check("judge's way", is_fine=True, found="".join((f"by {judge.way}", *reasons)))


def _limits(service: Service) -> Iterator[Check]:
    """Report what the judge cannot read; a judge for terms alone is as it should be."""
    limits = service.engines.judge_limits
    if limits is not None:
        yield Check("judge's limits", is_fine=True, found=limits)


async def _coverage(service: Service) -> Check:
    """Ask the judge if a text means the same as itself, and check its label coverage."""
    template = service.templates[service.recipe(None).template]
    inquiry = Inquiry(template, answer=WARM_UP_TEXT, reference=WARM_UP_TEXT)
    # The engine is called directly, since a calibration or a cascade around it would hide its own
    # probabilities.
    able = (e for e in engines_of(service.engines.judge) if e.can_answer(template))
    engine = next(able, None)
    if engine is None:
        return Check("coverage", is_fine=True, found="the default recipe asks the judge nothing")
    (answer,) = await engine.decide([inquiry])
    if isinstance(answer, Problem):
        return Check("coverage", is_fine=False, found=answer.message)
    if answer.coverage is None:
        return Check("coverage", is_fine=True, found="this engine sees only the labels")
    floor = service.settings.judge_coverage_floor
    return Check(
        "coverage",
        answer.coverage >= floor,
        f"{answer.coverage:.3f} of the probability falls on {'/'.join(answer.labels)}; "
        f"the floor is {floor:g}",
        "use another judge: this one hardly answers with its labels",
    )


async def _exam(service: Service) -> tuple[Check, ExamResult | None]:
    """Examine the judge with its calibration and cascade, as its verdicts are used."""
    if TEMPLATE not in service.context.answerable:
        return Check("exam", False, f"the judge cannot answer the template {TEMPLATE!r}"), None
    with waiting("the judge takes its exam"):
        result = await take_exam(service.examinee, service.settings.max_deadline_s)
    balanced = result.balanced_accuracy
    found = "no result" if balanced is None else f"balanced accuracy {balanced:.3f}"
    return Check("exam", result.status == "passed", found, "see the exam below"), result


def _print_settings(console: Console, settings: Settings) -> None:
    """Print the settings from the environment with masked secrets, and those in force."""
    facts = {
        f"MEDREWARD_{name.upper()}": shown(_value(name, getattr(settings, name)))
        for name in sorted(settings.model_fields_set)
    }
    if facts:
        console.print(Text("Set in the environment", "bold underline"))
        console.print(facts_grid(facts))
    left = len(Settings.model_fields) - len(facts)
    console.print(
        Text(f"{left} settings have their defaults; docs/settings.md lists them\n", "dim")
    )
    console.print(Text("In force", "bold underline"))
    keys = "asked for" if settings.api_keys else "not asked for"
    console.print(
        facts_grid(
            {
                "role": settings.role,
                "profile": settings.profile,
                **{name: _choice(settings.choices.get(name)) for name in _ENGINES},
                "device": shown(settings.torch_device),
                "recipe": shown(settings.recipe),
                "address": shown(f"{settings.host} port {settings.port}, keys {keys}"),
                "models": shown(str(settings.models_dir)),
            }
        )
    )
    console.print()


def _choice(choice: Choice | None) -> Text:
    return shown("none" if choice is None else " ".join(reversed(choice)).strip())


def _value(name: str, value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(_value(name, part) for part in value)
    if isinstance(value, str) and name in URLS:
        return without_password(value)
    return str(value)


def _print_checks(console: Console, checks: Sequence[Check]) -> None:
    console.print(Text("Checks", "bold underline"))
    table = plain_table("", "check", "found", "what mends it")
    for check in checks:
        mark = Text("✓", "green") if check.is_fine else Text("✗", "red")
        found = shown(check.found, "" if check.is_fine else "red")
        table.add_row(mark, check.name, found, shown("" if check.is_fine else check.mend))
    console.print(table)


def check_samples(console: Console, path: Path, recipe: Recipe, limits: Limits) -> bool:
    """Print the results of all rules on a file of samples; return True if all can be scored.

    Raises:
        Misuse: the file cannot be read, or is empty.
    """
    good, refused = sort_lines(path, read_sample_line)
    unscored: list[BadLine] = []
    settled: Counter[str] = Counter()
    flags: Counter[str] = Counter()
    for line in good:
        unknown = unknown_modality(line, recipe)
        if unknown is not None:
            refused.append(unknown)
            continue
        parsed = parse_sample(line.value, recipe, limits)
        flags.update(parsed.flags)
        if (problem := parsed.problem) is not None:
            unscored.append(BadLine(line.number, f"{problem.kind}: {problem.message}"))
        else:
            settled["asked" if parsed.accuracy is None else parsed.accuracy.source] += 1
    refused.sort(key=lambda line: line.number)
    console.print(shown(f"{name_of(path)} under {recipe.name}", "bold underline"))
    _print_lines(console, "refused: mend them, or no line is scored", refused)
    _print_lines(console, "unscored, whatever the models say", unscored)
    facts: dict[str, Text | str] = {
        "samples": str(len(refused) + len(unscored) + settled.total()),
        "refused": str(len(refused)),
        "unscored": str(len(unscored)),
        "wrong by rule": str(settled["rule"]),
        "equal to it": str(settled["exact"]),
        "asked": f"{settled['asked']} of the judge and the embedder",
    }
    if flags:
        facts["flags"] = shown(counted(flags.elements()))
    console.print(facts_grid(facts))
    return not refused and not unscored


def _print_lines(console: Console, title: str, lines: Sequence[BadLine]) -> None:
    if not lines:
        return
    table = plain_table("line", title)
    for line in lines[:ROWS_SHOWN]:
        table.add_row(str(line.number), shown(line.reason, "red"))
    console.print(table)
    if len(lines) > ROWS_SHOWN:
        console.print(Text(f"… and {len(lines) - ROWS_SHOWN} more\n", "dim"))
