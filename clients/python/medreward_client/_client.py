"""One client in two shells: they differ in `await`, and nothing else."""

from collections.abc import Sequence
from typing import Self

from medreward_client._http import (
    AsyncHttp,
    AsyncTransport,
    SyncHttp,
    SyncTransport,
    connection_to,
    reaching,
    reply_of,
    request_of,
)
from medreward_client._types import Item, JudgeReply, Readiness, RewardReply, Sample
from medreward_client._wire import MARGIN_S, Call, T, judge_call, ready_call, reward_call

# The service's own deadline is 120 s unless its operator or the call says otherwise.
TIMEOUT_S = 120.0 + MARGIN_S


class RewardClient:
    """Ask a medreward service, waiting for each answer; threads may share one client.

    `base_url` is where the service answers, such as `http://rewards:8080`. `timeout_s`
    bounds, in seconds, each wait on the connection in a call that names no deadline.
    `transport` replaces the network, for tests. ValueError if the address or the key
    can never work.

    Every call raises a MedrewardError where there is no reply to be had.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = TIMEOUT_S,
        transport: SyncTransport | None = None,
    ) -> None:
        connection = connection_to(base_url, api_key, timeout_s)
        self._http = SyncHttp(**connection, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def reward(
        self,
        samples: Sequence[Sample],
        *,
        recipe: str | None = None,
        run_id: str | None = None,
        step: int | None = None,
        deadline_s: float | None = None,
    ) -> RewardReply:
        """Score samples: one result each, in their order.

        What the service could not score by `deadline_s` (in seconds; None: its default)
        comes back as Unscored. `run_id` and `step` name the training job, and `recipe`
        the way to score; None is the service's default. TypeError if `extra` holds what
        JSON cannot.
        """
        return self._answer(reward_call(samples, recipe, run_id, step, deadline_s))

    def judge(
        self,
        items: Sequence[Item],
        *,
        template: str = "equivalence",
        votes: int = 1,
        deadline_s: float | None = None,
    ) -> JudgeReply:
        """Judge answers: one result each, in their order.

        `template` is equivalence, report or rubric, and `votes` the number of views
        that decide by majority. What was not judged by `deadline_s` (in seconds; None:
        the service's default) comes back as Unjudged.
        """
        return self._answer(judge_call(items, template, votes, deadline_s))

    def ready(self) -> Readiness:
        """Ask whether the service takes work, and which engine is missing if not."""
        return self._answer(ready_call())

    def _answer(self, call: Call[T]) -> T:
        with reaching(self._http):
            response = self._http.send(request_of(self._http, call))
        return call.read(reply_of(response))


class AsyncRewardClient:
    """Ask a medreward service without blocking; a client belongs to one event loop.

    Arguments, results and errors are those of RewardClient.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = TIMEOUT_S,
        transport: AsyncTransport | None = None,
    ) -> None:
        connection = connection_to(base_url, api_key, timeout_s)
        self._http = AsyncHttp(**connection, transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Give the connections back."""
        await self._http.aclose()

    async def reward(
        self,
        samples: Sequence[Sample],
        *,
        recipe: str | None = None,
        run_id: str | None = None,
        step: int | None = None,
        deadline_s: float | None = None,
    ) -> RewardReply:
        """Score samples, as RewardClient.reward does."""
        return await self._answer(reward_call(samples, recipe, run_id, step, deadline_s))

    async def judge(
        self,
        items: Sequence[Item],
        *,
        template: str = "equivalence",
        votes: int = 1,
        deadline_s: float | None = None,
    ) -> JudgeReply:
        """Judge answers, as RewardClient.judge does."""
        return await self._answer(judge_call(items, template, votes, deadline_s))

    async def ready(self) -> Readiness:
        """Ask whether the service takes work, as RewardClient.ready does."""
        return await self._answer(ready_call())

    async def _answer(self, call: Call[T]) -> T:
        with reaching(self._http):
            response = await self._http.send(request_of(self._http, call))
        return call.read(reply_of(response))
