"""verl 0.9.1's reward loop over Ray, its V1 data path over TransferQueue, and a real service.

Two things are not real: the judge, which does as it is told, and the policy, which writes what the
row says. verl needs no GPU for the rest.
"""

import asyncio
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from medreward_client import NoReward, RewardClient, Sample
from tests.support.judge_server import Models, failing_for
from tests.support.process import Service, dies_once, serving

# Of what they import, much is deprecated, and where tests are collected a warning is an error.
with warnings.catch_warnings(action="ignore"):
    import ray
    import transfer_queue
    from verl import DataProto
    from verl.experimental.reward_loop import RewardLoopManager
    from verl.experimental.reward_loop.reward_loop import RewardLoopWorker
    from verl.trainer.ppo.core_algos import compute_grpo_outcome_advantage
    from verl.trainer.ppo.metric_utils import process_validation_metrics
    from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopWorkerTQ
    from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer
    from verl.utils import tensordict_utils

    from tests.real_trainers.verl_parts import Row, batch_of, configure, write_model

KEYS = ["score", "scored", "accuracy_llm", "accuracy_embed", "modality", "format"]


def told(answer: str) -> str:
    """Write a response that is well formed."""
    return f"<X_RAY><thinking>Basal, left.</thinking><answer>{answer}</answer>"


RIGHT, WRONG, UNJUDGED = told("left lower lobe"), told("right upper lobe"), told("both lobes")
GROUP = [RIGHT, WRONG, UNJUDGED, RIGHT]
fails_for_both = failing_for("both lobes")


@pytest.fixture(scope="module")
def models() -> Iterator[Models]:
    """A judge that fails for some answers."""
    with Models(fails_for_both) as models:
        yield models


@pytest.fixture(scope="module")
def service(models: Models) -> Iterator[Service]:
    """One service for all: it forgets nothing, but answers that failed are asked again."""
    with serving(models) as service:
        yield service


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the model's tokenizer is."""
    folder = tmp_path_factory.mktemp("model")
    write_model(folder)
    return folder


@dataclass
class Verl:
    """verl's workers, and what they are asked with."""

    manager: Any
    policy: Any
    tokenizer: Any
    trainer_config: Any
    prompts: int = 0

    def score(self, *rows: Row) -> DataProto:
        """Score all responses of the rows, as the legacy trainer does."""
        return self.manager.compute_rm_score(batch_of(list(rows), self.tokenizer))

    def roll_out(self, *rows: Row) -> dict[str, float]:
        """Let the policy write, and give the score of each trajectory that V1 would train on."""
        names = [f"prompt{self.prompts + n}" for n in range(len(rows))]
        self.prompts += len(rows)
        columns = {name: _column([row[name] for row in rows]) for name in rows[0]}
        columns["raw_prompt"] = _column([[{"role": "user", "content": "Which lobe?"}]] * len(rows))
        batch = tensordict_utils.get_tensordict(
            columns | {"uid": _column(names), "index": np.arange(len(rows))}
        )
        for name, value in {"global_steps": 1, "validate": False}.items():
            tensordict_utils.assign_non_tensor_data(batch, name, value)
        tags = [{"is_prompt": True, "status": "pending", "global_steps": 1}] * len(rows)
        transfer_queue.kv_batch_put(keys=names, partition_id="train", tags=tags)
        ray.get(self.policy.generate_sequences.remote(batch))

        buffer = ReplayBuffer("sync", self.trainer_config, None, "drop", {}, poll_interval=0.05)
        kept, _ = buffer.sample(global_steps=1, partition_id="train", batch_size=len(rows))
        data = transfer_queue.kv_batch_get(
            keys=kept.keys, partition_id="train", select_fields=["rm_scores"]
        )
        transfer_queue.kv_clear(keys=kept.keys, partition_id="train")
        scores = [float(one.sum()) for one in data["rm_scores"].unbind()]
        return dict(sorted(zip(kept.keys, scores, strict=True)))


def _column(values: list[Any]) -> Any:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


@pytest.fixture(scope="module")
def verl(folder: Path, service: Service) -> Iterator[Verl]:
    """Two reward workers and one of the policy's, in processes of Ray's."""
    config = configure(
        folder,
        "transfer_queue.backend.SimpleStorage.num_data_storage_units=1",
        base_url=service.url,
        deadline_s=60,
    )
    # No token file in the user's home, and workers that find the policy.
    os.environ |= {"RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(Path(__file__).parents[2])}
    # More than there are: Ray counts a CPU for each of the workers, which mostly wait.
    ray.init(num_cpus=16, include_dashboard=False, log_to_driver=False)
    try:
        transfer_queue.init(config.transfer_queue)
        manager = RewardLoopManager(config)
        policy = AgentLoopWorkerTQ.remote(config, None, None, manager.reward_loop_worker_handles)
        yield Verl(manager, policy, AutoTokenizer.from_pretrained(folder), config.trainer)
    finally:
        transfer_queue.close()
        ray.shutdown()


def advantages(scores: dict[str, float]) -> dict[str, float]:
    """Give each trajectory what verl's own GRPO makes of its group; keys begin with the prompt."""
    values = torch.tensor(list(scores.values()))[:, None]
    groups = np.array([key.split("_")[0] for key in scores])
    computed, _ = compute_grpo_outcome_advantage(values, torch.ones_like(values), groups)
    return dict(zip(scores, computed[:, 0].tolist(), strict=True))


def scores_of(scored: DataProto) -> list[float]:
    """Give the reward of each response."""
    rewards: list[float] = scored.batch["rm_scores"].sum(dim=1).tolist()
    return rewards


def test_all_samples_have_the_same_metrics(verl: Verl, service: Service) -> None:
    """Rewards are the service's; keys are equal, whatever a sample has; what it has not is None."""
    scored = verl.score(
        Row(RIGHT, WRONG, modality="X_RAY", question="Which lobe?"),
        Row(RIGHT, reference=["left lower lobe", "LLL"]),  # of a text-only task
        Row(WRONG, reference="<X_RAY>right upper lobe"),
    )

    with RewardClient(service.url) as client:
        rewards = client.reward(
            [
                Sample(RIGHT, "left lower lobe", modality="X_RAY"),
                Sample(WRONG, "left lower lobe", modality="X_RAY"),
                Sample(RIGHT, ["left lower lobe", "LLL"]),
                Sample(WRONG, "<X_RAY>right upper lobe"),
            ]
        ).rewards
    assert scores_of(scored) == pytest.approx(rewards)
    assert scored.meta_info["reward_extra_keys"] == KEYS
    assert scored.non_tensor_batch["modality"].tolist() == [1.0, 1.0, None, 1.0]
    assert scored.non_tensor_batch["scored"].tolist() == [1.0] * 4


def test_validation_leaves_out_what_a_sample_has_not(verl: Verl) -> None:
    """A component's mean is that of the samples that have it, with None but not with NaN."""
    scored = verl.score(Row(RIGHT, modality="CT_SCAN"), Row(RIGHT))
    columns = {key: scored.non_tensor_batch[key].tolist() for key in KEYS}
    assert columns["modality"] == [0.0, None]

    means = process_validation_metrics(["slake"] * 2, ["p1", "p2"], columns)["slake"]
    assert {key: means[key]["mean@1"] for key in KEYS} | {"score": 0.0} == {
        "score": 0.0,
        "scored": 1.0,
        "accuracy_llm": 1.0,
        "accuracy_embed": 1.0,
        "modality": 0.0,
        "format": 1.0,
    }
    spoilt = process_validation_metrics(["slake"] * 2, ["p1", "p2"], {"it": [0.0, float("nan")]})
    assert np.isnan(spoilt["slake"]["it"]["mean@1"])


def test_a_response_without_a_reward_raises_through_ray(verl: Verl) -> None:
    """The error that comes out of verl's worker is ours, and says which kind of failure it was."""
    with pytest.raises(NoReward, match="judge_unreachable"):
        verl.score(Row(*GROUP))


def test_v1_leaves_a_response_without_a_reward_out_of_its_group(verl: Verl) -> None:
    """The others' advantages are those of the group without it; as a 0 it would move all of them."""
    kept = verl.roll_out(Row(*GROUP, modality="X_RAY"), Row(RIGHT, WRONG, WRONG, RIGHT))
    failed = min(kept).split("_")[0]

    # A key is prompt, session and turn.
    assert [key for key in kept if key.startswith(failed)] == [f"{failed}_{n}_0" for n in (0, 1, 3)]
    assert len(kept) == 3 + 4

    scores = {key: score for key, score in kept.items() if key.startswith(failed)}
    others = list(advantages(scores).values())
    assert list(advantages(kept).values())[:3] == others
    assert others == pytest.approx([0.577, -1.155, 0.577], abs=1e-3)

    as_zero = list(advantages(scores | {f"{failed}_2_0": 0.0}).values())
    assert as_zero == pytest.approx([0.861, -0.726, 0.861, -0.995], abs=1e-3)


def test_a_service_that_dies_in_the_middle_of_a_step_costs_no_sample(
    verl: Verl, service: Service, models: Models
) -> None:
    """It is killed while a verdict is awaited, and comes back: every reward is what it would be."""
    deaths: list[str] = []
    # Answers that nobody has asked about before, or the service would not ask the judge.
    answers = [f"lobe number {n}" for n in range(24)]
    groups = [[told(answer) for answer in answers[row : row + 3]] for row in range(0, 24, 3)]
    models.rule = dies_once(service, answers, deaths)
    try:
        kept = verl.roll_out(*(Row(RIGHT, *group, modality="X_RAY") for group in groups))
    finally:
        models.rule = fails_for_both

    assert len(deaths) == 1
    assert list(kept.values()) == pytest.approx([1.0, 0.145, 0.145, 0.145] * 8)


def in_process(folder: Path, service: Service, *overrides: str, **options: object) -> Any:
    """Score a group with verl's worker, in this process."""

    async def score() -> Any:
        config = configure(folder, *overrides, base_url=service.url, **options)
        worker = RewardLoopWorker(config)
        return await worker.compute_score_batch(batch_of([Row(*GROUP)], worker.input_tokenizer))

    return asyncio.run(score())


def test_the_legacy_trainer_may_have_zeros_that_are_marked(folder: Path, service: Service) -> None:
    """Without V1 an exception ends the run, so zero and impute are there to be chosen."""
    zeroed = in_process(folder, service, on_unscored="zero")
    imputed = in_process(folder, service, on_unscored="impute")

    for results in (zeroed, imputed):
        marks = [one["reward_extra_info"]["scored"] for one in results]
        assert marks == [1.0, 1.0, 0.0, 1.0]
        assert all(list(one["reward_extra_info"]) == KEYS for one in results)
    assert zeroed[2]["reward_score"] == 0.0
    assert 0.0 < imputed[2]["reward_score"] < 1.0


def test_the_rate_limited_manager_makes_a_zero_of_it(folder: Path, service: Service) -> None:
    """Which is why the page on verl says not to use it: the service has limits of its own."""
    results = in_process(folder, service, "reward.reward_manager.name=rate_limited")

    assert [one["reward_score"] for one in results][2] == 0.0
    assert "scored" not in results[2]["reward_extra_info"]


def test_a_misspelt_option_ends_the_first_step(folder: Path, service: Service) -> None:
    """It is refused before anything is scored."""
    with pytest.raises(TypeError, match="did you mean on_unscored"):
        in_process(folder, service, on_unscord="zero")
