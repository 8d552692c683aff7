"""Samples without a reward: tolerated up to a share of a step, and imputed on request."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean

from medreward_client._errors import NoReward
from medreward_client._types import UNIT, Component, Sample, Scored, Unscored

FEWEST = 32
"""The fewest samples to take a share of: one failure in four is not an outage."""
WINDOW = 1024
"""The count restarts after this many samples, for trainers that pass no step."""

log = logging.getLogger("medreward_client")


class UnscoredGuard:
    """Tolerates a few samples without a reward, and stops a step that has too many."""

    def __init__(self, max_share: float) -> None:
        self._max_share = max_share
        self._step: int | None = None
        self._seen = 0
        self._kinds: Counter[str] = Counter()
        self._told = 0
        """Samples without a reward, those that an error was raised about too."""

    def note(self, results: Sequence[Scored | Unscored], step: int | None) -> None:
        """Count the results; a step of fewer than 32 samples is counted with the next.

        Raises:
            NoReward: more than the allowed share of this step has no reward; with counts by kind,
                and one of the reasons. The count begins anew.
        """
        is_over = step != self._step or (step is None and self._seen >= WINDOW)
        if is_over and self._seen >= FEWEST:
            self._seen, self._told, self._kinds = 0, 0, Counter()
        self._step = step
        self._seen += len(results)
        unscored = [result.error for result in results if isinstance(result, Unscored)]
        if not unscored:
            return
        self._kinds.update(error.kind for error in unscored)
        missing = self._kinds.total()
        summary = _summary(self._kinds, self._seen)
        if self._seen >= FEWEST and missing > self._max_share * self._seen:
            counts, self._seen, self._kinds = self._kinds, 0, Counter()
            raise NoReward(
                f"{summary}: more than max_unscored_share={self._max_share:g} allows; "
                f"the last: {unscored[-1].message}",
                counts=counts,
            )
        # At 1, 2, 4, 8 and so on, so that an outage does not flood the log.
        told, self._told = self._told, self._told + len(unscored)
        if told.bit_length() != self._told.bit_length():
            at = "" if step is None else f", at step {step}"
            log.warning("%s%s; the last: %s", summary, at, unscored[-1].message)

    def forget(self, results: Sequence[Scored | Unscored]) -> None:
        """Take back the last results: an error is raised about them already."""
        self._seen = max(0, self._seen - len(results))
        self._kinds -= Counter(one.error.kind for one in results if isinstance(one, Unscored))


def refuse(results: Sequence[Scored | Unscored]) -> None:
    """Raise NoReward if a sample is unscored."""
    unscored = [result.error for result in results if isinstance(result, Unscored)]
    if unscored:
        counts = Counter(error.kind for error in unscored)
        summary = _summary(counts, len(results))
        raise NoReward(f"{summary}: {unscored[0].message}", counts=counts)


def impute(
    samples: Sequence[Sample],
    results: Sequence[Scored | Unscored],
    of_recipe: tuple[float, float] = UNIT,
) -> list[float]:
    """Return the rewards, with a number in place of each missing one.

    The number is the mean of the group's rewards; if the group has none, the weighted mean of the
    known components, provided that one of them is a model's. Rules alone are not enough: they
    would give full reward for correct formatting. Nor are components if the range `of_recipe` is
    not 0 to 1: weights that do not add up to 1 cannot be scaled without the missing ones.

    Raises:
        NoReward: neither mean is known.
    """
    groups: dict[str | None, list[float]] = {}
    for sample, result in zip(samples, results, strict=True):
        if sample.group is not None and isinstance(result, Scored):
            groups.setdefault(sample.group, []).append(result.reward)
    rewards = []
    for sample, result in zip(samples, results, strict=True):
        if isinstance(result, Scored):
            rewards.append(result.reward)
            continue
        peers = groups.get(sample.group)
        known = _mean_of(result.components) if of_recipe == UNIT else None
        stand_in = fmean(peers) if peers else known
        if stand_in is None:
            refuse([result])
        else:
            rewards.append(stand_in)
    return rewards


def _mean_of(components: Mapping[str, Component]) -> float | None:
    weight = sum(part.weight for part in components.values())
    # Weights of either sign cannot be scaled: the less they add up to, the more they would grow.
    is_mixed = any(part.weight < 0 for part in components.values())
    if weight <= 0 or is_mixed or all(part.source == "rule" for part in components.values()):
        return None
    return sum(part.weight * part.value for part in components.values()) / weight


def _summary(kinds: Counter[str], number: int) -> str:
    counts = ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()))
    return f"{kinds.total()} of {number} samples have no reward ({counts})"
