"""Input and output of a guard: an answer with one reference, and a veto."""

from collections.abc import Callable
from typing import NamedTuple

from medreward.guards.normal import Normal


class Span(NamedTuple):
    """Range of characters in an original text."""

    start: int
    end: int


class Veto(NamedTuple):
    """Reason why an answer cannot be right, regardless of the judge."""

    rule: str
    """Name of the finding, such as `contrast.laterality`; from code and lexicons, never sample text."""
    span: Span
    """Range in the answer."""
    reference_span: Span | None = None
    """Contradicted range in the reference, if there is one."""


class Pair(NamedTuple):
    """An answer and one reference, both normalised for detection."""

    answer: Normal
    reference: Normal
    question: Normal | None = None


Guard = Callable[[Pair], Veto | None]
"""Function that detects one kind of fault; it returns None if the answer has none."""
