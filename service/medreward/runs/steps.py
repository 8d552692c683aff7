"""One step of a run: sums over its samples, and the groups among them."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal

from medreward.rewards.groups import LEVEL, RIGHT
from medreward.runs.moments import Correlation, Moments
from medreward.runs.observe import Observed

JUDGE, EMBEDDER = "accuracy_llm", "accuracy_embed"
MOST_ANSWERS = 2048
"""Distinct answers of one step that are counted, at most."""
MOST_NAMES = 32
"""Components, and flags, of one run that are counted by name, at most."""

Count = Literal[
    "samples",
    "unscored",
    "high",
    "compared",
    "judge_only",
    "embedder_only",
    "prompts",
    "groups",
    "zero_variance_groups",
    "answers",
    "distinct_answers",
]
DISAGREEMENTS: tuple[Count, ...] = ("judge_only", "embedder_only")
"""Counts of samples with a yes of only the judge or only the embedder."""


@dataclass(slots=True)
class Step:
    """Sums over the samples of one step, or of several."""

    counts: Counter[Count] = field(default_factory=Counter)
    rewards: Moments = field(default_factory=Moments)
    characters: Moments = field(default_factory=Moments)
    lengths: Correlation = field(default_factory=Correlation)
    """Correlation of the logarithm of the answer's length with the reward."""
    components: dict[str, Moments] = field(default_factory=dict)
    flags: Counter[str] = field(default_factory=Counter)
    """Flags of the samples with a high reward."""
    seen: set[int] | None = None
    """Hashes of the answers so far, while the step is open."""

    def add(self, samples: Sequence[Observed]) -> None:
        """Add *samples*, without their groups."""
        self.counts["samples"] += len(samples)
        self._add_rewards(samples)
        self._add_components(samples)
        for count, number in _comparison(samples).items():
            self.counts[count] += number
        if self.seen is not None and len(self.seen) < MOST_ANSWERS:
            answers = [s.answer for s in samples if s.answer_characters]
            known = len(self.seen)
            self.seen.update(answers)
            self.counts["answers"] += len(answers)
            self.counts["distinct_answers"] += len(self.seen) - known

    def merge(self, other: "Step") -> None:
        """Add what *other* has seen."""
        self.counts.update(other.counts)
        self.rewards.merge(other.rewards)
        self.characters.merge(other.characters)
        self.lengths.merge(other.lengths)
        for name, moments in other.components.items():
            self._component(name).merge(moments)
        for flag, number in other.flags.items():
            self._count_flag(flag, number)

    def share(self, part: Count, whole: Count) -> float | None:
        """Return *part* as a share of *whole*; None if *whole* is 0."""
        return self.counts[part] / self.counts[whole] if self.counts[whole] else None

    @property
    def flag_shares(self) -> dict[str, float]:
        """Share of the highly rewarded samples with each flag."""
        high = self.counts["high"]
        return {flag: number / high for flag, number in self.flags.items()} if high else {}

    def _add_rewards(self, samples: Sequence[Observed]) -> None:
        read = [(s.answer_characters, s.reward) for s in samples if s.answer_characters]
        self.characters.add([characters for characters, _ in read])
        both = [(characters, reward) for characters, reward in read if reward is not None]
        self.lengths.add([math.log(length) for length, _ in both], [reward for _, reward in both])
        scored = [(s.reward, s.flags) for s in samples if s.reward is not None]
        self.counts["unscored"] += len(samples) - len(scored)
        self.rewards.add([reward for reward, _ in scored])
        high = [flags for reward, flags in scored if reward >= RIGHT]
        self.counts["high"] += len(high)
        for flag, number in Counter(chain.from_iterable(high)).items():
            self._count_flag(flag, number)

    def _add_components(self, samples: Sequence[Observed]) -> None:
        components = [sample.components for sample in samples]
        for name in {name: None for of_sample in components for name in of_sample}:
            self._component(name).add([had[name] for had in components if name in had])

    def _component(self, name: str) -> Moments:
        if name not in self.components and len(self.components) >= MOST_NAMES:
            return Moments()
        return self.components.setdefault(name, Moments())

    def _count_flag(self, flag: str, number: int) -> None:
        if flag in self.flags or len(self.flags) < MOST_NAMES:
            self.flags[flag] += number


def _comparison(samples: Sequence[Observed]) -> dict[Count, int]:
    """Count the samples with signals of judge and embedder, and those with one yes."""
    both = [s.components for s in samples if JUDGE in s.components and EMBEDDER in s.components]
    said = [(values[JUDGE] >= RIGHT, values[EMBEDDER] >= RIGHT) for values in both]
    return {
        "compared": len(said),
        "judge_only": said.count((True, False)),
        "embedder_only": said.count((False, True)),
    }


@dataclass(slots=True)
class _Group:
    """State of the samples of one prompt in one step."""

    first: float
    size: int = 1
    is_level: bool = True


class Groups:
    """Counts the groups whose rewards are all equal, from which a policy cannot learn.

    A group's samples may arrive one by one and mixed with others. Only the most recent groups are
    held; a dropped group stays in the counts, and its later samples count as another group.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._groups: dict[tuple[int, int], _Group] = {}
        self.forgotten = 0

    def __len__(self) -> int:
        return len(self._groups)

    def add(self, number: int, step: Step, samples: Sequence[Observed]) -> None:
        """Add the groups of *samples* to the counts of *step*, which has that *number*."""
        for sample in samples:
            if sample.reward is not None:
                self._add(number, step.counts, sample.prompt, sample.reward)

    def _add(self, number: int, counts: Counter[Count], prompt: int, reward: float) -> None:
        key = number, prompt
        group = self._groups.pop(key, None)
        if group is None:
            counts["prompts"] += 1
            group = _Group(reward)
            if len(self._groups) >= self._most:
                del self._groups[next(iter(self._groups))]
                self.forgotten += 1
        else:
            _grow(group, counts, reward)
        # Inserted again at the end: the group used longest ago is dropped first.
        self._groups[key] = group


def _grow(group: _Group, counts: Counter[Count], reward: float) -> None:
    group.size += 1
    is_second, was_level = group.size == 2, group.is_level  # noqa: PLR2004 - two make a group
    group.is_level = was_level and abs(reward - group.first) <= LEVEL
    if is_second:
        counts["groups"] += 1
        counts["zero_variance_groups"] += group.is_level
    elif was_level and not group.is_level:
        counts["zero_variance_groups"] -= 1
