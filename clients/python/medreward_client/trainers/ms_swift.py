"""Reward functions for ms-swift's GRPO, by name: `--reward_funcs medreward`.

This file is a plugin for `--external_plugins`. A plugin of your own can set options:

    from medreward_client.trainers.ms_swift import register

    register(reference_column="answer", on_unscored="impute")

ms-swift accepts None but adds it as 0, so it has no channel for a sample without a reward.
"""

from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Unpack

from medreward_client.scoring import Options
from medreward_client.trainers._batches import (
    Binding,
    outcomes_of,
    samples_of,
    values_of,
)
from medreward_client.trainers._signals import COMPONENTS, Component

RewardFunc = Callable[..., Coroutine[Any, Any, list[float | None]]]


def register(
    *,
    reference_column: str = "solution",
    question_column: str = "question",
    modality_column: str = "modality",
    num_generations: int | None = None,
    **options: Unpack[Options],
) -> None:
    """Register `medreward` with ms-swift, and each component as `medreward_` and its name.

    Functions of the same batch share one request. The columns are those of the data set; only the
    reference is required, and the question defaults to the user's last message.

    `num_generations` is ms-swift's own, for recipes that compare the samples of a prompt.

    A sample without a reward ends the step with NoReward, unless `on_unscored` differs.
    """
    from swift.rewards import orms  # noqa: PLC0415 - ms-swift is installed only in its own environment

    bound = Binding(
        reference_column,
        question_column,
        modality_column,
        tuple(sorted(options.items())),
        num_generations,
    )
    orms["medreward"] = partial(_make, "medreward", None, bound)
    for name in COMPONENTS:
        orms[f"medreward_{name}"] = partial(_make, f"medreward_{name}", name, bound)


def _make(name: str, component: Component | None, bound: Binding, **_: object) -> RewardFunc:
    """Make a reward function; ms-swift calls this as a class, with its own arguments."""

    async def reward(completions: Sequence[str], **given: Any) -> list[float | None]:
        samples = samples_of(bound, given["messages"], completions, given)
        step = getattr(given.get("trainer_state"), "global_step", None)
        outcomes, _ = await outcomes_of(bound, samples, step=step, says_none=False)
        return values_of(component, outcomes, samples, bound)

    # ms-swift logs it under this name.
    reward.__name__ = name
    return reward


# ms-swift loads a plugin as a file, under another module name, and expects it to register itself.
# Code that imports this module by its name calls `register`.
if __name__ != "medreward_client.trainers.ms_swift":
    register()
