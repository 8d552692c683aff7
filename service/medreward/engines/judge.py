"""What a judge is asked and what it says: the seam between the pipeline and the engines."""

import math
import struct
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NamedTuple, Protocol

from medreward.engines.capacity import CHARACTERS_PER_TOKEN, Capacity
from medreward.engines.templates import Template
from medreward.errors import Problem

Verdict = Literal["YES", "NO"]

FLOAT32_BYTES = 4
NUMBERS_BESIDE = 2
"""The coverage and the threshold, in what is remembered."""
FRAME_TOKENS = 32
"""The chat template, the fence and the names of the fields."""


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


def group_of(inquiry: Inquiry) -> Hashable:
    """What an inquiry's prompt has in common with others before the answer."""
    return inquiry.template, inquiry.view, inquiry.question, inquiry.criterion, inquiry.reference


def tokens_of(inquiry: Inquiry) -> int:
    """Estimate the tokens of an inquiry's prompt, from its characters."""
    _, answer, reference, question, criterion, _ = inquiry
    texts = (inquiry.template.instruction, question, criterion, reference, answer)
    return FRAME_TOKENS + sum(len(text) for text in texts if text) // CHARACTERS_PER_TOKEN


def pack_judgement(judgement: Judgement) -> bytes:
    """Write a judgement for the cache, in float32.

    The probabilities come first, then the coverage, NaN where there is none, and the threshold.
    """
    coverage = math.nan if judgement.coverage is None else judgement.coverage
    numbers = (*judgement.probabilities, coverage, judgement.threshold)
    return struct.pack(f"<{len(numbers)}f", *numbers)


def unpack_judgement(packed: bytes, inquiry: Inquiry) -> Judgement | None:
    """Read what `pack_judgement` wrote for *inquiry*; None where it is something else."""
    labels = inquiry.template.labels
    numbers = len(labels) + NUMBERS_BESIDE
    if len(packed) != FLOAT32_BYTES * numbers:
        return None
    *probabilities, coverage, threshold = struct.unpack(f"<{numbers}f", packed)
    if math.isnan(threshold):
        return None
    told = None if math.isnan(coverage) else coverage
    return Judgement(labels, tuple(probabilities), told, threshold)
