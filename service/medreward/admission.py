"""Permits, deadlines and limits. Requests beyond the limits are refused at once."""

import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from operator import add, sub
from typing import Any, NamedTuple

from medreward.errors import Overloaded, TooLarge

DRAIN_S = 30.0
"""Window over which the drain rate is measured."""
DRAIN_SAMPLES = 1024
SHORTEST_SPAN_S = 0.1
FIRST_RETRY_S = 1.0
"""`Retry-After` while nothing has drained yet."""
SHORTEST_RETRY_S, LONGEST_RETRY_S = 0.1, 60.0


@dataclass(frozen=True, slots=True)
class Deadline:
    """The time until which a caller waits for an answer."""

    at_s: float
    """Time of the deadline, by `time.monotonic`."""

    @classmethod
    def after(cls, seconds: float) -> "Deadline":
        """Set the deadline *seconds* from now."""
        return cls(time.monotonic() + seconds)

    @property
    def left_s(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.at_s - time.monotonic())


async def _to_the_end(work: Awaitable[Any]) -> Any:
    return await work


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller of a request: its deadline, and the cache namespace that it shares."""

    deadline: Deadline
    namespace: str = ""
    can_split: bool = False
    """True if the caller can send a request that is refused for its deadline in parts."""
    while_connected: Callable[[Awaitable[Any]], Awaitable[Any]] = _to_the_end
    """Returns what some work gives while the caller is connected; raises `Abandoned` if it hangs up."""


class Load(NamedTuple):
    """Amounts that requests hold, or may hold at most."""

    requests: int = 0
    body_bytes: int = 0
    questions: int = 0


UNITS = ("requests", "bytes of decoded bodies", "questions")
"""Names of a `Load`'s units in messages."""


class Permit:
    """The load that one request holds, from its first byte until its response is built."""

    def __init__(self, admission: "Admission") -> None:
        self._admission = admission
        self._held = Load()

    def take(self, more: Load) -> None:
        """Add *more* to the load that this request holds.

        Raises:
            TooLarge: the request alone is over a limit.
            Overloaded: the requests in flight leave too little room.
        """
        wanted = Load(*map(add, self._held, more))
        self._admission.reserve(wanted=wanted, more=more)
        self._held = wanted

    def release(self, *, is_served: bool = True) -> None:
        """Give the whole load back; *is_served* is False for a refused request."""
        self._admission.give_back(self._held, is_served=is_served)
        self._held = Load()


class Admission:
    """Counts the load in flight, and refuses requests that would exceed the limits."""

    def __init__(self, limits: Load, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._drained: deque[tuple[float, Load]] = deque(maxlen=DRAIN_SAMPLES)
        self.in_flight = Load()

    @contextmanager
    def permit(self) -> Iterator[Permit]:
        """Hold a permit for one request until the block ends."""
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

    @contextmanager
    def reply(self, size_bytes: int) -> Iterator[None]:
        """Count a reply until it is sent. It is built already, so it is not refused."""
        held = Load(body_bytes=size_bytes)
        self.in_flight = Load(*map(add, self.in_flight, held))
        try:
            yield
        finally:
            self.give_back(held)

    def reserve(self, *, wanted: Load, more: Load) -> None:
        """Count *more* as in flight, for a request that then holds *wanted* in total.

        Raises:
            TooLarge: *wanted* alone is over a limit.
            Overloaded: the requests in flight leave too little room.
        """
        # All units are checked before anything is counted: a refused request changes nothing.
        then = Load(*map(add, self.in_flight, more))
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
        self.in_flight = Load(*map(sub, self.in_flight, held))
        # Refused requests return many times a second, and would make the drain rate look fast.
        if is_served:
            self._drained.append((self._clock(), held))

    def _seconds_to_drain(self, unit: int, amount: int) -> float:
        """Estimate the seconds until *amount* is free, from the load given back recently."""
        now_s = self._clock()
        recent = [(at_s, held[unit]) for at_s, held in self._drained if at_s > now_s - DRAIN_S]
        drained = sum(number for _, number in recent)
        if not drained:
            return FIRST_RETRY_S
        # Measured from the first release in the window, not over the whole window: otherwise a
        # service that has just started would look slow.
        span_s = max(now_s - recent[0][0], SHORTEST_SPAN_S)
        return min(max(amount * span_s / drained, SHORTEST_RETRY_S), LONGEST_RETRY_S)
