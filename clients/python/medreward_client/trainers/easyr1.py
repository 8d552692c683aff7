"""EasyR1's and MediX-R1's reward function: a drop-in for MediX-R1's `medical.py`.

    worker.reward.reward_function="$(medreward-client path easyr1):compute_score"

EasyR1 loads this file by its path, under a name of its own. The options are those of
`medreward_client.scoring.Options`, given in `worker.reward.reward_function_kwargs`.
"""

from collections.abc import Mapping, Sequence
from math import nan
from typing import Any, Unpack

from medreward_client.scoring import Options, Outcome, one_by_one, scorer
from medreward_client.trainers._rows import read_sample
from medreward_client.trainers._signals import COMPONENTS, figures_of

REWARD_NAME = "medreward"
REWARD_TYPE = "batch"


def compute_score(
    reward_inputs: Sequence[Mapping[str, Any]],
    *,
    online_filtering: bool = False,
    **options: Unpack[Options],
) -> list[dict[str, float]]:
    """Score a batch of `{"response", "response_length", "ground_truth"}`.

    Each result has `overall`, the components, and `scored`, whose mean EasyR1 logs as
    `reward/scored`. A component that a sample lacks is left out, so that EasyR1 averages over
    the samples that have it.

    `online_filtering` must be True if `algorithm.online_filtering` is on. Then, under `native`, a
    sample without a reward is NaN in all but `scored`: with any key of the filter, the mean of
    its group is out of bounds, and the group is dropped. A component that a scored sample lacks
    is NaN too, because the filter reads one value for each sample.

    Raises:
        NoReward: samples have none, and `online_filtering` is off.
    """
    samples = [read_sample(one["response"], one["ground_truth"]) for one in reward_inputs]
    # EasyR1 sorts a step by length before it asks for rewards, so groups are mixed.
    outcomes = scorer(**options).score_blocking(
        samples, says_none=online_filtering, ungrouped=one_by_one("EasyR1")
    )
    return [_read(outcome, padded=online_filtering) for outcome in outcomes]


def _read(outcome: Outcome, *, padded: bool) -> dict[str, float]:
    missing: dict[str, float] = dict.fromkeys(COMPONENTS, nan) if padded else {}
    if outcome.reward is None:
        return {"overall": nan, **missing, "scored": 0.0}
    return {"overall": outcome.reward, **missing, **figures_of(outcome)}
