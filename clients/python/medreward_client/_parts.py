"""One call in as many requests as the service has time for, one after the other.

The service refuses a request that its judge cannot answer in time, with the number of samples that
it can, and answers at a request's deadline with the results that it has. Both lead to further
requests here. What was judged is cached there, so asking again costs little.
"""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Generic, NamedTuple, Protocol, TypeGuard, TypeVar

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
REFUSED = "sample_refused"
"""The kind of a sample that the service refuses, whatever the others of its request are."""
_PLACE = re.compile(r"\b(?:samples|items)\[\d+\](\.?)")
_NAMED = re.compile(r"\bthe sample\b")
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

    def cut(self, samples: Sequence[S_contra], at: int) -> int:
        """Return the last place up to *at* where the samples may be divided; else *at*."""
        ...

    def together(self, samples: Sequence[S_contra], some: Sequence[int]) -> Sequence[int]:
        """Return the places of *some* samples, and of those that have to be asked about with them."""
        ...

    def joined(
        self,
        samples: Sequence[S_contra],
        parts: Sequence[Part[R]],
        problems: Mapping[int, Problem],
    ) -> R:
        """Join parts; later results replace earlier ones, and a sample in no part has a problem."""
        ...


Refused = RequestRefused | TypeError
"""The error of a single sample: the service refuses it, or JSON cannot hold it."""


@dataclass(frozen=True, slots=True)
class Answers(Generic[R]):
    """The replies to a call's requests, and the problems and refusals of samples by their places."""

    parts: Sequence[Part[R]]
    problems: Mapping[int, Problem]
    refused: Mapping[int, Refused]


async def ask_in_parts(
    connections: Connections, route: Route[S, R], samples: Sequence[S], wait: Wait
) -> R:
    """Ask for the results of samples, in one request if the service has time for all.

    Raises:
        MedrewardError: the service refuses the request, or gave no result at all. A failure after
            the first result becomes the problem of the samples that have none.
        TypeError: JSON cannot hold a sample.
    """
    answers = await answers_of(connections, route, samples, wait)
    raise_refusals(answers)
    return joined(route, samples, answers)


def raise_refusals(answers: Answers[R]) -> None:
    """Raise the first refusal if no sample has a result, or if a sample is a mistake of the caller's."""
    for failure in answers.refused.values():
        if isinstance(failure, TypeError) or not answers.parts:
            raise failure


def joined(route: Route[S, R], samples: Sequence[S], answers: Answers[R]) -> R:
    """Return one reply for all samples; there has to be a part."""
    if len(answers.parts) == 1 and len(answers.parts[0].places) == len(samples):
        return answers.parts[0].reply
    return route.joined(samples, answers.parts, answers.problems)


async def answers_of(
    connections: Connections, route: Route[S, R], samples: Sequence[S], wait: Wait
) -> Answers[R]:
    """Ask for the results of samples; a sample that makes its request fail costs the others nothing.

    Raises:
        MedrewardError: the service refuses the request as a whole, or was not to be had before any
            sample had a result.
    """
    time = asyncio.get_running_loop().time
    todo = [list(range(len(samples)))]  # the next ones last
    parts: list[Part[R]] = []
    refused: dict[int, Refused] = {}
    gives_up_at, missing = wait.gives_up_at, problem_of(TimedOut("no answer by the deadline"))
    while todo:
        places = todo.pop()
        try:
            reply = await connections.ask(
                route.call([samples[place] for place in places]), gives_up_at
            )
        except (RequestRefused, TryAgain, TypeError) as failure:
            first = _first(failure, route, [samples[place] for place in places])
            if first:
                taken = set(first)
                others = [place for n, place in enumerate(places) if n not in taken]
                todo += [others, [places[n] for n in first]]
            elif places and is_about_a_sample(failure):
                refused.update({place: _named(failure, samples[place]) for place in places})
            elif parts and isinstance(failure, TryAgain):
                missing = problem_of(failure)
                todo.append(places)
                break
            else:
                raise
            continue
        late = [n for n, kind in enumerate(route.kinds(reply)) if kind == LATE]
        parts.append(Part(places, reply))
        if late:
            # Together with the next ones: the service says what fits, and what is cached takes no
            # time of its judge.
            again = route.together([samples[place] for place in places], late)
            todo.append([places[n] for n in again] + (todo.pop() if todo else []))
        has_results = len(late) < len(places)
        if has_results:
            gives_up_at = wait.gives_up_at
        if time() >= gives_up_at:
            break
        if not has_results:
            await asyncio.sleep(connections.pauses.doubled(1))
    problems = dict.fromkeys((place for places in todo for place in places), missing)
    return Answers(parts, problems | {p: refusal_of(one) for p, one in refused.items()}, refused)


def _first(failure: Exception, route: Route[S, R], samples: Sequence[S]) -> Sequence[int]:
    """Return the places of the samples to send first; none if dividing them is of no use."""
    fits = failure.fits if isinstance(failure, RequestRefused | TryAgain) else None
    if fits == 0 and samples:
        # Not even the first one fits, with its group if groups are compared; the others may.
        alone = route.together(samples, [0])
        return alone if len(alone) < len(samples) else ()
    if fits is not None and 0 < fits < len(samples):
        return range(route.cut(samples, fits))
    if is_about_a_sample(failure) and len(samples) > 1:
        return range(route.cut(samples, len(samples) // 2))
    return ()


def is_about_a_sample(failure: Exception) -> TypeGuard[Refused]:
    """Return True if a single sample may be the cause, not the request as a whole."""
    if isinstance(failure, RequestRefused):
        return failure.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE or bool(
            _PLACE.search(str(failure)) or _NAMED.search(str(failure))
        )
    return isinstance(failure, TypeError)  # JSON cannot hold the `extra` of one


def _named(failure: Refused, sample: object) -> Refused:
    """Name a sample by its id in place of its place in the request."""
    if isinstance(failure, TypeError):
        return failure
    name = getattr(sample, "id", None)
    named = "the sample" if name is None else f"the sample {name!r}"
    return RequestRefused(
        _PLACE.sub(lambda place: named + (", " if place[1] else ""), str(failure)),
        kind=failure.kind,
        status=failure.status,
        request_id=failure.request_id,
        fits=failure.fits,
    )


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


def refusal_of(refused: Refused) -> Problem:
    """Return the problem of a sample that is refused."""
    return Problem(REFUSED, str(refused), retryable=False)


def problem_of(failure: TryAgain) -> Problem:
    """Return the problem of a sample whose request failed."""
    kind = KINDS.get(type(failure), "service_unavailable")
    return Problem(kind, str(failure), retryable=True)
