"""Samples without a reward: the share that a step may have, and imputation."""

import logging
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medreward_client import Component, NoReward, Problem, Sample, Scored, Unscored
from medreward_client._unscored import FEWEST, WINDOW, UnscoredGuard, impute, refuse
from tests.client.stand_in import PATIENT_TEXT

FORMAT = Component(1.0, 0.1, "rule")
MODALITY = Component(0.0, 0.045, "rule")
EMBED = Component(1.0, 0.3375, "embedder", cosine=0.97)
SCORED = Scored(None, 1.0, {}, ())


def unscored(kind: str = "judge_timeout", **components: Component) -> Unscored:
    """Make a result without a reward."""
    return Unscored(None, Problem(kind, "no answer in time", retryable=True), components, ())


def sample(group: str | None = None) -> Sample:
    """Make a sample of a group."""
    return Sample(PATIENT_TEXT, "left", group=group)


def scored(reward: float) -> Scored:
    """Make a result with a reward."""
    return Scored(None, reward, {}, ())


def test_a_missing_reward_is_the_mean_of_its_group() -> None:
    """Such a sample has advantage 0, and does not move the advantages of the others."""
    samples = [sample("a"), sample("a"), sample("a"), sample("b")]

    rewards = impute(samples, [scored(1.0), unscored(), scored(0.2), scored(0.9)])

    assert rewards == [1.0, pytest.approx(0.6), 0.2, 0.9]


def test_without_a_group_it_is_what_the_other_components_say() -> None:
    """The mean is that of the known components, with weights scaled to one."""
    result = unscored(accuracy_embed=EMBED, modality=MODALITY, format=FORMAT)

    (reward,) = impute([sample()], [result])

    assert reward == pytest.approx((0.3375 + 0.1) / (0.3375 + 0.1 + 0.045))


@pytest.mark.parametrize(
    "result",
    [
        unscored(),
        unscored(format=FORMAT, modality=MODALITY),
        unscored(accuracy_embed=EMBED, format=replace(FORMAT, weight=-0.33)),
    ],
    ids=["nothing", "rules alone", "weights of either sign"],
)
def test_a_form_well_filled_in_is_no_answer(result: Unscored) -> None:
    """Rules alone impute nothing, nor do weights of either sign: they would give more than it can earn."""
    with pytest.raises(NoReward, match="judge_timeout 1"):
        impute([sample()], [result])


def test_under_another_range_the_group_alone_is_a_substitute() -> None:
    """Its weights need not add up to 1, so known components say nothing of the whole."""
    result = unscored(accuracy_embed=EMBED)
    samples = [sample("a"), sample("a")]

    assert impute(samples, [scored(-1.5), result], (-2.0, 1.0)) == [-1.5, -1.5]
    with pytest.raises(NoReward):
        impute(samples[:1], [result], (-2.0, 1.0))


@pytest.mark.parametrize("named", [None, ""])
def test_a_group_is_not_the_samples_without_a_group(named: str | None) -> None:
    """Samples without a group do not form one, nor belong to that with an empty name."""
    with pytest.raises(NoReward):
        impute([sample(named), sample()], [scored(1.0), unscored()])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.integers(1, 4))
def test_imputing_leaves_scored_samples_as_they_are(rewards: list[float], missing: int) -> None:
    """An imputed reward lies between the rewards of the group."""
    results: list[Scored | Unscored] = [scored(reward) for reward in rewards]
    results += [unscored()] * missing

    found = impute([sample("a")] * len(results), results)

    assert found[: len(rewards)] == rewards
    assert all(
        min(rewards) - 1e-12 <= put_in <= max(rewards) + 1e-12 for put_in in found[len(rewards) :]
    )


def test_refusing_counts_by_kind() -> None:
    """The error says how many there are of each kind, and shows no patient text."""
    results: list[Scored | Unscored] = [SCORED, unscored(), unscored(), unscored("deadline")]

    with pytest.raises(NoReward, match=r"3 of 4 .*deadline 1, judge_timeout 2") as caught:
        refuse(results)

    assert caught.value.counts == {"judge_timeout": 2, "deadline": 1}
    # A reward of 0 is a reward.
    refuse([SCORED, scored(0.0)])


def noted(results: Sequence[Scored | Unscored], max_share: float = 0.25) -> None:
    """Count the results of one step."""
    UnscoredGuard(max_share).note(results, step=1)


def test_the_odd_failure_is_borne() -> None:
    """A quarter of a step, and no more, may be without a reward."""
    noted([SCORED] * 75 + [unscored()] * 25)


def test_a_step_with_too_many_failures_is_stopped() -> None:
    """The error names the counts of each kind, and the allowed share."""
    results = [SCORED] * 74 + [unscored()] * 20 + [unscored("judge_unreachable")] * 6

    with pytest.raises(NoReward, match=r"26 of 100 .*max_unscored_share=0\.25") as caught:
        noted(results)

    assert caught.value.counts == {"judge_timeout": 20, "judge_unreachable": 6}


def test_a_handful_is_no_share() -> None:
    """Three failures out of four, at the beginning, are not an outage yet."""
    noted([SCORED] + [unscored()] * 3)


def test_small_steps_are_counted_together() -> None:
    """An outage stops a run of steps of eight samples, too."""
    breaker = UnscoredGuard(0.25)
    for step in range(FEWEST // 8 - 1):
        breaker.note([unscored()] * 8, step)

    with pytest.raises(NoReward):
        breaker.note([unscored()] * 8, FEWEST // 8 - 1)


def test_each_step_is_counted_anew() -> None:
    """Failures of a step that is over do not stop the next."""
    breaker = UnscoredGuard(0.25)
    breaker.note([SCORED] * 48 + [unscored()] * 16, 1)

    breaker.note([unscored()] * 8 + [SCORED] * 24, 2)


def test_a_step_that_comes_in_pieces_is_one_step() -> None:
    """Samples that are scored one by one add up."""
    breaker = UnscoredGuard(0.25)
    for result in [SCORED] * 24 + [unscored()] * 8:
        breaker.note([result], 1)

    with pytest.raises(NoReward, match="9 of 33"):
        breaker.note([unscored()], 1)


def test_without_a_step_the_last_thousand_count() -> None:
    """Without a step, early failures leave the count after enough samples."""
    breaker = UnscoredGuard(0.25)
    breaker.note([SCORED] * (WINDOW - 256) + [unscored()] * 256, None)

    breaker.note([unscored()] * 8 + [SCORED] * 24, None)


def test_an_error_tells_one_of_the_reasons() -> None:
    """The counts alone tell nobody where to look."""
    with pytest.raises(NoReward, match=r"judge_timeout 40.*the last: no answer in time"):
        noted([unscored()] * 40)


def test_what_was_raised_about_is_no_longer_counted() -> None:
    """Or each later batch with a single failure would be stopped by the failures before it."""
    breaker = UnscoredGuard(0.25)
    for _ in range(2):
        with pytest.raises(NoReward, match="40 of 40"):
            breaker.note([unscored()] * 40, None)

    breaker.note([SCORED] * 39 + [unscored()], None)


def test_what_others_raised_about_is_taken_back() -> None:
    """Small batches that a trainer sends again and again do not add up."""
    breaker = UnscoredGuard(0.25)
    for _ in range(50):
        batch = [unscored()] * 4
        breaker.note(batch, None)
        breaker.forget(batch)


def test_an_outage_does_not_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Hundreds of single failures log a few lines, the first at once."""
    caplog.set_level(logging.WARNING, "medreward_client")
    breaker = UnscoredGuard(1.0)

    for _ in range(500):
        breaker.note([unscored()], 1)

    assert "1 of 1 samples" in caplog.records[0].message
    assert len(caplog.records) == 9
