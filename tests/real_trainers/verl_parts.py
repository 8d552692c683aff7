"""What verl wants around its reward loop: a configuration, a tokenizer, batches, and a policy.

All is real but the policy, which writes what the row of the data set tells it to.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_module
from omegaconf import DictConfig
from tensordict import TensorDict
from transformers import Qwen3Config
from verl import DataProto
from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopMetrics, AgentLoopOutput

from tests.real_trainers.byte_tokenizer import byte_tokenizer


def write_model(folder: Path) -> None:
    """Write what verl reads of a model before it loads one: a tokenizer, and a shape."""
    tokenizer = byte_tokenizer()
    tokenizer.save_pretrained(folder)
    Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, intermediate_size=64, architectures=["Qwen3ForCausalLM"],
    ).save_pretrained(folder)  # fmt: skip


def configure(folder: Path, *overrides: str, **reward_kwargs: object) -> DictConfig:
    """Give verl's own configuration, with the lines of docs/trainers/verl.md."""
    where = "+reward.custom_reward_function.reward_kwargs"
    agents = folder / "agents.yaml"
    agents.write_text(f"- name: told\n  _target_: {ToldPolicy.__module__}.ToldPolicy\n")
    lines = [
        f"actor_rollout_ref.model.path={folder}",
        "actor_rollout_ref.rollout.name=vllm",
        "actor_rollout_ref.rollout.n=4",
        f"actor_rollout_ref.rollout.agent.agent_loop_config_path={agents}",
        "actor_rollout_ref.rollout.agent.default_agent_loop=told",
        "data.train_files=none",
        "reward.num_workers=2",
        "reward.custom_reward_function.path=pkg://medreward_client.trainers.verl",
        *(f"{where}.{name}={value}" for name, value in reward_kwargs.items()),
        *overrides,
    ]
    with initialize_config_module("verl.trainer.config", version_base=None):
        return compose("ppo_trainer", lines)


class Row(dict[str, Any]):
    """A row of the data set, with the responses that the policy will write."""

    def __init__(
        self, *responses: str, reference: object = "left lower lobe", **extra_info: Any
    ) -> None:
        super().__init__(
            data_source="slake",
            reward_model={"style": "model", "ground_truth": reference},
            extra_info=extra_info,
            told=list(responses),
        )


def batch_of(rows: list[Row], tokenizer: Any) -> DataProto:
    """Make the batch that a rollout would be: each row as often as it has responses."""
    pairs = [(row, response) for row in rows for response in row["told"]]
    prompts = torch.ones(len(pairs), 1, dtype=torch.int64)
    written = tokenizer([one for _, one in pairs], padding=True, return_tensors="pt")
    tensors = {
        "prompts": prompts,
        "responses": written["input_ids"],
        "attention_mask": torch.cat([prompts, written["attention_mask"]], dim=1),
        "input_ids": torch.cat([prompts, written["input_ids"]], dim=1),
    }
    columns = ("data_source", "reward_model", "extra_info")
    return DataProto(
        batch=TensorDict(tensors, batch_size=len(pairs)),
        non_tensor_batch={
            name: np.array([row[name] for row, _ in pairs], dtype=object) for name in columns
        },
    )


class ToldPolicy(AgentLoopBase):  # type: ignore[misc]  # verl is not there where types are checked
    """Writes the row's responses, one each session."""

    async def run(self, sampling_params: dict[str, Any], **row: Any) -> AgentLoopOutput:
        """Write this rollout's response."""
        written = self.tokenizer.encode(row["told"][row["session_id"]])
        return AgentLoopOutput(
            prompt_ids=[1],
            response_ids=written,
            response_mask=[1] * len(written),
            num_turns=2,
            metrics=AgentLoopMetrics(),
        )
