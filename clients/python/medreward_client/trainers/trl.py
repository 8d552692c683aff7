"""Reward functions for TRL's GRPO and RLOO: one request a batch, None for a missing reward.

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
    num_generations: int | None = None,
    **options: Unpack[Options],
) -> list[AsyncRewardFunc]:
    """Make the functions for a trainer's `reward_funcs`: one, `medreward`, returns the reward.

    With `components`, there is one function for each of them instead, for `reward_weights` and
    for aggregations that normalise each separately; they share one request. The columns are those
    of the data set; only the reference is required, and the question defaults to the prompt.

    `num_generations` is that of `GRPOConfig`, for recipes that compare the samples of a prompt.

    `beside` are functions of your own. TRL leaves out a sample only if every function returned
    None, so pass them here, and they return None for each sample that `medreward` has none for.
    """
    bound = Binding(
        reference_column,
        question_column,
        modality_column,
        tuple(sorted(options.items())),
        num_generations,
    )
    ours = [_FUNCTION_OF[name] for name in components or (None,)]
    own = [_OwnFunction(func, bound) for func in beside]
    return [*(_named(func, bound) for func in ours), *own]


def _function(component: Component | None) -> AsyncRewardFunc:
    async def func(bound: Binding, /, **given: Any) -> Rewards:
        samples, outcomes = await _scored(bound, given)
        return values_of(component, outcomes, samples, bound)

    func.__name__ = "medreward" if component is None else f"medreward_{component}"
    func.__qualname__ = func.__name__
    return func


# One function for each component, since newer TRLs log the name of the function within a partial.
# The module holds each under its own name, so that they can be pickled.
medreward = _function(None)
medreward_accuracy_llm = _function("accuracy_llm")
medreward_accuracy_embed = _function("accuracy_embed")
medreward_modality = _function("modality")
medreward_format = _function("format")

_FUNCTION_OF: dict[Component | None, AsyncRewardFunc] = {
    None: medreward,
    "accuracy_llm": medreward_accuracy_llm,
    "accuracy_embed": medreward_accuracy_embed,
    "modality": medreward_modality,
    "format": medreward_format,
}


def _named(func: AsyncRewardFunc, bound: Binding) -> AsyncRewardFunc:
    """Bind a function and keep its name, which older TRLs read from the partial."""
    named = partial(func, bound)
    named.__name__ = func.__name__  # type: ignore[attr-defined]
    return named


class _OwnFunction:
    """A function of the user's that returns None for a sample without a medreward reward."""

    def __init__(self, func: RewardFunc, bound: Binding) -> None:
        self.__name__ = getattr(func, "__name__", type(func).__name__)
        self._func = func
        self._bound = bound

    async def __call__(self, **given: Any) -> Rewards:
        """Return the function's rewards."""
        (_, outcomes), rewards = await asyncio.gather(
            _scored(self._bound, given), self._own_rewards(given)
        )
        pairs = zip(outcomes, rewards, strict=True)
        return [None if outcome.reward is None else reward for outcome, reward in pairs]

    async def _own_rewards(self, given: dict[str, Any]) -> Sequence[float | None]:
        # In a thread, an async function only creates its coroutine, which is awaited here.
        rewards = await asyncio.to_thread(self._func, **given)
        return await rewards if isawaitable(rewards) else rewards


async def _scored(bound: Binding, given: dict[str, Any]) -> tuple[list[Sample], list[Outcome]]:
    samples = samples_of(bound, given["prompts"], given["completions"], given)
    step = getattr(given.get("trainer_state"), "global_step", None)
    outcomes, has_sent = await outcomes_of(bound, samples, step=step, says_none=_none_is_not_zero())
    if has_sent and "log_extra" in given and "log_metric" in given:
        _log(outcomes, given["log_extra"], given["log_metric"])
    return samples, outcomes


def _none_is_not_zero() -> bool:
    """Return True if the installed TRL has a channel for a sample without a reward."""
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
    """Log columns and means, always under the same names, as every rank has to log the same."""
    log_extra("medreward/error", [outcome.error and outcome.error.kind for outcome in outcomes])
    log_metric("medreward/unscored", fmean(not outcome.scored for outcome in outcomes))
    for name in COMPONENTS:
        values = [outcome.components.get(name) for outcome in outcomes]
        known = [value for value in values if value is not None]
        log_extra(f"medreward/{name}", values)
        log_metric(f"medreward/{name}", fmean(known) if known else nan)
