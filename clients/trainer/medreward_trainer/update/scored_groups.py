"""Groups with their scores, and their conversion to tensors and to rows of the update."""

from collections.abc import Sequence
from math import nan

import torch
from torch import Tensor

from medreward_client.scoring import to_unit
from medreward_trainer.config.config import Config, FilterGroups
from medreward_trainer.rollouts.rollout import Group, Score
from medreward_trainer.update.advantages import Groups
from medreward_trainer.update.filtering import keep
from medreward_trainer.update.losses import kl, overlong_penalty
from medreward_trainer.update.updater import Row

COMPOSITE = "reward"
"""The filter's name for the recipe's weighted sum."""


def is_kept(group: Group, filters: FilterGroups, of_recipe: tuple[float, float]) -> bool:
    """Return true if a group is neither all right nor all wrong by the filter's metric.

    The composite is first mapped from the range `of_recipe` to 0..1, as the bounds are.
    """
    values = [_value(score, filters.metric, of_recipe) for score in group.scores]
    values_PG = torch.tensor([[nan if value is None else value for value in values]])
    scored_PG = torch.tensor([[value is not None for value in values]])
    return bool(keep(values_PG, scored_PG, low=filters.low, high=filters.high)[0])


def with_rewards(
    groups: Sequence[Group], config: Config, *, kl_PG: Tensor, kl_coef: float
) -> Groups:
    """Compute the rewards of groups: the service's, minus the penalties of the configuration.

    `kl_PG` is the result of `kl_in_reward`. An unscored sample is NaN, and marked in `scored_PG`. A
    component that a scored sample lacks is 0: its whole group lacks it, so it changes no advantage.
    """
    rewards_PG = torch.tensor(
        [[nan if s.reward is None else s.reward for s in g.scores] for g in groups]
    )
    names = sorted({name for g in groups for s in g.scores for name in s.components})
    lengths_PG = torch.tensor([[float(len(r.tokens)) for r in g.rollouts] for g in groups])
    overlong = config.reward.reward_kwargs.overlong_buffer_cfg
    if overlong.enable:
        longest = config.data.max_response_length
        rewards_PG = rewards_PG + overlong_penalty(
            lengths_PG,
            max_response_length=longest,
            buffer=overlong.len,
            factor=overlong.penalty_factor,
        )
    rewards_PG = rewards_PG - kl_coef * kl_PG
    return Groups(
        rewards_PG=rewards_PG,
        components={
            name: torch.tensor([[s.components.get(name, 0.0) for s in g.scores] for g in groups])
            for name in names
        },
        scored_PG=~rewards_PG.isnan(),
        lengths_PG=lengths_PG,
    )


def kl_in_reward(groups: Sequence[Group], config: Config) -> Tensor:
    """Compute KL (P, G) to the policy before its training, summed over tokens; 0 if disabled."""
    if not config.algorithm.use_kl_in_reward:
        return torch.zeros(len(groups), config.actor_rollout_ref.rollout.n)
    kind = config.algorithm.kl_penalty
    return torch.tensor(
        [
            [float(kl(old, ref, kind).sum()) for old, ref in zip(g.old, g.reference, strict=True)]
            for g in groups
            if g.old is not None and g.reference is not None
        ]
    )


def rows_of(groups: Sequence[Group], advantages_PG: Tensor) -> list[Row]:
    """Convert groups to the rows of the update, sample by sample."""
    rows = []
    for group, advantages_G in zip(groups, advantages_PG.tolist(), strict=True):
        for number, rollout in enumerate(group.rollouts):
            rows.append(
                Row(
                    group.prompt,
                    rollout.tokens,
                    advantages_G[number],
                    is_scored=group.scores[number].reward is not None,
                    old_T=group.old[number] if group.old else None,
                    reference_T=group.reference[number] if group.reference else None,
                )
            )
    return rows


def _value(score: Score, metric: str, of_recipe: tuple[float, float]) -> float | None:
    if score.reward is None:
        return None
    if metric != COMPOSITE:
        return score.components.get(metric)
    return to_unit(score.reward, of_recipe)
