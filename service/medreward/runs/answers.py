"""The same answer, rewarded for prompt after prompt: what a master key looks like from outside.

An answer is suspicious that is rewarded highly for many different references without being any of
them, makes up a good part of what is rewarded, and is seldom wrong. "Yes" is rewarded as often, but
where the reference is "yes"; "normal" is wrong as often as the policy is.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from medreward.runs.observe import Observed
from medreward.runs.steps import RIGHT

KEPT = 128
"""Answers that are surely kept; twice as many are held before the rarest are dropped."""
DECAY: Final = 0.9
"""What a use is worth one step later: the last ten steps or so count."""
HEAVIEST = 1e12

MOST_EXACT = 0.1
"""Share of an answer's high rewards that may be for the very words of the reference."""


class Bar(NamedTuple):
    """What an answer has to reach to be suspicious."""

    references: int
    """Different references that it was rewarded for without being any of them."""
    share: float
    """Of all high rewards."""
    right: float
    """Share of its uses that were rewarded highly."""


BAR, SHORT_BAR = Bar(8, 0.05, 0.5), Bar(16, 0.1, 0.8)
SHORT_CHARACTERS = 4
"""So short an answer is right for many prompts by its nature: yes, no, a letter, a number."""


class Repeat(NamedTuple):
    """How an answer has been used of late."""

    answer: int
    characters: int
    references: int
    """Counted up to `SHORT_BAR.references`."""
    share: float
    right: float
    exact: float

    @property
    def bar(self) -> Bar:
        """What is asked of an answer of its length."""
        return SHORT_BAR if self.characters <= SHORT_CHARACTERS else BAR

    @property
    def is_suspicious(self) -> bool:
        """Whether it is over the bar."""
        bar = self.bar
        is_common = self.references >= bar.references and self.share >= bar.share
        return is_common and self.right >= bar.right and self.exact <= MOST_EXACT


class _Use:
    """Decaying counts of one answer."""

    __slots__ = ("characters", "exact", "high", "low", "references")

    def __init__(self, characters: int) -> None:
        self.characters = characters
        self.high = self.low = self.exact = 0.0
        self.references: set[int] = set()


class RepeatedAnswers:
    """Keeps the answers that are rewarded most often.

    When `2 * KEPT` are held, the rarest are dropped at once, so that an answer costs the same few
    operations whatever is sent.
    """

    def __init__(self) -> None:
        self._uses: dict[int, _Use] = {}
        self._high = 0.0
        self._weight = 1.0
        """Of a use now. It grows instead of all counts shrinking."""

    @property
    def held(self) -> int:
        """Answers held, and their references."""
        return len(self._uses) + sum(len(use.references) for use in self._uses.values())

    def add(self, samples: Iterable[Observed]) -> None:
        """Count the answers of *samples*."""
        for sample in samples:
            if sample.reward is not None and sample.answer_characters:
                self._add(sample, is_high=sample.reward >= RIGHT)

    def age(self) -> None:
        """Let a step pass."""
        self._weight /= DECAY
        if self._weight > HEAVIEST:
            self._rescale()

    def most_used(self, most: int) -> list[Repeat]:
        """Give those rewarded most often, the first first."""
        heaviest = sorted(self._uses.items(), key=lambda entry: -entry[1].high)[:most]
        return [self._repeat(answer, use) for answer, use in heaviest]

    def suspicious(self) -> Iterator[Repeat]:
        """Give those over their bar."""
        least = BAR.share * self._high
        for answer, use in self._uses.items():
            if use.high >= least and len(use.references) >= BAR.references:
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
        elif len(use.references) < SHORT_BAR.references:
            # Without a reference, the prompt stands for it.
            reference = sample.prompt if sample.reference is None else sample.reference
            use.references.add(reference)

    def _make_room(self) -> None:
        if len(self._uses) >= 2 * KEPT:
            heaviest: Sequence[tuple[int, _Use]] = sorted(
                self._uses.items(), key=lambda entry: -entry[1].high
            )
            self._uses = dict(heaviest[:KEPT])

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
