"""What every trainer's adapter stands on: samples in, one Outcome each, a failure never a zero."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, TypedDict, Unpack

from medreward_client._client import AsyncRewardClient
from medreward_client._errors import NoReward
from medreward_client._types import Problem, Sample, Scored

OnUnscored = Literal["native", "raise", "impute", "zero"]


class Options(TypedDict, total=False):
    """How to reach the service and what to do where it gave no reward; all may be left out.

    `base_url` and `api_key` are read from MEDREWARD_URL and MEDREWARD_API_KEY when left out, so
    that no key stands in a trainer's configuration. `recipe` None is the service's default.
    `run_id` names the training job. `deadline_s` bounds a call, retries included, in seconds.
    `on_unscored`: native (the trainer's own channel; raise where it has none), raise, impute
    (the mean of the group's scored samples, else the components that were had, scaled up), zero.
    `max_unscored_share` of a step without a reward is borne; more raises.
    """

    base_url: str
    api_key: str
    recipe: str
    run_id: str
    deadline_s: float
    on_unscored: OnUnscored
    max_unscored_share: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one sample, once the rule for the unscored has been applied.

    `reward` is None only under `native`: the adapter says so in its trainer's own way.
    `components` holds the value of each signal that was had. `error` is there exactly where
    the service gave no reward, also if one was imputed.
    """

    reward: float | None
    components: dict[str, float]
    error: Problem | None

    @property
    def scored(self) -> bool:
        """True if the reward is the service's own."""
        return self.error is None


class Scorer:
    """Scores for one trainer, in one process; safe to share between threads and event loops."""

    def __init__(self, **options: Unpack[Options]) -> None:
        self._options = options

    async def score(
        self, samples: Sequence[Sample], *, step: int | None = None, says_none: bool = False
    ) -> list[Outcome]:
        """Score samples: one Outcome each, in their order.

        Many small calls at once are gathered into few requests. `step` is the trainer's, if it
        tells. `says_none` if the trainer has a channel for a sample without a reward; without
        one, `native` raises.

        Raises:
            NoReward: a sample has none and no way to say so, or too many have none.
            MedrewardError: the request itself is refused.
        """
        client = AsyncRewardClient(self._options["base_url"])
        async with client:
            reply = await client.reward(samples, step=step)
        outcomes = [
            Outcome(
                result.reward if isinstance(result, Scored) else None,
                {name: part.value for name, part in result.components.items()},
                None if isinstance(result, Scored) else result.error,
            )
            for result in reply.results
        ]
        if not says_none and any(outcome.reward is None for outcome in outcomes):
            raise NoReward("a sample has no reward")
        return outcomes

    def score_blocking(
        self, samples: Sequence[Sample], *, step: int | None = None, says_none: bool = False
    ) -> list[Outcome]:
        """Score samples as `score` does, from any thread, with or without a running loop."""
        return asyncio.run(self.score(samples, step=step, says_none=says_none))


@cache
def scorer(**options: Unpack[Options]) -> Scorer:
    """Give the process's one Scorer with these options."""
    return Scorer(**options)
