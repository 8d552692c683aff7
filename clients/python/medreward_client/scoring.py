"""What every trainer's adapter stands on: samples in, one Outcome each, a failure never a zero."""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, TypedDict, Unpack, get_args

from medreward_client._client import AsyncRewardClient
from medreward_client._errors import NoReward, Overloaded, RequestRefused, TimedOut, TryAgain
from medreward_client._gathering import is_about_a_sample
from medreward_client._loops import run_in_background
from medreward_client._types import Problem, Sample, Scored, Unscored
from medreward_client._unscored import UnscoredGuard, impute, refuse

OnUnscored = Literal["native", "raise", "impute", "zero"]

DEADLINE_S = 600.0
"""Better a step that waits for a service to come back than one without rewards."""
MAX_UNSCORED_SHARE = 0.25
KINDS = {Overloaded: "service_overloaded", TimedOut: "service_timeout"}


class Options(TypedDict, total=False):
    """How to reach the service and what to do where it gave no reward; all may be left out.

    `base_url` and `api_key` are read from MEDREWARD_URL and MEDREWARD_API_KEY when left out, so
    that no key stands in a trainer's configuration. `recipe` None is the service's default.
    `run_id` names the training job. `deadline_s` bounds a call, retries included, in seconds.
    `on_unscored`: native (the trainer's own channel; raise where it has none), raise, impute
    (the mean of the group's scored samples, else the components that were had, scaled up), zero.
    `max_unscored_share` of a step without a reward is borne; more raises.
    """

    base_url: str | None
    api_key: str | None
    recipe: str | None
    run_id: str | None
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

    @property
    def number(self) -> float:
        """The reward; NoReward, with the reason, where there is none."""
        if self.reward is None:
            problem = self.error or Problem("unknown", "no reason given", retryable=False)
            counts = {problem.kind: 1}
            raise NoReward(f"no reward: {problem.kind}: {problem.message}", counts=counts)
        return self.reward


class Scorer:
    """Scores for one trainer; threads, event loops and forked processes may share it.

    Takes what Options names. ValueError if there is no address or an option cannot be.
    """

    def __init__(
        self,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        recipe: str | None = None,
        run_id: str | None = None,
        deadline_s: float = DEADLINE_S,
        on_unscored: OnUnscored = "native",
        max_unscored_share: float = MAX_UNSCORED_SHARE,
    ) -> None:
        base_url = base_url or os.environ.get("MEDREWARD_URL")
        if base_url is None:
            raise ValueError("no address: give base_url, or set MEDREWARD_URL")
        if on_unscored not in get_args(OnUnscored):
            choices = ", ".join(get_args(OnUnscored))
            raise ValueError(f"on_unscored={on_unscored!r}: choose from {choices}")
        if not 0.0 <= max_unscored_share <= 1.0:
            raise ValueError(f"max_unscored_share={max_unscored_share:g}: between 0 and 1")
        api_key = api_key or os.environ.get("MEDREWARD_API_KEY")
        self._client = AsyncRewardClient(base_url, api_key=api_key, deadline_s=deadline_s)
        self._recipe, self._run_id = recipe, run_id
        self._on_unscored = on_unscored
        self._guard = UnscoredGuard(max_unscored_share)

    async def score(
        self, samples: Sequence[Sample], *, step: int | None = None, says_none: bool = False
    ) -> list[Outcome]:
        """Score samples: one Outcome each, in their order.

        Many small calls at once are gathered into few requests. `step` is the trainer's, if it
        tells. `says_none` if the trainer has a channel for a sample without a reward; without
        one, `native` raises.

        Raises:
            NoReward: a sample has none and no way to say so, or too many have none.
            MedrewardError: the service refuses the request itself.
        """
        results = await asyncio.gather(*(self._result(sample, step) for sample in samples))
        self._guard.note(results, step)
        rewards = self._rewards(samples, results, says_none=says_none)
        return [
            Outcome(
                reward,
                {name: part.value for name, part in result.components.items()},
                result.error if isinstance(result, Unscored) else None,
            )
            for reward, result in zip(rewards, results, strict=True)
        ]

    def score_blocking(
        self, samples: Sequence[Sample], *, step: int | None = None, says_none: bool = False
    ) -> list[Outcome]:
        """Score samples as `score` does, from any thread, with or without a running loop."""
        return run_in_background(self.score(samples, step=step, says_none=says_none))

    async def _result(self, sample: Sample, step: int | None) -> Scored | Unscored:
        """Ask about one sample; with the others of its step, but for good or ill on its own."""
        try:
            return await self._client.reward(
                sample, recipe=self._recipe, run_id=self._run_id, step=step
            )
        except TryAgain as trouble:
            kind, is_retryable = KINDS.get(type(trouble), "service_unavailable"), True
            message = str(trouble)
        except RequestRefused as refused:
            # What is about the request as a whole, an unknown recipe say, is the user's to mend.
            if not is_about_a_sample(refused):
                raise
            kind, message, is_retryable = "sample_refused", str(refused), False
        return Unscored(sample.id, Problem(kind, message, is_retryable), {}, ())

    def _rewards(
        self, samples: Sequence[Sample], results: Sequence[Scored | Unscored], *, says_none: bool
    ) -> list[float | None]:
        match self._on_unscored:
            case "impute":
                return list(impute(samples, results))
            case "zero":
                return [r.reward if isinstance(r, Scored) else 0.0 for r in results]
            case "native" if says_none:
                return [r.reward if isinstance(r, Scored) else None for r in results]
            case _:
                refuse(results)
                return [r.reward for r in results if isinstance(r, Scored)]


_scorer = cache(Scorer)


def scorer(**options: Unpack[Options]) -> Scorer:
    """Give this process's one Scorer with these options; what the environment says is one, too."""
    said: Options = {
        "base_url": os.environ.get("MEDREWARD_URL"),
        "api_key": os.environ.get("MEDREWARD_API_KEY"),
    }
    given = {name: value for name, value in options.items() if value is not None}
    # In one order, since the cache would tell a=1, b=2 from b=2, a=1.
    return _scorer(**dict(sorted({**said, **given}.items())))
