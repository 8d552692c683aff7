"""Stage 2: let in what can be finished in time, turn the rest away at once."""

import operator
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from medreward.errors import Overloaded, TooLarge

DRAIN_S = 30.0
"""How far back the drain rate looks."""
DRAIN_SAMPLES = 1024
SHORTEST_SPAN_S = 0.1
FIRST_RETRY_S = 1.0
"""What a caller is told while nothing has drained yet."""
SHORTEST_RETRY_S, LONGEST_RETRY_S = 0.1, 60.0


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


async def _patiently(work: Awaitable[Any]) -> None:
    await work


@dataclass(frozen=True, slots=True)
class Caller:
    """Who waits for the results: until when, and with whom it shares what is remembered."""

    deadline: Deadline
    namespace: str = ""
    run: str | None = None
    """The training job that it belongs to."""
    while_connected: Callable[[Awaitable[Any]], Awaitable[None]] = _patiently
    """Does some work as long as the caller waits; raises `Abandoned` when it has gone."""


class Load(NamedTuple):
    """What requests hold, or may hold: how many they are, and how much they carry."""

    requests: int = 0
    body_bytes: int = 0
    questions: int = 0

    def plus(self, more: "Load") -> "Load":
        """Add unit by unit."""
        return Load(*map(operator.add, self, more))

    def minus(self, less: "Load") -> "Load":
        """Subtract unit by unit."""
        return Load(*map(operator.sub, self, less))


UNITS = ("requests", "bytes of bodies", "questions")
"""What the units of a `Load` are called."""


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
        wanted = self._held.plus(more)
        self._admission.reserve(wanted=wanted, more=more)
        self._held = wanted

    def release(self, *, is_served: bool = True) -> None:
        """Give everything back, served or turned away."""
        self._admission.give_back(self._held, is_served=is_served)
        self._held = Load()


class Admission:
    """Counts what is in flight, and refuses what would go over the limits."""

    def __init__(self, limits: Load, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._drained: deque[tuple[float, Load]] = deque(maxlen=DRAIN_SAMPLES)
        self.in_flight = Load()

    @contextmanager
    def permit(self) -> Iterator[Permit]:
        """Hold a permit for one request until its reply is made."""
        permit = Permit(self)
        permit.take(Load(requests=1))
        is_served = True
        try:
            yield permit
        except Overloaded:
            is_served = False
            raise
        finally:
            permit.release(is_served=is_served)

    def reserve(self, *, wanted: Load, more: Load) -> None:
        """Count *more* as in flight, where one request would then hold *wanted*."""
        then = self.in_flight.plus(more)
        for unit, (limit, asked, total) in enumerate(zip(self._limits, wanted, then, strict=True)):
            if asked > limit:
                raise TooLarge(
                    f"the request has {asked} {UNITS[unit]}, more than fit at all; at most {limit} do"
                )
            if total > limit and more[unit]:
                raise Overloaded(
                    f"the limit of {limit} {UNITS[unit]} in flight is reached; send it again later",
                    retry_after_s=self._seconds_to_drain(unit, total - limit),
                )
        self.in_flight = then

    def give_back(self, held: Load, *, is_served: bool = True) -> None:
        """Count *held* as in flight no more."""
        self.in_flight = self.in_flight.minus(held)
        # Those who are turned away come again and again; they say nothing about how fast things go.
        if is_served:
            self._drained.append((self._clock(), held))

    def _seconds_to_drain(self, unit: int, amount: int) -> float:
        """Estimate from what was given back of late how long *amount* more will take."""
        now_s = self._clock()
        lately = [(at_s, held[unit]) for at_s, held in self._drained if at_s > now_s - DRAIN_S]
        drained = sum(number for _, number in lately)
        if not drained:
            return FIRST_RETRY_S
        # From the first of them on: a service that has just begun has not been slow for long.
        span_s = max(now_s - lately[0][0], SHORTEST_SPAN_S)
        return min(max(amount * span_s / drained, SHORTEST_RETRY_S), LONGEST_RETRY_S)
