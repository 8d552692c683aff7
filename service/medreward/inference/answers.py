"""The answers to one request's questions, with their sources and timings."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from medreward.errors import Problem
from medreward.samples import Source

Q = TypeVar("Q", bound=Hashable)
A = TypeVar("A")


class Answered(NamedTuple, Generic[A]):
    """An answer, or the problem in its place, with its source."""

    value: A | Problem
    source: Source


@dataclass(slots=True)
class Timings:
    """The seconds that one request's questions took, and the number that reached the engine."""

    cache_s: float = 0.0
    queue_s: float = 0.0
    """The longest that one of its questions waited for its batch."""
    engine_s: float = 0.0
    """Seconds from the first question to the last answer, including the queue."""
    asked: int = 0

    def __add__(self, later: "Timings") -> "Timings":
        """Add the timings of a second round of questions."""
        return Timings(
            self.cache_s + later.cache_s,
            max(self.queue_s, later.queue_s),
            self.engine_s + later.engine_s,
            self.asked + later.asked,
        )


@dataclass(slots=True)
class Answers(Generic[Q, A]):
    """The answers to one request's questions, as its samples take them.

    The first sample to take an engine's answer counts as its asker; the others are `coalesced`.
    """

    missing: dict[bytes, Q] = field(default_factory=dict)
    """Questions without an answer yet, by key."""
    cached: int = 0
    """Questions that were answered from this process's memory."""
    is_recalled: bool = False
    """True if the cache that replicas share was read for the missing questions."""
    timings: Timings = field(default_factory=Timings)
    _answers: dict[Q, Answered[A]] = field(default_factory=dict)
    _taken: set[Q] = field(default_factory=set)

    def add(self, question: Q, value: A | Problem, source: Source) -> None:
        """Add the answer to a question that is not missing."""
        self._answers[question] = Answered(value, source)

    def fill(self, key: bytes, value: A | Problem, source: Source) -> None:
        """Add the answer to a missing question."""
        self._answers[self.missing.pop(key)] = Answered(value, source)

    def look(self, question: Q) -> A | Problem:
        """Return the answer without taking it for a sample."""
        return self._answers[question].value

    def take(self, question: Q) -> Answered[A]:
        """Return the answer, with its source for this sample."""
        answered = self._answers[question]
        if answered.source == "cache":
            return answered
        if question in self._taken:
            return answered._replace(source="coalesced")
        self._taken.add(question)
        return answered
