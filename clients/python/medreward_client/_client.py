"""The async client, and a blocking client that runs it on a thread of its own."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from functools import partial
from http import HTTPStatus
from typing import Any, Self, Unpack, overload

from medreward_client._batching import Batcher, check_ids
from medreward_client._errors import BadReply
from medreward_client._http import (
    PAUSES,
    Call,
    Connections,
    Reply,
    T,
    Transport,
    check_address,
    check_deadline,
    document_in,
    error_of,
)
from medreward_client._loops import PerLoop, run_in_background
from medreward_client._reading import load, read_as
from medreward_client._types import (
    Asking,
    Health,
    Item,
    JudgeReply,
    RewardReply,
    Sample,
    Scored,
    Terms,
    Unscored,
)
from medreward_client.pauses import Pauses

DEADLINE_S = 300.0
"""Default deadline of a call, long enough for a service to restart."""
HEALTH_DEADLINE_S = 10.0


class AsyncRewardClient:
    """Async client of a medreward service.

    `base_url` is the service's address, such as `http://rewards:8080`. `deadline_s` is the
    default deadline of a call, in seconds. `transport` and `pauses`, the bounds of the pauses
    between attempts, are for tests.
    ValueError if the address or the key can never work.

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
        deadline_s: float = DEADLINE_S,
        transport: Transport | None = None,
        pauses: Pauses = PAUSES,
    ) -> None:
        check_address(base_url, api_key)
        self._deadline_s = check_deadline(deadline_s)
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
        with thousands is split. TypeError if JSON cannot hold the `extra` of a sample.
        """
        batcher = await self._batchers.get()
        terms, seconds = Terms(recipe, run_id, step), self._seconds(deadline_s)
        if isinstance(samples, Sample):
            return await batcher.reward(samples, terms, seconds)
        return await batcher.reward_all(samples, terms, _in(seconds))

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
        Items that were not judged by `deadline_s`, in seconds, return as Unjudged.
        """
        call = judge_call(items, template, votes, rules=rules)
        return await self._ask(call, self._seconds(deadline_s))

    async def health(self) -> Health:
        """Return the readiness of the service and of each engine."""
        return await self._ask(health_call(), HEALTH_DEADLINE_S)

    async def _ask(self, call: Call[T], seconds: float) -> T:
        batcher = await self._batchers.get()
        return await batcher.connections.ask(call, _in(seconds))

    def _seconds(self, deadline_s: float | None) -> float:
        return self._deadline_s if deadline_s is None else check_deadline(deadline_s)


async def _connected(
    base_url: str, api_key: str | None, transport: Transport | None, pauses: Pauses
) -> AsyncGenerator[Batcher]:
    async with aclosing(Connections(base_url, api_key, transport, pauses)) as connections:
        yield Batcher(connections)


def _in(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


def judge_call(
    items: Sequence[Item], template: str, votes: int, *, rules: bool = True
) -> Call[JudgeReply]:
    """Build a call of /judge."""
    # An older service refuses the field, and has no rules to turn off.
    without_rules = {} if rules else {"rules": False}
    body = {"template": template, "votes": votes, **without_rules, "items": items}
    return Call("/judge", partial(_read_judgements, items), body)


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
        deadline_s: float = DEADLINE_S,
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
        run_in_background(self._client.aclose())

    @overload
    def reward(self, samples: Sample, **asking: Unpack[Asking]) -> Scored | Unscored: ...
    @overload
    def reward(self, samples: Sequence[Sample], **asking: Unpack[Asking]) -> RewardReply: ...
    def reward(self, samples: Any, **asking: Unpack[Asking]) -> Scored | Unscored | RewardReply:
        """Score samples, as AsyncRewardClient.reward does."""
        answer: Scored | Unscored | RewardReply = run_in_background(
            self._client.reward(samples, **asking)
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
        call = self._client.judge(
            items, template=template, votes=votes, rules=rules, deadline_s=deadline_s
        )
        return run_in_background(call)

    def health(self) -> Health:
        """Return the readiness of the service, as AsyncRewardClient.health does."""
        return run_in_background(self._client.health())
