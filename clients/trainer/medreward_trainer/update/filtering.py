"""Selection of groups to learn from. Pure functions; P prompts, G samples of a group."""

from torch import Tensor


def keep(values_PG: Tensor, scored_PG: Tensor, *, low: float, high: float) -> Tensor:
    """Return true (P) for groups whose mean over scored samples lies strictly between the bounds.

    The values are those of `algorithm.filter_groups.metric`. MediX-R1 filters on the composite.
    There a group that is all wrong, with some samples at 0.145 (well formed, and of the right
    modality) and some at 0.1 (well formed), has a mean between 0.01 and 0.99, and is kept: it
    teaches only the tag. With `accuracy_llm`, the default, its mean is 0, and it is dropped.

    A group with fewer than two scored samples teaches nothing, and is dropped; so is one of equal
    values, whose mean lies between the bounds if they are shares, such as a rubric's.
    """
    known_PG = values_PG.masked_fill(~scored_PG, 0.0)
    count_P = scored_PG.sum(dim=1)
    mean_P = known_PG.sum(dim=1) / count_P.clamp(min=1)
    is_equal_P = no_variance(values_PG, scored_PG)
    return (count_P > 1) & (mean_P > low) & (mean_P < high) & ~is_equal_P


def no_variance(rewards_PG: Tensor, scored_PG: Tensor) -> Tensor:
    """Return true (P) for groups with two or more scored samples that all have the same reward.

    Equality is exact: equal components add up to equal sums.
    """
    highest_P = rewards_PG.masked_fill(~scored_PG, float("-inf")).amax(dim=1)
    lowest_P = rewards_PG.masked_fill(~scored_PG, float("inf")).amin(dim=1)
    return (scored_PG.sum(dim=1) > 1) & (highest_P == lowest_P)
