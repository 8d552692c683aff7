"""Advantages: each reward compared with the others of its group. Pure functions.

P prompts, G samples of a group, K components. A sample without a reward does not count: it is not
in its group's baseline, and its advantage is 0, whatever value stands in its place (usually NaN).

Two differences from verl. In a group with fewer than two scored samples the advantages are 0, but
verl gives a lone sample its whole reward. In a group of equal rewards they are exactly 0, but verl
divides the rounding error by a deviation of the same size.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from medreward_trainer.config.config import Algorithm, Estimator
from medreward_trainer.errors import BadConfig

EPSILON = 1e-6
"""verl's; avoids a division by zero in a group without variance."""
WHITENING_EPSILON = 1e-8


@dataclass(frozen=True, slots=True)
class Groups:
    """Rewards and lengths of a step's groups; each tensor is (P, G)."""

    rewards_PG: Tensor
    components: Mapping[str, Tensor]
    scored_PG: Tensor
    lengths_PG: Tensor
    """Lengths of responses, in tokens."""


def grpo(rewards_PG: Tensor, scored_PG: Tensor) -> Tensor:
    """Subtract the group's mean, and divide by its deviation (arXiv 2402.03300).

    Rewards and advantages are (P, G), in this and all other estimators.
    """
    centred_PG, count_P1 = _centred(rewards_PG, scored_PG)
    # The unbiased variance, as in verl.
    variance_P1 = centred_PG.square().sum(dim=1, keepdim=True) / (count_P1 - 1).clamp(min=1)
    return centred_PG / (variance_P1.sqrt() + EPSILON)


def dr_grpo(rewards_PG: Tensor, scored_PG: Tensor) -> Tensor:
    """Subtract only the group's mean: a deviation would favour easy prompts (arXiv 2503.20783)."""
    return _centred(rewards_PG, scored_PG)[0]


def rloo(rewards_PG: Tensor, scored_PG: Tensor) -> Tensor:
    """Subtract from each reward the mean of the group's others (arXiv 2402.14740)."""
    centred_PG, count_P1 = _centred(rewards_PG, scored_PG)
    return centred_PG * count_P1 / (count_P1 - 1).clamp(min=1)


def gdpo(
    components_KPG: Tensor, scored_PG: Tensor, weights_K: Tensor, lengths_PG: Tensor
) -> Tensor:
    """Normalise each component separately, add them up, whiten the sum (arXiv 2601.05242).

    A component with little variance is thus not drowned by another. Mean and variance are over all
    tokens of comparable samples, so long responses weigh more, as in verl. Penalties for length or
    KL are part of no component and have no effect, as in verl.
    """
    comparable_PG = scored_PG & (scored_PG.sum(dim=1, keepdim=True) > 1)
    normalised_KPG = torch.stack([grpo(values_PG, scored_PG) for values_PG in components_KPG])
    sum_PG = (weights_K.reshape(-1, 1, 1) * normalised_KPG).sum(dim=0)
    tokens_PG = lengths_PG.masked_fill(~comparable_PG, 0.0)
    count = tokens_PG.sum()
    mean = (sum_PG * tokens_PG).sum() / count.clamp(min=1)
    variance = ((sum_PG - mean).square() * tokens_PG).sum() / (count - 1).clamp(min=1)
    whitened_PG = (sum_PG - mean) * (variance + WHITENING_EPSILON).rsqrt()
    return whitened_PG.masked_fill(~comparable_PG, 0.0)


def advantages_of(groups: Groups, algorithm: Algorithm, weights: Mapping[str, float]) -> Tensor:
    """Return the advantages (P, G) by the estimator that the configuration names.

    `weights` are the recipe's, by component. gdpo uses the components with a weight, unless the
    configuration names others, and these weights, unless the configuration has its own.

    Raises:
        BadConfig: gdpo lacks a component, or a weight for it.
    """
    if algorithm.adv_estimator == "gdpo":
        return _gdpo(groups, algorithm, weights)
    return ESTIMATORS[algorithm.adv_estimator](groups.rewards_PG, groups.scored_PG)


def _gdpo(groups: Groups, algorithm: Algorithm, weights: Mapping[str, float]) -> Tensor:
    paid = tuple(key for key in groups.components if weights.get(key))
    keys, given = algorithm.gdpo_reward_keys or paid, algorithm.gdpo_reward_weights
    known = dict.fromkeys([*groups.components, *weights])
    missing = [key for key in keys if key not in known]
    if missing or not keys:
        raise BadConfig(
            f"algorithm.gdpo_reward_keys: the rewards have no {', '.join(missing) or 'component'}; "
            f"choose from {', '.join(known) or 'none'}"
        )
    unpaid = [key for key in keys if not weights.get(key)]
    if unpaid and not given:
        raise BadConfig(
            f"algorithm.gdpo_reward_keys: the recipe pays nothing for {', '.join(unpaid)}; "
            "say its weight in algorithm.gdpo_reward_weights"
        )
    # The configuration has one weight for each key, or none.
    weights_K = groups.rewards_PG.new_tensor(given or [weights[key] for key in keys])
    # A component that no sample of this step has is 0 throughout, and so are its advantages.
    nothing_PG = torch.zeros_like(groups.rewards_PG)
    components_KPG = torch.stack([groups.components.get(key, nothing_PG) for key in keys])
    return gdpo(components_KPG, groups.scored_PG, weights_K, groups.lengths_PG)


def _centred(rewards_PG: Tensor, scored_PG: Tensor) -> tuple[Tensor, Tensor]:
    """Return rewards minus their group's mean, 0 if unscored, and numbers of scored (P, 1)."""
    # The lowest reward is subtracted first: equal rewards become exactly 0, and so does their mean.
    # A mean of the rewards themselves could be rounded, and leave advantages that are not 0.
    lowest_P1 = rewards_PG.masked_fill(~scored_PG, float("inf")).amin(dim=1, keepdim=True)
    above_PG = (rewards_PG - lowest_P1).masked_fill(~scored_PG, 0.0)
    count_P1 = scored_PG.sum(dim=1, keepdim=True)
    mean_P1 = above_PG.sum(dim=1, keepdim=True) / count_P1.clamp(min=1)
    return (above_PG - mean_P1).masked_fill(~scored_PG, 0.0), count_P1


ESTIMATORS: Mapping[Estimator, Callable[[Tensor, Tensor], Tensor]] = {
    "grpo": grpo,
    "dr_grpo": dr_grpo,
    "rloo": rloo,
}
"""Estimators of rewards by `algorithm.adv_estimator`; gdpo takes components instead."""
