"""The protocol of judges, their inquiries and their judgements."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal, NamedTuple, Protocol, runtime_checkable

from medreward.engines.capacity import Capacity
from medreward.engines.templates import Template
from medreward.errors import Problem
from medreward.samples import AnsweredBy

Verdict = Literal["YES", "NO"]
CANNOT_ASSESS: Final = "CANNOT_ASSESS"
"""The label of a criterion that the texts do not tell about; only some templates have it."""
MORE_LIKELY_THAN_NOT: Final = 0.5


class View(StrEnum):
    """The layout of an inquiry. Engines are deterministic, so a vote is a view, not a repeat."""

    AS_WRITTEN = "as_written"
    SWAPPED = "swapped"
    """Candidate before reference."""
    WITHOUT_QUESTION = "without_question"
    OTHER_ENGINE = "other_engine"
    """The layout `AS_WRITTEN`, sent to the second of two engines; a single engine answers it itself."""


class Inquiry(NamedTuple):
    """One request to a judge. Equal inquiries get equal judgements, so each is sent once.

    Its question is what `Template.shown` returned, so unequal inquiries have different cache keys.
    """

    template: Template
    answer: str
    reference: str | None = None
    question: str | None = None
    criterion: str | None = None
    view: View = View.AS_WRITTEN
    second: str | None = None
    """The answer that `answer` is compared with, if the template is about two answers."""

    @property
    def shown_question(self) -> str | None:
        """The question in the prompt; None if the template or the view shows none."""
        is_hidden = self.view is View.WITHOUT_QUESTION
        return None if is_hidden else self.template.shown(self.question)


@dataclass(frozen=True, slots=True)
class Judgement:
    """The probability of each label of a template."""

    labels: tuple[str, ...]
    probabilities: tuple[float, ...]
    """One for each label, adding up to 1."""
    coverage: float | None = None
    """Sum of the labels' probabilities in the whole vocabulary; None if the engine sees only labels."""
    threshold: float = 0.5
    """P(YES) above which the verdict is YES."""
    answered_by: AnsweredBy | None = field(default=None, compare=False)
    """Which of two engines gave it; None if there is one engine."""

    @property
    def likeliest(self) -> str:
        """The label with the highest probability; the earlier one of equals."""
        return self.labels[self.probabilities.index(max(self.probabilities))]

    @property
    def verdict(self) -> Verdict:
        """YES if P(YES) is above the threshold; a P(YES) equal to it is a NO.

        What cannot be assessed is not met: a NO.
        """
        return "YES" if self.p_yes > self.threshold and not self.cannot_assess else "NO"

    @property
    def p_yes(self) -> float:
        """P(YES) among YES and NO; one half if both are 0."""
        yes = self.probabilities[self.labels.index("YES")]
        if CANNOT_ASSESS not in self.labels:
            return yes
        either = yes + self.probabilities[self.labels.index("NO")]
        return yes / either if either else MORE_LIKELY_THAN_NOT

    @property
    def cannot_assess(self) -> bool:
        """True if P(CANNOT_ASSESS) is above one half, however YES and NO share the rest."""
        if CANNOT_ASSESS not in self.labels:
            return False
        return self.probabilities[self.labels.index(CANNOT_ASSESS)] > MORE_LIKELY_THAN_NOT

    @property
    def expected(self) -> float:
        """Mean of the labels read as numbers."""
        return math.fsum(
            int(label) * probability
            for label, probability in zip(self.labels, self.probabilities, strict=True)
        )


class Judge(Protocol):
    """Answers inquiries, in order.

    An engine that fails as a whole raises an `EngineError`, and the whole batch is unscored; a
    failure of one inquiry alone is returned as a `Problem` in its place.
    """

    @property
    def identity(self) -> str:
        """Everything besides the inquiry that can change a judgement: model, revision, prompt fence."""
        ...

    @property
    def capacity(self) -> Capacity:
        """The batches that suit the engine."""
        ...

    def can_answer(self, template: Template) -> bool:
        """Return True if the engine can answer inquiries of *template*."""
        ...

    async def start(self) -> None:
        """Prepare for the first inquiry; called again after the engine was lost.

        It may change `identity` and `capacity`, so both are read after it.

        Raises:
            EngineError: the engine is not ready yet; it is called again after a pause.
            SetupError: the settings have to be changed first; the message names which.
        """
        ...

    async def decide(self, inquiries: Sequence[Inquiry]) -> Sequence[Judgement | Problem]:
        """Judge each inquiry."""
        ...

    async def aclose(self) -> None:
        """Release the engine's memory, connections and processes."""
        ...


@runtime_checkable
class Reader(Protocol):
    """A judge whose tokenizer may not know the characters of a text; any other one reads all texts."""

    characters: frozenset[str] | None
    """Characters beyond ASCII that the tokenizer knows; None if it reads any text."""

    def can_read(self, text: str) -> bool:
        """Return False if most of a text would be unknown tokens."""
        ...


def is_sound(judgement: Judgement, inquiry: Inquiry) -> bool:
    """Check that a judgement has the template's labels, and probabilities that add up to 1."""
    return (
        judgement.labels == inquiry.template.labels
        and len(judgement.probabilities) == len(judgement.labels)
        and all(0.0 <= probability <= 1.0 for probability in judgement.probabilities)
        and math.isclose(math.fsum(judgement.probabilities), 1.0, abs_tol=1e-6)
        and 0.0 <= judgement.threshold <= 1.0
    )
