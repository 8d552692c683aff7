"""The further signals: those of kinds, rubrics, and ranks within groups.

They depend on `extra`, `criteria` and groups, so samples with equal texts do not share them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from types import MappingProxyType
from typing import Any, NamedTuple

from medreward.engines.judge import Inquiry, Judgement
from medreward.engines.templates import Template
from medreward.errors import Problem
from medreward.inference.answers import Answers
from medreward.parsing.completion import read_thinking
from medreward.parsing.references import parse_references
from medreward.parsing.sample import CanRead, ParsedSample
from medreward.parsing.signal import Signal
from medreward.recipes.recipe import GROUP_RANK, PREFERENCE, RUBRIC, Recipe, SignalName
from medreward.rewards.ranking import Compared, RankPlan, heads, plan_ranking, rank_samples
from medreward.rewards.rubric import CriterionResult, RubricPlan, Scored, plan_rubric, score_rubric
from medreward.samples import Limits, Sample
from medreward.signals.kind import Rollout
from medreward.signals.measure import measure


class Told(NamedTuple):
    """What the signals of one sample are told."""

    rollout: Rollout | Problem
    """A problem if the response was not parsed."""
    extra: Mapping[str, Any]


class Further(NamedTuple):
    """The signals of one sample alone, and the results of its criteria."""

    signals: Mapping[SignalName, Signal | Problem]
    criteria: tuple[CriterionResult, ...] | None = None
    compared: Compared | None = None
    """What was compared in the sample's group."""


@dataclass(frozen=True, slots=True)
class FurtherSignals:
    """The further signals of one request's samples."""

    recipe: Recipe
    samples: int
    told: Sequence[Told]
    """By sample; empty if the recipe has no signal of a kind."""
    rubrics: Sequence[RubricPlan]
    """By sample; empty if the recipe has no rubric."""
    ranking: RankPlan | None = None
    """None if the recipe does not rank groups."""
    own: dict[SignalName, Sequence[float | Problem]] = field(default_factory=dict)
    """Values of the operator's own signals, which another process computes."""

    def inquiries(self, others: Iterable[Iterable[Inquiry]] = ()) -> Iterator[Iterable[Inquiry]]:
        """Yield the inquiries about each sample, with *others* about it.

        All about the samples of a group are those of its head: groups are not divided.
        """
        asked = [list(other) for other in others] or [[] for _ in range(self.samples)]
        for mine, plan in zip(asked, self.rubrics, strict=False):
            mine.extend(chain.from_iterable(plan.inquiries))
        if self.ranking is not None:
            head = heads((places for places, _ in self.ranking.groups), self.samples)
            for place, inquiries in enumerate(asked):
                if head[place] != place:
                    asked[head[place]] += inquiries
                    asked[place] = []
            for first, inquiries in self.ranking.inquiries().items():
                asked[head[first]] += inquiries
        yield from asked

    def of_samples(self, judgements: Answers[Inquiry, Judgement]) -> Iterator[Further]:
        """Yield the signals of each sample, in order."""
        ranked = None if self.ranking is None else rank_samples(self.ranking, judgements)
        for number in range(self.samples):
            signals: dict[SignalName, Signal | Problem] = {}
            for name in self.recipe.kind_signals:
                value = self._value(name, number)
                signals[name] = (
                    value if isinstance(value, Problem) else Signal(value, "rule", rule=name)
                )
            rubric = self.recipe.signals.rubric
            scored: Scored | None = None
            if rubric is not None:
                scored = score_rubric(self.rubrics[number], judgements, rubric)
                signals[RUBRIC] = scored.signal
            rank = None if ranked is None else ranked[number]
            if rank is not None:
                signals[GROUP_RANK] = rank.signal
            yield Further(
                signals,
                None if scored is None else scored.criteria,
                None if rank is None else rank.compared,
            )

    def _value(self, name: SignalName, number: int) -> float | Problem:
        if name in self.own:
            return self.own[name][number]
        rollout, extra = self.told[number]
        if isinstance(rollout, Problem):
            return rollout
        known, options = self.recipe.kind_signals[name]
        return measure(name, known.kind, rollout, extra, options)


def plan_further(
    samples: Sequence[Sample],
    parsed: Sequence[ParsedSample],
    recipe: Recipe,
    templates: Mapping[str, Template],
    *,
    limits: Limits,
    readers: Mapping[str, CanRead] = MappingProxyType({}),
) -> FurtherSignals | None:
    """Plan the further signals of a request's samples; None if the recipe has no such signal.

    *readers* tell whether the judge can read a text, by template; without one, it reads all.
    """
    rubric, rank = recipe.signals.rubric, recipe.signals.group_rank
    if rubric is None and rank is None and not recipe.kind_signals:
        return None
    pairs = list(zip(samples, parsed, strict=True))
    told = [Told(_rollout(s, p, recipe), s.extra) for s, p in pairs if recipe.kind_signals]
    rubrics = []
    if rubric is not None:
        rubrics = [
            plan_rubric(
                *(s, p, recipe, rubric, templates[RUBRIC]),
                limits=limits,
                reading=readers.get(RUBRIC),
            )
            for s, p in pairs
        ]
    ranking = None
    if rank is not None:
        ranking = plan_ranking(
            *(samples, parsed, recipe, rank, templates[PREFERENCE]),
            limits=limits,
            reading=readers.get(PREFERENCE),
        )
    return FurtherSignals(recipe, len(samples), told, rubrics, ranking)


def _rollout(sample: Sample, parsed: ParsedSample, recipe: Recipe) -> Rollout | Problem:
    if parsed.completion is None and parsed.problem is not None:
        return parsed.problem
    return Rollout(
        response=sample.response,
        thinking=read_thinking(sample.response, recipe.tags, as_meant=recipe.guards is not None),
        answer=parsed.completion.answer if parsed.completion else "",
        references=parse_references(sample, recipe).texts,
        question=sample.question,
    )
