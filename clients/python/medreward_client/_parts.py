"""One call in as many requests as the service has time for, one after the other.

The service refuses a request that its judge cannot answer in time, with the number of samples that
it can, and answers at a request's deadline with the results that it has. Both lead to further
requests here. What was judged is cached there, so asking again costs little.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar

from medreward_client._errors import Overloaded, RequestRefused, TimedOut, TryAgain
from medreward_client._http import Call, Connections
from medreward_client._types import Problem

S = TypeVar("S")
S_contra = TypeVar("S_contra", contravariant=True)
R = TypeVar("R")

LONGEST_S = 3600.0
"""Longest call by default: an hour is 7,200 judgements of a language model on two CPU cores."""
IDLE_S = 600.0
"""Longest time of a call without a result by default, enough for a service to restart."""
LATE = "deadline"
"""The kind of a sample that was not reached by the deadline of its request."""
KINDS = {Overloaded: "service_overloaded", TimedOut: "service_timeout"}


class Patience(NamedTuple):
    """The seconds that a call may take in total, and without a result."""

    longest_s: float = LONGEST_S
    idle_s: float = IDLE_S

    def from_now(self) -> "Wait":
        """Begin to wait, by the clock of the running loop."""
        return Wait(asyncio.get_running_loop().time() + self.longest_s, self.idle_s)


class Wait(NamedTuple):
    """The end of a call by its loop's clock, and the seconds that it may take without a result."""

    ends_at: float
    idle_s: float

    @property
    def gives_up_at(self) -> float:
        """The time to give up unless a result comes."""
        return min(self.ends_at, asyncio.get_running_loop().time() + self.idle_s)


@dataclass(frozen=True, slots=True)
class Part(Generic[R]):
    """A reply, and the places of its samples among all samples of the call."""

    places: Sequence[int]
    reply: R


class Route(Protocol[S_contra, R]):
    """A route that takes samples, or items, and gives one result each."""

    def call(self, samples: Sequence[S_contra]) -> Call[R]:
        """Build the call of one request."""
        ...

    def kinds(self, reply: R) -> Sequence[str | None]:
        """Return the kind of each result's problem; None for a result without one."""
        ...

    def joined(self, samples: Sequence[S_contra], parts: Sequence[Part[R]], missing: Problem) -> R:
        """Join parts; later results replace earlier ones, and samples in no part get *missing*."""
        ...


async def ask_in_parts(
    connections: Connections, route: Route[S, R], samples: Sequence[S], wait: Wait
) -> R:
    """Ask for the results of samples, in one request if the service has time for all.

    Raises:
        MedrewardError: the service refuses the request, or gave no result at all. A failure after
            the first result becomes the problem of the samples that have none.
    """
    time = asyncio.get_running_loop().time
    left, fits = list(range(len(samples))), len(samples)
    parts: list[Part[R]] = []
    gives_up_at, missing = wait.gives_up_at, problem_of(TimedOut("no answer by the deadline"))
    while left or not parts:
        places = left[:fits]
        try:
            reply = await connections.ask(
                route.call([samples[place] for place in places]), gives_up_at
            )
        except (RequestRefused, TryAgain) as failure:
            if failure.fits is not None and 0 < failure.fits < len(places):
                fits = failure.fits
                continue
            if not parts or isinstance(failure, RequestRefused):
                raise
            missing = problem_of(failure)
            break
        late = [p for p, kind in zip(places, route.kinds(reply), strict=True) if kind == LATE]
        if not late and len(places) == len(samples):
            return reply
        parts.append(Part(places, reply))
        left = late + left[len(places) :]
        # The service is asked what fits each time: what is cached takes no time of its judge.
        fits = len(left)
        has_results = len(late) < len(places)
        if has_results:
            gives_up_at = wait.gives_up_at
        if time() >= gives_up_at:
            break
        if not has_results:
            await asyncio.sleep(connections.pauses.doubled(1))
    return route.joined(samples, parts, missing)


def latest(
    samples: Sequence[object], parts: Sequence[Part[R]], results: Callable[[R], Sequence[S]]
) -> list[S | None]:
    """Return the last result of each sample; None if it is in no part."""
    found: list[S | None] = [None] * len(samples)
    for part in parts:
        for place, result in zip(part.places, results(part.reply), strict=True):
            found[place] = result
    return found


def total_ms(timings: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Add up the milliseconds of each stage, of requests one after the other."""
    return {stage: sum(one.get(stage, 0.0) for one in timings) for stage in timings[0]}


def problem_of(failure: TryAgain) -> Problem:
    """Return the problem of a sample whose request failed."""
    kind = KINDS.get(type(failure), "service_unavailable")
    return Problem(kind, str(failure), retryable=True)
