"""Grades for `/judge`: the inquiries about an item, and the grade from their judgements. Pure."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from medreward.engines.judge import Inquiry, Judgement, Verdict, View
from medreward.engines.templates import Template
from medreward.errors import Problem, ProblemKind
from medreward.guards.chain import GuardChain
from medreward.guards.pair import Veto
from medreward.inference.answers import Answered, Answers
from medreward.parsing.completion import unwrapped
from medreward.parsing.sample import Reading, decide
from medreward.rewards.rubric import best_of, criteria_problem, points_share
from medreward.samples import Criterion, Item, Limits, Source, too_long

VIEWS = (View.AS_WRITTEN, View.SWAPPED, View.WITHOUT_QUESTION, View.OTHER_ENGINE)
"""Views in the order of the votes; the last needs a second engine."""


@dataclass(frozen=True, slots=True)
class Vote:
    """The judge's reply for one view."""

    view: View
    answered: Answered[Judgement]

    @property
    def verdict(self) -> Verdict | None:
        """Verdict of the vote; None if the view failed or gave a digit."""
        return self._judgement.verdict if self._judgement else None

    @property
    def p_yes(self) -> float | None:
        """P(YES) of the vote; None if the view failed or gave a digit."""
        return self._judgement.p_yes if self._judgement else None

    @property
    def _judgement(self) -> Judgement | None:
        value = self.answered.value
        return None if isinstance(value, Problem) or "YES" not in value.labels else value


@dataclass(frozen=True, slots=True)
class CriterionVerdict:
    """Verdict of the votes on one line of a rubric."""

    criterion: Criterion
    verdict: Verdict
    p_yes: float | None
    source: Source


@dataclass(frozen=True, slots=True)
class Grade:
    """The grade of an item."""

    score: float
    source: Source
    verdict: Verdict | None = None
    p_yes: float | None = None
    expected: float | None = None
    votes: tuple[Vote, ...] = ()
    criteria: tuple[CriterionVerdict, ...] | None = None
    rule: str | None = None
    """Name of the rule that settled the item; None if the judge was asked."""
    veto: Veto | None = None


@dataclass(frozen=True, slots=True)
class Ungraded:
    """Reason why an item has no grade."""

    problem: Problem
    votes: tuple[Vote, ...] = ()


@dataclass(frozen=True, slots=True)
class GradingPlan:
    """An item's outcome without the judge, or the inquiries for the judge."""

    template: Template
    outcome: Grade | Ungraded | None = None
    """Set if the item needs no judge or cannot be judged."""
    groups: tuple[tuple[Criterion | None, tuple[Inquiry, ...]], ...] = ()
    """Inquiries, one for each view, about each line of the rubric, or about the item as a whole."""

    @property
    def inquiries(self) -> list[Inquiry]:
        """All inquiries of the item."""
        return [inquiry for _, inquiries in self.groups for inquiry in inquiries]


def plan_item(
    item: Item,
    template: Template,
    votes: int,
    limits: Limits,
    rules: GuardChain | None = None,
    *,
    reading: Reading = None,
) -> GradingPlan:
    """Settle an item that needs no judge; otherwise list its inquiries."""
    is_rubric = template.name == "rubric"
    problem = _item_problem(item, limits) or (
        criteria_problem(item.criteria or ()) if is_rubric else None
    )
    if problem is not None:
        return GradingPlan(template, outcome=Ungraded(problem))
    settled: Grade | Ungraded | None = None if is_rubric else _settled_grade(item, template)
    if settled is None and rules is not None:
        settled, item = _ruled(item, template, rules, reading)
    if settled is not None:
        return GradingPlan(template, outcome=settled)
    views = _views(item, template, votes)
    criteria = (item.criteria or ()) if is_rubric else (None,)
    groups = tuple(
        (criterion, tuple(_inquiry(item, template, view, criterion) for view in views))
        for criterion in criteria
    )
    return GradingPlan(template, groups=groups)


def grade_item(plan: GradingPlan, judgements: Answers[Inquiry, Judgement]) -> Grade | Ungraded:
    """Compute the grade of one item from its judgements."""
    if plan.outcome is not None:
        return plan.outcome
    cast = [
        (criterion, _distinct([Vote(i.view, judgements.take(i)) for i in inquiries]))
        for criterion, inquiries in plan.groups
    ]
    rubric = [(criterion, votes) for criterion, votes in cast if criterion is not None]
    if rubric:
        return _grade_rubric(rubric)
    ((_, votes),) = cast
    return _grade_report(votes) if plan.template.kind == "grade" else _grade_verdict(votes)


def _distinct(votes: Sequence[Vote]) -> tuple[Vote, ...]:
    """Leave out the vote of the other engine if that engine answered the pair as written as well."""
    # Which engine of a cascade answers is known only afterwards: the first may have abstained.
    first = votes[0].answered.value
    repeats = isinstance(first, Judgement) and first.answered_by == "second"
    return tuple(v for v in votes if not (repeats and v.view is View.OTHER_ENGINE))


def _views(item: Item, template: Template, votes: int) -> tuple[View, ...]:
    """Return the views that differ for this item, so that no vote repeats another."""
    return tuple(
        view
        for view in VIEWS[:votes]
        if not (view is View.SWAPPED and item.reference is None)
        and not (view is View.WITHOUT_QUESTION and not template.shown(item.question))
    )


def _item_problem(item: Item, limits: Limits) -> Problem | None:
    """Return the problem of an item that cannot be judged, if there is one."""
    if item.reference is not None and not item.reference.strip():
        return Problem(
            ProblemKind.INVALID_REFERENCE, "reference: empty; give the ground truth as text"
        )
    texts = {"answer": item.answer, "reference": item.reference, "question": item.question}
    texts |= {f"criteria[{i}].text": c.text for i, c in enumerate(item.criteria or ())}
    return next(
        (found for name, text in texts.items() if (found := too_long(name, text or "", limits))),
        None,
    )


def _settled_grade(item: Item, template: Template) -> Grade | None:
    """Grade without a model: an empty answer gets 0, one equal to the reference the best grade."""
    answer = item.answer.strip()
    if item.reference is None or answer not in {"", item.reference.strip()}:
        return None
    source: Source = "exact" if answer else "rule"
    rule = "equal" if answer else "empty"
    if template.kind == "grade":
        score = float(template.labels[-1]) if answer else 0.0
        return Grade(score, source, expected=score, rule=rule)
    return Grade(float(bool(answer)), source, verdict="YES" if answer else "NO", rule=rule)


def _ruled(
    item: Item, template: Template, rules: GuardChain, reading: Reading
) -> tuple[Grade | Ungraded | None, Item]:
    """Grade by rules and guards; None leaves the item to the judge, without its decoration."""
    # Instruct models write an answer as code or JSON; the guards of rewards call other such text forged.
    said = unwrapped(item.answer.strip())
    found = decide(said, (item.reference or "",), item.question, rules, reading)
    if found.problem is not None:
        return Ungraded(found.problem), item
    signal = found.accuracy
    if template.kind == "grade":
        # Only a veto decides a report, and the judge reads it as it was written.
        veto = None if signal is None else signal.veto
        return (None if veto is None else _lowest(veto), item)
    if signal is None:
        return None, item.model_copy(update={"answer": found.answer})
    verdict: Verdict = "YES" if signal.value else "NO"
    return (
        Grade(signal.value, signal.source, verdict=verdict, rule=signal.rule, veto=signal.veto),
        item,
    )


def _lowest(veto: Veto) -> Grade:
    return Grade(0.0, "veto", expected=0.0, rule=veto.rule, veto=veto)


def _inquiry(
    item: Item, template: Template, view: View, criterion: Criterion | None = None
) -> Inquiry:
    return Inquiry(
        template=template,
        answer=item.answer.strip(),
        reference=item.reference.strip() if item.reference is not None else None,
        question=template.shown(item.question),
        criterion=criterion.text if criterion else None,
        view=view,
    )


def _grade_verdict(votes: tuple[Vote, ...]) -> Grade | Ungraded:
    verdict = _majority(votes)
    if isinstance(verdict, Problem):
        return Ungraded(verdict, votes)
    return Grade(
        score=float(verdict == "YES"),
        source=votes[0].answered.source,
        verdict=verdict,
        p_yes=_mean([judgement.p_yes for judgement in _judgements(votes)]),
        votes=votes,
    )


def _grade_report(votes: tuple[Vote, ...]) -> Grade | Ungraded:
    """Average the views' probabilities: the score is the likeliest digit, `expected` their mean."""
    judgements = _judgements(votes)
    if len(judgements) < len(votes):
        return Ungraded(_first_problem(votes), votes)
    labels = judgements[0].labels
    by_label = zip(*(judgement.probabilities for judgement in judgements), strict=True)
    mean = Judgement(labels, tuple(_mean(column) for column in by_label))
    return Grade(
        score=float(mean.likeliest),
        source=votes[0].answered.source,
        expected=mean.expected,
        votes=votes,
    )


def _grade_rubric(cast: Sequence[tuple[Criterion, tuple[Vote, ...]]]) -> Grade | Ungraded:
    """Grade by the points of the rubric; the item is ungraded unless every criterion is decided."""
    verdicts: list[CriterionVerdict] = []
    for criterion, votes in cast:
        verdict = _majority(votes)
        if isinstance(verdict, Problem):
            return Ungraded(verdict)
        p_yes = _mean([judgement.p_yes for judgement in _judgements(votes)])
        source = votes[0].answered.source
        verdicts.append(CriterionVerdict(criterion, verdict, p_yes, source))
    return Grade(rubric_score(verdicts), verdicts[0].source, criteria=tuple(verdicts))


def rubric_score(verdicts: Sequence[CriterionVerdict]) -> float:
    """Divide the points of the criteria met by the positive points, clipped to 0..1."""
    earned = (v.criterion.points for v in verdicts if v.verdict == "YES")
    return min(1.0, max(0.0, points_share(earned, (best_of(v.criterion) for v in verdicts))))


def _majority(votes: tuple[Vote, ...]) -> Verdict | Problem:
    """Return the verdict of more than half of all votes; failed ones count in the total."""
    counted = Counter(vote.verdict for vote in votes)
    choices: tuple[Verdict, ...] = ("YES", "NO")
    for verdict in choices:
        if 2 * counted[verdict] > len(votes):
            return verdict
    if counted[None]:
        return _first_problem(votes)
    return Problem(ProblemKind.JUDGE_ABSTAINED, "the votes are equally divided")


def _judgements(votes: tuple[Vote, ...]) -> list[Judgement]:
    values = [vote.answered.value for vote in votes]
    return [value for value in values if isinstance(value, Judgement)]


def _first_problem(votes: tuple[Vote, ...]) -> Problem:
    values = [vote.answered.value for vote in votes]
    return next(value for value in values if isinstance(value, Problem))


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
