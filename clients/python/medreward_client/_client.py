"""The two clients: a body that awaits, and a shell around it for those who cannot."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Self, Unpack, overload

from medreward_client._asking import PAUSES, Session, check_deadline
from medreward_client._http import Connections, Transport, check_address
from medreward_client._loops import PerLoop, run_in_background
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
from medreward_client._wire import health_call, judge_call
from medreward_client.pauses import Pauses

DEADLINE_S = 300.0
"""Of a call that names none: long enough for a service to be started anew."""
HEALTH_DEADLINE_S = 10.0


class AsyncRewardClient:
    """Ask a medreward service without blocking.

    `base_url` is where the service answers, such as `http://rewards:8080`. `deadline_s` bounds,
    in seconds, each call that names no other. `transport` replaces the network, and `pauses` the
    bounds of the pauses between tries, for tests.
    ValueError if the address or the key can never work.

    A client serves any number of event loops, and any process that it is pickled or forked
    into; each loop has connections of its own, which are closed before `asyncio.run` ends.

    A call that finds the service gone or full asks again until its deadline, and raises a
    MedrewardError where there is no reply to be had.
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
        connect = partial(Connections, base_url, api_key, transport)
        self._sessions = PerLoop(partial(Session, connect, pauses))

    def __reduce__(self) -> tuple[Callable[[], object], tuple[()]]:
        return self._made_like, ()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Give back the connections of the running loop, and end the calls that wait there."""
        await self._sessions.aclose()

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
        """Score samples: one result each, in their order; or one sample alone.

        Calls with one sample that come within a few milliseconds travel together, and a call
        with thousands travels in several requests. TypeError if `extra` holds what JSON cannot.
        """
        link = await self._sessions.get()
        terms, seconds = Terms(recipe, run_id, step), self._seconds(deadline_s)
        if isinstance(samples, Sample):
            return await link.micro_batcher.reward(samples, terms, seconds)
        return await link.reward(samples, terms, _in(seconds))

    async def judge(
        self,
        items: Sequence[Item],
        *,
        template: str = "equivalence",
        votes: int = 1,
        deadline_s: float | None = None,
    ) -> JudgeReply:
        """Judge answers: one result each, in their order.

        `template` is equivalence, report or rubric, and `votes` the number of views that decide
        by majority. What was not judged by `deadline_s`, in seconds, comes back as Unjudged.
        """
        link = await self._sessions.get()
        return await link.ask(judge_call(items, template, votes), _in(self._seconds(deadline_s)))

    async def health(self) -> Health:
        """Ask whether the service takes work, and which engine is missing if not."""
        link = await self._sessions.get()
        return await link.ask(health_call(), _in(HEALTH_DEADLINE_S))

    def _seconds(self, deadline_s: float | None) -> float:
        return self._deadline_s if deadline_s is None else check_deadline(deadline_s)


def _in(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


class RewardClient:
    """Ask a medreward service, waiting for each answer; threads may share one client.

    Arguments, results and errors are those of AsyncRewardClient. What many threads ask for at
    the same time travels together, too.
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
        """Give the connections back; calls that still wait end with a MedrewardError."""
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
        deadline_s: float | None = None,
    ) -> JudgeReply:
        """Judge answers, as AsyncRewardClient.judge does."""
        judging = self._client.judge(items, template=template, votes=votes, deadline_s=deadline_s)
        return run_in_background(judging)

    def health(self) -> Health:
        """Ask whether the service takes work, as AsyncRewardClient.health does."""
        return run_in_background(self._client.health())
