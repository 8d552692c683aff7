"""What is done about samples without a reward: borne up to a share, imputed if somebody asks."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean

from medreward_client._errors import NoReward
from medreward_client._types import Component, Sample, Scored, Unscored

FEWEST = 32
"""Of fewer samples, no share is taken: one failure in four is no outage."""
WINDOW = 1024
"""After this many samples the count begins anew, for trainers that do not tell their step."""

log = logging.getLogger("medreward_client")


class UnscoredGuard:
    """Bears the odd sample without a reward, and stops a step that has too many of them."""

    def __init__(self, max_share: float) -> None:
        self._max_share = max_share
        self._step: int | None = None
        self._seen = 0
        self._kinds: Counter[str] = Counter()

    def note(self, results: Sequence[Scored | Unscored], step: int | None) -> None:
        """Count what came back; a step of fewer than 32 samples is counted with the next.

        Raises:
            NoReward: more than the share of this step has no reward; says how many of each kind.
        """
        is_over = step != self._step or (step is None and self._seen >= WINDOW)
        if is_over and self._seen >= FEWEST:
            self._seen, self._kinds = 0, Counter()
        self._step = step
        self._seen += len(results)
        unscored = [result.error.kind for result in results if isinstance(result, Unscored)]
        if not unscored:
            return
        before = self._kinds.total()
        self._kinds.update(unscored)
        missing = self._kinds.total()
        told = f"{missing} of {self._seen} samples have no reward ({_listed(self._kinds)})"
        if self._seen >= FEWEST and missing > self._max_share * self._seen:
            raise NoReward(
                f"{told}: more than max_unscored_share={self._max_share:g} allows",
                counts=self._kinds,
            )
        # At 1, 2, 4, 8 and so on, so that an outage does not flood the log.
        if before.bit_length() != missing.bit_length():
            log.warning("%s", told if step is None else f"{told}, at step {step}")


def refuse(results: Sequence[Scored | Unscored]) -> None:
    """Raise NoReward if a sample has none."""
    unscored = [result for result in results if isinstance(result, Unscored)]
    if unscored:
        counts = Counter(result.error.kind for result in unscored)
        raise NoReward(
            f"{len(unscored)} of {len(results)} samples have no reward ({_listed(counts)}): "
            f"{unscored[0].error.message}",
            counts=counts,
        )


def impute(samples: Sequence[Sample], results: Sequence[Scored | Unscored]) -> list[float]:
    """Put a number in place of each reward that is missing.

    It is the mean of its group's rewards; where nobody in the group has one, the weighted mean
    of the components that were had, if a model's say is among them. Rules alone are not enough:
    they would give full reward for a form well filled in.

    Raises:
        NoReward: neither can be had.
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
        stand_in = fmean(peers) if peers else _mean_of(result.components)
        if stand_in is None:
            refuse([result])
        else:
            rewards.append(stand_in)
    return rewards


def _mean_of(components: Mapping[str, Component]) -> float | None:
    weight = sum(part.weight for part in components.values())
    if not weight or all(part.source == "rule" for part in components.values()):
        return None
    return sum(part.weight * part.value for part in components.values()) / weight


def _listed(kinds: Mapping[str, int]) -> str:
    return ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()))
