"""Selection of the groups that a step learns from."""

from math import inf, nan

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medreward_trainer.config.config import FilterGroups
from medreward_trainer.data.examples import Example
from medreward_trainer.data.prompts import Prompt
from medreward_trainer.rollouts.rollout import Group, Score
from medreward_trainer.update.filtering import keep, no_variance
from medreward_trainer.update.scored_groups import is_kept as group_is_kept


def is_kept(values: list[float], *, low: float = 0.01, high: float = 0.99) -> bool:
    """Filter one group whose unscored samples are NaN."""
    values_PG = torch.tensor([values], dtype=torch.float32)
    return bool(keep(values_PG, ~values_PG.isnan(), low=low, high=high).item())


def has_no_variance(rewards: list[float]) -> bool:
    """Check one group for variance; unscored samples are NaN."""
    rewards_PG = torch.tensor([rewards])
    return bool(no_variance(rewards_PG, ~rewards_PG.isnan()).item())


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 0, 0, 0], True),
        ([1, 1, 1, 1], False),
        ([0, 0, 0, 0], False),
        ([1, nan, 0, nan], True),
        ([1, nan, 1, nan], False),  # not the mean of 0.5 that NaN as 0 would give
        ([0.5, nan, nan, nan], False),  # one is no group
        ([0.5, 0.5, 0.5, 0.5], False),  # shares, such as a rubric's, of which none is better
        ([nan, nan, nan, nan], False),
    ],
)
def test_a_group_is_kept_if_it_is_neither_all_right_nor_all_wrong(
    values: list[float], expected: bool
) -> None:
    """Its mean over two or more scored samples is between the bounds."""
    assert is_kept(values) is expected


def test_a_mean_on_a_bound_is_out() -> None:
    """Both bounds are open."""
    assert not is_kept([0.25, 0.25], low=0.25, high=0.75)
    assert not is_kept([0.75, 0.75], low=0.25, high=0.75)
    assert is_kept([0.25, 0.75], low=0.25, high=0.75)


def test_the_composite_keeps_a_group_that_is_all_wrong() -> None:
    """This is why the default metric is the judge's verdict."""
    composites, verdicts = [0.145, 0.1, 0.145, 0.1], [0.0, 0.0, 0.0, 0.0]

    assert is_kept(composites)
    assert not is_kept(verdicts)
    assert FilterGroups().metric == "accuracy_llm"


@pytest.mark.parametrize(
    ("rewards", "expected"),
    [
        ([-2.0, -2.0, -1.99, -2.0], False),
        ([-1.5, -0.5, -1.0, -0.5], True),
        ([0.25, -0.25, 0.0, 1.0], True),
        ([1.0, 1.0, 1.0, 0.99], False),
        ([-0.5, -0.5, None, -0.5], False),
    ],
)
def test_the_composite_is_filtered_within_the_range_of_its_recipe(
    rewards: list[float | None], expected: bool
) -> None:
    """From -2 to 1, rewards below 0 are not all wrong; bounds are those of a reward from 0 to 1."""
    scores = tuple(Score(reward, {}, None if reward else "failed") for reward in rewards)
    group = Group(Prompt(Example("a:1", "p", "", None), "p", (1,)), (), scores)

    assert group_is_kept(group, FilterGroups(metric="reward"), (-2.0, 1.0)) is expected


def test_each_group_is_looked_at_by_itself() -> None:
    """The result has one value for each group, in their order."""
    values_PG = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    scored_PG = torch.ones_like(values_PG, dtype=torch.bool)

    assert keep(values_PG, scored_PG, low=0.01, high=0.99).tolist() == [True, False, True]
    assert no_variance(values_PG, scored_PG).tolist() == [False, True, False]


@given(
    st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=2, max_size=6),
    st.lists(st.sampled_from([nan, inf, -inf, 0.3]), max_size=4),
)
def test_what_stands_for_a_missing_value_does_not_matter(
    scored: list[float], fillers: list[float]
) -> None:
    """A group with unscored samples is treated as the group of the others."""
    values_PG = torch.tensor([scored + fillers])
    scored_PG = torch.tensor([[True] * len(scored) + [False] * len(fillers)])

    assert keep(values_PG, scored_PG, low=0.01, high=0.99).item() is is_kept(scored)
    assert no_variance(values_PG, scored_PG).item() is has_no_variance(scored)


@pytest.mark.parametrize(
    ("rewards", "expected"),
    [
        ([0.145, 0.145, 0.145], True),
        ([0.145, 0.145, 0.1], False),
        ([0.145, nan, 0.145], True),
        ([0.145, nan, nan], False),  # it differs from nothing, and equals nothing
        ([nan, nan, nan], False),
        ([0.145, 0.145 + 1e-7, 0.145], False),
    ],
)
def test_a_group_has_no_variance_if_its_scored_samples_are_equal(
    rewards: list[float], expected: bool
) -> None:
    """A group needs two or more scored samples, equal to the last bit."""
    assert has_no_variance(rewards) is expected
