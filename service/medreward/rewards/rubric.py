"""Rubrics as a signal: the points that an answer earns by criteria, over the points it can earn.

The arithmetic is HealthBench's (Arora et al., arXiv 2505.08775, section 3): the points of the
criteria that are met, over the sum of the positive points, and not clipped for one answer. Ours are
choices, `CANNOT_ASSESS`, and what becomes of failures.
"""

import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from medreward.engines.judge import Inquiry, Judgement
from medreward.engines.templates import Template
from medreward.errors import Problem, ProblemKind
from medreward.guards.normal import normal
from medreward.inference.answers import Answers
from medreward.parsing.sample import ParsedSample, Reading, decide, unreadable
from medreward.parsing.signal import COST, Signal
from medreward.recipes.recipe import Recipe, Rubric
from medreward.samples import Criterion, Limits, Sample, SampleCriterion, Source, too_long

MOST_QUESTIONS = 200
"""Questions of one sample's criteria, at most."""

Met = Literal["YES", "NO", "CANNOT_ASSESS"]

ABOUT_THE_TEXTS = frozenset({ProblemKind.JUDGE_ABSTAINED, ProblemKind.TOO_LONG})
"""Problems by which the judge says that it cannot assess an answer; others are failures of an engine."""


class CriterionResult(NamedTuple):
    """What became of one criterion."""

    verdict: Met | None = None
    """None for a choice, and without a verdict."""
    choice: int | None = None
    """Number of the choice that the answer reaches, from 0 for the worst."""
    points: float | None = None
    """Points earned; None without a verdict."""
    p_yes: float | None = None
    source: Source | None = None
    problem: Problem | None = None
    """Reason why there is no verdict."""


class Scored(NamedTuple):
    """The signal of a rubric, and the results of its criteria."""

    signal: Signal | Problem
    criteria: tuple[CriterionResult, ...] = ()


@dataclass(frozen=True, slots=True)
class RubricPlan:
    """A rubric's signal without the judge, or the inquiries for the judge."""

    settled: Scored | None = None
    criteria: tuple[SampleCriterion, ...] = ()
    inquiries: tuple[tuple[Inquiry, ...], ...] = ()
    """For each criterion: one, or one for each choice but the worst."""


def criteria_problem(criteria: Sequence[Criterion | SampleCriterion]) -> Problem | None:
    """Return the problem of a rubric by which no answer can earn points, or of a wrong line in it."""
    for number, criterion in enumerate(criteria):
        if told := _wrong(criterion):
            return _invalid(f"criteria[{number}]{told}")
    if not criteria:
        return _invalid("criteria: empty; give at least one")
    if not any(best_of(criterion) > 0 for criterion in criteria):
        return _invalid("criteria: at least one criterion needs positive points")
    return None


def _wrong(criterion: Criterion | SampleCriterion) -> str | None:
    if not criterion.text.strip():
        return ".text: blank; say what the answer has to meet"
    if isinstance(criterion, Criterion):
        return None
    choices = criterion.choices
    if (criterion.points is None) == (choices is None):
        return ": give either `points` or `choices`"
    if choices is None:
        return None
    if not all(choice.text.strip() for choice in choices):
        return ".choices: a blank text; describe the answer"
    points = [choice.points for choice in choices]
    return None if points == sorted(points) else ".choices: from the worst to the best, by points"


def _invalid(told: str) -> Problem:
    return Problem(ProblemKind.INVALID_REQUEST, told)


def _outcomes(criterion: Criterion | SampleCriterion) -> tuple[float, ...]:
    """Return the points that an answer may earn by a criterion; nothing by `CANNOT_ASSESS`."""
    choices = criterion.choices if isinstance(criterion, SampleCriterion) else None
    if choices is None:
        return (0.0, criterion.points or 0.0)
    return (0.0, *(choice.points for choice in choices))


def best_of(criterion: Criterion | SampleCriterion) -> float:
    """Return the most points that an answer can earn by a criterion; 0 if they are negative."""
    return max(_outcomes(criterion))


def points_share(earned: Iterable[float], best: Iterable[float]) -> float:
    """Divide the points earned by those that can be earned at best, whose sum is positive."""
    return math.fsum(earned) / math.fsum(best)


def plan_rubric(
    sample: Sample,
    parsed: ParsedSample,
    recipe: Recipe,
    rubric: Rubric,
    template: Template,
    *,
    limits: Limits,
    reading: Reading = None,
) -> RubricPlan:
    """Settle a rubric that needs no judge; otherwise list its inquiries."""
    criteria = sample.criteria or ()
    problem = _problem(sample, criteria, limits) or _unreadable(sample, reading)
    if problem is not None:
        return RubricPlan(Scored(problem))
    lowest = points_share((min(_outcomes(c)) for c in criteria), map(best_of, criteria))
    if lowest < rubric.lowest:
        told = (
            f"criteria: an answer could earn {lowest:.3g} of the positive points, and the recipe's "
            f"rubric goes down to {rubric.lowest:g}; see to `signals.rubric.lowest`"
        )
        return RubricPlan(Scored(_invalid(told)))
    # What stands in the criteria or in a reference may stand in the answer.
    known = (*sample.references, *(c.text for c in criteria))
    rule = wordless(parsed, limits, reading)
    settled = unjudged(parsed, recipe, known, sample.question, rule, lowest=lowest)
    if settled is not None:
        return RubricPlan(Scored(settled))
    answer = parsed.completion.answer.strip() if parsed.completion else ""
    question = template.shown(sample.question)
    inquiries = tuple(
        tuple(
            Inquiry(template, answer, question=question, criterion=text)
            for text in _texts(criterion)
        )
        for criterion in criteria
    )
    return RubricPlan(criteria=criteria, inquiries=inquiries)


def questions_of(sample: Sample) -> int:
    """Return the number of questions about a sample's criteria; none if they are refused."""
    questions = sum(criterion.questions for criterion in sample.criteria or ())
    return questions if questions <= MOST_QUESTIONS else 0


def _problem(
    sample: Sample,
    criteria: Sequence[SampleCriterion],
    limits: Limits,
) -> Problem | None:
    """Return the problem of a rubric that cannot be judged, whatever the answer."""
    if not criteria:
        return _invalid("criteria: the recipe's signal rubric needs at least one")
    questions = sum(criterion.questions for criterion in criteria)
    if questions > MOST_QUESTIONS:
        return _invalid(f"criteria: {questions} questions, and at most {MOST_QUESTIONS} are asked")
    problem = criteria_problem(criteria) or too_long("question", sample.question or "", limits)
    if problem is not None:
        return problem
    for number, criterion in enumerate(criteria):
        place = f"criteria[{number}].text"
        # Each of its texts first: the question about a choice repeats those of all choices.
        for texts in (_texts_of(criterion), _texts(criterion)):
            for text in texts:
                if problem := too_long(place, text, limits):
                    return problem
    return None


def _unreadable(sample: Sample, reading: Reading) -> Problem | None:
    """Return the problem of a question or criterion that the judge's tokenizer does not know."""
    texts = {f"criteria[{i}].text": c.text for i, c in enumerate(sample.criteria or ())}
    for place, text in {"question": sample.question or "", **texts}.items():
        if reading is not None and not reading(text):
            return unreadable(place)
    return None


def wordless(parsed: ParsedSample, limits: Limits, reading: Reading) -> str | None:
    """Return the rule by which an answer says nothing to the judge; None if it may."""
    completion = parsed.completion
    if completion is None or too_long("answer", completion.answer, limits) is not None:
        return "too_long"
    # Characters that nobody sees, or signs alone, are as silent as nothing.
    if "rejected_answer" in parsed.flags or not normal(completion.answer).tokens:
        return "rejected"
    if reading is not None and not reading(completion.answer):
        return "unreadable"
    return None


def unjudged(
    parsed: ParsedSample,
    recipe: Recipe,
    known: Sequence[str],
    question: str | None,
    rule: str | None,
    *,
    lowest: float,
) -> Signal | Problem | None:
    """Return the signal of an answer that is not judged: *lowest*; None if it is judged.

    *known* are texts that may stand in the answer, and *rule* is that of `wordless`. An answer is
    never left unscored for what the policy wrote; or a policy would write that.
    """
    completion = parsed.completion
    if completion is None or rule is not None:
        return Signal(lowest, "rule", rule=rule)
    found = decide(completion.answer, (" ".join(known),), question, recipe.judge_guards)
    if found.problem is not None or found.accuracy is None:
        return found.problem
    veto = found.accuracy.veto
    # A place among other texts would be taken for one in the reference.
    bare = None if veto is None else veto._replace(reference_span=None)
    return found.accuracy._replace(value=lowest, veto=bare)


def _texts_of(criterion: SampleCriterion) -> Iterator[str]:
    yield criterion.text
    for choice in criterion.choices or ():
        yield choice.text


def characters_of(sample: Sample) -> int:
    """Return the number of characters in a sample's criteria."""
    return sum(len(text) for criterion in sample.criteria or () for text in _texts_of(criterion))


def questions_bytes(sample: Sample, limits: Limits) -> int:
    """Return the memory of the questions about a sample's choices, each of which repeats all of them."""
    if not questions_of(sample):
        return 0
    return sum(
        criterion.questions * sum(map(sys.getsizeof, _texts_of(criterion)))
        for criterion in sample.criteria or ()
        # One with longer texts is refused before they are written.
        if criterion.choices is not None
        and sum(map(len, _texts_of(criterion))) <= limits.text_bytes
    )


def _texts(criterion: SampleCriterion) -> Iterator[str]:
    """Yield the criteria to be judged by yes or no: one, or one for each choice but the worst."""
    text = criterion.text.strip()
    if criterion.choices is None:
        yield text
        return
    choices = [f'"{choice.text.strip()}"' for choice in criterion.choices]
    scale = f"{text}\nFrom worst to best: {'; '.join(choices)}."
    for choice in choices[1:]:
        yield f"{scale} The candidate reaches at least {choice}."


def score_rubric(
    plan: RubricPlan, judgements: Answers[Inquiry, Judgement], rubric: Rubric
) -> Scored:
    """Compute the signal of a rubric from its judgements.

    A criterion without a verdict is left out with its points. If the others have too few of the
    points, there is no signal.
    """
    if plan.settled is not None:
        return plan.settled
    results = tuple(
        _result(criterion, inquiries, judgements)
        for criterion, inquiries in zip(plan.criteria, plan.inquiries, strict=True)
    )
    pairs = list(zip(plan.criteria, results, strict=True))
    answered = [(c, r.points) for c, r in pairs if r.points is not None]
    failed = next((r.problem for r in results if r.problem is not None), None)
    if failed is not None:
        share = points_share((_size(c) for c, _ in answered), (_size(c) for c, _ in pairs))
        if share < rubric.least_answered or not any(best_of(c) > 0 for c, _ in answered):
            return Scored(failed, results)
    value = points_share((points for _, points in answered), (best_of(c) for c, _ in answered))
    if failed is not None and value < rubric.lowest:
        # Without the criteria that failed, the others may weigh more than the recipe's range allows.
        return Scored(failed, results)
    sources = [r.source for r in results if r.source is not None]
    return Scored(Signal(value, max(sources, key=COST.__getitem__)), results)


def _size(criterion: SampleCriterion) -> float:
    return max(map(abs, _outcomes(criterion)))


def _result(
    criterion: SampleCriterion,
    inquiries: Sequence[Inquiry],
    judgements: Answers[Inquiry, Judgement],
) -> CriterionResult:
    """Return the verdict on one criterion, or the best choice that the answer reaches.

    A choice is reached if the worse ones are.
    """
    answers = [judgements.take(inquiry) for inquiry in inquiries]
    source = max((answer.source for answer in answers), key=COST.__getitem__)
    reached = 0
    for value, _ in answers:
        if isinstance(value, Problem):
            if value.kind in ABOUT_THE_TEXTS:
                # Else a policy would write past the judge's context what costs it points.
                is_long = value.kind is ProblemKind.TOO_LONG
                points = min(_outcomes(criterion)) if is_long else 0.0
                return CriterionResult("CANNOT_ASSESS", points=points, source=source)
            return CriterionResult(problem=value)
        if value.cannot_assess:
            return CriterionResult("CANNOT_ASSESS", points=0.0, source=source)
        if criterion.choices is None:
            points = criterion.points or 0.0 if value.verdict == "YES" else 0.0
            return CriterionResult(value.verdict, None, points, value.p_yes, source)
        if value.verdict == "NO":
            break
        reached += 1
    choices = criterion.choices or ()
    return CriterionResult(choice=reached, points=choices[reached].points, source=source)
