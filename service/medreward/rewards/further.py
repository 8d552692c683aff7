"""The signals of single samples: those of kinds, and rubrics.

They depend on `extra` and `criteria`, so samples with equal texts do not share them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from medreward.engines.judge import Inquiry, Judgement
from medreward.engines.templates import Template
from medreward.errors import Problem
from medreward.inference.answers import Answers
from medreward.parsing.completion import read_thinking
from medreward.parsing.references import parse_references
from medreward.parsing.sample import ParsedSample, Reading
from medreward.parsing.signal import Signal
from medreward.recipes.recipe import RUBRIC, Recipe, SignalName
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


@dataclass(frozen=True, slots=True)
class FurtherSignals:
    """The further signals of one request's samples."""

    recipe: Recipe
    told: Sequence[Told]
    """By sample; empty if the recipe has no signal of a kind."""
    rubrics: Sequence[RubricPlan]
    """By sample; empty if the recipe has no rubric."""
    own: dict[SignalName, Sequence[float | Problem]] = field(default_factory=dict)
    """Values of the operator's own signals, which another process computes."""

    @property
    def inquiries(self) -> Iterator[tuple[Inquiry, ...]]:
        """Inquiries about the criteria of each sample."""
        for plan in self.rubrics:
            yield tuple(inquiry for inquiries in plan.inquiries for inquiry in inquiries)

    def of_samples(self, judgements: Answers[Inquiry, Judgement]) -> Iterator[Further]:
        """Yield the signals of each sample, in order."""
        for number in range(max(len(self.told), len(self.rubrics))):
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
            yield Further(signals, None if scored is None else scored.criteria)

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
    template: Template,
    *,
    limits: Limits,
    reading: Reading,
) -> FurtherSignals | None:
    """Plan the further signals of a request's samples; None if the recipe has no such signal.

    *template* is the one about criteria.
    """
    rubric = recipe.signals.rubric
    if rubric is None and not recipe.kind_signals:
        return None
    pairs = list(zip(samples, parsed, strict=True))
    told = [Told(_rollout(s, p, recipe), s.extra) for s, p in pairs if recipe.kind_signals]
    rubrics = []
    if rubric is not None:
        rubrics = [
            plan_rubric(s, p, recipe, rubric, template, limits=limits, reading=reading)
            for s, p in pairs
        ]
    return FurtherSignals(recipe, told, rubrics)


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
