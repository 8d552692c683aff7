"""What a judge is asked and what it says: the seam between the pipeline and the engines."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NamedTuple, Protocol

from medreward.engines.capacity import Capacity
from medreward.engines.templates import Template
from medreward.errors import Problem

Verdict = Literal["YES", "NO"]


class View(StrEnum):
    """How an inquiry is laid out. Engines are deterministic, so a vote is a view, not a repeat."""

    AS_WRITTEN = "as_written"
    SWAPPED = "swapped"
    """Candidate before reference."""
    WITHOUT_QUESTION = "without_question"
    OTHER_ENGINE = "other_engine"
    """As written, but put to the second of two engines; an engine alone answers it itself."""


class Inquiry(NamedTuple):
    """One thing to ask a judge. Equal inquiries get equal judgements, so each is asked once."""

    template: Template
    answer: str
    reference: str | None = None
    question: str | None = None
    criterion: str | None = None
    view: View = View.AS_WRITTEN


@dataclass(frozen=True, slots=True)
class Judgement:
    """How likely the judge found each label of its template."""

    labels: tuple[str, ...]
    probabilities: tuple[float, ...]
    """One for each label, adding up to 1."""
    coverage: float | None = None
    """Probability that fell on any label at all; None where the engine sees only the labels."""
    threshold: float = 0.5
    """P(YES) above which the verdict is YES."""

    @property
    def likeliest(self) -> str:
        """The label with the highest probability; the earlier one where two are equal."""
        return self.labels[self.probabilities.index(max(self.probabilities))]

    @property
    def verdict(self) -> Verdict:
        """YES only where P(YES) is above the threshold: what hangs in the balance is NO."""
        return "YES" if self.p_yes > self.threshold else "NO"

    @property
    def p_yes(self) -> float:
        """P(YES) among YES and NO."""
        return self.probabilities[self.labels.index("YES")]

    @property
    def expected(self) -> float:
        """Mean of the labels read as numbers."""
        return math.fsum(
            int(label) * probability
            for label, probability in zip(self.labels, self.probabilities, strict=True)
        )


class Judge(Protocol):
    """Answers inquiries, in order.

    An engine that cannot be asked raises an `EngineError`, and the whole batch is unscored; what
    concerns one inquiry alone comes back as a `Problem` in its place.
    """

    @property
    def identity(self) -> str:
        """Everything besides the inquiry that can change a judgement: model, revision, prompt fence."""
        ...

    @property
    def capacity(self) -> Capacity:
        """What suits it."""
        ...

    def can_answer(self, template: Template) -> bool:
        """Tell whether this engine understands *template*."""
        ...

    async def start(self) -> None:
        """Get ready to answer: called once before the first question, and again when it was lost.

        What it finds out may change `identity` and `capacity`, which are read after it.

        Raises:
            EngineError: not yet; it is called again after a pause.
            SetupError: never, as things are set; the message says what mends it.
        """
        ...

    async def decide(self, inquiries: Sequence[Inquiry]) -> Sequence[Judgement | Problem]:
        """Judge each inquiry."""
        ...

    async def aclose(self) -> None:
        """Give back what the engine holds."""
        ...


def is_sound(judgement: Judgement, inquiry: Inquiry) -> bool:
    """Tell a judgement from nonsense: the template's labels, and numbers that are probabilities."""
    return (
        judgement.labels == inquiry.template.labels
        and len(judgement.probabilities) == len(judgement.labels)
        and all(0.0 <= probability <= 1.0 for probability in judgement.probabilities)
        and math.isclose(math.fsum(judgement.probabilities), 1.0, abs_tol=1e-6)
        and 0.0 <= judgement.threshold <= 1.0
    )
