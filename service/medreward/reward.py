"""Stage 7: signals and a recipe become a reward, or the reason there is none. Pure arithmetic."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from medreward.asking import Answered, Answers
from medreward.embedding.embedder import Vector, cosine
from medreward.errors import EMBEDDER_FAILURES, JUDGE_FAILURES, NonsenseReply, Problem
from medreward.judging.judge import Inquiry, Judgement
from medreward.recipe import Recipe, SignalName
from medreward.rules import RIGHT, WRONG, Reading
from medreward.signals import Signal
from medreward.wire import Source

Signals = Mapping[SignalName, Signal | Problem]


class Component(NamedTuple):
    """A signal with the weight it was given."""

    signal: Signal
    weight: float


Components = Mapping[SignalName, Component]


class Reward(NamedTuple):
    """The recipe's number, between 0 and 1, and what it is made of."""

    total: float
    components: Components
    flags: tuple[str, ...] = ()


class Unscored(NamedTuple):
    """No reward, and why; the components that were had."""

    problem: Problem
    components: Components = MappingProxyType({})
    flags: tuple[str, ...] = ()


def compose(signals: Signals, recipe: Recipe, flags: tuple[str, ...] = ()) -> Reward | Unscored:
    """Add up the weighted signals (MediX-R1, arXiv 2602.23363, section on the composite reward).

    A signal that the recipe weighs but that is a `Problem` leaves the sample unscored. The modality
    alone may be missing from *signals*, where none is known: its weight goes to the others.
    """
    weights = recipe.weights if "modality" in signals else recipe.weights_without_modality
    components: dict[SignalName, Component] = {}
    problem: Problem | None = None
    for name, weight in weights.items():
        signal = signals[name]
        if isinstance(signal, Problem):
            problem = problem or signal
        else:
            components[name] = Component(signal, weight)
    if problem is not None:
        return Unscored(problem, components, flags)
    total = math.fsum([part.weight * part.signal.value for part in components.values()])
    # Scaled weights may add up to a rounding error more than 1.
    return Reward(min(1.0, total), components, flags)


class Evidence:
    """What rules, judge and embedder say of the samples of one request."""

    def __init__(
        self,
        recipe: Recipe,
        judgements: Answers[Inquiry, Judgement],
        vectors: Answers[str, Vector],
    ) -> None:
        self._recipe = recipe
        self._judgements = judgements
        self._vectors = vectors
        self._settled: dict[Reading, Reward | Unscored] = {}

    def reward(self, reading: Reading, inquiries: Sequence[Inquiry]) -> Reward | Unscored:
        """Reward one sample, of which the judge was asked *inquiries*; equal ones but once."""
        if reading in self._settled:
            return self._settled[reading]
        result = compose(self.signals(reading, inquiries), self._recipe, reading.flags)
        # The sample that an engine was asked for says so; those that only share its answer do not.
        if all(part.signal.source not in _FRESH for part in result.components.values()):
            self._settled[reading] = result
        return result

    def signals(self, reading: Reading, inquiries: Sequence[Inquiry]) -> Signals:
        """Bring together what is said of one sample."""
        signals = signals_of_rules(reading, self._recipe)
        if not reading.is_open:
            return signals
        if inquiries:
            signals["accuracy_llm"] = judge_signal([self._judgements.take(i) for i in inquiries])
        embed = self._recipe.signals.accuracy_embed
        if embed is not None:
            take = self._vectors.take
            signals["accuracy_embed"] = embed_signal(
                take(reading.answer), [take(text) for text in reading.references], embed.threshold
            )
        return signals


def signals_of_rules(reading: Reading, recipe: Recipe) -> dict[SignalName, Signal | Problem]:
    """Collect what is known of a sample without a model."""
    signals: dict[SignalName, Signal | Problem] = {}
    if reading.completion is not None:
        signals["format"] = RIGHT if reading.completion.well_formed else WRONG
    if reading.modality is not None:
        signals["modality"] = reading.modality
    settled = reading.problem or reading.accuracy
    if settled is not None:
        signals["accuracy_llm"] = signals["accuracy_embed"] = settled
    if reading.completion is None and reading.problem is not None:
        # Nothing of the response was read, so nothing can be said of its form either.
        signals |= dict.fromkeys(recipe.weights, reading.problem)
    return signals


def judge_signal(answers: Sequence[Answered[Judgement]]) -> Signal | Problem:
    """Say YES where any accepted reference got YES; unscored where none did and one failed."""
    problem: Problem | None = None
    best: tuple[Judgement, Source] | None = None
    for value, source in answers:
        if isinstance(value, Problem):
            problem = problem or value
        elif best is None or value.p_yes > best[0].p_yes:
            best = value, source
    if best is None or (problem is not None and best[0].verdict == "NO"):
        # Without any answer there would have been no inquiry.
        return problem or JUDGE_FAILURES.problem(NonsenseReply("it was asked nothing"))
    judgement, source = best
    says_yes = judgement.verdict == "YES"
    return Signal(1.0 if says_yes else 0.0, source, judgement.p_yes, judgement.coverage)


def embed_signal(
    answer: Answered[Vector], references: Sequence[Answered[Vector]], threshold: float
) -> Signal | Problem:
    """Compare the answer with the nearest reference; unscored as `judge_signal` is."""
    if isinstance(answer.value, Problem):
        return answer.value
    problem: Problem | None = None
    best, best_source = -math.inf, answer.source
    for value, source in references:
        if isinstance(value, Problem):
            problem = problem or value
            continue
        if value.shape != answer.value.shape:
            return EMBEDDER_FAILURES.problem(NonsenseReply("its vectors differ in length"))
        near = cosine(answer.value, value)
        if near > best:
            best, best_source = near, source
    if problem is not None and best < threshold:
        return problem
    # A pair is from the cache only if both texts were.
    source = max(answer.source, best_source, key=_COST.__getitem__)
    return Signal(1.0 if best >= threshold else 0.0, source, cosine=best)


_FRESH: frozenset[Source] = frozenset({"judge", "embedder"})
_COST: Mapping[Source, int] = {"cache": 0, "coalesced": 1, "embedder": 2}
