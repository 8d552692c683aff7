"""Stage 7: signals and a recipe become a reward, or the reason there is none. Pure arithmetic."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from medreward.asking import Answered
from medreward.embedding.embedder import Vector, cosine
from medreward.errors import EMBEDDER_FAILURES, NonsenseReply, Problem
from medreward.judging.judge import Judgement
from medreward.recipe import Recipe, SignalName
from medreward.rules import Reading
from medreward.signals import Signal
from medreward.wire import Source

Signals = Mapping[SignalName, Signal | Problem]


@dataclass(frozen=True, slots=True)
class Component:
    """A signal with the weight it was given."""

    signal: Signal
    weight: float


Components = dict[SignalName, Component]


@dataclass(frozen=True, slots=True)
class Reward:
    """The recipe's number, between 0 and 1, and what it is made of."""

    total: float
    components: Components
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Unscored:
    """No reward, and why; the components that were had."""

    problem: Problem
    components: Components = field(default_factory=dict)
    flags: tuple[str, ...] = ()


def compose(signals: Signals, recipe: Recipe, flags: tuple[str, ...] = ()) -> Reward | Unscored:
    """Add up the weighted signals (MediX-R1, arXiv 2602.23363, section on the composite reward).

    A signal that the recipe weighs but that is a `Problem` leaves the sample unscored. The modality
    alone may be missing from *signals*, where none is known: its weight goes to the others.
    """
    weights = _weights_shown(signals, recipe)
    components: Components = {}
    problem: Problem | None = None
    for name, weight in weights.items():
        match signals[name]:
            case Problem() as found:
                problem = problem or found
            case signal:
                components[name] = Component(signal, weight)
    if problem is not None:
        return Unscored(problem, components, flags)
    total = math.fsum(part.weight * part.signal.value for part in components.values())
    # Scaled weights may add up to a rounding error more than 1.
    return Reward(min(1.0, total), components, flags)


def _weights_shown(signals: Signals, recipe: Recipe) -> dict[SignalName, float]:
    """Drop the modality where it is unknown, and scale the other weights up to the same sum."""
    weights = recipe.weights
    if "modality" in signals or "modality" not in weights:
        return weights
    total = math.fsum(weights.values())
    scale = total / (total - weights.pop("modality"))
    return {name: weight * scale for name, weight in weights.items()}


def signals_of_rules(reading: Reading, recipe: Recipe) -> dict[SignalName, Signal | Problem]:
    """Collect what is known of a sample without a model."""
    signals: dict[SignalName, Signal | Problem] = {}
    if reading.completion is not None:
        signals["format"] = Signal(float(reading.completion.well_formed), "rule")
    if reading.modality is not None:
        signals["modality"] = reading.modality
    settled = reading.problem or reading.accuracy
    if settled is not None:
        signals |= {"accuracy_llm": settled, "accuracy_embed": settled}
    if reading.completion is None and reading.problem is not None:
        # Nothing of the response was read, so nothing can be said of its form either.
        signals |= dict.fromkeys(recipe.weights, reading.problem)
    return signals


def judge_signal(answers: Sequence[Answered[Judgement]]) -> Signal | Problem:
    """Say YES where any accepted reference got YES; unscored where none did and one failed."""
    yes = [a for a in answers if isinstance(a.value, Judgement) and a.value.verdict == "YES"]
    problems = [a.value for a in answers if isinstance(a.value, Problem)]
    if problems and not yes:
        return problems[0]
    judged = [(a.value, a.source) for a in answers if isinstance(a.value, Judgement)]
    judgement, source = max(judged, key=lambda pair: pair[0].p_yes)
    return Signal(float(bool(yes)), source, p_yes=judgement.p_yes, coverage=judgement.coverage)


def embed_signal(
    answer: Answered[Vector], references: Sequence[Answered[Vector]], threshold: float
) -> Signal | Problem:
    """Compare the answer with the nearest reference; unscored as `judge_signal` is."""
    if isinstance(answer.value, Problem):
        return answer.value
    if any(
        not isinstance(other.value, Problem) and other.value.shape != answer.value.shape
        for other in references
    ):
        return EMBEDDER_FAILURES.problem(NonsenseReply("its vectors differ in length"))
    near = [
        (cosine(answer.value, other.value), _later(answer.source, other.source))
        for other in references
        if not isinstance(other.value, Problem)
    ]
    problems = [other.value for other in references if isinstance(other.value, Problem)]
    best, source = max(near, default=(-math.inf, answer.source))
    if problems and best < threshold:
        return problems[0]
    return Signal(float(best >= threshold), source, cosine=best)


def _later(one: Source, other: Source) -> Source:
    """Name the costlier of two sources: a pair is from the cache only if both texts were."""
    order: tuple[Source, ...] = ("cache", "coalesced", "embedder")
    return max(one, other, key=order.index)
