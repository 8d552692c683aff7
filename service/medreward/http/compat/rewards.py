"""What a trainer that knows rewards alone is given: a number, or no reply at all."""

import math

from medreward.errors import NoReward, NoRewardYet
from medreward.http.compat.schemas import OnUnscored
from medreward.recipes.recipe import Recipe
from medreward.rewards.reward import Components, Reward, Unscored


def number_for(result: Reward | Unscored, on_unscored: OnUnscored, *, name: str) -> float:
    """Give the reward of a sample, or what its trainer wants in place of one.

    Raises:
        NoRewardYet: there is none, and the same sample may be scored later.
        NoReward: there is none.
    """
    if isinstance(result, Reward):
        return result.total
    if on_unscored == "zero":
        return 0.0
    imputed = _mean_of(result.components) if on_unscored == "impute" else None
    if imputed is not None:
        return imputed
    problem = result.problem
    refusal = NoRewardYet if problem.retryable else NoReward
    raise refusal(f"{name}: {problem.message}", kind=problem.kind)


def logs_of(result: Reward | Unscored, recipe: Recipe) -> dict[str, float]:
    """Give numbers to log: the same names for every sample, which trainers rely on.

    Whether the reward is the recipe's own, and each signal, 0 where it was not had.
    """
    parts = result.components
    logs = {"scored": float(isinstance(result, Reward))}
    for name in recipe.weights:
        logs[name] = parts[name].signal.value if name in parts else 0.0
    return logs


def _mean_of(components: Components) -> float | None:
    """Weigh what was had; None where only rules spoke, for these reward a form well filled in."""
    parts = components.values()
    weight = math.fsum(part.weight for part in parts)
    if not weight or all(part.signal.source == "rule" for part in parts):
        return None
    return math.fsum(part.weight * part.signal.value for part in parts) / weight
