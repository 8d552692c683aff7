"""The arithmetic of groups, by tables made by hand, by brute force and by its properties."""

import math
import statistics
from collections.abc import Sequence
from itertools import combinations
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medreward.rewards.groups import (
    Group,
    Member,
    Spread,
    groups_of,
    is_right,
    pass_at,
    spread_of,
)

REWARDS = st.floats(-100, 100)
VALUES = st.lists(REWARDS, min_size=1, max_size=64)


def members(name: str, size: int | None, *rewards: float | None) -> list[Member]:
    """Members of one group, of which a reward of 1 is right."""
    return [Member(name, size, reward, is_right=reward == 1.0) for reward in rewards]


@pytest.mark.parametrize(
    ("values", "mean", "sd", "relative"),
    [
        ([0.0, 1.0], 0.5, math.sqrt(0.5), [-math.sqrt(0.5), math.sqrt(0.5)]),
        (
            [1.0, 0.0, 0.0, 1.0],
            0.5,
            math.sqrt(1 / 3),
            [math.sqrt(0.75) * s for s in (1, -1, -1, 1)],
        ),
        ([1.0, 2.0, 3.0], 2.0, 1.0, [-1.0, 0.0, 1.0]),
        ([-1.5, 0.1, 0.1, 1.0], -0.075, math.sqrt(1.0825), None),
        ([0.7], 0.7, 0.0, [0.0]),
        ([0.1] * 10, 0.1, 0.0, [0.0] * 10),
        # Equal, but for the rounding of a sum.
        ([0.1 + 0.2, 0.3], 0.3, 0.0, [0.0, 0.0]),
    ],
)
def test_spread_by_hand(
    values: list[float], mean: float, sd: float, relative: list[float] | None
) -> None:
    """Mean, standard deviation with n - 1, and distances in deviations."""
    spread = spread_of(values)

    assert spread == pytest.approx((mean, sd))
    if relative is not None:
        assert [spread.relative(value) for value in values] == pytest.approx(relative, abs=1e-7)


@given(VALUES)
def test_a_spread_is_that_of_the_library(values: list[float]) -> None:
    """Of the standard library, unless all are equal by their level."""
    spread = spread_of(values)

    assert spread.mean == pytest.approx(statistics.fmean(values), abs=1e-9)
    assert min(values) <= spread.mean <= max(values)
    if max(values) - min(values) <= 1e-9:
        assert spread.sd == 0
    else:
        assert spread.sd == pytest.approx(statistics.stdev(values), rel=1e-9)


@given(VALUES)
def test_relative_rewards_are_bounded_and_balanced(values: list[float]) -> None:
    """They add up to 0, have the deviation 1 or 0, and none is over (n - 1) / √n."""
    spread, count = spread_of(values), len(values)
    relative = [spread.relative(value) for value in values]

    assert all(map(math.isfinite, relative))
    if spread.sd == 0:
        assert relative == [0.0] * count
        return
    # The mean is rounded at the size of the values, and the deviation may be much smaller.
    rounding = 1e-13 * max(map(abs, values)) / spread.sd + 1e-9
    assert math.fsum(relative) == pytest.approx(0.0, abs=count * rounding)
    assert statistics.stdev(relative) == pytest.approx(1.0, abs=rounding)
    assert max(map(abs, relative)) <= (count - 1) / math.sqrt(count) + rounding


@pytest.mark.parametrize(
    ("sent", "group"),
    [
        (members("g", 2, 0.0, 1.0), (2, 2, 2, None, False)),
        (members("g", 2, 1.0, 1.0), (2, 2, 2, None, True)),
        (members("g", 1, 1.0), (1, 1, 1, None, True)),
        (members("g", 512, *[1.0] * 511, 0.0), (512, 512, 512, None, False)),
        (members("g", 3, 1.0, None, 1.0), (3, 3, 2, None, True)),
        (members("g", 2, None, None), (2, 2, 0, None, None)),
        (members("g", 3, 1.0, 1.0), (3, 2, 2, "too_few", None)),
        (members("g", 1, 1.0, None), (1, 2, 1, "too_many", None)),
        # Two groups of one name: of one size, and of several.
        (members("g", 2, 1.0, 1.0) * 2, (2, 4, 4, "too_many", None)),
        (
            [*members("g", 1, 1.0), *members("g", 2, 1.0, 1.0)],
            (None, 3, 3, "sizes_differ", None),
        ),
        ([*members("g", 2, 1.0), *members("g", None, 1.0)], (None, 2, 2, "sizes_differ", None)),
    ],
)
def test_a_group_by_hand(sent: Sequence[Member], group: tuple[object, ...]) -> None:
    """Size, seen, scored, the reason if it is not whole, and whether all are right if it is."""
    (found,) = groups_of(sent)

    assert found[1:6] == group
    compares = found.reason is None and found.scored > 0
    assert (found.spread is not None) == compares


def test_the_unscored_are_left_out_of_the_statistics() -> None:
    """Mean and deviation are those of the rewards that there are."""
    (found,) = groups_of(members("g", 4, None, 0.0, None, 1.0))

    assert found.spread == pytest.approx(Spread(0.5, math.sqrt(0.5)))


def test_groups_come_in_the_order_of_their_first_member() -> None:
    """Members may be mixed; names that differ by case are two, and groups without a size none."""
    sent = [
        *members("plain", None, 1.0),
        *members("b", 2, 1.0),
        *members("B", 1, 0.0),
        Member(None, None, 1.0),
        *members("", 1, 1.0),
        *members("b", 2, 0.0),
    ]

    assert [(g.id, g.size, g.seen, g.reason) for g in groups_of(sent)] == [
        ("b", 2, 2, None),
        ("B", 1, 1, None),
        ("", 1, 1, None),
    ]


MEMBERS = st.builds(
    Member,
    group=st.sampled_from([None, "a", "A", "b"]),
    size=st.none() | st.integers(1, 4),
    reward=st.none() | REWARDS,
    is_right=st.booleans(),
)


@given(st.lists(MEMBERS, max_size=24), st.randoms())
def test_a_group_is_what_its_members_are(sent: list[Member], order: Random) -> None:
    """By brute force over the members of each name; their order changes nothing but that of groups."""
    found = {group.id: group for group in groups_of(sent)}
    shuffled = sorted(sent, key=lambda _: order.random())

    assert set(found) == {m.group for m in sent if m.size is not None and m.group is not None}
    for name, group in found.items():
        own = [member for member in sent if member.group == name]
        rewards = [member.reward for member in own if member.reward is not None]
        is_whole = all(member.size == len(own) for member in own)
        assert (group.seen, group.scored) == (len(own), len(rewards))
        assert (group.reason is None) == is_whole
        if is_whole and rewards:
            assert group.all_right == all(m.is_right for m in own if m.reward is not None)
            assert group.spread == spread_of(rewards)
        else:
            assert (group.all_right, group.spread) == (None, None)
    again = {group.id: group for group in groups_of(shuffled)}
    assert {n: _rounded(g) for n, g in again.items()} == {n: _rounded(g) for n, g in found.items()}


def _rounded(group: Group) -> tuple[object, ...]:
    spread = group.spread and tuple(round(value, 6) for value in group.spread)
    return (*group[:-1], spread)


@pytest.mark.parametrize(
    ("reward", "values", "right"),
    [
        (0.1, {"accuracy_llm": 1.0, "accuracy_embed": 0.0}, True),
        (0.9, {"accuracy_llm": 0.0, "accuracy_embed": 1.0}, False),
        # A soft signal is the probability of YES.
        (0.6, {"accuracy_llm": 0.5}, True),
        (0.6, {"accuracy_llm": 0.49}, False),
        (0.5, {"accuracy_embed": 1.0, "format": 0.0}, True),
        (1.0, {"accuracy_embed": 0.0}, False),
        (1.0, {"rubric": 1.0}, True),
        (0.99, {"rubric": 0.99}, False),
        (1.0 - 1e-12, {"rubric": 1.0}, True),
    ],
)
def test_the_judge_says_what_is_right(
    reward: float, values: dict[str, float], *, right: bool
) -> None:
    """Then the embedder; without both, the greatest reward."""
    assert is_right(reward, values, 1.0) is right


@pytest.mark.parametrize(
    ("k", "right", "count", "chance"),
    [
        (1, 1, 2, 0.5),
        (2, 1, 2, 1.0),
        (2, 1, 4, 0.5),
        (1, 0, 8, 0.0),
        (8, 1, 8, 1.0),
        (2, 3, 8, 9 / 14),
    ],
)
def test_pass_at_k_by_hand(k: int, right: int, count: int, chance: float) -> None:
    """One minus the share of draws without a right answer."""
    assert pass_at(k, right, count) == pytest.approx(chance)


@given(st.data())
def test_pass_at_k_counts_the_draws(data: st.DataObject) -> None:
    """By brute force: the share of all draws of k answers that hold a right one."""
    count = data.draw(st.integers(1, 9))
    right, k = data.draw(st.integers(0, count)), data.draw(st.integers(1, count))
    draws = list(combinations(range(count), k))

    hits = sum(any(answer < right for answer in draw) for draw in draws)
    assert pass_at(k, right, count) == pytest.approx(hits / len(draws))


@given(st.data())
def test_pass_at_k_is_a_chance(data: st.DataObject) -> None:
    """Between 0 and 1, and no less with another draw or another right answer."""
    count = data.draw(st.integers(1, 4096))
    right, k = data.draw(st.integers(0, count)), data.draw(st.integers(1, count))
    chance = pass_at(k, right, count)

    assert 0.0 <= chance <= 1.0
    assert (chance == 0.0) == (right == 0)
    assert pass_at(min(count, k + 1), right, count) >= chance - 1e-12
    assert pass_at(k, min(count, right + 1), count) >= chance - 1e-12
