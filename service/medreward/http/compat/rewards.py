"""Rewards for trainers whose format has only numbers: a number, or a refusal of the request."""

import math

from medreward.errors import InvalidRequest, NoReward, NoRewardYet
from medreward.http.compat.schemas import OnUnscored
from medreward.recipes.recipe import Recipe
from medreward.rewards.reward import Components, Reward, Unscored


def check_zero(recipe: Recipe, on_unscored: OnUnscored) -> None:
    """Check that 0 for an unscored sample is the least reward of the recipe.

    Raises:
        InvalidRequest: it is not, so a failure could earn more than an answer.
    """
    least, most = recipe.bounds
    if on_unscored == "zero" and least != 0:
        raise InvalidRequest(
            f"on_unscored=zero: the rewards of the recipe {recipe.name} go from {least:g} to "
            f"{most:g}, so a failure would not get the least of them; choose raise or impute"
        )


def number_for(
    result: Reward | Unscored, recipe: Recipe, on_unscored: OnUnscored, *, name: str
) -> float:
    """Return the reward of a sample, or the substitute that *on_unscored* names.

    Raises:
        NoRewardYet: the sample is unscored, and a retry may succeed.
        NoReward: the sample is unscored, and a retry would not help.
    """
    if isinstance(result, Reward):
        return result.total
    if on_unscored == "zero":
        return 0.0
    imputed = _imputed(result.components, recipe) if on_unscored == "impute" else None
    if imputed is not None:
        return imputed
    problem = result.problem
    refusal = NoRewardYet if problem.retryable else NoReward
    raise refusal(f"{name}: {problem.message}", kind=problem.kind)


def logs_of(result: Reward | Unscored, recipe: Recipe) -> dict[str, float]:
    """Return numbers for the trainer's log, under the same names for every sample.

    `scored` is 1 if the reward is the recipe's own. A missing signal is logged as 0, since trainers
    require equal names in every log.
    """
    parts = result.components
    logs = {"scored": float(isinstance(result, Reward))}
    for name in recipe.weights:
        logs[name] = parts[name].signal.value if name in parts else 0.0
    return logs


def _imputed(components: Components, recipe: Recipe) -> float | None:
    """Return the sum of the components, scaled up to all weights.

    It is None if only rules gave values, since they reward the format, and if the weights of the
    components cannot be scaled: one is negative, or none is positive.
    """
    parts = components.values()
    weight = math.fsum(part.weight for part in parts)
    if (
        weight <= 0
        or min(part.weight for part in parts) < 0
        or all(part.signal.source == "rule" for part in parts)
    ):
        return None
    mean = math.fsum(part.weight * part.signal.value for part in parts) / weight
    if recipe.range is None:
        return mean
    least, most = recipe.range
    return max(least, min(most, mean * math.fsum(recipe.weights.values())))
