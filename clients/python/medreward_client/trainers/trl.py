"""Reward functions for TRL's GRPO and RLOO: one request a batch, and None where there is no reward.

Example:
    from medreward_client.trainers.trl import make_reward_funcs

    trainer = GRPOTrainer(
        model, reward_funcs=make_reward_funcs(reference_column="solution"), train_dataset=dataset
    )

"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from inspect import iscoroutinefunction
from math import nan
from statistics import fmean
from typing import Any, Literal, Unpack, cast

from medreward_client import Sample
from medreward_client.scoring import Options, Outcome, scorer

Component = Literal["accuracy_llm", "accuracy_embed", "modality", "format"]
Rewards = list[float | None]
AsyncRewardFunc = Callable[..., Coroutine[Any, Any, Rewards]]
RewardFunc = Callable[..., Sequence[float | None]] | AsyncRewardFunc

NONE_IS_NOT_ZERO = (1, 6)
"""The first TRL that leaves a sample without any reward out; before, it counted as 0."""


@dataclass(frozen=True, slots=True)
class _Binding:
    """What a reward function was made with: where to find what, and how to reach the service."""

    reference_column: str
    question_column: str
    modality_column: str
    # A function may be printed by whoever holds it, and there may be a key among these.
    options: tuple[tuple[str, Any], ...] = field(repr=False)


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

    Raises:
        ValueError: components are to be imputed, for which there is no rule.
    """
    if components and options.get("on_unscored") == "impute":
        raise ValueError("components cannot be imputed: choose native, raise or zero")
    bound = _Binding(
        reference_column, question_column, modality_column, tuple(sorted(options.items()))
    )
    ours = [_FUNCTION_OF[name] for name in components] or [medreward]
    return [*(_named(func, bound) for func in ours), *(_Beside(func, bound) for func in beside)]


# The functions are many, since newer TRLs log under the name of the function within a partial;
# they stand in the module, so that they can be pickled.
async def medreward(bound: _Binding, /, **given: Any) -> Rewards:
    """Give the recipe's rewards."""
    return [outcome.reward for outcome in await _outcomes(bound, given)]


async def medreward_accuracy_llm(bound: _Binding, /, **given: Any) -> Rewards:
    """Give what the judge says."""
    return await _component("accuracy_llm", bound, given)


async def medreward_accuracy_embed(bound: _Binding, /, **given: Any) -> Rewards:
    """Give what the embedder says."""
    return await _component("accuracy_embed", bound, given)


async def medreward_modality(bound: _Binding, /, **given: Any) -> Rewards:
    """Tell whether the modality is right; None where none is known."""
    return await _component("modality", bound, given)


async def medreward_format(bound: _Binding, /, **given: Any) -> Rewards:
    """Tell whether the response is well formed."""
    return await _component("format", bound, given)


_FUNCTION_OF: Mapping[Component, AsyncRewardFunc] = {
    "accuracy_llm": medreward_accuracy_llm,
    "accuracy_embed": medreward_accuracy_embed,
    "modality": medreward_modality,
    "format": medreward_format,
}


def _named(func: AsyncRewardFunc, bound: _Binding) -> AsyncRewardFunc:
    """Bind a function, under its own name: older TRLs ask the partial for it."""
    named = partial(func, bound)
    named.__name__ = func.__name__  # type: ignore[attr-defined]
    return named


class _Beside:
    """A function of the user's that has no say on a sample without our reward."""

    def __init__(self, func: RewardFunc, bound: _Binding) -> None:
        self.__name__ = getattr(func, "__name__", type(func).__name__)
        self._func = func
        self._bound = bound

    async def __call__(self, **given: Any) -> Rewards:
        """Give the function's rewards."""
        outcomes, rewards = await asyncio.gather(_outcomes(self._bound, given), self._said(given))
        pairs = zip(outcomes, rewards, strict=True)
        return [None if outcome.reward is None else reward for outcome, reward in pairs]

    async def _said(self, given: dict[str, Any]) -> Sequence[float | None]:
        if iscoroutinefunction(self._func):
            return await cast("AsyncRewardFunc", self._func)(**given)
        func = cast("Callable[..., Sequence[float | None]]", self._func)
        return await asyncio.to_thread(func, **given)


async def _component(name: Component, bound: _Binding, given: dict[str, Any]) -> Rewards:
    """Give one component, on the samples that have a reward; the others have none in any."""
    missing = 0.0 if dict(bound.options).get("on_unscored") == "zero" else None
    return [
        outcome.components.get(name) if outcome.scored else missing
        for outcome in await _outcomes(bound, given)
    ]


_in_flight: dict[tuple[object, ...], asyncio.Task[list[Outcome]]] = {}


async def _outcomes(bound: _Binding, given: dict[str, Any]) -> list[Outcome]:
    """Score a batch; functions that ask for the same one at the same time share one request."""
    samples = tuple(_samples(bound, given))
    step = getattr(given.get("trainer_state"), "global_step", None)
    key = (asyncio.get_running_loop(), bound, step, samples)
    if key not in _in_flight:
        _in_flight[key] = asyncio.create_task(_score(bound, samples, step, given))
        _in_flight[key].add_done_callback(lambda _: _in_flight.pop(key))
    # A function that is cancelled does not take the others with it.
    return await asyncio.shield(_in_flight[key])


async def _score(
    bound: _Binding, samples: Sequence[Sample], step: int | None, given: dict[str, Any]
) -> list[Outcome]:
    service = scorer(**cast("Options", dict(bound.options)))
    outcomes = await service.score(samples, step=step, says_none=_none_is_not_zero())
    if "log_extra" in given and "log_metric" in given:
        _log(outcomes, given["log_extra"], given["log_metric"])
    return outcomes


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
    for name in _FUNCTION_OF:
        values = [outcome.components.get(name) for outcome in outcomes]
        log_extra(f"medreward/{name}", values)
        log_metric(f"medreward/{name}", _mean(value for value in values if value is not None))


def _mean(values: Iterable[float]) -> float:
    had = list(values)
    return fmean(had) if had else nan


def _samples(bound: _Binding, given: Mapping[str, Any]) -> Iterable[Sample]:
    """Read a batch: plain or conversational prompts and completions, and the data set's columns."""
    prompts, completions = given["prompts"], given["completions"]
    if bound.reference_column not in given:
        raise ValueError(
            f"the data set has no column {bound.reference_column!r} for the reference: "
            "name yours with reference_column"
        )
    references = given[bound.reference_column]
    questions = given.get(bound.question_column) or [_last(prompt, "user") for prompt in prompts]
    modalities = given.get(bound.modality_column) or [None] * len(prompts)
    columns = zip(prompts, completions, references, questions, modalities, strict=True)
    for prompt, completion, reference, question, modality in columns:
        yield Sample(
            response=_last(completion, "assistant"),
            reference=_reference(reference),
            group=sha256(repr((_last(prompt, "user"), reference)).encode()).hexdigest()[:16],
            question=question,
            modality=modality or None,
        )


def _last(turns: str | Sequence[Mapping[str, Any]], role: str) -> str:
    """Give a plain text, or what was said last in a role."""
    if isinstance(turns, str):
        return turns
    said = [turn.get("content") for turn in turns if turn["role"] == role]
    return _text(said[-1]) if said else ""


def _text(content: object) -> str:
    """Give the text of a message, which may have parts."""
    if isinstance(content, list):
        return "".join(part["text"] for part in content if part.get("type") == "text")
    return content if isinstance(content, str) else ""


def _reference(cell: object) -> str | tuple[str, ...]:
    """Give a data set's cell as text; where there is none, the service says so of that sample."""
    if isinstance(cell, list | tuple):
        return tuple(map(str, cell)) or ""
    return "" if cell is None else str(cell)
