"""The arithmetic of a reward, checked with pencil and paper."""

import math
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from medreward.engines.embedder import Vector
from medreward.engines.judge import Judgement
from medreward.errors import Problem, ProblemKind
from medreward.inference.answers import Answered
from medreward.parsing.signal import Signal
from medreward.recipes.recipe import SIGNALS, Recipe, SignalName, load_recipes
from medreward.rewards.reward import Reward, Unscored, agreed, compose, embed_signal, judge_signal
from medreward.samples import AnsweredBy, Source

MEDIX: Recipe = load_recipes()["medix-r1"]
GUARDED: Recipe = load_recipes()["medix-r1-guarded"]
UNREACHABLE = Problem(ProblemKind.JUDGE_UNREACHABLE, "nobody home")

HAND_COMPUTED = {
    # judge, embedding, modality, format -> reward
    (0, 0, 0, 0): 0.0,
    (0, 0, 0, 1): 0.1,
    (0, 0, 1, 0): 0.045,
    (0, 0, 1, 1): 0.145,
    (0, 1, 0, 0): 0.3375,
    (0, 1, 0, 1): 0.4375,
    (0, 1, 1, 0): 0.3825,
    (0, 1, 1, 1): 0.4825,
    (1, 0, 0, 0): 0.5175,
    (1, 0, 0, 1): 0.6175,
    (1, 0, 1, 0): 0.5625,
    (1, 0, 1, 1): 0.6625,
    (1, 1, 0, 0): 0.855,
    (1, 1, 0, 1): 0.955,
    (1, 1, 1, 0): 0.9,
    (1, 1, 1, 1): 1.0,
}


def signals_of(values: tuple[int, ...]) -> dict[SignalName, Signal | Problem]:
    """Make the four signals from their values."""
    return {name: Signal(float(v), "rule") for name, v in zip(SIGNALS, values, strict=True)}


@pytest.mark.parametrize(("values", "total"), HAND_COMPUTED.items())
def test_every_combination_of_components_adds_up(values: tuple[int, ...], total: float) -> None:
    """All sixteen rewards of medix-r1 are those computed by hand."""
    reward = compose(signals_of(values), MEDIX)

    assert isinstance(reward, Reward)
    assert math.isclose(reward.total, total, abs_tol=1e-12)


@pytest.mark.parametrize(("values", "total"), HAND_COMPUTED.items())
def test_without_a_modality_the_other_weights_grow_to_the_same_sum(
    values: tuple[int, ...], total: float
) -> None:
    """The modality's weight goes to the others in proportion, and the weights shown add up to 1."""
    signals = signals_of(values)
    del signals["modality"]

    reward = compose(signals, MEDIX)

    assert isinstance(reward, Reward)
    assert math.isclose(reward.total, (total - 0.045 * values[2]) / 0.955, abs_tol=1e-12)
    assert math.isclose(sum(part.weight for part in reward.components.values()), 1.0)


@given(st.sampled_from(SIGNALS), st.tuples(*[st.integers(0, 1)] * 4))
def test_a_missing_signal_leaves_the_sample_unscored(
    missing: SignalName, values: tuple[int, ...]
) -> None:
    """Whichever signal failed, there is no reward, and the others are still told."""
    outcome = compose(signals_of(values) | {missing: UNREACHABLE}, MEDIX, flags=("malformed",))

    assert isinstance(outcome, Unscored)
    assert outcome.problem is UNREACHABLE
    assert set(outcome.components) == set(SIGNALS) - {missing}
    assert outcome.flags == ("malformed",)


@given(st.tuples(*[st.floats(0, 1)] * 4))
def test_a_reward_lies_between_0_and_1(values: tuple[float, ...]) -> None:
    """Signals between 0 and 1 give a reward between 0 and 1."""
    signals: Mapping[SignalName, Signal] = {
        name: Signal(v, "rule") for name, v in zip(SIGNALS, values, strict=True)
    }

    reward = compose(signals, MEDIX)

    assert isinstance(reward, Reward)
    assert -1e-12 <= reward.total <= 1 + 1e-12


def judged(
    p_yes: float, threshold: float = 0.5, answered_by: AnsweredBy | None = None
) -> Answered[Judgement]:
    """A judge's answer."""
    told = Judgement(("YES", "NO"), (p_yes, 1 - p_yes), 0.9, threshold, answered_by)
    return Answered(told, "judge")


FAILED: Answered[Judgement] = Answered(UNREACHABLE, "judge")


@pytest.mark.parametrize(
    ("answers", "value", "p_yes"),
    [
        ([judged(0.9)], 1.0, 0.9),
        ([judged(0.5)], 0.0, 0.5),
        ([judged(0.1), judged(0.7)], 1.0, 0.7),
        ([FAILED, judged(0.7)], 1.0, 0.7),
        ([judged(0.1), judged(0.2)], 0.0, 0.2),
    ],
)
def test_any_accepted_reference_may_get_the_yes(
    answers: list[Answered[Judgement]], value: float, p_yes: float
) -> None:
    """The likeliest reference speaks; one half is NO."""
    signal = judge_signal(answers)

    assert isinstance(signal, Signal)
    assert (signal.value, signal.p_yes, signal.coverage) == (value, p_yes, 0.9)


@pytest.mark.parametrize("answers", [[FAILED], [judged(0.1), FAILED], [FAILED, judged(0.1)]])
def test_no_yes_and_one_failure_is_no_verdict(answers: list[Answered[Judgement]]) -> None:
    """The reference that failed might have been the right one."""
    assert judge_signal(answers) is UNREACHABLE


def vector(degrees: float, source: Source = "embedder") -> Answered[Vector]:
    """A unit vector in the plane."""
    angle = math.radians(degrees)
    return Answered(np.array([math.cos(angle), math.sin(angle)], dtype=np.float32), source)


LOST: Answered[Vector] = Answered(UNREACHABLE, "embedder")


@pytest.mark.parametrize(
    ("references", "value", "degrees"),
    [
        ([vector(0)], 1.0, 0),
        ([vector(36.8)], 1.0, 36.8),
        ([vector(36.9)], 0.0, 36.9),
        ([vector(90), vector(10)], 1.0, 10),
        ([LOST, vector(10)], 1.0, 10),
        ([vector(180)], 0.0, 180),
    ],
)
def test_the_nearest_reference_counts(
    references: list[Answered[Vector]], value: float, degrees: float
) -> None:
    """The largest cosine is held against the threshold."""
    signal = embed_signal(vector(0), references, threshold=0.8)

    assert isinstance(signal, Signal)
    assert signal.value == value
    assert signal.cosine == pytest.approx(math.cos(math.radians(degrees)), abs=1e-6)


@pytest.mark.parametrize(
    ("answer", "references"), [(LOST, [vector(0)]), (vector(0), [vector(90), LOST])]
)
def test_what_could_not_be_compared_is_no_signal(
    answer: Answered[Vector], references: list[Answered[Vector]]
) -> None:
    """A lost answer, or a lost reference with no near one, leaves the sample unscored."""
    assert embed_signal(answer, references, threshold=0.8) is UNREACHABLE


def test_vectors_of_different_lengths_are_no_signal() -> None:
    """An embedder that changes its mind about dimensions leaves the sample unscored."""
    longer: Answered[Vector] = Answered(np.array([1, 0, 0], dtype=np.float32), "cache")

    problem = embed_signal(vector(0), [vector(0), longer], threshold=0.8)

    assert isinstance(problem, Problem)
    assert problem.kind is ProblemKind.EMBEDDER_UNREACHABLE


@pytest.mark.parametrize(
    ("answer", "reference", "told"),
    [
        ("cache", "cache", "cache"),
        ("cache", "coalesced", "coalesced"),
        ("coalesced", "embedder", "embedder"),
        ("embedder", "cache", "embedder"),
    ],
)
def test_a_comparison_is_as_fresh_as_its_freshest_text(
    answer: Source, reference: Source, told: Source
) -> None:
    """Only where both vectors were remembered is the cosine from the cache."""
    signal = embed_signal(vector(0, answer), [vector(0, reference)], threshold=0.8)

    assert isinstance(signal, Signal)
    assert signal.source == told


@given(st.floats(0, 1), st.integers(0, 1), st.integers(0, 1), st.integers(0, 1))
@example(0.0, 1, 1, 1)
@example(1.0, 1, 1, 1)
def test_a_gated_embedding_is_multiplied_by_the_judge(
    judge: float, embed: int, modality: int, form: int
) -> None:
    """Of the guarded recipe: J x (0.75 + 0.10 x E) + 0.05 x M + 0.10 x F, also for J between 0 and 1."""
    signals = signals_of((0, embed, modality, form)) | {"accuracy_llm": Signal(judge, "judge")}

    reward = compose(signals, GUARDED)

    by_hand = judge * (0.75 + 0.10 * embed) + 0.05 * modality + 0.10 * form
    assert isinstance(reward, Reward)
    assert math.isclose(reward.total, by_hand, abs_tol=1e-12)


def test_an_embedder_that_failed_is_not_missed_where_the_judge_says_no() -> None:
    """Behind a NO the embedding is worth nothing, so its failure costs no score."""
    lost = Problem(ProblemKind.EMBEDDER_TIMEOUT, "too late")

    wrong = compose(signals_of((0, 0, 1, 1)) | {"accuracy_embed": lost}, GUARDED)
    right = compose(signals_of((1, 0, 1, 1)) | {"accuracy_embed": lost}, GUARDED)

    assert isinstance(wrong, Reward)
    assert math.isclose(wrong.total, 0.15)
    assert isinstance(right, Unscored)
    assert right.problem is lost


@pytest.mark.parametrize(
    ("views", "decides"),
    [
        ([judged(0.9)], 0),
        ([judged(0.9), judged(0.7)], 1),
        ([judged(0.3), judged(0.9)], 0),
        ([judged(0.9, threshold=0.95), judged(0.6)], 0),
        ([judged(0.3), FAILED], 0),  # a NO is a NO whatever the other view had said
        ([judged(0.9), FAILED], 1),
        ([FAILED, judged(0.9)], 0),
        # The language model of a cascade decides by the pair as written.
        ([judged(0.9, answered_by="second"), judged(0.1)], 0),
        ([judged(0.9, answered_by="first"), judged(0.1, answered_by="second")], 1),
    ],
)
def test_a_yes_has_to_hold_in_every_view(views: list[Answered[Judgement]], decides: int) -> None:
    """The view furthest from YES decides; a failed one leaves open only what no NO has settled."""
    assert agreed(views) is views[decides]


def test_a_soft_signal_is_the_probability_of_yes() -> None:
    """Where a recipe wants it soft, the signal is P(YES), also below the threshold."""
    hard, soft = judge_signal([judged(0.4)]), judge_signal([judged(0.4)], soft=True)

    assert isinstance(hard, Signal)
    assert isinstance(soft, Signal)
    assert (hard.value, soft.value) == (0.0, 0.4)
