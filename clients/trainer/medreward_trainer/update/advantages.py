"""From rewards to advantages: each sample against the others of its group. Pure functions.

P prompts, G samples of a group, K components. A sample without a reward has no part: it is not in
its group's baseline, and its advantage is 0, whatever stands in its place (NaN, usually).

Two departures from verl: a group with fewer than two scored samples has nothing to compare, and its
advantages are 0, where verl gives a lone sample its whole reward; and in a group of equal rewards
they are exactly 0, where verl divides what rounding leaves by a deviation as small.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medreward_trainer.config.config import Algorithm, Estimator
from medreward_trainer.errors import BadConfig

EPSILON = 1e-6
"""verl's; keeps a group without variance from dividing by zero."""
WHITENING_EPSILON = 1e-8


@dataclass(frozen=True, slots=True)
class Groups:
    """What a step's groups were rewarded; each tensor is (P, G)."""

    rewards_PG: Tensor
    components: Mapping[str, Tensor]
    scored_PG: Tensor
    lengths_PG: Tensor
    """Of responses, in tokens."""


def grpo(rewards_PG: Tensor, scored_PG: Tensor) -> Tensor:
    """Centre on the group's mean, and divide by its deviation (arXiv 2402.03300).

    Rewards and advantages are (P, G), as in all estimators here.
    """
    centred_PG, count_P1 = _centred(rewards_PG, scored_PG)
    # Unbiased, as verl has it.
    variance_P1 = centred_PG.square().sum(dim=1, keepdim=True) / (count_P1 - 1).clamp(min=1)
    return centred_PG / (variance_P1.sqrt() + EPSILON)


def dr_grpo(rewards_PG: Tensor, scored_PG: Tensor) -> Tensor:
    """Centre on the group's mean alone: a deviation would favour easy prompts (arXiv 2503.20783)."""
    return _centred(rewards_PG, scored_PG)[0]


def rloo(rewards_PG: Tensor, scored_PG: Tensor) -> Tensor:
    """Centre each sample on the mean of the others (arXiv 2402.14740)."""
    centred_PG, count_P1 = _centred(rewards_PG, scored_PG)
    return centred_PG * count_P1 / (count_P1 - 1).clamp(min=1)


def gdpo(
    components_KPG: Tensor, scored_PG: Tensor, weights_K: Tensor, lengths_PG: Tensor
) -> Tensor:
    """Normalise each component by itself, add them up, whiten the sum (arXiv 2601.05242).

    So no component drowns another that varies less. Whitened over all tokens of samples that can be
    compared: a long response counts for more in mean and variance, as in verl. What is taken off
    the reward, for length or KL, is in no component, and has no part here; nor has it in verl.
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
    """Give the advantages (P, G) by the estimator that the configuration names.

    `weights` are the recipe's own, of its components; gdpo takes those it pays for unless it is
    told which, and by these weights unless it is given others.

    Raises:
        BadConfig: gdpo is to normalise a component that there is not, or has no weight for it.
    """
    return ESTIMATORS[algorithm.adv_estimator](groups, algorithm, weights)


def _gdpo(groups: Groups, algorithm: Algorithm, weights: Mapping[str, float]) -> Tensor:
    paid = tuple(key for key in groups.components if weights.get(key))
    keys = algorithm.gdpo_reward_keys or paid
    _check_keys(keys, dict.fromkeys([*groups.components, *weights]))
    # A component that no sample of this step has says nothing in it.
    nothing_PG = torch.zeros_like(groups.rewards_PG)
    components_KPG = torch.stack([groups.components.get(key, nothing_PG) for key in keys])
    chosen = _weights_of(keys, algorithm.gdpo_reward_weights, weights)
    weights_K = groups.rewards_PG.new_tensor(chosen)
    return gdpo(components_KPG, groups.scored_PG, weights_K, groups.lengths_PG)


def _check_keys(keys: Sequence[str], known: Collection[str]) -> None:
    missing = [key for key in keys if key not in known]
    if missing or not keys:
        raise BadConfig(
            f"algorithm.gdpo_reward_keys: the rewards have no {', '.join(missing) or 'component'}; "
            f"choose from {', '.join(known) or 'none'}"
        )


def _weights_of(
    keys: Sequence[str], given: Sequence[float], weights: Mapping[str, float]
) -> list[float]:
    if given:
        return list(given)  # one a key: the configuration sees to it
    unpaid = [key for key in keys if not weights.get(key)]
    if unpaid:
        raise BadConfig(
            f"algorithm.gdpo_reward_keys: the recipe pays nothing for {', '.join(unpaid)}; "
            "say its weight in algorithm.gdpo_reward_weights"
        )
    return [weights[key] for key in keys]


def _centred(rewards_PG: Tensor, scored_PG: Tensor) -> tuple[Tensor, Tensor]:
    """Rewards minus their group's mean, 0 for the unscored; and how many are scored (P, 1)."""
    # Counted from the lowest: equal rewards are then 0 and have no mean that could be rounded.
    lowest_P1 = rewards_PG.masked_fill(~scored_PG, float("inf")).amin(dim=1, keepdim=True)
    above_PG = (rewards_PG - lowest_P1).masked_fill(~scored_PG, 0.0)
    count_P1 = scored_PG.sum(dim=1, keepdim=True)
    mean_P1 = above_PG.sum(dim=1, keepdim=True) / count_P1.clamp(min=1)
    return (above_PG - mean_P1).masked_fill(~scored_PG, 0.0), count_P1


ESTIMATORS: Mapping[Estimator, Callable[[Groups, Algorithm, Mapping[str, float]], Tensor]] = {
    "grpo": lambda groups, _a, _w: grpo(groups.rewards_PG, groups.scored_PG),
    "dr_grpo": lambda groups, _a, _w: dr_grpo(groups.rewards_PG, groups.scored_PG),
    "rloo": lambda groups, _a, _w: rloo(groups.rewards_PG, groups.scored_PG),
    "gdpo": _gdpo,
}
"""By `algorithm.adv_estimator`."""
