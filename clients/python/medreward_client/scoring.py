"""The core of every trainer's adapter: samples in, one Outcome each, a failure never a zero."""

import asyncio
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, TypedDict, Unpack, get_args

from medreward_client._client import AsyncRewardClient
from medreward_client._errors import NoReward, RequestRefused, TryAgain
from medreward_client._http import given_text
from medreward_client._loops import run_in_background
from medreward_client._parts import LONGEST_S, is_about_a_sample, problem_of, refusal_of
from medreward_client._types import (
    UNIT,
    Problem,
    Provenance,
    Sample,
    Scored,
    Terms,
    Unscored,
    changes,
)
from medreward_client._unscored import UnscoredGuard, impute, refuse

OnUnscored = Literal["native", "raise", "impute", "zero"]

MAX_UNSCORED_SHARE = 0.25
NOT_COMPARED = "group_not_whole"
"""The kind of a sample whose recipe compares whole groups, and that came without one."""
TRUE, FALSE = {"1", "true", "yes", "on"}, {"", "0", "false", "no", "off"}

log = logging.getLogger("medreward_client")


class Options(TypedDict, total=False):
    """The connection to the service and the handling of unscored samples; each is optional.

    `base_url` and `api_key` default to MEDREWARD_URL and MEDREWARD_API_KEY, so that a trainer's
    configuration holds no key. `recipe` None is the service's default.
    `run_id` names the training job. `deadline_s` bounds a call, retries included, in seconds; by
    default it may take an hour, but no ten minutes without a result.
    `pinned`: raise NoReward if the service's recipe, judge or embedder is not that of the run's
    first rewards, which is a warning otherwise; MEDREWARD_PINNED=true does the same.
    `on_unscored`: native (the trainer's own channel; raise if it has none), raise, impute (the
    mean of the group's scored samples, or of the known components, scaled up), zero (only for a
    recipe whose least reward is 0: a failure must not earn more than an answer).
    A step may lack the rewards of `max_unscored_share` of its samples; more raises.
    """

    base_url: str | None
    api_key: str | None
    recipe: str | None
    run_id: str | None
    deadline_s: float
    on_unscored: OnUnscored
    max_unscored_share: float
    pinned: bool


UNGROUPED = "give each sample its `group` and `group_size`, and score whole groups at once"


def one_by_one(trainer: str) -> str:
    """Return what to do about a recipe that compares groups in a trainer that cannot pass any."""
    return f"{trainer} does not pass whole groups; choose another recipe"


def to_unit(reward: float, bounds: tuple[float, float]) -> float:
    """Map a reward from its recipe's range to 0..1; the only value of a range without width is 0."""
    low, high = bounds
    return (reward - low) / (high - low) if high > low else 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one sample, after `on_unscored` has been applied.

    `reward` is None only under `native`: the adapter passes that on in its trainer's own way.
    `components` holds the value of each known signal. `error` is set if and only if the service
    gave no reward, also if one was imputed.
    """

    reward: float | None
    components: dict[str, float]
    error: Problem | None
    bounds: tuple[float, float] = UNIT
    """The recipe's least and greatest reward."""

    @property
    def scored(self) -> bool:
        """True if the reward is the service's own."""
        return self.error is None

    @property
    def number(self) -> float:
        """The reward; raises NoReward, with the reason, if it is missing."""
        if self.reward is None:
            problem = self.error or Problem("unknown", "no reason given", retryable=False)
            counts = {problem.kind: 1}
            raise NoReward(f"no reward: {problem.kind}: {problem.message}", counts=counts)
        return self.reward

    @property
    def unit_number(self) -> float:
        """The number, mapped from the recipe's range to 0..1; raises NoReward as `number` does."""
        return to_unit(self.number, self.bounds)


class Origin:
    """The recipe, judge and embedder of a run's first rewards, to which later ones are compared."""

    def __init__(self, *, pinned: bool) -> None:
        self._pinned = pinned
        self._first: Provenance | None = None
        self._told: set[str] = set()

    def check(self, found: Sequence[Provenance]) -> None:
        """Log each change of the service once.

        Raises:
            NoReward: there is one, and the run is pinned.
        """
        for provenance in found:
            self._first = self._first or provenance
            changed = changes(self._first, provenance)
            if not changed:
                continue
            told = f"the service scores by something else than this run began with ({changed})"
            if self._pinned:
                raise NoReward(
                    f"{told}: bring the former back, or take MEDREWARD_PINNED and `pinned` away",
                    counts={"service_changed": len(found)},
                )
            if changed not in self._told:
                self._told.add(changed)
                log.warning("%s: rewards of before and after cannot be compared", told)


def is_pinned() -> bool:
    """Return True if MEDREWARD_PINNED is set; ValueError if it is neither true nor false."""
    text = os.environ.get("MEDREWARD_PINNED", "").strip().lower()
    if text in TRUE:
        return True
    if text in FALSE:
        return False
    raise ValueError(f"MEDREWARD_PINNED={text}: true or false")


class Scorer:
    """Scores for one trainer; threads, event loops and forked processes may share it.

    Takes the fields of Options. ValueError if the address is missing or an option is invalid.
    """

    def __init__(
        self,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        recipe: str | None = None,
        run_id: str | None = None,
        deadline_s: float | None = None,
        on_unscored: OnUnscored = "native",
        max_unscored_share: float = MAX_UNSCORED_SHARE,
        pinned: bool | None = None,
    ) -> None:
        base_url = given_text(base_url) or given_text(os.environ.get("MEDREWARD_URL"))
        if base_url is None:
            raise ValueError("no address: give base_url, or set MEDREWARD_URL")
        if on_unscored not in get_args(OnUnscored):
            choices = ", ".join(get_args(OnUnscored))
            raise ValueError(f"on_unscored={on_unscored!r}: choose from {choices}")
        if not 0.0 <= max_unscored_share <= 1.0:
            raise ValueError(f"max_unscored_share={max_unscored_share:g}: between 0 and 1")
        api_key = given_text(api_key) or os.environ.get("MEDREWARD_API_KEY")
        self._client = AsyncRewardClient(base_url, api_key=api_key, deadline_s=deadline_s)
        self._longest_s = LONGEST_S if deadline_s is None else deadline_s
        self._recipe, self._run_id = given_text(recipe), given_text(run_id)
        self._range: tuple[float, float] | None = None
        """The recipe's least and greatest reward; None before the first reply."""
        self._on_unscored = on_unscored
        self._origin = Origin(pinned=is_pinned() if pinned is None else pinned)
        self._guard = UnscoredGuard(max_unscored_share)
        self._has_told_groups = False

    async def score(
        self,
        samples: Sequence[Sample],
        *,
        step: int | None = None,
        says_none: bool = False,
        ungrouped: str = UNGROUPED,
    ) -> list[Outcome]:
        """Score samples: one Outcome each, in their order.

        Many small calls at once share few requests. `step` is the trainer's, if known.
        `says_none` is True if the trainer has a channel for a sample without a reward; without
        one, `native` raises. `ungrouped` is what to do about a recipe that compares groups.

        Raises:
            NoReward: a sample has none and the trainer no channel for it, or too many have none; or
                the recipe compares whole groups and a sample came without its own, whatever
                `on_unscored`.
            MedrewardError: the service refuses the request itself.
            ValueError: `on_unscored` is zero, and the recipe's least reward is another number.
        """
        found = await asyncio.gather(*(self._result(sample, step) for sample in samples))
        self._origin.check([provenance for _, provenance in found if provenance is not None])
        results = [result for result, _ in found]
        self._check_groups(samples, results, ungrouped)
        self._guard.note(results, step)
        try:
            rewards = self._rewards(samples, results, says_none=says_none)
        except NoReward:
            self._guard.forget(results)
            raise
        return [
            Outcome(
                reward,
                {name: part.value for name, part in result.components.items()},
                result.error if isinstance(result, Unscored) else None,
                self._range or UNIT,
            )
            for reward, result in zip(rewards, results, strict=True)
        ]

    def score_blocking(
        self,
        samples: Sequence[Sample],
        *,
        step: int | None = None,
        says_none: bool = False,
        ungrouped: str = UNGROUPED,
    ) -> list[Outcome]:
        """Score samples as `score` does, from any thread, with or without a running loop."""
        return run_in_background(
            lambda: self.score(samples, step=step, says_none=says_none, ungrouped=ungrouped),
            self._longest_s,
        )

    def _check_groups(
        self, samples: Sequence[Sample], results: Sequence[Scored | Unscored], ungrouped: str
    ) -> None:
        """Raise NoReward if the recipe compares groups, and samples came without one.

        It is logged once, too, since some trainers go on without the samples of an error.
        """
        missing = [
            result.error
            for sample, result in zip(samples, results, strict=True)
            if sample.group_size is None
            and isinstance(result, Unscored)
            and result.error.kind == NOT_COMPARED
        ]
        if not missing:
            return
        told = f"{missing[0].message}: {ungrouped}"
        if not self._has_told_groups:
            self._has_told_groups = True
            log.error("%s", told)
        raise NoReward(told, counts={NOT_COMPARED: len(missing)})

    async def _result(
        self, sample: Sample, step: int | None
    ) -> tuple[Scored | Unscored, Provenance | None]:
        """Score one sample, in a request with others; only errors of the whole request are raised."""
        terms = Terms(self._recipe, self._run_id, step)
        try:
            asked = self._client._reward_one(sample, terms)  # noqa: SLF001 - the same package
            result, provenance, of_recipe = await asked
        except TryAgain as failure:
            problem = problem_of(failure)
        except RequestRefused as refused:
            # An error of the whole request, such as an unknown recipe, is for the user to fix.
            if not is_about_a_sample(refused):
                raise
            problem = refusal_of(refused)
        else:
            self._check_range(*of_recipe)
            return result, provenance
        return Unscored(sample.id, problem, {}, ()), None

    def _rewards(
        self, samples: Sequence[Sample], results: Sequence[Scored | Unscored], *, says_none: bool
    ) -> list[float | None]:
        if self._on_unscored == "impute":
            return list(impute(samples, results, self._range or UNIT))
        is_raised = self._on_unscored == "raise" or (
            self._on_unscored == "native" and not says_none
        )
        # Before the first reply, nobody knows whether 0 is the least reward.
        if is_raised or (self._on_unscored == "zero" and self._range is None):
            refuse(results)
        missing = 0.0 if self._on_unscored == "zero" else None
        return [r.reward if isinstance(r, Scored) else missing for r in results]

    def _check_range(self, least: float, most: float) -> None:
        """Remember the recipe's range; ValueError if a failure would earn 0 and that is not its least."""
        self._range = (least, most)
        if self._on_unscored == "zero" and least != 0:
            raise ValueError(
                f"on_unscored='zero': the recipe's rewards go from {least:g} to {most:g}, so a "
                "failure would not get the least of them; choose native, raise or impute"
            )


_scorer = cache(Scorer)


def scorer(**options: Unpack[Options]) -> Scorer:
    """Return this process's Scorer for these options, or for those of the environment."""
    defaults: Options = {
        "base_url": os.environ.get("MEDREWARD_URL"),
        "api_key": os.environ.get("MEDREWARD_API_KEY"),
    }
    given = {name: value for name, value in options.items() if value is not None}
    # Sorted, since to the cache a=1, b=2 and b=2, a=1 are different calls.
    return _scorer(**dict(sorted({**defaults, **given}.items())))
