"""How a case is asked, and how replies are read."""

import pytest

from medreward.audit.cases import Case
from medreward.audit.outcomes import Outcome, item_of, outcome_of, response, sample_of
from medreward.errors import ProblemKind
from medreward.http.schemas import Component, ItemResult, Problem, SampleResult
from medreward.parsing.completion import read_completion
from medreward.recipes.recipe import Tags
from medreward.samples import Source

CASE = Case("attack", "A02", "Solution", "left lower lobe", equivalent=False, question="Where?")
MEDIX = Tags(modalities=("X_RAY", "OTHER"), tighten=True)


@pytest.mark.parametrize(
    ("tags", "written"),
    [
        (MEDIX, "<X_RAY><thinking>{}</thinking><answer>Solution</answer>"),
        (Tags(thinking="think", answer="\\boxed"), "<think>{}</think>\\boxed{{Solution}}"),
        (Tags(thinking="think", answer=None), "<think>{}</think>Solution"),
        (Tags(thinking=None, answer=None), "Solution"),
    ],
)
def test_an_answer_is_wrapped_as_the_recipe_asks(tags: Tags, written: str) -> None:
    """Its form earns full marks, so that what is measured is the answer."""
    told = response("Solution", tags)
    read = read_completion(told, tags)

    assert told == written.format("I compare what I see with what I know.")
    assert (read.answer, read.well_formed or tags.thinking is None) == ("Solution", True)


def test_both_routes_are_asked_the_same() -> None:
    """Answer, reference and question; the sample names the modality that it wears."""
    item, sample = item_of(CASE), sample_of(CASE, MEDIX)

    assert (item.answer, item.reference, item.question) == ("Solution", CASE.reference, "Where?")
    assert (sample.reference, sample.question, sample.modality) == (
        CASE.reference,
        "Where?",
        "X_RAY",
    )
    assert sample_of(CASE, Tags()).modality is None


@pytest.mark.parametrize(
    ("value", "source", "is_paid", "refused_by"),
    [
        (0.7, "cache", True, None),
        (0.3, "judge", False, None),
        (0.0, "judge", False, None),
        (0.0, "rule", False, "rule"),
        (0.0, "veto", False, "veto"),
    ],
)
# A recipe may look at the answer by one of the two alone.
@pytest.mark.parametrize("component", ["accuracy_llm", "accuracy_embed"])
def test_what_is_paid_and_what_is_refused(
    component: str, value: float, source: Source, is_paid: bool, refused_by: str | None
) -> None:
    """The accuracy decides; a rule that set it to 0 without a model refused the answer."""
    parts = {component: Component(value=value, weight=1.0, source=source)}
    scored = SampleResult(id=None, status="scored", reward=value, components=parts, flags=[])
    found = outcome_of(CASE, _judged("NO", 0.1), _judged("NO", None), scored)

    assert (found.is_paid, found.refused_by) == (is_paid, refused_by)


@pytest.mark.parametrize(
    ("verdict", "p_yes", "found"), [("YES", 0.8, 0.8), ("YES", None, 1.0), ("NO", None, 0.0)]
)
def test_what_a_rule_settled_is_certain(verdict: str, p_yes: float | None, found: float) -> None:
    """A verdict without a probability counts as 0 or 1."""
    scored = SampleResult(id=None, status="scored", reward=0.0, components={}, flags=[])

    assert outcome_of(CASE, _judged(verdict, p_yes), _judged("NO", None), scored).p_yes == found


@pytest.mark.parametrize(
    ("kind", "is_lost"),
    [(ProblemKind.JUDGE_UNREACHABLE, True), (ProblemKind.JUDGE_ABSTAINED, False)],
)
def test_an_outage_loses_a_case_and_an_abstention_does_not(
    kind: ProblemKind, is_lost: bool
) -> None:
    """Declining to score is an outcome: nothing was paid."""
    error = Problem(kind=kind, message="m", retryable=is_lost)
    judged = ItemResult(id=None, status="unjudged", votes=[], error=error)
    scored = SampleResult(id=None, status="unscored", components={}, flags=[], error=error)
    found = outcome_of(CASE, judged, judged, scored)

    assert found == Outcome(CASE, unjudged=kind, unscored=kind, is_lost=is_lost)
    assert (found.verdict, found.is_misjudged, found.is_mispaid) == (None, False, False)


def _judged(verdict: str, p_yes: float | None) -> ItemResult:
    return ItemResult.model_validate(
        {"id": None, "status": "judged", "verdict": verdict, "p_yes": p_yes, "votes": []}
    )
