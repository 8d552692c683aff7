"""The reward of signals under a recipe, or the reason why there is none. Pure arithmetic."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from medreward.engines.embedder import Vector, cosine
from medreward.engines.judge import Inquiry, Judgement, View
from medreward.errors import EMBEDDER_FAILURES, JUDGE_FAILURES, NonsenseReply, Problem, ProblemKind
from medreward.guards.normal import normal
from medreward.guards.pair import Pair
from medreward.guards.witness import has_witness
from medreward.inference.answers import Answered, Answers
from medreward.parsing.sample import FORMAT, ParsedSample
from medreward.parsing.signal import COST, Signal
from medreward.recipes.recipe import Recipe, SignalName
from medreward.rewards.further import FurtherSignals
from medreward.rewards.ranking import Compared
from medreward.rewards.rubric import CriterionResult
from medreward.samples import Source

Signals = Mapping[SignalName, Signal | Problem]

Views = tuple[Inquiry, ...]
"""The inquiries about one reference: one for each view that has to agree."""

UNWITNESSED = Problem(
    ProblemKind.JUDGE_ABSTAINED,
    "judge: its YES has no witness: answer and reference share no word, the embedder finds them "
    "apart, and no other engine says YES",
)


class Component(NamedTuple):
    """A signal with its weight."""

    signal: Signal
    weight: float


Components = Mapping[SignalName, Component]


class Reward(NamedTuple):
    """A reward within the recipe's range, with the components that add up to it."""

    total: float
    components: Components
    flags: tuple[str, ...] = ()
    answer: str = ""
    """Answer inside the response."""
    criteria: tuple[CriterionResult, ...] | None = None
    """Results of the sample's criteria; None if the recipe has no rubric."""
    compared: Compared | None = None
    """What was compared in the sample's group; None if the recipe ranks none, or not this one."""


class Unscored(NamedTuple):
    """Reason why a sample has no reward, with the components that were computed."""

    problem: Problem
    components: Components = MappingProxyType({})
    flags: tuple[str, ...] = ()
    answer: str = ""
    """Empty if the response is over its limit and was not parsed."""
    criteria: tuple[CriterionResult, ...] | None = None
    """Results of the sample's criteria; None if the recipe has no rubric."""
    compared: Compared | None = None
    """What was compared in the sample's group; None if the recipe ranks none, or not this one."""


def compose(
    signals: Signals, recipe: Recipe, flags: tuple[str, ...] = (), answer: str = ""
) -> Reward | Unscored:
    """Add up the weighted signals (MediX-R1, arXiv 2602.23363, section on the composite reward).

    A `Problem` in place of a weighted signal leaves the sample unscored. Only the modality may be
    missing from *signals*, if it is unknown: its weight goes to the others. A gated embedding is
    multiplied by the judge's signal, and is not needed if that is 0.
    """
    weights = recipe.weights if "modality" in signals else recipe.weights_without_modality
    embed = recipe.signals.accuracy_embed
    if embed is not None and embed.gated:
        signals = {**signals, "accuracy_embed": _gated(signals)}
    components: dict[SignalName, Component] = {}
    problem: Problem | None = None
    for name, weight in weights.items():
        signal = signals[name]
        if isinstance(signal, Problem):
            problem = problem or signal
        else:
            components[name] = Component(signal, weight)
    if problem is not None:
        return Unscored(problem, components, flags, answer)
    total = math.fsum([part.weight * part.signal.value for part in components.values()])
    # Scaled weights may add up to slightly more than 1 by rounding.
    least, most = recipe.bounds
    return Reward(max(least, min(most, total)), components, flags, answer)


def _gated(signals: Signals) -> Signal | Problem:
    """Multiply the embedding's signal by the judge's; a judge's 0 needs no embedding."""
    judge, embed = signals["accuracy_llm"], signals["accuracy_embed"]
    if isinstance(judge, Problem):
        return judge
    if isinstance(embed, Problem):
        return embed if judge.value else judge._replace(p_yes=None, coverage=None)
    return embed._replace(value=judge.value * embed.value)


class RewardComposer:
    """Composes the rewards of one request's samples from rules, judgements and vectors."""

    def __init__(
        self,
        recipe: Recipe,
        inquiries: Mapping[ParsedSample, Sequence[Views]],
        judgements: Answers[Inquiry, Judgement],
        vectors: Answers[str, Vector],
    ) -> None:
        self._recipe = recipe
        self._inquiries = inquiries
        """By distinct sample."""
        self._judgements = judgements
        self._vectors = vectors
        self._settled: dict[ParsedSample, Reward | Unscored] = {}
        self._unwitnessed: dict[ParsedSample, list[int]] = {}
        self.opinions: Answers[Inquiry, Judgement] | None = None
        """Judgements of another engine on each YES without a witness; None if it was not asked."""

    def second_opinions(self) -> list[Inquiry]:
        """Return the inquiries for another engine, one about each YES without a witness."""
        return [
            second_opinion(views[number])
            for parsed, views in self._inquiries.items()
            for number in self._unwitnessed_of(parsed)
        ]

    def _unwitnessed_of(self, parsed: ParsedSample) -> Sequence[int]:
        """Return the numbers of the references with a YES that neither words nor embedder support."""
        if not self._recipe.wants_witness or not parsed.needs_models:
            return ()
        if parsed not in self._unwitnessed:
            self._unwitnessed[parsed] = [
                number
                for number, views in enumerate(self._inquiries[parsed])
                if self._is_unsupported([self._judgements.look(inquiry) for inquiry in views])
                and not self._is_near(parsed, number)
                and not has_witness(Pair(normal(parsed.answer), normal(parsed.references[number])))
            ]
        return self._unwitnessed[parsed]

    @staticmethod
    def _is_unsupported(views: Sequence[Judgement | Problem]) -> bool:
        """Return whether all views are a YES, and none is that of the second engine.

        The second engine is the witness itself: asked once more, it would say the same.
        """
        return all(_says_yes(view) and not _is_of_second(view) for view in views)

    def rewards(
        self, parsed_samples: Sequence[ParsedSample], further: FurtherSignals | None = None
    ) -> list[Reward | Unscored]:
        """Return the samples' rewards, in order; equal samples without *further* signals share one."""
        if further is None:
            return list(map(self._reward, parsed_samples))
        return [
            compose(
                {**self._signals(parsed), **more.signals}, self._recipe, parsed.flags, parsed.answer
            )._replace(criteria=more.criteria, compared=more.compared)
            for parsed, more in zip(
                parsed_samples, further.of_samples(self._judgements), strict=True
            )
        ]

    def _reward(self, parsed: ParsedSample) -> Reward | Unscored:
        if parsed in self._settled:
            return self._settled[parsed]
        result = compose(self._signals(parsed), self._recipe, parsed.flags, parsed.answer)
        # Only the first of equal samples reports an engine as its source. Such a
        # result is not kept: the next one reads the shared answer, source included.
        if all(part.signal.source not in _FRESH for part in result.components.values()):
            self._settled[parsed] = result
        return result

    def _signals(self, parsed: ParsedSample) -> Signals:
        """Collect the signals of one sample from rules, judge and embedder."""
        signals = signals_of_rules(parsed, self._recipe)
        if not parsed.needs_models:
            return signals
        if self._inquiries[parsed]:
            signals["accuracy_llm"] = self._judge_signal(parsed)
        embed = self._recipe.signals.accuracy_embed
        if embed is not None:
            answer, *references = map(self._vectors.take, (parsed.answer, *parsed.references))
            signals["accuracy_embed"] = embed_signal(answer, references, embed.threshold)
        return signals

    def _judge_signal(self, parsed: ParsedSample) -> Signal | Problem:
        inquiries = self._inquiries[parsed]
        answers = [
            agreed([self._judgements.take(inquiry) for inquiry in views]) for views in inquiries
        ]
        for number in self._unwitnessed_of(parsed):
            if not self._is_confirmed(inquiries[number]):
                answers[number] = Answered(UNWITNESSED, answers[number].source)
        judge = self._recipe.signals.accuracy_llm
        return judge_signal(answers, soft=judge is not None and judge.soft)

    def _is_near(self, parsed: ParsedSample, number: int) -> bool:
        """Return whether the embedder bears witness: the cosine reaches the recipe's threshold."""
        floor = self._recipe.guards.witness_cosine if self._recipe.guards else None
        if floor is None:
            return True
        answer = self._vectors.look(parsed.answer)
        reference = self._vectors.look(parsed.references[number])
        if isinstance(answer, Problem) or isinstance(reference, Problem):
            return False
        return answer.shape == reference.shape and cosine(answer, reference) >= floor

    def _is_confirmed(self, inquiries: Views) -> bool:
        """Return whether another engine bears witness: it says YES too."""
        other = second_opinion(inquiries)
        return self.opinions is not None and _says_yes(self.opinions.look(other))


def second_opinion(inquiries: Views) -> Inquiry:
    """Return the inquiry for another engine about a YES without a witness."""
    return inquiries[0]._replace(view=View.OTHER_ENGINE)


def _says_yes(answer: Judgement | Problem) -> bool:
    return not isinstance(answer, Problem) and answer.verdict == "YES"


def _is_of_second(answer: Judgement | Problem) -> bool:
    return not isinstance(answer, Problem) and answer.answered_by == "second"


def agreed(views: Sequence[Answered[Judgement]]) -> Answered[Judgement]:
    """Return the view that is furthest from YES, since all views have to say YES.

    One NO decides even if other views failed; without a NO, a failed view is returned. A language
    model behind another engine decides by the pair as written, the first view: without the question
    it says NO to half of the right answers.
    """
    if len(views) == 1 or _is_of_second(views[0].value):
        return views[0]
    judged = [view for view in views if not isinstance(view.value, Problem)]
    if judged:
        least = min(judged, key=lambda view: _margin(view.value))
        if len(judged) == len(views) or not _says_yes(least.value):
            return least
    return next(view for view in views if isinstance(view.value, Problem))


def _margin(answer: Judgement | Problem) -> float:
    """Return the distance of P(YES) above its threshold; minus infinity for a problem."""
    return -math.inf if isinstance(answer, Problem) else answer.p_yes - answer.threshold


def signals_of_rules(parsed: ParsedSample, recipe: Recipe) -> dict[SignalName, Signal | Problem]:
    """Return the signals of a sample that need no model."""
    signals: dict[SignalName, Signal | Problem] = {}
    if parsed.completion is not None:
        signals["format"] = FORMAT[parsed.well_formed]
    if parsed.modality is not None:
        signals["modality"] = parsed.modality
    settled = parsed.problem or parsed.accuracy
    if settled is not None:
        signals["accuracy_llm"] = signals["accuracy_embed"] = settled
    if parsed.completion is None and parsed.problem is not None:
        # The response was not parsed, so its form is unknown too: every signal
        # of the recipe is a problem, not 0.
        signals |= dict.fromkeys(recipe.weights, parsed.problem)
    return signals


def judge_signal(answers: Sequence[Answered[Judgement]], *, soft: bool = False) -> Signal | Problem:
    """Return YES if any reference got YES; a problem if none did and one failed.

    A *soft* signal is the probability of YES instead of 0 or 1.
    """
    problem: Problem | None = None
    best: tuple[Judgement, Source] | None = None
    for value, source in answers:
        if isinstance(value, Problem):
            problem = problem or value
        elif best is None or _margin(value) > _margin(best[0]):
            best = value, source
    if best is None or (problem is not None and best[0].verdict == "NO"):
        # An empty list is a defect of the caller: no inquiry, no signal.
        return problem or JUDGE_FAILURES.problem(NonsenseReply("it was asked nothing"))
    judgement, source = best
    worth = judgement.p_yes if soft else float(judgement.verdict == "YES")
    return Signal(
        worth,
        source,
        judgement.p_yes,
        judgement.coverage,
        answered_by=judgement.answered_by,
    )


def embed_signal(
    answer: Answered[Vector], references: Sequence[Answered[Vector]], threshold: float
) -> Signal | Problem:
    """Compare the answer with its nearest reference; a problem if none is near and one failed."""
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
    # The source is the costlier of the two texts' sources: a pair comes from
    # the cache only if both vectors did.
    source = max(answer.source, best_source, key=COST.__getitem__)
    return Signal(1.0 if best >= threshold else 0.0, source, cosine=best)


_FRESH: frozenset[Source] = frozenset({"judge", "embedder"})
