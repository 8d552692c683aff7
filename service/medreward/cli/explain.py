"""`medreward explain`: each rule and signal behind the reward of one sample."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from medreward.cli.client import Target, connected
from medreward.cli.environment import read_settings
from medreward.cli.jsonl import Line, name_of, read_lines, read_sample_line
from medreward.cli.recipes import readable_recipe, unknown_modality
from medreward.cli.rule_trace import steps, vetoed_words
from medreward.cli.tables import NAMED_BY_COLUMN, facts_grid, plain_table, print_disclaimer, short
from medreward.cli.terminal import CommandError, Misuse, output, shown
from medreward.engines.status import EngineState
from medreward.errors import ProblemKind
from medreward.http.schemas import Component, Problem, RewardReply, RewardRequest, SampleResult
from medreward.parsing.sample import GUARD_FAILED, ParsedSample, parse_sample
from medreward.recipes.recipe import Recipe
from medreward.samples import Limits, Sample, Source

SAME = 1e-9


@dataclass(frozen=True, slots=True)
class Choice:
    """The sample to explain: one of a file, or one given by options."""

    file: Path | None
    sample_id: str | None
    line: int | None
    response: str | None
    reference: Sequence[str] | None
    question: str | None
    modality: str | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """A sample, its recipe and its reward."""

    sample: Sample
    recipe: Recipe
    reply: RewardReply

    @property
    def result(self) -> SampleResult:
        """The result of the sample."""
        return self.reply.results[0]


def explain_sample(choice: Choice, recipe_name: str | None, target: Target) -> None:
    """Score one sample and print the rules and signals behind its reward.

    Raises:
        Misuse: the options select no sample, or the recipe does not accept it.
        CommandError: the service fails, or the sample has no reward.
    """
    line = _choose(choice)
    explanation, engines = asyncio.run(_ask(line, recipe_name, target))
    console = output()
    _print_texts(console, line, explanation)
    # The limits of a service elsewhere are unknown, so these are the defaults.
    limits = Limits() if target.url is not None else read_settings().limits
    _print_steps(console, explanation, limits)
    _print_signals(console, explanation, limits)
    _print_outcome(console, explanation)
    print_disclaimer(console, engines)
    error = explanation.result.error
    if error is not None:
        raise CommandError(f"{error.kind}: {error.message}; {_advice(error)}")


def _choose(choice: Choice) -> Line[Sample]:
    if choice.file is None:
        return Line(0, _from_options(choice))
    if choice.response is not None or choice.reference:
        raise Misuse("give a file, or --response and --reference, but not both")
    lines = read_lines(choice.file, read_sample_line)
    if choice.sample_id is None and choice.line is None:
        if len(lines) == 1:
            return lines[0]
        raise Misuse(f"{name_of(choice.file)} has {len(lines)} samples; choose by --id or --line")
    return _find(lines, choice)


def _from_options(choice: Choice) -> Sample:
    if choice.response is None or not choice.reference:
        raise Misuse("give a file and --id, or --response and --reference")
    references = tuple(choice.reference)
    return Sample(
        response=choice.response,
        reference=references[0] if len(references) == 1 else references,
        question=choice.question,
        modality=choice.modality,
    )


def _find(lines: Sequence[Line[Sample]], choice: Choice) -> Line[Sample]:
    found = [
        line
        for line in lines
        if choice.sample_id in {None, line.value.id} and choice.line in {None, line.number}
    ]
    if not found:
        raise Misuse(f"{name_of(choice.file or Path())}: no sample there; check --id and --line")
    if len(found) > 1:
        numbers = ", ".join(str(line.number) for line in found)
        raise Misuse(f"several samples have that id: choose one by --line ({numbers})")
    return found[0]


async def _ask(
    line: Line[Sample], recipe_name: str | None, target: Target
) -> tuple[Explanation, Mapping[str, EngineState]]:
    async with connected(target) as service:
        recipe = readable_recipe(service.url, await service.recipes(), recipe_name)
        bad = unknown_modality(line, recipe)
        if bad is not None:
            raise Misuse(bad.reason)
        request = RewardRequest(
            samples=(line.value,), recipe=recipe.name, deadline_ms=target.deadline_ms
        )
        reply = await service.exchange(request, [line], RewardReply)
        return Explanation(line.value, recipe, reply), service.engines


def _print_texts(console: Console, line: Line[Sample], explanation: Explanation) -> None:
    sample, origin = line.value, explanation.reply.provenance
    name = sample.id or (f"line {line.number}" if line.number else "the sample")
    title = shown(name, "bold")
    title.append_text(shown(f" under {origin.recipe} {short(origin.fingerprint)}\n", "dim"))
    console.print(title)
    is_one = isinstance(sample.reference, str)
    texts = {"question": sample.question, "response": sample.response}
    for number, reference in enumerate(sample.references, start=1):
        texts["reference" if is_one else f"reference {number}"] = reference
    texts["modality"] = sample.modality
    console.print(
        facts_grid({name: shown(text) for name, text in texts.items() if text is not None})
    )


def _print_steps(console: Console, explanation: Explanation, limits: Limits) -> None:
    console.print(Text("\nWhat the rules did, in order", "bold underline"))
    told = steps(
        explanation.sample,
        explanation.recipe,
        limits,
        is_unreadable=_is_unreadable(explanation.result),
    )
    console.print(facts_grid({f"{n}. {step.rule}": step.outcome for n, step in enumerate(told, 1)}))


def _is_unreadable(result: SampleResult) -> bool:
    if result.error is not None:
        return result.error.kind is ProblemKind.UNREADABLE
    return any(part.rule == ProblemKind.UNREADABLE for part in result.components.values())


def _print_signals(console: Console, explanation: Explanation, limits: Limits) -> None:
    parsed = parse_sample(explanation.sample, explanation.recipe, limits)
    console.print(Text("\nWhat the signals add up to", "bold underline"))
    table = plain_table("signal", "value", "weight", "adds", "why")
    for column in table.columns[1:4]:
        column.justify = "right"
    for name, component in explanation.result.components.items():
        table.add_row(
            name,
            f"{component.value:.3g}",
            f"{component.weight:.4f}",
            f"{component.value * component.weight:.4f}",
            _why(component, explanation.recipe, parsed),
        )
    table.add_section()
    reward = explanation.result.reward
    total = Text("none", "bold red") if reward is None else Text(f"{reward:.4f}", "bold green")
    table.add_row(Text("reward", "bold"), "", "", total, "")
    console.print(table)


def _print_outcome(console: Console, explanation: Explanation) -> None:
    result = explanation.result
    added = math.fsum(part.value * part.weight for part in result.components.values())
    if result.reward is not None and abs(added - result.reward) > SAME:
        console.print(shown("This recipe does more with the signals than add them up.", "yellow"))
    missing = [name for name, _ in explanation.recipe.signals if name not in result.components]
    facts: dict[str, Text | str] = {}
    if result.error is not None:
        facts["not had"] = shown(", ".join(missing), "red")
    if result.flags:
        facts["flags"] = shown(", ".join(result.flags), "yellow")
    facts["judge"] = shown(explanation.reply.provenance.judge)
    facts["embedder"] = shown(explanation.reply.provenance.embedder)
    console.print(facts_grid(facts))


def _why(component: Component, recipe: Recipe, parsed: ParsedSample) -> Text:
    """Describe the source of a signal, and the numbers behind it."""
    told = [SOURCES[component.source]]
    if component.p_yes is not None:
        told.append(f"P(YES) {component.p_yes:.4f}")
    if component.coverage is not None:
        told.append(f"coverage {component.coverage:.3f}")
    embed = recipe.signals.accuracy_embed
    if component.cosine is not None and embed is not None:
        sign = "≥" if component.cosine >= embed.threshold else "<"
        told.append(f"cosine {component.cosine:.4f} {sign} {embed.threshold:g}")
        if embed.gated:
            told.append("times the judge's say")
    if component.source in {"rule", "veto"} and component.rule not in {None, *NAMED_BY_COLUMN}:
        told.append(component.rule or "")
    why, veto = Text(", ".join(told)), component.veto
    if veto is None:
        return why
    return why.append(": ").append_text(vetoed_words(veto.span, veto.reference_span, parsed))


def _advice(error: Problem) -> str:
    if error.message == GUARD_FAILED.message:
        return "that is a defect of ours: report it with the place in the log, not with the sample"
    return WHAT_TO_DO[error.kind]


SOURCES: Mapping[Source, str] = {
    "judge": "asked the judge",
    "embedder": "asked the embedder",
    "cache": "known from before",
    "coalesced": "asked for an equal sample",
    "exact": "equal to a reference",
    "rule": "by rule",
    "veto": "vetoed",
}


WHAT_TO_DO: Mapping[ProblemKind, str] = {
    ProblemKind.JUDGE_UNREACHABLE: "see that the judge's server runs (MEDREWARD_JUDGE_URL), "
    "then score again",
    ProblemKind.JUDGE_TIMEOUT: "score again with a smaller --batch, or give the judge longer "
    "(MEDREWARD_JUDGE_TIMEOUT_S)",
    ProblemKind.JUDGE_UNPARSEABLE: "this judge does not answer such a question with YES or NO: "
    "use a better one (MEDREWARD_JUDGE_MODEL)",
    ProblemKind.JUDGE_REFUSED: "the judge declines to answer: look at the texts, or use another "
    "judge (MEDREWARD_JUDGE_MODEL)",
    ProblemKind.JUDGE_ABSTAINED: "it is neither paid nor punished; a second engine would be "
    "asked about it (MEDREWARD_CASCADE)",
    ProblemKind.EMBEDDER_UNREACHABLE: "see that the embedder's server runs "
    "(MEDREWARD_EMBEDDER_URL), then score again",
    ProblemKind.EMBEDDER_TIMEOUT: "score again with a smaller --batch, or give the embedder longer "
    "(MEDREWARD_EMBEDDER_TIMEOUT_S)",
    ProblemKind.INVALID_REFERENCE: "mend the sample's reference: scoring again will not help",
    ProblemKind.DEADLINE: "score again with a longer --deadline or a smaller --batch",
    ProblemKind.INVALID_REQUEST: "mend what it names: scoring again will not help",
    ProblemKind.GROUP_NOT_WHOLE: "score the file with its whole groups: one sample has no rank",
    ProblemKind.SIGNAL_FAILED: "mend the signal, of MEDREWARD_SIGNALS if it is your own",
    ProblemKind.UNREADABLE: "use a judge that reads its language (MEDREWARD_JUDGE_MODEL)",
    ProblemKind.TOO_LONG: "shorten the text, or raise the service's limit "
    "(MEDREWARD_MAX_RESPONSE_BYTES, MEDREWARD_MAX_TEXT_BYTES)",
}
