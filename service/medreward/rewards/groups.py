"""Groups: the samples of one prompt, whose rewards a trainer compares. Pure arithmetic.

A relative reward is GRPO's advantage (Shao et al., arXiv 2402.03300, section 4.1.2) without the
trainer's epsilon. The paper does not say which standard deviation it means; it is that of a sample
here, divided by n - 1, as in TRL's `GRPOTrainer` (`Tensor.std`), verl's
`compute_grpo_outcome_advantage` (`torch.std`) and the bundled trainer.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

LEVEL: Final = 1e-9
"""Difference up to which two values of a group are equal: sums of weights differ by their rounding."""
RIGHT: Final = 0.5
"""Threshold of a signal that says yes, and in the watch of runs of a high reward: a verdict is 0 or 1,
a soft one the probability of YES."""
ACCURACY: Final = ("accuracy_llm", "accuracy_embed")
"""The signals that tell whether an answer is right; the first that a recipe has counts."""

Reason = Literal["sizes_differ", "too_few", "too_many"]
"""Why a group is not whole: its members declare several sizes, or are not as many as declared."""


class Spread(NamedTuple):
    """Mean and standard deviation of the values of a group; 0 if they are equal, or one."""

    mean: float
    sd: float

    def relative(self, value: float) -> float:
        """Return the distance from the mean in standard deviations; 0 if there is no deviation."""
        return (value - self.mean) / self.sd if self.sd else 0.0


class Member(NamedTuple):
    """A sample of a request, as its group sees it."""

    group: str | None
    size: int | None
    """The size that the sample declares for its group."""
    reward: float | None
    """None if the sample is unscored."""
    is_right: bool = False


class Group(NamedTuple):
    """A group of which a member declares a size."""

    id: str
    size: int | None
    """None if the members do not all declare the same one."""
    seen: int
    scored: int
    reason: Reason | None = None
    """None if the group is whole; others have neither `all_right` nor `spread`."""
    all_right: bool | None = None
    """True if all that are scored are right; None if none is scored."""
    spread: Spread | None = None
    """Of the rewards of those that are scored; None if none is."""


@dataclass(slots=True)
class _Seen:
    """What the members of one group have told so far."""

    count: int = 0
    sizes: set[int | None] = field(default_factory=set)
    rewards: list[float] = field(default_factory=list)
    all_right: bool = True


def groups_of(members: Sequence[Member]) -> list[Group]:
    """Return the groups of which a member declares a size, in order of their first member."""
    declared = {member.group for member in members if member.size is not None}
    seen: dict[str, _Seen] = {}
    for group, size, reward, is_right in members:
        if group is None or group not in declared:
            continue
        so_far = seen.setdefault(group, _Seen())
        so_far.count += 1
        so_far.sizes.add(size)
        if reward is not None:
            so_far.rewards.append(reward)
            so_far.all_right &= is_right
    return [_group(name, told) for name, told in seen.items()]


def _group(name: str, seen: _Seen) -> Group:
    size = next(iter(seen.sizes)) if len(seen.sizes) == 1 else None
    scored = len(seen.rewards)
    if size is None:
        return Group(name, None, seen.count, scored, "sizes_differ")
    if seen.count != size:
        reason: Reason = "too_few" if seen.count < size else "too_many"
        return Group(name, size, seen.count, scored, reason)
    if not scored:
        return Group(name, size, seen.count, scored)
    spread = spread_of(seen.rewards)
    return Group(name, size, seen.count, scored, None, seen.all_right, spread)


def spread_of(values: Sequence[float]) -> Spread:
    """Return mean and standard deviation of one or more values."""
    least, most, count = min(values), max(values), len(values)
    # The mean of equal values may miss them by its rounding, and none lies outside of them.
    mean = max(least, min(most, math.fsum([value / count for value in values])))
    if most - least <= LEVEL:
        return Spread(mean, 0.0)
    return Spread(mean, math.hypot(*[value - mean for value in values]) / math.sqrt(count - 1))


def is_right(reward: float, values: Mapping[str, float], most: float) -> bool:
    """Return whether a scored answer is right, by the values of its signals.

    The judge decides, or in a recipe without one the embedder. In a recipe with neither, an answer
    is right if its reward is *most*, the greatest of the recipe's range.
    """
    for name in ACCURACY:
        if name in values:
            return values[name] >= RIGHT
    return reward >= most - LEVEL


def pass_at(k: int, right: int, count: int) -> float:
    """Return pass@k: the chance that one of *k* of the *count* answers is right, of which *right* are.

    The unbiased estimator of Chen et al., arXiv 2107.03374, equation 1; *k* is at most *count*.
    """
    if count - right < k:
        return 1.0
    return 1.0 - math.prod(1.0 - k / i for i in range(count - right + 1, count + 1))
