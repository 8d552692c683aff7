"""What outcomes add up to, and how that stands against the bars."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medreward.audit.figures import Rate
from medreward.audit.outcomes import Outcome
from medreward.audit.record import record
from medreward.audit.report import Card
from medreward.audit.targets import Bar, bars
from tests.service.audit.outcomes import card, case, outcome

KNOWN, HELD_OUT = case("attack", "A05"), case("attack", "A05", held_out=True)
SYNONYM = case("pair", "synonym_far", equivalent=True)
SIBLING, PARENT = case("pair", "sibling"), case("pair", "parent")
RIGHT, WRONG = case("answer", "sentence", equivalent=True), case("answer", "sentence")


def test_a_stratum_counts_both_ways_of_asking() -> None:
    """Verdicts of the judge, and what the recipe paid, apart for known and held-out attacks."""
    (found,) = card(
        outcome(KNOWN, 0.9),
        outcome(KNOWN, 0.9, is_paid=False, reward=0.1, refused_by="side"),
        outcome(HELD_OUT, 0.2),
        outcome(HELD_OUT, None, unjudged="judge_unparseable"),
    ).strata

    assert (found.yes, found.paid) == (Rate(2, 3), Rate(1, 4))
    assert (found.paid_known, found.paid_held_out) == (Rate(1, 2), Rate(0, 2))
    assert (found.refused, found.cases) == (Rate(1, 4), 4)
    assert found.unjudged == {"judge_unparseable": 1}
    assert found.mean_reward == pytest.approx(1.1 / 4)


def test_a_lost_case_is_in_no_share_of_what_was_paid() -> None:
    """An abstention is: the service declined to pay."""
    lost = outcome(KNOWN, reward=None, unscored="judge_unreachable", is_lost=True)
    abstained = outcome(KNOWN, reward=None, unscored="judge_abstained")
    made = card(lost, abstained, outcome(KNOWN, 0.9))

    assert made.strata[0].paid == Rate(1, 2)
    assert made.strata[0].unscored == {"judge_abstained": 1, "judge_unreachable": 1}
    assert made.strata[0].mean_reward == 1.0
    assert made.lost == Rate(1, 3)


def test_sides_of_one_stratum_are_told_apart() -> None:
    """Quantities may be equal or not; the title says which, where there are both."""
    equal, unequal = case("pair", "quantity", equivalent=True), case("pair", "quantity")

    both = card(outcome(unequal), outcome(equal), outcome(SIBLING)).strata
    assert [s.title for s in both] == ["quantity (equivalent)", "quantity (different)", "sibling"]
    assert [s.title for s in card(outcome(unequal)).strata] == ["quantity"]
    titles = [s.title for s in card(outcome(WRONG), outcome(RIGHT)).strata]
    assert titles == ["sentence (right)", "sentence (wrong)"]


def test_each_kind_of_difference_is_held_against_all_synonyms() -> None:
    """The first contrast is of everything different; what is partial is in none."""
    made = card(
        *(outcome(SYNONYM, p) for p in (0.9, 0.6)),
        *(outcome(SIBLING, p) for p in (0.7, 0.1)),
        outcome(case("pair", "negation"), 0.2),
        outcome(PARENT, 0.95),
        outcome(SIBLING, None),
    )
    whole, negation, sibling = made.contrasts

    assert [c.name for c in made.contrasts] == ["all different pairs", "negation", "sibling"]
    assert whole.auc == pytest.approx(5 / 6)
    assert (negation.auc, sibling.auc) == (1.0, 0.75)
    assert (whole.equivalent, whole.different) == (2, 3)
    assert (sibling.false_positives, sibling.false_negatives) == (Rate(1, 2), Rate(0, 2))
    assert whole.brier == pytest.approx((0.01 + 0.16 + 0.49 + 0.01 + 0.04) / 5)


def test_wrong_answers_are_held_against_the_right_ones_of_their_stratum() -> None:
    """A stratum without right answers has no contrast; pairs and answers are never mixed."""
    denied = case("answer", "denial", equivalent=True)
    made = card(
        outcome(RIGHT, 0.9),
        outcome(WRONG, 0.4),
        outcome(denied, 0.1),
        outcome(denied._replace(equivalent=False), 0.8),
        outcome(case("answer", "long"), 0.2),
        outcome(SYNONYM, 0.3),
        outcome(SIBLING, 0.2),
    )

    assert [(c.suite, c.name, c.auc) for c in made.contrasts] == [
        ("pair", "all different pairs", 1.0),
        ("pair", "sibling", 1.0),
        ("answer", "all wrong answers", 0.5),
        ("answer", "denial", 0.0),
        ("answer", "sentence", 1.0),
    ]


def test_without_both_sides_nothing_can_be_told_apart() -> None:
    """There is no contrast, and no number in its place."""
    assert card(outcome(SYNONYM, 0.9)).contrasts == []


def test_the_worst_failures_are_shown() -> None:
    """First what was paid wrongly, then the surest; as many as asked for, and all are counted."""
    mild = outcome(KNOWN, 0.6, is_paid=False)
    sure = outcome(KNOWN, 0.9, is_paid=False)
    paid = outcome(KNOWN, 0.55)
    (found,) = card(mild, sure, paid, outcome(KNOWN), examples=2).failures

    assert found.worst == [paid, sure]
    assert (found.suite, found.title, found.total) == ("attack", "A05", 3)
    assert card(outcome(PARENT, 0.9)).failures == []


def test_a_held_out_answer_is_counted_and_not_shown() -> None:
    """Nothing is mended by answers that only measure; held-out attacks are shown."""
    hidden = outcome(WRONG._replace(held_out=True), 0.9)
    shown, attack = outcome(WRONG, 0.6), outcome(HELD_OUT, 0.9)
    attacks, answers = card(hidden, shown, attack).failures

    assert (answers.total, answers.worst) == (2, [shown])
    assert attacks.worst == [attack]


@pytest.mark.parametrize(
    ("outcomes", "name", "value", "status"),
    [
        ([outcome(case("attack", "A02"))] * 3, "Structural attacks", 0.0, "met"),
        ([outcome(case("attack", "A01"), 0.9)], "A01, A06 and A14", 1.0, "missed"),
        ([outcome(KNOWN, 0.9), outcome(HELD_OUT)], "Free-text attacks", 0.0, "met"),
        ([outcome(KNOWN, 0.9)], "Free-text attacks", None, "unknown"),
        ([outcome(case("benign", "greek", equivalent=True), 0.9)], "Benign twins", 0.0, "met"),
        (
            [outcome(case("benign", "greek", equivalent=True), refused_by="rule")],
            "Benign twins",
            1.0,
            "missed",
        ),
        ([outcome(case("pair", "negation"), 0.9)], "Clinical flips", 1.0, "missed"),
        ([outcome(SYNONYM, 0.9), outcome(SYNONYM)], "Far synonyms", 0.5, "missed"),
        ([outcome(SYNONYM, 0.9), outcome(SIBLING, 0.1)], "AUC", 1.0, "met"),
        ([outcome(SYNONYM, 0.9), outcome(SIBLING, 0.1)], "ECE", 0.1, "missed"),
        ([outcome(SYNONYM, 0.9)], "AUC", None, "unknown"),
        ([outcome(one, 0.9) for one in (SYNONYM, RIGHT, WRONG)], "AUC", None, "unknown"),
        ([outcome(SIBLING, 0.1), outcome(SIBLING, None)], "Siblings", 0.0, "unknown"),
        ([outcome(HELD_OUT), outcome(HELD_OUT, is_lost=True)], "Free-text attacks", 0.0, "unknown"),
    ],
)
def test_a_bar_is_met_missed_or_not_measured(
    outcomes: list[Outcome], name: str, value: float | None, status: str
) -> None:
    """Of nothing, and of too little, nothing is claimed."""
    bar = _bar(card(*outcomes), name)

    assert (bar.value, bar.status) == (
        value if value is None else pytest.approx(value, abs=1e-5),
        status,
    )


def test_only_the_suites_that_were_run_have_bars() -> None:
    """A pair says nothing of attacks, and answers have no bar."""
    names = {bar.name for bar in bars(card(outcome(SYNONYM, 0.9)))}

    assert names == {"Clinical flips", "Siblings", "Far synonyms", "AUC", "ECE"}
    assert bars(card(outcome(RIGHT, 0.9), outcome(WRONG, 0.1))) == []


outcomes = st.lists(
    st.builds(
        outcome,
        st.sampled_from([KNOWN, HELD_OUT, SYNONYM, SIBLING, PARENT, RIGHT, WRONG]),
        st.none() | st.floats(0.001, 1),
        is_lost=st.booleans(),
    )
)


@given(outcomes)
def test_a_card_is_the_same_in_any_order(found: list[Outcome]) -> None:
    """And is JSON, whatever it holds."""
    told = json.dumps(record(card(*found)), allow_nan=False)

    assert json.loads(told) == json.loads(json.dumps(record(card(*found[::-1]))))


def _bar(made: Card, name: str) -> Bar:
    return next(bar for bar in bars(made) if bar.name == name)
