"""Advantages: each sample against the scored others of its group."""

from collections.abc import Callable, Sequence
from math import inf, nan

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from medreward_trainer.config.config import Algorithm, Estimator
from medreward_trainer.errors import BadConfig
from medreward_trainer.update.advantages import (
    ESTIMATORS,
    Groups,
    advantages_of,
    dr_grpo,
    gdpo,
    grpo,
    rloo,
)

Estimate = Callable[[Tensor, Tensor], Tensor]
OF_REWARDS = pytest.mark.parametrize("estimate", [grpo, dr_grpo, rloo])
ALL: list[Estimator] = ["grpo", "dr_grpo", "rloo", "gdpo"]
RECIPE = {"accuracy_llm": 0.5, "format": 0.5}

# Thousandths, as composed rewards are: no two differ by less than rounding.
rewards = st.integers(0, 1000).map(lambda thousandths: thousandths / 1000)


def doubles(*rows: Sequence[float]) -> Tensor:
    """Make a float64 tensor of rows."""
    return torch.tensor(rows, dtype=torch.float64)


def all_scored(values_PG: Tensor) -> Tensor:
    """Mark every sample as one with a reward."""
    return torch.ones_like(values_PG, dtype=torch.bool)


@st.composite
def batches(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Draw rewards (P, G), and a mask of the scored ones."""
    prompts, samples = draw(st.integers(1, 4)), draw(st.integers(2, 6))
    rows = st.lists(rewards, min_size=samples, max_size=samples)
    marks = st.lists(st.booleans(), min_size=samples, max_size=samples)
    return (
        doubles(*(draw(rows) for _ in range(prompts))),
        torch.tensor([draw(marks) for _ in range(prompts)]),
    )


def by(estimator: Estimator, groups: Groups) -> Tensor:
    """Compute the advantages by the estimator of a configuration."""
    return advantages_of(groups, Algorithm(adv_estimator=estimator), RECIPE)


def as_groups(rewards_PG: Tensor, scored_PG: Tensor) -> Groups:
    """Make groups with the reward and its square as components; lengths from 1 up."""
    lengths_PG = torch.arange(1.0, rewards_PG.numel() + 1, dtype=torch.float64)
    return Groups(
        rewards_PG=rewards_PG,
        components={"accuracy_llm": rewards_PG, "format": rewards_PG.square()},
        scored_PG=scored_PG,
        lengths_PG=lengths_PG.reshape(rewards_PG.shape),
    )


@pytest.mark.parametrize(
    ("estimate", "expected"),
    [
        # Mean 2/3, deviation sqrt((1/9 + 4/9 + 1/9) / 2) = 0.57735.
        (grpo, [0.57735, -1.15470, 0.57735, 0.0]),
        (dr_grpo, [1 / 3, -2 / 3, 1 / 3, 0.0]),
        # The others' means are 1/2, 1 and 1/2.
        (rloo, [0.5, -1.0, 0.5, 0.0]),
    ],
)
def test_a_sample_is_compared_with_the_scored_of_its_group(
    estimate: Estimate, expected: list[float]
) -> None:
    """Three have a reward and the fourth has none, whose advantage is 0."""
    scored_PG = torch.tensor([[True, True, True, False]])
    advantages_PG = estimate(doubles([1, 0, 1, nan]), scored_PG)

    assert advantages_PG[0].tolist() == pytest.approx(expected, abs=2e-6)


@given(batches())
def test_rloo_is_a_reward_minus_the_mean_of_the_others(batch: tuple[Tensor, Tensor]) -> None:
    """The result equals the definition, computed one sample at a time."""
    rewards_PG, scored_PG = batch
    advantages_PG = rloo(rewards_PG, scored_PG)

    for p, g in scored_PG.nonzero().tolist():
        others = [
            rewards_PG[p, i].item() for i in scored_PG[p].nonzero().flatten().tolist() if i != g
        ]
        if others:
            expected = rewards_PG[p, g].item() - sum(others) / len(others)
            assert advantages_PG[p, g].item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("estimator", ALL)
@given(batches(), st.sampled_from([nan, inf, -inf, -7.0]))
def test_what_stands_for_a_missing_reward_does_not_matter(
    estimator: Estimator, batch: tuple[Tensor, Tensor], filler: float
) -> None:
    """NaN and infinity in its place change nothing, and its own advantage is 0."""
    rewards_PG, scored_PG = batch

    def advantages(filler: float) -> Tensor:
        return by(estimator, as_groups(rewards_PG.masked_fill(~scored_PG, filler), scored_PG))

    assert torch.equal(advantages(filler), advantages(0.5))
    assert not advantages(filler)[~scored_PG].any()


@pytest.mark.parametrize("estimator", ALL)
@given(batches(), st.permutations(range(6)))
def test_the_order_of_samples_does_not_matter(
    estimator: Estimator, batch: tuple[Tensor, Tensor], places: list[int]
) -> None:
    """Shuffled within their groups, all keep their advantages."""
    groups = as_groups(*batch)
    order = [place for place in places if place < groups.rewards_PG.shape[1]]
    shuffled = Groups(
        groups.rewards_PG[:, order],
        {name: values_PG[:, order] for name, values_PG in groups.components.items()},
        groups.scored_PG[:, order],
        groups.lengths_PG[:, order],
    )

    torch.testing.assert_close(
        by(estimator, shuffled), by(estimator, groups)[:, order], atol=1e-6, rtol=1e-6
    )


@OF_REWARDS
@given(batches(), st.floats(-10, 10))
def test_a_group_that_is_paid_more_throughout_learns_the_same(
    estimate: Estimate, batch: tuple[Tensor, Tensor], more: float
) -> None:
    """A number added to all rewards of a group changes no advantage."""
    rewards_PG, scored_PG = batch
    expected_PG = estimate(rewards_PG, scored_PG)

    torch.testing.assert_close(
        estimate(rewards_PG + more, scored_PG), expected_PG, atol=1e-6, rtol=1e-6
    )


@OF_REWARDS
@given(batches())
def test_a_group_as_a_whole_is_neither_praised_nor_blamed(
    estimate: Estimate, batch: tuple[Tensor, Tensor]
) -> None:
    """A group's advantages add up to 0, and that of its highest reward is not negative."""
    rewards_PG, scored_PG = batch
    advantages_PG = estimate(rewards_PG, scored_PG)
    best_P1 = rewards_PG.masked_fill(~scored_PG, -inf).argmax(dim=1, keepdim=True)

    assert advantages_PG.sum(dim=1).abs().max() < 1e-9
    assert advantages_PG.gather(1, best_P1).min() >= 0


@OF_REWARDS
@given(batches())
def test_groups_do_not_see_each_other(estimate: Estimate, batch: tuple[Tensor, Tensor]) -> None:
    """A group alone has the advantages that it has among others."""
    rewards_PG, scored_PG = batch
    alone = [
        estimate(r_G.unsqueeze(0), s_G.unsqueeze(0))
        for r_G, s_G in zip(rewards_PG, scored_PG, strict=True)
    ]

    torch.testing.assert_close(torch.cat(alone), estimate(rewards_PG, scored_PG))


@OF_REWARDS
@given(st.floats(-1e6, 1e6, width=32), st.integers(2, 9))
def test_equal_rewards_teach_exactly_nothing(
    estimate: Estimate, reward: float, samples: int
) -> None:
    """No rounding error remains in float32 that a tiny deviation could amplify."""
    rewards_PG = torch.full((1, samples), reward)

    assert not estimate(rewards_PG, all_scored(rewards_PG)).any()


def test_gdpo_does_not_whiten_what_rounding_leaves() -> None:
    """A step whose samples are all alike has advantages of 0, not of 1 and -1."""
    components_KPG = torch.full((2, 4, 7), 0.3)
    advantages_PG = gdpo(
        components_KPG,
        all_scored(components_KPG[0]),
        torch.tensor([0.7, 0.1]),
        torch.arange(1.0, 29.0).reshape(4, 7),
    )

    assert not advantages_PG.any()


@pytest.mark.parametrize("estimator", ALL)
@pytest.mark.parametrize("marks", [[False, True, False], [False, False, False]])
def test_a_sample_with_nothing_to_compare_has_no_advantage(
    estimator: Estimator, marks: list[bool]
) -> None:
    """It is 0 if a group has one reward or none, whatever the other groups have."""
    rewards_PG = doubles([0.2, 0.9, 0.4], [0.0, 1.0, 1.0])
    scored_PG = torch.tensor([marks, [True, True, True]])
    both_PG = by(estimator, as_groups(rewards_PG, scored_PG))

    assert both_PG[0].tolist() == [0.0, 0.0, 0.0]
    assert both_PG[1].all()


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        # The first component is (1, 0): 0.5 / sqrt(0.5) = 0.7071 and its opposite; the second is 0.
        # Half of it is 0.35355. Mean 0, variance 2 x 0.125 / 1 = 0.25.
        ([1, 1], [0.70711, -0.70711]),
        # The first counts three times. Mean 0.35355 / 2, variance (3 x 0.03125 + 0.28125) / 3.
        ([3, 1], [0.5, -1.5]),
    ],
)
def test_gdpo_whitens_over_tokens(lengths: list[float], expected: list[float]) -> None:
    """A component without variance adds nothing, and long responses weigh more."""
    components_KPG = torch.stack([doubles([1, 0]), doubles([1, 1])])
    advantages_PG = gdpo(
        components_KPG, all_scored(components_KPG[0]), doubles([0.5, 0.5])[0], doubles(lengths)
    )

    assert advantages_PG[0].tolist() == pytest.approx(expected, abs=1e-5)


@given(batches())
def test_gdpo_has_mean_0_and_variance_1_over_tokens(batch: tuple[Tensor, Tensor]) -> None:
    """Tokens count if their samples can be compared and differ."""
    groups = as_groups(*batch)
    advantages_PG = by("gdpo", groups)
    comparable_PG = groups.scored_PG & (groups.scored_PG.sum(dim=1, keepdim=True) > 1)
    tokens = advantages_PG[comparable_PG].repeat_interleave(groups.lengths_PG[comparable_PG].long())

    if advantages_PG.any():
        assert tokens.mean().item() == pytest.approx(0, abs=1e-6)
        assert tokens.var().item() == pytest.approx(1, abs=1e-3)


def test_gdpo_hears_a_component_however_little_it_varies() -> None:
    """A component at a tenth of its size gives the same advantages; grpo's would change."""
    accuracy_PG, format_PG = doubles([1, 0, 0, 1]), doubles([1, 1, 0, 1])
    scored_PG, even_K = all_scored(accuracy_PG), doubles([0.5, 0.5])[0]
    lengths_PG = doubles([5, 5, 5, 5])

    def advantages(size: float) -> Tensor:
        components_KPG = torch.stack([accuracy_PG, size * format_PG])
        return gdpo(components_KPG, scored_PG, even_K, lengths_PG)

    torch.testing.assert_close(advantages(0.1), advantages(1.0), atol=1e-4, rtol=1e-4)


def test_the_configuration_names_the_estimator() -> None:
    """Each name of the key has its function."""
    groups = as_groups(doubles([1, 0, 0.5]), torch.tensor([[True, True, True]]))

    assert [*ESTIMATORS, "gdpo"] == ALL
    for name, estimate in zip(ALL, (grpo, dr_grpo, rloo), strict=False):
        assert torch.equal(by(name, groups), estimate(groups.rewards_PG, groups.scored_PG))


def by_gdpo(
    groups: Groups, keys: Sequence[str] = (), weights: Sequence[float] = (), **recipe: float
) -> Tensor:
    """Compute gdpo's advantages with keys and weights of the configuration and the recipe."""
    algorithm = Algorithm(
        adv_estimator="gdpo", gdpo_reward_keys=tuple(keys), gdpo_reward_weights=tuple(weights)
    )
    return advantages_of(groups, algorithm, recipe)


THREE = Groups(
    rewards_PG=doubles([0.9, 0.4, 0.1]),
    components={
        "accuracy_llm": doubles([1, 0, 0]),
        "format": doubles([1, 1, 0]),
        "length": doubles([0.1, 0.2, 0.9]),
    },
    scored_PG=torch.tensor([[True, True, True]]),
    lengths_PG=doubles([4, 2, 3]),
)


def straight(keys: Sequence[str], weights: Sequence[float]) -> Tensor:
    """Compute gdpo's advantages of components of THREE directly."""
    components_KPG = torch.stack([THREE.components[key] for key in keys])
    return gdpo(components_KPG, THREE.scored_PG, doubles(weights)[0], THREE.lengths_PG)


def test_gdpo_takes_what_the_recipe_pays_for() -> None:
    """By default it uses the components with a weight, and their weights."""
    expected_PG = straight(["accuracy_llm", "format"], [0.8, 0.2])

    assert torch.equal(by_gdpo(THREE, accuracy_llm=0.8, format=0.2), expected_PG)
    assert torch.equal(by_gdpo(THREE, accuracy_llm=0.8, format=0.2, length=0.0), expected_PG)


def test_gdpo_takes_the_components_and_weights_that_it_is_told() -> None:
    """The configuration's keys and weights come before the recipe's."""
    chosen_PG = by_gdpo(THREE, ["format"], accuracy_llm=0.8, format=0.2)
    weighed_PG = by_gdpo(THREE, ["length", "format"], [0.3, 0.7], accuracy_llm=0.8, format=0.2)

    assert torch.equal(chosen_PG, straight(["format"], [0.2]))
    assert torch.equal(weighed_PG, straight(["length", "format"], [0.3, 0.7]))


def test_gdpo_goes_on_without_a_component_that_a_step_has_not() -> None:
    """The recipe has modality but no sample of this step does, so it adds nothing."""
    advantages_PG = by_gdpo(THREE, ["accuracy_llm", "modality"], accuracy_llm=0.8, modality=0.2)

    torch.testing.assert_close(advantages_PG, straight(["accuracy_llm"], [0.8]))


@pytest.mark.parametrize(
    ("keys", "recipe", "message"),
    [
        (["accurracy"], {}, "have no accurracy; choose from accuracy_llm, format, length"),
        (["length"], {"format": 0.2}, "pays nothing for length; say its weight"),
        ([], {}, "have no component; choose from accuracy_llm"),
    ],
)
def test_gdpo_says_which_key_is_wrong(
    keys: list[str], recipe: dict[str, float], message: str
) -> None:
    """A misspelt component, one without a weight, and a recipe that pays nothing are refused."""
    with pytest.raises(BadConfig, match=message):
        by_gdpo(THREE, keys, (), **recipe)
