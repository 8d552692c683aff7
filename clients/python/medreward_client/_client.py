"""The async client, and a blocking client that runs it on a thread of its own."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import astuple, dataclass, replace
from functools import partial
from http import HTTPStatus
from typing import Any, Self, Unpack, overload

from medreward_client._batching import Batcher, Rewarded, check_ids
from medreward_client._errors import BadReply
from medreward_client._http import (
    PAUSES,
    Call,
    Connections,
    Reply,
    Transport,
    check_address,
    check_deadline,
    document_in,
    error_of,
    given_text,
)
from medreward_client._loops import PerLoop, run_in_background
from medreward_client._parts import Part, Patience, ask_in_parts, latest, total_ms
from medreward_client._reading import load, read_as
from medreward_client._types import (
    Asking,
    Health,
    Item,
    JudgeCounts,
    Judged,
    JudgeReply,
    Problem,
    RewardReply,
    Sample,
    Scored,
    Terms,
    Unjudged,
    Unscored,
)
from medreward_client.pauses import Pauses

HEALTH_DEADLINE_S = 10.0
CLOSING_S = 10.0


class AsyncRewardClient:
    """Async client of a medreward service.

    `base_url` is the service's address, such as `http://rewards:8080`. `deadline_s` is the
    default deadline of a call, in seconds; without one, a call may take an hour, but no ten
    minutes without a result. `transport` and `pauses`, the bounds of the pauses between
    attempts, are for tests.
    A blank key is none. ValueError if the address or the key can never work.

    A client serves any number of event loops, and any process that it is pickled or forked
    into; each loop has connections of its own, which are closed before `asyncio.run` ends.

    A call is retried until its deadline if the service is unreachable or full, and raises a
    MedrewardError if no attempt succeeds.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        deadline_s: float | None = None,
        transport: Transport | None = None,
        pauses: Pauses = PAUSES,
    ) -> None:
        api_key = given_text(api_key)
        check_address(base_url, api_key)
        self._patience = _patience(deadline_s)
        self._made_like = partial(
            type(self),
            base_url,
            api_key=api_key,
            deadline_s=deadline_s,
            transport=transport,
            pauses=pauses,
        )
        self._batchers = PerLoop(partial(_connected, base_url, api_key, transport, pauses))

    def __reduce__(self) -> tuple[Callable[[], object], tuple[()]]:
        return self._made_like, ()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections of the running loop, and end the calls that wait there."""
        await self._batchers.aclose()

    @overload
    async def reward(self, samples: Sample, **asking: Unpack[Asking]) -> Scored | Unscored: ...
    @overload
    async def reward(self, samples: Sequence[Sample], **asking: Unpack[Asking]) -> RewardReply: ...
    async def reward(
        self,
        samples: Sample | Sequence[Sample],
        *,
        recipe: str | None = None,
        run_id: str | None = None,
        step: int | None = None,
        deadline_s: float | None = None,
    ) -> Scored | Unscored | RewardReply:
        """Score samples and return one result each, in their order; or score one sample.

        Calls with one sample that come within a few milliseconds share a request, and a call
        is split if it has thousands of samples or the service has no time for all at once.
        Samples that were not scored by `deadline_s`, in seconds, return as Unscored, and so do those
        of several that the service refuses; if it refuses all, RequestRefused is raised. TypeError
        if JSON cannot hold the `extra` of a sample.
        """
        terms, patience = Terms(recipe, run_id, step), self._patience_for(deadline_s)
        if isinstance(samples, Sample):
            result, *_ = await self._reward_one(samples, terms, patience)
            return result
        batcher = await self._batchers.get()
        return await batcher.reward_all(samples, terms, patience.from_now())

    async def _reward_one(
        self, sample: Sample, terms: Terms, patience: Patience | None = None
    ) -> Rewarded:
        """Score one sample; also return the provenance and the range of its reply."""
        batcher = await self._batchers.get()
        return await batcher.reward(sample, terms, patience or self._patience)

    async def judge(
        self,
        items: Sequence[Item],
        *,
        template: str = "equivalence",
        votes: int = 1,
        rules: bool = True,
        deadline_s: float | None = None,
    ) -> JudgeReply:
        """Judge answers and return one result each, in their order.

        `template` is equivalence, report or rubric, and `votes` the number of views that decide
        by majority. Without `rules` the judge decides all items, plain ones too, and no guard vetoes.
        Items that were not judged by `deadline_s`, in seconds, return as Unjudged, and so do those
        of several that the service refuses.
        """
        batcher, route = await self._batchers.get(), JudgeRoute(template, votes, rules)
        wait = self._patience_for(deadline_s).from_now()
        return await ask_in_parts(batcher.connections, route, items, wait)

    async def health(self) -> Health:
        """Return the readiness of the service and of each engine."""
        batcher = await self._batchers.get()
        ends_at = asyncio.get_running_loop().time() + HEALTH_DEADLINE_S
        return await batcher.connections.ask(health_call(), ends_at)

    def _patience_for(self, deadline_s: float | None) -> Patience:
        return self._patience if deadline_s is None else _patience(deadline_s)


def _patience(deadline_s: float | None) -> Patience:
    return Patience() if deadline_s is None else Patience(check_deadline(deadline_s), deadline_s)


async def _connected(
    base_url: str, api_key: str | None, transport: Transport | None, pauses: Pauses
) -> AsyncGenerator[Batcher]:
    async with aclosing(Connections(base_url, api_key, transport, pauses)) as connections:
        yield Batcher(connections)


@dataclass(frozen=True, slots=True)
class JudgeRoute:
    """The route /judge."""

    template: str
    votes: int
    rules: bool = True

    def call(self, samples: Sequence[Item]) -> Call[JudgeReply]:
        """Build the call of one request."""
        # An older service refuses the field, and has no rules to turn off.
        without_rules = {} if self.rules else {"rules": False}
        asked = {"template": self.template, "votes": self.votes, **without_rules}
        return Call("/judge", partial(_read_judgements, samples), {**asked, "items": samples})

    def kinds(self, reply: JudgeReply) -> list[str | None]:
        """Return the kind of each item's problem."""
        return [one.error.kind if isinstance(one, Unjudged) else None for one in reply.results]

    def cut(self, samples: Sequence[Item], at: int) -> int:  # noqa: ARG002 - items have no groups
        """Return *at*."""
        return at

    def together(self, samples: Sequence[Item], some: Sequence[int]) -> Sequence[int]:  # noqa: ARG002
        """Return *some*."""
        return some

    def joined(
        self,
        samples: Sequence[Item],
        parts: Sequence[Part[JudgeReply]],
        problems: Mapping[int, Problem],
    ) -> JudgeReply:
        """Join parts into one reply."""
        results = tuple(
            Unjudged(item.id, problems[place], ()) if result is None else result
            for place, (item, result) in enumerate(
                zip(samples, latest(samples, parts, lambda reply: reply.results), strict=True)
            )
        )
        replies = [part.reply for part in parts]
        judged = sum(isinstance(result, Judged) for result in results)
        counts = map(sum, zip(*(astuple(reply.counts) for reply in replies), strict=True))
        return JudgeReply(
            results,
            replace(JudgeCounts(*counts), judged=judged, unjudged=len(results) - judged),
            replies[0].provenance,
            total_ms([reply.timings_ms for reply in replies]),
        )


def _read_judgements(items: Sequence[Item], reply: Reply) -> JudgeReply:
    judged = read_as(JudgeReply, document_in(reply))
    check_ids(items, [result.id for result in judged.results])
    return judged


def health_call() -> Call[Health]:
    """Build a call of /readyz, which is not retried: its 503 has the body of a 200."""
    return Call("/readyz", _read_health, passing=frozenset())


def _read_health(reply: Reply) -> Health:
    try:
        return read_as(Health, load(reply.content))
    except BadReply:
        if reply.status == HTTPStatus.OK:
            raise
        raise error_of(reply) from None


class RewardClient:
    """Blocking client of a medreward service; threads may share one.

    Arguments, results and errors are those of AsyncRewardClient. Calls that several threads make
    at the same time share requests, too.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        deadline_s: float | None = None,
        transport: Transport | None = None,
        pauses: Pauses = PAUSES,
    ) -> None:
        self._client = AsyncRewardClient(
            base_url, api_key=api_key, deadline_s=deadline_s, transport=transport, pauses=pauses
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; calls that still wait end with a MedrewardError."""
        run_in_background(self._client.aclose, CLOSING_S)

    @overload
    def reward(self, samples: Sample, **asking: Unpack[Asking]) -> Scored | Unscored: ...
    @overload
    def reward(self, samples: Sequence[Sample], **asking: Unpack[Asking]) -> RewardReply: ...
    def reward(self, samples: Any, **asking: Unpack[Asking]) -> Scored | Unscored | RewardReply:
        """Score samples, as AsyncRewardClient.reward does."""
        longest_s = self._longest_s(asking.get("deadline_s"))
        answer: Scored | Unscored | RewardReply = run_in_background(
            lambda: self._client.reward(samples, **asking), longest_s
        )
        return answer

    def judge(
        self,
        items: Sequence[Item],
        *,
        template: str = "equivalence",
        votes: int = 1,
        rules: bool = True,
        deadline_s: float | None = None,
    ) -> JudgeReply:
        """Judge answers, as AsyncRewardClient.judge does."""
        longest_s = self._longest_s(deadline_s)
        return run_in_background(
            lambda: self._client.judge(
                items, template=template, votes=votes, rules=rules, deadline_s=deadline_s
            ),
            longest_s,
        )

    def health(self) -> Health:
        """Return the readiness of the service, as AsyncRewardClient.health does."""
        return run_in_background(self._client.health, HEALTH_DEADLINE_S)

    def _longest_s(self, deadline_s: float | None) -> float:
        return self._client._patience_for(deadline_s).longest_s  # noqa: SLF001 - the same module
