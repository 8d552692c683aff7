"""slime's custom reward: `--custom-rm-path medreward_client.trainers.slime.custom_rm --group-rm`.

Options are set in the file of `--custom-config-path`, such as `medreward_recipe: my-recipe`.
"""

from collections.abc import Mapping
from statistics import fmean
from typing import Any, cast

from medreward_client._types import Sample
from medreward_client.scoring import Options, Outcome, one_by_one, scorer
from medreward_client.trainers._rows import read_labelled
from medreward_client.trainers._signals import figures_of

PREFIX = "medreward_"

Reward = float | dict[str, float]


async def custom_rm(args: Any, samples: Any, **_: Any) -> Reward | list[Reward]:
    """Score one sample, or with `--group-rm` all samples of one prompt.

    In a group, a sample without a reward gets the mean of the others and `remove_sample`: slime
    leaves it out of the loss but counts it in the baseline, which the mean leaves unchanged.
    If a group has no reward at all, its samples get 0 and are removed. A single sample has no
    such mean, so `native` raises; `impute` uses its components, and removes it too. With `zero`
    it is trained on.

    `sample.metadata["medreward"]` holds the components of each reward. With `--reward-key` the
    reward is an object that contains it.

    Raises:
        NoReward: a sample has none, and slime no channel for it.
    """
    options = _options(args)
    is_group = isinstance(samples, list) and bool(args.group_rm)
    several = samples if isinstance(samples, list) else [samples]
    outcomes = await scorer(**options).score(
        [_read(sample) for sample in several],
        says_none=is_group,
        ungrouped=one_by_one("this adapter for slime"),
    )
    rewards = [outcome.reward for outcome in outcomes if outcome.reward is not None]
    mean = fmean(rewards) if rewards else 0.0
    given = []
    for sample, outcome in zip(several, outcomes, strict=True):
        _annotate(sample, outcome, is_trained_on=options.get("on_unscored") == "zero")
        given.append(_shaped(mean if outcome.reward is None else outcome.reward, outcome, args))
    return given if isinstance(samples, list) else given[0]


def _options(args: Any) -> Options:
    given = {name: getattr(args, PREFIX + name, None) for name in Options.__annotations__}
    return cast("Options", {name: value for name, value in given.items() if value is not None})


def _read(sample: Any) -> Sample:
    row = sample.metadata if isinstance(sample.metadata, Mapping) else {}
    group = None if sample.group_index is None else str(sample.group_index)
    return read_labelled(sample.response, sample.label, row, group=group)


def _annotate(sample: Any, outcome: Outcome, *, is_trained_on: bool) -> None:
    if not outcome.scored and not is_trained_on:
        sample.remove_sample = True
    if isinstance(sample.metadata, dict):
        sample.metadata["medreward"] = figures_of(outcome)


def _shaped(reward: float, outcome: Outcome, args: Any) -> Reward:
    keys = {getattr(args, name, None) for name in ("reward_key", "eval_reward_key")}
    named = dict.fromkeys(filter(None, keys), reward)
    return {**figures_of(outcome), **named} if args.reward_key else reward
