"""Reward functions for TRL's GRPO and RLOO: one request a batch, and None where there is no reward.

Example:
    from medreward_client.trainers.trl import make_reward_funcs

    trainer = GRPOTrainer(
        model, reward_funcs=make_reward_funcs(reference_column="solution"), train_dataset=dataset
    )

"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from inspect import isawaitable
from math import nan
from statistics import fmean
from typing import Any, Unpack

from medreward_client import Sample
from medreward_client.scoring import Options, Outcome
from medreward_client.trainers._batches import (
    Binding,
    outcomes_of,
    samples_of,
    values_of,
)
from medreward_client.trainers._signals import COMPONENTS, Component

Rewards = list[float | None]
AsyncRewardFunc = Callable[..., Coroutine[Any, Any, Rewards]]
RewardFunc = Callable[..., Sequence[float | None] | Awaitable[Sequence[float | None]]]

NONE_IS_NOT_ZERO = (1, 6)
"""The first TRL that leaves a sample without any reward out; before, it counted as 0."""


def make_reward_funcs(
    components: Sequence[Component] = (),
    *,
    reference_column: str = "reference",
    question_column: str = "question",
    modality_column: str = "modality",
    beside: Sequence[RewardFunc] = (),
    **options: Unpack[Options],
) -> list[AsyncRewardFunc]:
    """Make what a trainer's `reward_funcs` takes: one function, `medreward`, the reward.

    With `components`, one function for each of them instead, for `reward_weights` and for
    aggregations that normalise each by itself; they share one request. The columns are those of
    the data set; only the reference has to be there, and the question is else the prompt.

    `beside` are your own functions, to be given here and not next to these: TRL leaves a sample
    out only if every function returned None, so they are made to return None with ours.
    """
    bound = Binding(
        reference_column, question_column, modality_column, tuple(sorted(options.items()))
    )
    ours = [_FUNCTION_OF[name] for name in components or (None,)]
    return [*(_named(func, bound) for func in ours), *(_Beside(func, bound) for func in beside)]


# The functions are many, since newer TRLs log under the name of the function within a partial;
# they stand in the module, so that they can be pickled.
async def medreward(bound: Binding, /, **given: Any) -> Rewards:
    """Give the recipe's rewards."""
    return await _values(None, bound, given)


async def medreward_accuracy_llm(bound: Binding, /, **given: Any) -> Rewards:
    """Give what the judge says."""
    return await _values("accuracy_llm", bound, given)


async def medreward_accuracy_embed(bound: Binding, /, **given: Any) -> Rewards:
    """Give what the embedder says."""
    return await _values("accuracy_embed", bound, given)


async def medreward_modality(bound: Binding, /, **given: Any) -> Rewards:
    """Tell whether the modality is right; None where none is known."""
    return await _values("modality", bound, given)


async def medreward_format(bound: Binding, /, **given: Any) -> Rewards:
    """Tell whether the response is well formed."""
    return await _values("format", bound, given)


_FUNCTION_OF: dict[Component | None, AsyncRewardFunc] = {
    None: medreward,
    "accuracy_llm": medreward_accuracy_llm,
    "accuracy_embed": medreward_accuracy_embed,
    "modality": medreward_modality,
    "format": medreward_format,
}


def _named(func: AsyncRewardFunc, bound: Binding) -> AsyncRewardFunc:
    """Bind a function, under its own name: older TRLs ask the partial for it."""
    named = partial(func, bound)
    named.__name__ = func.__name__  # type: ignore[attr-defined]
    return named


class _Beside:
    """A function of the user's that has no say on a sample without our reward."""

    def __init__(self, func: RewardFunc, bound: Binding) -> None:
        self.__name__ = getattr(func, "__name__", type(func).__name__)
        self._func = func
        self._bound = bound

    async def __call__(self, **given: Any) -> Rewards:
        """Give the function's rewards."""
        outcomes, rewards = await asyncio.gather(_outcomes(self._bound, given), self._said(given))
        pairs = zip(outcomes, rewards, strict=True)
        return [None if outcome.reward is None else reward for outcome, reward in pairs]

    async def _said(self, given: dict[str, Any]) -> Sequence[float | None]:
        # An async function gives in the thread what can be awaited here.
        said = await asyncio.to_thread(self._func, **given)
        return await said if isawaitable(said) else said


async def _values(component: Component | None, bound: Binding, given: dict[str, Any]) -> Rewards:
    outcomes = await _outcomes(bound, given)
    return values_of(component, outcomes, _samples(bound, given), bound)


async def _outcomes(bound: Binding, given: dict[str, Any]) -> list[Outcome]:
    step = getattr(given.get("trainer_state"), "global_step", None)
    outcomes, has_asked = await outcomes_of(
        bound, _samples(bound, given), step=step, says_none=_none_is_not_zero()
    )
    if has_asked and "log_extra" in given and "log_metric" in given:
        _log(outcomes, given["log_extra"], given["log_metric"])
    return outcomes


def _samples(bound: Binding, given: dict[str, Any]) -> list[Sample]:
    return samples_of(bound, given["prompts"], given["completions"], given)


def _none_is_not_zero() -> bool:
    """Tell whether the TRL that is installed has a channel for a sample without a reward."""
    try:
        major, minor, *_ = version("trl").split(".")
    except PackageNotFoundError:
        return True
    return (int(major), int(minor)) >= NONE_IS_NOT_ZERO


def _log(
    outcomes: Sequence[Outcome],
    log_extra: Callable[[str, list[Any]], None],
    log_metric: Callable[[str, float], None],
) -> None:
    """Log columns and means: the same names whatever was had, as every rank has to log the same."""
    log_extra("medreward/error", [outcome.error and outcome.error.kind for outcome in outcomes])
    log_metric("medreward/unscored", fmean(not outcome.scored for outcome in outcomes))
    for name in COMPONENTS:
        values = [outcome.components.get(name) for outcome in outcomes]
        had = [value for value in values if value is not None]
        log_extra(f"medreward/{name}", values)
        log_metric(f"medreward/{name}", fmean(had) if had else nan)
