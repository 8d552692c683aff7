"""What a guard sees, and what it says."""

from collections.abc import Callable
from typing import NamedTuple

from medreward.guards.normal import Normal


class Span(NamedTuple):
    """Where something stands in a text, in characters of the text as it came."""

    start: int
    end: int


class Veto(NamedTuple):
    """Why an answer cannot be right, whatever a judge says."""

    rule: str
    """Guard and what it saw, such as `contrast.laterality`; from a closed set, never text."""
    span: Span
    """In the answer."""
    reference_span: Span | None = None
    """What it stands against in the reference, where it is something there."""


class Pair(NamedTuple):
    """An answer beside one reference, both normalised for detection."""

    answer: Normal
    reference: Normal
    question: Normal | None = None


Guard = Callable[[Pair], Veto | None]
"""Looks for one kind of fault; None where it sees none."""
