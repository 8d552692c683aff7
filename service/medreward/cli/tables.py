"""Tables: the rewards of a run, and the cells that several commands share."""

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from medreward import NOTICE
from medreward.cli.terminal import shown
from medreward.engines.models import CATALOGUE
from medreward.engines.status import EngineState
from medreward.http.schemas import (
    Component,
    ItemResult,
    JudgeReply,
    RewardProvenance,
    RewardReply,
    SampleResult,
)
from medreward.recipes.recipe import SIGNALS, UNIT, Range
from medreward.rewards.groups import is_right, pass_at, spread_of
from medreward.samples import Sample

ROWS_SHOWN = 40
BINS = 10
BAR_WIDTH = 30
NOTHING = "-"
"""Printed for a missing number; a 0 would be a number."""
NAMED_BY_COLUMN = {"format", "modality"}
"""Rules whose column has their name already."""
TITLES = {"accuracy_llm": "judge", "accuracy_embed": "embed"}
"""Short titles for columns of signals with long names."""


class Scored(NamedTuple):
    """A sample and its result."""

    label: str
    sample: Sample
    result: SampleResult


@dataclass(frozen=True, slots=True)
class RewardRun:
    """The results of one recipe, with their replies and the time they took."""

    scored: Sequence[Scored]
    replies: Sequence[RewardReply]
    seconds: float

    @property
    def provenance(self) -> RewardProvenance:
        """The versions that the rewards depend on, as in the first reply."""
        return self.replies[0].provenance

    @property
    def rewards(self) -> list[float]:
        """The rewards of the samples that have one."""
        return [s.result.reward for s in self.scored if s.result.reward is not None]

    @property
    def unscored_share(self) -> float:
        """Share of the samples without a reward, between 0 and 1."""
        return 1 - len(self.rewards) / len(self.scored)


def print_rewards(console: Console, run: RewardRun, *, shows_all: bool) -> None:
    """Print one row for each sample: its reward and its signals."""
    rows = run.scored if shows_all else run.scored[:ROWS_SHOWN]
    names = signal_names(run.scored)
    table = plain_table("id", "reward", *(TITLES.get(name, name) for name in names), "remarks")
    for number in range(1, len(table.columns) - 1):
        table.columns[number].no_wrap = True
    for label, _, result in rows:
        parts = [component_cell(result.components.get(name)) for name in names]
        table.add_row(shown(label), reward_cell(result.reward), *parts, remarks(result))
    console.print(table)
    print_hidden(console, len(run.scored) - len(rows))


def print_hidden(console: Console, hidden: int) -> None:
    """Print the number of hidden rows, if there are any."""
    if hidden:
        console.print(Text(f"… and {hidden} more; --all shows them\n", "dim"))


def print_summary(console: Console, run: RewardRun) -> None:
    """Print kinds, groups, a histogram, and the versions that the rewards depend on."""
    _print_kinds(console, run.scored)
    print_groups(console, run)
    if run.rewards:
        _print_histogram(console, run.rewards, run.replies[0].range or UNIT)
    console.print(facts_grid(_facts(run)))
    if any(reply.provenance != run.provenance for reply in run.replies):
        console.print(
            shown("The service changed its recipe or its models on the way: score again.", "red")
        )


def work(replies: Sequence[RewardReply] | Sequence[JudgeReply]) -> str:
    """Describe the total of model calls and cache hits of the replies."""
    counts = [reply.counts for reply in replies]
    return (
        f"{sum(c.judge_calls for c in counts)} judge calls, "
        f"{sum(c.cache_hits for c in counts)} from the cache, "
        f"{sum(c.coalesced for c in counts)} shared with an equal one"
    )


def counted(names: Iterable[str]) -> str:
    """Count equal names, the most frequent first."""
    return ", ".join(f"{name} {count}" for name, count in Counter(names).most_common())


def signal_names(scored: Sequence[Scored]) -> list[str]:
    """Return the signals of any sample; those that this version does not know come last."""
    found = {name: None for _, _, result in scored for name in result.components}
    return [name for name in SIGNALS if name in found] + [n for n in found if n not in SIGNALS]


def plain_table(*titles: str) -> Table:
    """Create a table with one rule under its head; long cells are folded, never cut."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title in titles:
        table.add_column(title, overflow="fold")
    return table


def facts_grid(facts: Mapping[str, Text | str]) -> Table:
    """Create a grid with one name and value in each row."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, fact in facts.items():
        grid.add_row(name, fact)
    return grid


def reward_cell(reward: float | None) -> Text:
    """Format a reward; a missing one is "none", never 0."""
    return Text("none", "red") if reward is None else Text(f"{reward:.4f}")


def component_cell(component: Component | None) -> Text:
    """Format a signal's value, and the probability, cosine or source behind it."""
    if component is None:
        return Text(NOTHING, "dim")
    text = Text(f"{component.value:.3g}", "green" if component.value > 0 else "red")
    behind = component.p_yes if component.cosine is None else component.cosine
    if behind is not None:
        text.append(f" {behind:.3f}", "dim")
    elif component.rule not in NAMED_BY_COLUMN:
        text.append(f" {origin(component)}", "dim")
    return text


def origin(result: Component | ItemResult) -> str:
    """Name the source of a value, or the rule that settled it."""
    return result.rule or result.source or NOTHING


def remarks(result: SampleResult) -> Text:
    """Format the flags of a sample, or the error that prevented its reward."""
    if result.error is not None:
        return shown(f"{result.error.kind}: {result.error.message}", "red")
    return shown(", ".join(result.flags), "yellow")


def signal_mean(name: str, scored: Sequence[Scored]) -> str:
    """Format the mean of one signal over the samples that have it."""
    found = [s.result.components[name].value for s in scored if name in s.result.components]
    return f"{statistics.fmean(found):.2f}" if found else NOTHING


def mean(values: Iterable[float | None]) -> str:
    """Format the mean of the values that are not None."""
    known = [value for value in values if value is not None]
    return number(statistics.fmean(known) if known else None)


def number(value: float | None) -> str:
    """Format a number; None becomes `NOTHING`."""
    return NOTHING if value is None else f"{value:.4f}"


def _print_kinds(console: Console, scored: Sequence[Scored]) -> None:
    """Print the means of each kind of sample, if samples have an `extra.kind`."""
    by_kind: dict[str, list[Scored]] = {}
    for one in scored:
        if isinstance(kind := one.sample.extra.get("kind"), str):
            by_kind.setdefault(kind, []).append(one)
    if not by_kind:
        return
    names = signal_names(scored)
    titles = [TITLES.get(name, name) for name in names]
    console.print(Text("Means by kind", "bold underline"))
    table = plain_table("kind", "samples", "reward", *titles)
    for kind, members in by_kind.items():
        means = [signal_mean(name, members) for name in names]
        reward = mean(s.result.reward for s in members)
        table.add_row(shown(kind), str(len(members)), reward, *means)
    console.print(table)


def print_groups(console: Console, run: RewardRun) -> None:
    """Print spread and pass@k of the groups, if one of them has two members."""
    groups: dict[str, list[Scored]] = {}
    for one in run.scored:
        if one.sample.group is not None:
            groups.setdefault(one.sample.group, []).append(one)
    if all(len(members) <= 1 for members in groups.values()):
        return
    # An unscored member is left out: its reward is unknown.
    scored = [[s for s in members if s.result.reward is not None] for members in groups.values()]
    kept = [members for members in scored if members]
    names = signal_names([one for members in kept for one in members])
    console.print(Text("Within groups", "bold underline"))
    table = plain_table("value", "groups", "mean sd", "no gradient")
    table.add_row(*_spread_cells("reward", [[s.result.reward for s in group] for group in kept]))
    for name in names:
        values = [[_value(s.result, name) for s in group] for group in kept]
        table.add_row(*_spread_cells(TITLES.get(name, name), values))
    console.print(table)
    console.print(facts_grid(_group_facts(groups.values(), kept, _greatest(run))))
    console.print()


def _spread_cells(title: str, groups: Iterable[Iterable[float | None]]) -> tuple[str, ...]:
    """Format the mean deviation within groups of two values or more, and the share without any."""
    known = [[value for value in group if value is not None] for group in groups]
    spreads = [spread_of(values).sd for values in known if len(values) > 1]
    share = f"{spreads.count(0.0) / len(spreads):.1%}" if spreads else NOTHING
    return title, str(len(spreads)), mean(spreads), share


def _group_facts(
    groups: Iterable[Sequence[Scored]], kept: Sequence[Sequence[Scored]], greatest: float
) -> dict[str, Text | str]:
    """Count groups and what is left out of them; *kept* has the scored members of those with any."""
    counts = [len(members) for members in kept]
    left_out = sum(map(len, groups)) - sum(counts)
    told = f"{len(counts)} of {min(counts)} to {max(counts)} scored samples" if counts else "none"
    facts: dict[str, Text | str] = {"groups": f"{told}; left out, without a reward: {left_out}"}
    right = [sum(_is_right(one.result, greatest) for one in members) for members in kept]
    powers = [2**n for n in range(min(counts, default=0).bit_length())]
    if powers:
        facts["pass@k"] = ", ".join(
            f"pass@{k} {mean(map(partial(pass_at, k), right, counts))}" for k in powers
        )
    return facts


def _value(result: SampleResult, signal: str) -> float | None:
    part = result.components.get(signal)
    return None if part is None else part.value


def _is_right(result: SampleResult, greatest: float) -> bool:
    values = {name: part.value for name, part in result.components.items()}
    return result.reward is not None and is_right(result.reward, values, greatest)


def _greatest(run: RewardRun) -> float:
    """Return the greatest reward of the recipe."""
    return (run.replies[0].range or UNIT)[1]


def _print_histogram(console: Console, rewards: Sequence[float], bounds: Range) -> None:
    low, high = bounds
    width = (high - low) / BINS
    edges = [f"{low + edge * width:.{1 if bounds == UNIT else 2}f}" for edge in range(BINS + 1)]
    longest, dash = max(map(len, edges)), "-" if bounds == UNIT else " to "
    # A reward on a bin's edge belongs to the bin above it. The 1e-9 keeps it there if the sum of
    # its weights was rounded down.
    bins = Counter(
        min(BINS - 1, int((reward - low) / (high - low) * BINS + 1e-9)) for reward in rewards
    )
    widest = max(bins.values())
    for edge in range(BINS):
        bar = _bar(bins[edge] / widest, ascii_only=console.options.ascii_only)
        line = Text(f"{edges[edge]:>{longest}}{dash}{edges[edge + 1]:<{longest}}  ", "dim")
        line.append(bar.ljust(BAR_WIDTH), "cyan").append(f"  {bins[edge] or ''}")
        console.print(line)
    console.print()


def _bar(share: float, *, ascii_only: bool) -> str:
    """Draw a bar of proportional length, to an eighth of a character."""
    if ascii_only:
        return "#" * round(share * BAR_WIDTH)
    whole, eighths = divmod(round(share * BAR_WIDTH * 8), 8)
    return "█" * whole + " ▏▎▍▌▋▊▉"[eighths].strip()


def _facts(run: RewardRun) -> dict[str, Text | str]:
    origin, total = run.provenance, len(run.scored)
    facts: dict[str, Text | str] = {"samples": f"{total}, {_unscored(run)}"}
    if rewards := run.rewards:
        facts["reward"] = (
            f"mean {statistics.fmean(rewards):.4f}, median {statistics.median(rewards):.4f}, "
            f"least {min(rewards):.4f}, greatest {max(rewards):.4f}"
        )
    means = [
        f"{TITLES.get(name, name)} {signal_mean(name, run.scored)}"
        for name in signal_names(run.scored)
    ]
    facts["means"] = ", ".join(means)
    if decided := _decided(run.scored):
        facts["decided"] = decided
    facts["work"] = work(run.replies)
    facts["time"] = f"{run.seconds:.1f} s, {total / run.seconds:.1f} samples/s"
    facts["recipe"] = shown(f"{origin.recipe} {short(origin.fingerprint)}")
    facts["judge"] = shown(origin.judge)
    if origin.judge_limits is not None:
        facts["limits"] = shown(origin.judge_limits, "yellow")
    facts["embedder"] = shown(origin.embedder)
    return facts


def _decided(scored: Sequence[Scored]) -> str:
    """Count what decided the judge's signal, if the judge has two engines."""
    parts = [s.result.components.get("accuracy_llm") for s in scored]
    engines = Counter(part.answered_by or "rules" for part in parts if part is not None)
    if not engines.keys() - {"rules"}:
        return ""
    return (
        f"{engines['rules']} by rules, {engines['first']} by the judge's first engine, "
        f"{engines['second']} by its second"
    )


def short(fingerprint: str) -> str:
    """Shorten a fingerprint to its first 12 digits, which suffice to distinguish two."""
    return fingerprint[: len("sha256:") + 12]


def _unscored(run: RewardRun) -> str:
    kinds = [s.result.error.kind for s in run.scored if s.result.error is not None]
    if not kinds:
        return "all scored"
    return f"{len(kinds)} without a reward ({run.unscored_share:.1%}): {counted(kinds)}"


def print_disclaimer(console: Console, engines: Mapping[str, EngineState]) -> None:
    """Print the fitness of the small models in use, and the notice about clinical use."""
    console.print()
    for role, state in engines.items():
        # The state of a judge that combines two engines names both models in one text.
        for model in (CATALOGUE[name] for name in state.model.split(", ") if name in CATALOGUE):
            console.print(shown(f"The {role} {model.name} {model.fitness}.", "yellow"))
    console.print(shown(NOTICE, "dim"))
