"""OpenRLHF's reward function: this file's path is the value of `--reward.remote_url`.

To change options, use a file of your own instead:
    from functools import partial
    from medreward_client.trainers import openrlhf
    reward_func = partial(openrlhf.reward_func, recipe="my-recipe", on_unscored="impute")
"""

from collections.abc import Sequence
from typing import Any, Unpack

from medreward_client._types import Sample
from medreward_client.scoring import Options, one_by_one, scorer
from medreward_client.trainers._rows import read_labelled
from medreward_client.trainers._signals import COMPONENTS, figures_of
from medreward_client.trainers._texts import response_in

NOT_HAD = dict.fromkeys(("scored", *COMPONENTS), 0.0)
"""Defaults in the logs alone: OpenRLHF ends a step whose samples' logs differ in names."""


def reward_func(
    queries: Sequence[str],
    prompts: Sequence[str],
    labels: Sequence[object],
    **options: Unpack[Options],
) -> dict[str, Any]:
    """Score decoded queries: `rewards`, `scores` and `extra_logs`, plain numbers for one query.

    `scores` are the rewards mapped from the recipe's range to 0..1, which OpenRLHF filters groups by.
    In the logs `scored` is 1 if the reward is the service's own, and a missing signal is 0.

    Raises:
        NoReward: a sample has none, and `on_unscored` does not replace it; OpenRLHF has no channel
            for a missing reward.
        ValueError: a query does not begin with its prompt.
    """
    samples = [_read(*parts) for parts in zip(queries, prompts, labels, strict=True)]
    outcomes = scorer(**options).score_blocking(samples, ungrouped=one_by_one("OpenRLHF"))
    rewards = [outcome.number for outcome in outcomes]
    scores = [outcome.unit_number for outcome in outcomes]
    logs = [NOT_HAD | figures_of(outcome) for outcome in outcomes]
    if len(samples) == 1:
        return {"rewards": rewards[0], "scores": scores[0], "extra_logs": logs[0]}
    columns = {name: [log[name] for log in logs] for name in NOT_HAD}
    return {"rewards": rewards, "scores": scores, "extra_logs": columns}


def _read(query: str, prompt: str, label: object) -> Sample:
    response = response_in(query, prompt)
    if response is None:
        raise ValueError("a query does not begin with its prompt, whatever is left out of both")
    return read_labelled(response, label)
