"""Repeated answers: the same answer, rewarded for many prompts, may exploit the reward.

An answer is suspicious if it is rewarded highly for many different references without being equal
to them, is a large share of all high rewards, and is seldom wrong. "Yes" is rewarded as often, but
for the reference "yes"; "normal" is wrong as often as the policy is.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from medreward.rewards.groups import RIGHT
from medreward.runs.observe import Observed

KEPT = 128
"""Answers kept when the rarest are dropped, which happens at twice as many."""
DECAY: Final = 0.9
"""Factor of a use's weight for each later step: about the last ten steps count."""
HEAVIEST = 1e12

MOST_EXACT = 0.1
"""Share of an answer's high rewards for which it may equal the reference, at most."""


class Thresholds(NamedTuple):
    """Thresholds that an answer has to reach to be suspicious."""

    references: int
    """Different references for which it was rewarded without being equal to them."""
    share: float
    """Share of all high rewards."""
    right: float
    """Share of its uses that were rewarded highly."""


USUAL, FOR_SHORT = Thresholds(8, 0.05, 0.5), Thresholds(16, 0.1, 0.8)
SHORT_CHARACTERS = 4
"""Length up to which an answer is often right by nature: yes, no, a letter, a number."""


class Repeat(NamedTuple):
    """Recent use of an answer, with decayed counts."""

    answer: int
    characters: int
    references: int
    """Counted up to `FOR_SHORT.references`."""
    share: float
    right: float
    exact: float

    @property
    def thresholds(self) -> Thresholds:
        """Thresholds for an answer of its length."""
        return FOR_SHORT if self.characters <= SHORT_CHARACTERS else USUAL

    @property
    def is_suspicious(self) -> bool:
        """True if it reaches every threshold and seldom equals its reference."""
        least = self.thresholds
        is_common = self.references >= least.references and self.share >= least.share
        return is_common and self.right >= least.right and self.exact <= MOST_EXACT


@dataclass(slots=True)
class _Use:
    """Decaying counts of one answer."""

    characters: int
    high: float = 0.0
    low: float = 0.0
    exact: float = 0.0
    references: set[int] = field(default_factory=set)


class RepeatedAnswers:
    """Counts the answers that are rewarded most often.

    When `2 * KEPT` are held, the rarer half is dropped at once, so that the cost of an answer is
    constant on average.
    """

    def __init__(self) -> None:
        self._uses: dict[int, _Use] = {}
        self._high = 0.0
        self._weight = 1.0
        """Weight of a use now; it grows each step, so that older counts need not be reduced."""

    @property
    def held(self) -> int:
        """Number of answers and references held."""
        return len(self._uses) + sum(len(use.references) for use in self._uses.values())

    def add(self, samples: Iterable[Observed]) -> None:
        """Count the answers of *samples*."""
        for sample in samples:
            if sample.reward is not None and sample.answer_characters:
                self._add(sample, is_high=sample.reward >= RIGHT)

    def age(self) -> None:
        """Reduce the relative weight of all counts by one step."""
        self._weight /= DECAY
        if self._weight > HEAVIEST:
            self._rescale()

    def most_used(self, most: int) -> list[Repeat]:
        """Return the answers rewarded most often, in descending order."""
        return [self._repeat(answer, use) for answer, use in self._heaviest(most)]

    def suspicious(self) -> Iterator[Repeat]:
        """Yield the answers that reach their thresholds."""
        least = USUAL.share * self._high
        for answer, use in self._uses.items():
            if use.high >= least and len(use.references) >= USUAL.references:
                repeat = self._repeat(answer, use)
                if repeat.is_suspicious:
                    yield repeat

    def _add(self, sample: Observed, *, is_high: bool) -> None:
        use = self._uses.get(sample.answer)
        if not is_high:
            if use is not None:
                use.low += self._weight
            return
        if use is None:
            self._make_room()
            use = self._uses[sample.answer] = _Use(sample.answer_characters)
        self._high += self._weight
        use.high += self._weight
        if sample.answer == sample.reference:
            use.exact += self._weight
        elif len(use.references) < FOR_SHORT.references:
            # If there is no reference, the prompt is counted instead.
            reference = sample.prompt if sample.reference is None else sample.reference
            use.references.add(reference)

    def _make_room(self) -> None:
        if len(self._uses) >= 2 * KEPT:
            self._uses = dict(self._heaviest(KEPT))

    def _heaviest(self, most: int) -> list[tuple[int, _Use]]:
        return sorted(self._uses.items(), key=lambda entry: -entry[1].high)[:most]

    def _rescale(self) -> None:
        for use in self._uses.values():
            use.high /= self._weight
            use.low /= self._weight
            use.exact /= self._weight
        self._high /= self._weight
        self._weight = 1.0

    def _repeat(self, answer: int, use: _Use) -> Repeat:
        return Repeat(
            answer=answer,
            characters=use.characters,
            references=len(use.references),
            share=use.high / self._high,
            right=use.high / (use.high + use.low),
            exact=use.exact / use.high,
        )
