"""From rewards to advantages: each sample against the others of its group. Pure functions.

P prompts, G samples of a group, K components. A sample without a reward has no part: it is not in
its group's baseline, and its advantage is 0, whatever stands in its place (NaN, usually). A group
with fewer than two scored samples has nothing to compare, and its advantages are 0; verl would
give a lone sample its whole reward.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medreward_trainer.config import Algorithm
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
    """Centre on the group's mean, and divide by its deviation (arXiv 2402.03300)."""
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

    So no component drowns another that varies less. Whitened over all tokens of scored samples:
    a long response counts for more in mean and variance, as in verl.
    """
    normalised = [grpo(values_PG, scored_PG) for values_PG in components_KPG]
    sum_PG = torch.stack(
        [weight * values for weight, values in zip(weights_K, normalised, strict=True)]
    ).sum(dim=0)
    tokens_PG = lengths_PG.masked_fill(~scored_PG, 0.0)
    count = tokens_PG.sum()
    mean = (sum_PG * tokens_PG).sum() / count.clamp(min=1)
    variance = ((sum_PG - mean).square() * tokens_PG).sum() / (count - 1).clamp(min=1)
    whitened_PG = (sum_PG - mean) * (variance + WHITENING_EPSILON).rsqrt()
    return whitened_PG.masked_fill(~scored_PG, 0.0)


def advantages_of(groups: Groups, algorithm: Algorithm, weights: Mapping[str, float]) -> Tensor:
    """Give the advantages (P, G) by the estimator that the configuration names.

    `weights` are the recipe's own, of its components.

    Raises:
        BadConfig: gdpo is to normalise a component that the recipe has not.
    """
    return ESTIMATORS[algorithm.adv_estimator](groups, algorithm, weights)


def _gdpo(groups: Groups, algorithm: Algorithm, weights: Mapping[str, float]) -> Tensor:
    keys = algorithm.gdpo_reward_keys or tuple(k for k in groups.components if weights.get(k))
    _check_components(keys, groups.components)
    chosen = algorithm.gdpo_reward_weights or tuple(weights.get(key, 1.0) for key in keys)
    components_KPG = torch.stack([groups.components[key] for key in keys])
    return gdpo(components_KPG, groups.scored_PG, torch.tensor(chosen), groups.lengths_PG)


def _check_components(keys: Sequence[str], components: Mapping[str, Tensor]) -> None:
    missing = [key for key in keys if key not in components]
    if missing or not keys:
        raise BadConfig(
            f"algorithm.gdpo_reward_keys: the rewards have no {', '.join(missing) or 'component'}; "
            f"choose from {', '.join(components) or 'none'}"
        )


def _centred(rewards_PG: Tensor, scored_PG: Tensor) -> tuple[Tensor, Tensor]:
    """Rewards minus their group's mean, 0 for the unscored; and how many are scored (P, 1)."""
    known_PG = rewards_PG.masked_fill(~scored_PG, 0.0)
    count_P1 = scored_PG.sum(dim=1, keepdim=True)
    mean_P1 = known_PG.sum(dim=1, keepdim=True) / count_P1.clamp(min=1)
    return (known_PG - mean_P1).masked_fill(~scored_PG, 0.0), count_P1


ESTIMATORS: Mapping[str, Callable[[Groups, Algorithm, Mapping[str, float]], Tensor]] = {
    "grpo": lambda groups, _a, _w: grpo(groups.rewards_PG, groups.scored_PG),
    "dr_grpo": lambda groups, _a, _w: dr_grpo(groups.rewards_PG, groups.scored_PG),
    "rloo": lambda groups, _a, _w: rloo(groups.rewards_PG, groups.scored_PG),
    "gdpo": _gdpo,
}
"""By `algorithm.adv_estimator`."""
