"""Stage 2: let in what can be finished in time, turn the rest away at once."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from medreward.errors import Overloaded, TooLarge


@dataclass(frozen=True, slots=True)
class Deadline:
    """The moment after which an answer is of no use."""

    at_s: float
    """On the clock of `time.monotonic`."""

    @classmethod
    def after(cls, seconds: float) -> "Deadline":
        """Set the deadline *seconds* from now."""
        return cls(time.monotonic() + seconds)

    @property
    def left_s(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.at_s - time.monotonic())


@dataclass(frozen=True, slots=True)
class Load:
    """What requests hold, or may hold: how many they are, and how much they carry."""

    requests: int = 0
    body_bytes: int = 0
    questions: int = 0


class Permit:
    """One request's share of the service, taken at ingress and held to the reply."""

    def __init__(self, admission: "Admission") -> None:
        self._admission = admission
        self._held = Load()

    def take(self, more: Load) -> None:
        """Hold *more*.

        Raises:
            TooLarge: the request alone is more than the service ever holds.
            Overloaded: not now.
        """
        wanted = _sum(self._held, more)
        self._admission.reserve(wanted=wanted, more=more)
        self._held = wanted

    def release(self) -> None:
        """Give everything back."""
        self._admission.give_back(self._held)
        self._held = Load()


class Admission:
    """Counts what is in flight, and refuses what would go over the limits."""

    def __init__(self, limits: Load, *, retry_after_s: float = 1.0) -> None:
        self._limits = limits
        self._retry_after_s = retry_after_s
        self.in_flight = Load()

    @contextmanager
    def permit(self) -> Iterator[Permit]:
        """Hold a permit for one request until its reply is made."""
        permit = Permit(self)
        permit.take(Load(requests=1))
        try:
            yield permit
        finally:
            permit.release()

    def reserve(self, *, wanted: Load, more: Load) -> None:
        """Count *more* as in flight, where one request would then hold *wanted*."""
        for unit in ("requests", "body_bytes", "questions"):
            limit = getattr(self._limits, unit)
            name = unit.replace("_", " ")
            if getattr(wanted, unit) > limit:
                raise TooLarge(f"the request has more {name} than fit at all; at most {limit} do")
            if getattr(self.in_flight, unit) + getattr(more, unit) > limit:
                raise Overloaded(
                    f"the limit of {limit} {name} in flight is reached; send it again later",
                    retry_after_s=self._retry_after_s,
                )
        self.in_flight = _sum(self.in_flight, more)

    def give_back(self, held: Load) -> None:
        """Count *held* as in flight no more."""
        self.in_flight = Load(
            self.in_flight.requests - held.requests,
            self.in_flight.body_bytes - held.body_bytes,
            self.in_flight.questions - held.questions,
        )


def _sum(one: Load, other: Load) -> Load:
    return Load(
        one.requests + other.requests,
        one.body_bytes + other.body_bytes,
        one.questions + other.questions,
    )
