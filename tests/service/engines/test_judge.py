"""Judgements: verdict and grade read off probabilities, and nonsense told from them."""

import math

import pytest

from medreward.engines.judge import Inquiry, Judgement, is_sound
from medreward.engines.templates import load_templates

TEMPLATES = load_templates()
YES_NO = ("YES", "NO")
DIGITS = ("0", "1", "2", "3", "4", "5")
ASKED = Inquiry(TEMPLATES["match"], answer="a", reference="b")


@pytest.mark.parametrize(
    ("p_yes", "threshold", "verdict"),
    [(0.51, 0.5, "YES"), (0.5, 0.5, "NO"), (0.81, 0.8, "YES"), (1.0, 1.0, "NO"), (0.1, 0.0, "YES")],
)
def test_yes_has_to_be_over_the_threshold(p_yes: float, threshold: float, verdict: str) -> None:
    """What hangs in the balance is NO; a calibrated judge sets another threshold than one half."""
    judgement = Judgement(YES_NO, (p_yes, 1 - p_yes), threshold=threshold)

    assert (judgement.verdict, judgement.p_yes) == (verdict, p_yes)
    assert Judgement(YES_NO, (0.5, 0.5)).threshold == 0.5


@pytest.mark.parametrize(
    ("probabilities", "p_yes", "verdict", "cannot_assess"),
    [
        ((0.6, 0.2, 0.2), 0.75, "YES", False),
        ((0.1, 0.4, 0.5), 0.2, "NO", False),
        ((0.3, 0.1, 0.6), 0.75, "NO", True),
        ((0.0, 0.0, 1.0), 0.5, "NO", True),
    ],
)
def test_what_cannot_be_assessed_is_more_likely_so_than_not(
    probabilities: tuple[float, ...], p_yes: float, verdict: str, cannot_assess: bool
) -> None:
    """P(YES) is about YES and NO alone, which share the rest; without an assessment it is a NO."""
    judgement = Judgement((*YES_NO, "CANNOT_ASSESS"), probabilities)

    assert judgement.p_yes == pytest.approx(p_yes)
    assert (judgement.verdict, judgement.cannot_assess) == (verdict, cannot_assess)


def test_a_grade_is_the_likeliest_digit_with_the_mean_beside_it() -> None:
    """Score and expectation are different things."""
    judgement = Judgement(DIGITS, (0.0, 0.0, 0.3, 0.0, 0.3, 0.4))

    assert judgement.likeliest == "5"
    assert judgement.expected == pytest.approx(0.6 + 1.2 + 2.0)


@pytest.mark.parametrize(
    "judgement",
    [
        Judgement(YES_NO, (math.nan, math.nan)),
        Judgement(YES_NO, (0.7, 0.7)),
        Judgement(YES_NO, (1.5, -0.5)),
        Judgement(YES_NO, (1.0,)),
        Judgement(("NO", "YES"), (0.5, 0.5)),
        Judgement(DIGITS, (0.0, 0.0, 0.0, 0.0, 0.0, 1.0)),
        Judgement(YES_NO, (0.5, 0.5), threshold=math.nan),
        Judgement(YES_NO, (0.5, 0.5), threshold=1.1),
    ],
)
def test_what_is_no_distribution_over_the_labels_is_nonsense(judgement: Judgement) -> None:
    """NaN, sums other than 1, other labels: none of them is a verdict."""
    assert not is_sound(judgement, ASKED)
    assert is_sound(Judgement(YES_NO, (0.25, 0.75)), ASKED)
