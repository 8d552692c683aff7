"""Grades: views that differ, majorities that hold, rubrics that add up."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medreward.engines.judge import Inquiry, Judgement, View
from medreward.engines.templates import load_templates
from medreward.errors import Problem, ProblemKind
from medreward.inference.answers import Answers
from medreward.rewards.grade import (
    VIEWS,
    CriterionVerdict,
    Grade,
    Ungraded,
    grade_item,
    plan_item,
    rubric_score,
)
from medreward.samples import AnsweredBy, Criterion, Item, Limits

TEMPLATES = load_templates()
EQUIVALENCE, REPORT, RUBRIC = (TEMPLATES[name] for name in ("equivalence", "report", "rubric"))
LIMITS = Limits(text_bytes=100)
OWN_VIEWS = VIEWS[:3]
"""Those of one engine alone."""
ITEM = Item(answer="basal left", reference="left lower lobe", question="Where?")
FAILED = Problem(ProblemKind.JUDGE_TIMEOUT, "late")


def says(p_yes: float) -> Judgement:
    """A verdict."""
    return Judgement(("YES", "NO"), (p_yes, 1 - p_yes))


def grade(item: Item, answers: list[Judgement | Problem], template_name: str) -> Grade | Ungraded:
    """Grade an item whose inquiries are answered in turn."""
    template = TEMPLATES[template_name]
    votes = len(OWN_VIEWS) if template_name != "rubric" and len(answers) > 1 else 1
    plan = plan_item(item, template, votes, LIMITS)
    judgements: Answers[Inquiry, Judgement] = Answers()
    for inquiry, answer in zip(plan.inquiries, answers, strict=True):
        judgements.add(inquiry, answer, "judge")
    return grade_item(plan, judgements)


@pytest.mark.parametrize(
    ("answers", "verdict", "p_yes"),
    [
        ([says(0.9)], "YES", 0.9),
        ([says(0.9), says(0.9), says(0.3)], "YES", 0.7),
        ([says(0.9), says(0.2), says(0.1)], "NO", 0.4),
        ([says(0.9), FAILED, says(0.7)], "YES", 0.8),
    ],
)
def test_more_than_half_of_the_votes_decide(
    answers: list[Judgement | Problem], verdict: str, p_yes: float
) -> None:
    """The majority's verdict, and the mean probability of those that voted."""
    graded = grade(ITEM, answers, "equivalence")

    assert isinstance(graded, Grade)
    assert (graded.verdict, graded.score) == (verdict, float(verdict == "YES"))
    assert graded.p_yes == pytest.approx(p_yes)
    assert len(graded.votes) == len(answers)


@pytest.mark.parametrize(
    "answers", [[FAILED], [says(0.9), FAILED, says(0.1)], [FAILED, FAILED, says(0.9)]]
)
def test_a_failed_vote_that_might_have_decided_leaves_the_item_unjudged(
    answers: list[Judgement | Problem],
) -> None:
    """A majority is more than half of all votes, not of those that came."""
    graded = grade(ITEM, answers, "equivalence")

    assert isinstance(graded, Ungraded)
    assert graded.problem is FAILED


def test_equally_divided_votes_are_an_abstention() -> None:
    """Two against two is no verdict."""
    item = Item(answer="basal left", reference="left lower lobe")  # without a question two views
    graded = grade(item, [says(0.9), says(0.1)], "equivalence")

    assert isinstance(graded, Ungraded)
    assert graded.problem.kind is ProblemKind.JUDGE_ABSTAINED


def test_a_vote_is_a_view_and_never_a_repeat() -> None:
    """Views that would put the same words to the judge are left out."""
    with_question = plan_item(ITEM, EQUIVALENCE, 3, LIMITS).inquiries
    silent = ITEM.model_copy(update={"question": None})
    without = plan_item(silent, EQUIVALENCE, 3, LIMITS).inquiries

    assert [inquiry.view for inquiry in with_question] == list(OWN_VIEWS)
    assert [inquiry.view for inquiry in without] == [View.AS_WRITTEN, View.SWAPPED]


@pytest.mark.parametrize(("engine", "views"), [("first", VIEWS), ("second", OWN_VIEWS)])
def test_the_other_engine_has_one_vote(engine: AnsweredBy, views: tuple[View, ...]) -> None:
    """Its vote on the pair as written is not counted twice, if it was asked in the first place."""
    plan = plan_item(ITEM, EQUIVALENCE, len(VIEWS), LIMITS)
    judgements: Answers[Inquiry, Judgement] = Answers()
    for inquiry in plan.inquiries:
        judgements.add(inquiry, replace(says(0.9), answered_by=engine), "judge")
    graded = grade_item(plan, judgements)

    assert isinstance(graded, Grade)
    assert tuple(vote.view for vote in graded.votes) == views


@pytest.mark.parametrize("template", [EQUIVALENCE, REPORT])
@pytest.mark.parametrize(
    ("answer", "share", "source"), [("", 0, "rule"), (" \n", 0, "rule"), (" a b ", 1, "exact")]
)
def test_an_empty_answer_and_the_reference_itself_need_no_judge(
    template: object, answer: str, share: int, source: str
) -> None:
    """The worst and the best grade, without a model."""
    name = "report" if template is REPORT else "equivalence"
    graded = grade(Item(answer=answer, reference="a b"), [], name)

    assert isinstance(graded, Grade)
    assert (graded.score, graded.source) == (share * (5 if name == "report" else 1), source)


@pytest.mark.parametrize(
    ("item", "kind"),
    [
        (Item(answer="a", reference=" "), ProblemKind.INVALID_REFERENCE),
        (Item(answer="a" * 101, reference="b"), ProblemKind.TOO_LONG),
        (Item(answer="a", reference="b", question="é" * 51), ProblemKind.TOO_LONG),
    ],
)
def test_an_item_that_cannot_be_judged_says_why(item: Item, kind: ProblemKind) -> None:
    """No judge is asked about it."""
    graded = grade(item, [], "equivalence")

    assert isinstance(graded, Ungraded)
    assert graded.problem.kind is kind


def test_a_report_is_graded_by_the_mean_of_its_views() -> None:
    """The likeliest digit of the averaged probabilities, with their expectation beside it."""
    digits = REPORT.labels
    views: list[Judgement | Problem] = [
        Judgement(digits, (0, 0, 0, 0.6, 0.4, 0)),
        Judgement(digits, (0, 0, 0, 0.1, 0.9, 0)),
        Judgement(digits, (0, 0, 0, 0.5, 0.5, 0)),
    ]

    graded = grade(ITEM, views, "report")

    assert isinstance(graded, Grade)
    assert (graded.score, graded.verdict, graded.p_yes) == (4.0, None, None)
    assert graded.expected == pytest.approx(3.6)


def test_a_report_with_a_failed_view_is_unjudged() -> None:
    """Half a mean is no mean."""
    sure = Judgement(REPORT.labels, (0, 0, 0, 0, 0, 1))

    assert isinstance(grade(ITEM, [sure, FAILED, sure], "report"), Ungraded)


CRITERIA = (
    Criterion(text="names the lobe", points=3),
    Criterion(text="names the side", points=1),
    Criterion(text="advises surgery", points=-2),
)
RUBRIC_ITEM = Item(answer="basal left", criteria=CRITERIA)


@pytest.mark.parametrize(
    ("met", "score"),
    [
        ((True, True, False), 1.0),
        ((True, False, False), 0.75),
        ((True, True, True), 0.5),
        ((False, True, True), 0.0),
        ((False, False, False), 0.0),
    ],
)
def test_a_rubric_is_points_earned_over_points_possible(
    met: tuple[bool, ...], score: float
) -> None:
    """Negative points count against, and the score stays between 0 and 1."""
    graded = grade(RUBRIC_ITEM, [says(0.9 if yes else 0.1) for yes in met], "rubric")

    assert isinstance(graded, Grade)
    assert graded.score == score
    assert graded.criteria is not None
    assert [judged.verdict == "YES" for judged in graded.criteria] == list(met)


def test_a_criterion_that_was_not_judged_leaves_the_rubric_unjudged() -> None:
    """A missing criterion is not one that was not met."""
    graded = grade(RUBRIC_ITEM, [says(0.9), FAILED, says(0.1)], "rubric")

    assert isinstance(graded, Ungraded)


@given(
    st.lists(st.tuples(st.floats(-1000, 1000), st.booleans()), min_size=1).filter(
        lambda lines: any(points > 0 for points, _ in lines)
    )
)
def test_a_rubric_score_lies_between_0_and_1(lines: list[tuple[float, bool]]) -> None:
    """Whatever the points are."""
    verdicts = [
        CriterionVerdict(Criterion(text="t", points=p), "YES" if met else "NO", None, "judge")
        for p, met in lines
    ]

    assert 0.0 <= rubric_score(verdicts) <= 1.0
