"""What ROLL's reward worker does with a batch.

ROLL is not installed here: `RollBatch` is a fake of its `DataProto`, built from the contract in
its source, and the tokenizer another.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

from medreward_client import NoReward
from medreward_client.trainers.roll import compute_rewards
from tests.client_adapters.told_service import RIGHT, UNJUDGED, WRONG, ToldService

RESPONSES = [RIGHT, WRONG, UNJUDGED]


@dataclass
class RollBatch:
    """Token numbers and columns by name, each with one entry a response."""

    batch: dict[str, torch.Tensor]
    non_tensor_batch: dict[str, Any]
    meta_info: dict[str, Any] = field(default_factory=dict)


class Decoder:
    """A tokenizer whose first token names the response, and to which each of its tags is special."""

    eos_token_id, pad_token_id = 7, 8

    def decode(self, tokens: list[int], *, skip_special_tokens: bool) -> str:
        """Keep the tags, which a decoding without special tokens would leave out."""
        assert not skip_special_tokens
        (token,) = tokens
        return RESPONSES[token] + "<|im_end|>\n"


def batch(*responses: str, **columns: list[Any]) -> RollBatch:
    """Make a batch of responses, as ROLL hands it to a reward worker."""
    numbers = torch.tensor([[RESPONSES.index(one), 7, 8] for one in responses])
    named = {"ground_truth": ["left lower lobe"] * len(responses)} | columns
    arrays = {name: np.array(column, dtype=object) for name, column in named.items()}
    return RollBatch({"responses": numbers}, arrays, {"global_step": 3})


def test_tensors_are_those_of_rolls_own_workers(service: ToldService) -> None:
    """One score a response, as half floats, and nothing for single tokens."""
    tensors, _ = compute_rewards(batch(RIGHT, WRONG), Decoder(), base_url=service.url)

    assert tensors.keys() == {"token_level_rewards", "response_level_rewards", "scores"}
    assert all(tensor.dtype == torch.float16 for tensor in tensors.values())
    assert tensors["token_level_rewards"].shape == (2, 3)
    assert not tensors["token_level_rewards"].any()
    for name in ("response_level_rewards", "scores"):
        assert tensors[name].tolist() == pytest.approx([1.0, 0.145], abs=1e-3)


def test_metrics_are_means_over_those_that_have_the_component(service: ToldService) -> None:
    """A text-only task has no modality, and does not lower the mean."""
    data = batch(RIGHT, WRONG, modality=["X_RAY", None])
    _, metrics = compute_rewards(data, Decoder(), base_url=service.url)

    assert metrics == {
        "reward/accuracy_embed": 0.5,
        "reward/accuracy_llm": 0.5,
        "reward/format": 1.0,
        "reward/modality": 1.0,
        "reward/scored": 1.0,
    }


def test_a_batch_is_one_request_with_its_step(service: ToldService) -> None:
    """Columns of the data set that say something of the sample go along."""
    data = batch(RIGHT, WRONG, question=["Which lobe?", None])
    compute_rewards(data, Decoder(), base_url=service.url, run_id="medix")

    (body,) = service.bodies
    assert body["run"] == {"id": "medix", "step": 3}
    assert [one.get("question") for one in body["samples"]] == ["Which lobe?", None]


def test_a_response_without_a_reward_raises(service: ToldService) -> None:
    """ROLL has no way to leave a response out."""
    with pytest.raises(NoReward):
        compute_rewards(batch(RIGHT, UNJUDGED), Decoder(), base_url=service.url)
