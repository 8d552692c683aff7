"""Samples to score and items to grade, independent of HTTP."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from medreward.errors import Problem, ProblemKind

Identifier = Annotated[str, Field(max_length=256)]

Source = Literal["judge", "embedder", "cache", "coalesced", "exact", "rule", "veto"]
AnsweredBy = Literal["first", "second"]
"""The engines of a judge that has two, such as a verifier and a language model, by their order."""


class Closed(BaseModel):
    """Model that refuses unknown fields: a misspelt one would silently be left at its default."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Points = Annotated[float, Field(allow_inf_nan=False, ge=-1000, le=1000)]


class Criterion(Closed):
    """One line of a rubric."""

    text: str
    points: Points
    """Points earned if the answer meets the criterion; negative for an unwanted property."""


Criteria = Annotated[tuple[Criterion, ...], Field(max_length=64)]


class Choice(Closed):
    """One of several descriptions of an answer, of which a better one follows a worse one."""

    text: str
    points: Points


class SampleCriterion(Closed):
    """One line of a sample's rubric: yes or no, with `points`, or one of several `choices`."""

    text: str
    points: Points | None = None
    """Points earned if the answer meets the criterion; negative for an unwanted property."""
    choices: Annotated[tuple[Choice, ...], Field(min_length=2, max_length=10)] | None = None
    """From the worst to the best."""

    @property
    def questions(self) -> int:
        """Number of questions that the judge is asked: with choices, one for each but the worst."""
        return 1 if self.choices is None else len(self.choices) - 1


GroupSize = Annotated[int, Field(ge=1, le=4096)]
References = Annotated[tuple[str, ...], Field(min_length=1, max_length=32)]


class Sample(Closed):
    """One thing to score."""

    response: str
    """The policy's complete response."""
    reference: str | References
    """The ground truth, or several accepted ones."""
    id: Identifier | None = None
    group: Identifier | None = None
    group_size: GroupSize | None = None
    """Number of the group's samples, all of which are in the same request."""
    question: str | None = None
    modality: str | None = None
    """One of the recipe's modality tags, with or without its angle brackets."""
    criteria: tuple[SampleCriterion, ...] | None = None
    """The rubric of the signal `rubric`; a sample with one that is too long is refused by itself."""
    extra: dict[str, Any] = Field(default_factory=dict)

    @field_validator("group_size")
    @classmethod
    def _has_group(cls, size: int | None, info: ValidationInfo) -> int | None:
        if size is not None and info.data.get("group") is None:
            raise PydanticCustomError("no_group", "needs `group`, the name of the group")
        return size

    @property
    def references(self) -> References:
        """Accepted references, one or several."""
        return (self.reference,) if isinstance(self.reference, str) else self.reference


class Item(Closed):
    """One answer to judge."""

    answer: str
    reference: str | None = None
    id: Identifier | None = None
    question: str | None = None
    criteria: Criteria | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """Maximum lengths of a sample's texts, in bytes of UTF-8."""

    response_bytes: int = 256 * 1024
    text_bytes: int = 16 * 1024
    """Limit of a question, a reference, a criterion, and an answer that a model is asked about."""


BYTES_PER_CHARACTER = 4
"""Bytes of one character in UTF-8, at most."""


def is_over(text: str, limit_bytes: int) -> bool:
    """Return whether a text takes more than *limit_bytes* of UTF-8."""
    # Encoding costs time and most texts are far from their limit, so only long
    # ones are encoded.
    if BYTES_PER_CHARACTER * len(text) <= limit_bytes:
        return False
    return len(text.encode("utf-8", "surrogatepass")) > limit_bytes


def over_limit(field: str, limit: int) -> Problem:
    """Build the problem of a *field* that is over its limit in bytes."""
    return Problem(
        ProblemKind.TOO_LONG, f"{field}: over {limit} bytes; shorten it or raise the limit"
    )


def too_long(field: str, text: str, limits: Limits) -> Problem | None:
    """Return the problem of a text that is too long for a model; None if it is within the limit."""
    return over_limit(field, limits.text_bytes) if is_over(text, limits.text_bytes) else None
