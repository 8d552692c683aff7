"""EasyR1's own reward manager, from its source tree, and a real service.

EasyR1 is no package; `EASYR1=<its tree> make verl` puts it on the path, and without it nothing here
runs. MediX-R1's copy of the manager is the same. The judge does as it is told.
"""

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medreward_client import NoReward
from medreward_client.trainers import easyr1
from tests.support.judge_server import Models, failing_for
from tests.support.process import Service

# Its package is called `verl` too, but verl itself has no such module.
with warnings.catch_warnings(action="ignore"):
    reward = pytest.importorskip("verl.workers.reward.function", reason="EASYR1 is not set")

    from verl.protocol import DataProto
    from verl.trainer.metrics import reduce_metrics
    from verl.workers.reward import AutoRewardManager, RewardConfig

    from tests.real_trainers.byte_tokenizer import byte_tokenizer

pytestmark = [
    pytest.mark.trainers,
    pytest.mark.filterwarnings("ignore", "error:::medreward_client"),
]

KEYS = {"overall", "format", "accuracy_llm", "accuracy_embed", "modality", "scored"}


def told(answer: str) -> str:
    """Write a response that is well formed."""
    return f"<X_RAY><thinking>Basal, left.</thinking><answer>{answer}</answer>"


RIGHT, WRONG, UNJUDGED = told("left lower lobe"), told("right upper lobe"), told("both lobes")
GROUPS = [[RIGHT, WRONG], [RIGHT, UNJUDGED]]
fails_for_both = failing_for("both lobes")


Compute = Callable[..., tuple[list[float], dict[str, list[float]]]]


@pytest.fixture
def compute(models: Models, service: Service) -> Compute:
    """Score GROUPS with EasyR1's manager: the rewards, and its metrics before they are averaged."""
    models.rule = fails_for_both
    tokenizer = byte_tokenizer()

    def compute(**options: Any) -> tuple[list[float], dict[str, list[float]]]:
        config = RewardConfig(
            reward_function=f"{Path(easyr1.__file__)}:compute_score",
            reward_function_kwargs={"base_url": service.url, **options},
        )
        config.post_init()
        responses = [response for group in GROUPS for response in group]
        written = tokenizer(responses, padding=True, padding_side="right", return_tensors="pt")
        references = np.array(["<X_RAY>left lower lobe"] * len(responses), dtype=object)
        data = DataProto.from_dict(
            tensors={
                "responses": written["input_ids"],
                "response_mask": written["attention_mask"],
            },
            non_tensors={"ground_truth": references},
        )
        rewards, metrics = AutoRewardManager(config, tokenizer).compute_reward(data)
        last = written["attention_mask"].sum(dim=1) - 1
        assert rewards.count_nonzero() == len(responses) - sum(
            one == 0.0 for one in metrics["overall"]
        )
        return rewards[range(len(responses)), last].tolist(), metrics

    return compute


def test_scored_responses_have_the_rewards_of_the_recipe(compute: Compute) -> None:
    """The reward stands at the last token; what was put in for the failure is marked."""
    rewards, metrics = compute(on_unscored="impute")

    assert metrics.keys() == KEYS
    assert rewards[:3] == pytest.approx([1.0, 0.145, 1.0])
    assert 0.0 < rewards[3] < 1.0
    assert metrics["scored"] == [1.0, 1.0, 1.0, 0.0]
    assert all(math.isfinite(mean) for mean in reduce_metrics(metrics).values())
    assert reduce_metrics(metrics)["accuracy_llm"] == pytest.approx(2 / 3)  # of three, not of four


def test_a_failure_stops_the_step(compute: Compute) -> None:
    """Without filtering there is no other way to tell EasyR1."""
    with pytest.raises(NoReward, match="judge_unreachable"):
        compute()


def test_a_failure_drops_its_group_from_online_filtering(compute: Compute) -> None:
    """The filter keeps a group if its mean is between two bounds, as restated here."""
    _, metrics = compute(online_filtering=True)

    for filter_key in KEYS - {"scored", "format", "modality"}:
        means = np.array(metrics[filter_key]).reshape(len(GROUPS), -1).mean(axis=1)
        assert [bool(0.01 < mean < 0.99) for mean in means] == [True, False]
    assert math.isnan(reduce_metrics(metrics)["overall"])
    assert reduce_metrics(metrics)["scored"] == 0.75
