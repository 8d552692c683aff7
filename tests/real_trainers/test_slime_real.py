"""slime's own reward code, against a running service: its remote reward model, and a custom one.

slime is no package in a registry. This runs where its source is: with torch, aiohttp, sympy and
pylatexenc installed, and a checkout of slime on the path. It was run with the sources of version
0.3.1; tests/client_adapters/test_slime.py has a fake of it that runs everywhere.
"""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from aiohttp import ClientResponseError
from slime.rollout import rm_hub
from slime.rollout.filter_hub.dynamic_sampling_filters import check_reward_nonzero_std
from slime.utils.types import Sample

from medreward_client import NoReward
from tests.support.judge_server import Models, failing_for
from tests.support.process import Service, serving

KEY = "sk-slime"
LABEL = {"reference": "left lower lobe", "question": "Where is it?", "modality": "X_RAY"}
RIGHT = "<X_RAY><thinking>Basal.</thinking><answer>LEFT LOWER LOBE</answer>"
WRONG = "<X_RAY><thinking>Apical.</thinking><answer>right upper lobe</answer>"
LOST = "<X_RAY><thinking>Unclear.</thinking><answer>lost</answer>"
REWARDS = {RIGHT: 0.6625, WRONG: 0.145}


@pytest.fixture(scope="module")
def service() -> Any:
    """A service with a key, whose judge fails for one answer."""
    with Models(failing_for("lost")) as models, serving(models, api_keys=KEY) as service:
        yield service


def args_of(**more: Any) -> SimpleNamespace:
    """The arguments that slime's reward code reads."""
    default = {
        "rm_type": "remote_rm",
        "rm_url": None,
        "custom_rm_path": None,
        "group_rm": False,
        "reward_key": None,
        "eval_reward_key": None,
    }
    return SimpleNamespace(**default | more)


def custom(service: Service, **more: Any) -> SimpleNamespace:
    """The arguments with our function in them, and options from slime's own configuration."""
    options = {"base_url": service.url, "api_key": KEY, "deadline_s": 2.0} | more.pop("options", {})
    named = {f"medreward_{name}": value for name, value in options.items()}
    path = "medreward_client.trainers.slime.custom_rm"
    return args_of(custom_rm_path=path, **named, **more)


def sample_of(response: str, label: Any = LABEL) -> Sample:
    """A sample of slime's, as its engine leaves it."""
    return Sample(
        group_index=3,
        prompt="<|im_start|>user\nWhere is it?<|im_end|>\n<|im_start|>assistant\n",
        response=f"{response}<|im_end|>",
        response_length=4,
        label=label,
        status=Sample.Status.COMPLETED,
    )


def scored(args: SimpleNamespace, *samples: Sample) -> list[Sample]:
    """Let slime score samples, and keep their rewards as its rollout does."""

    async def run() -> list[Any]:
        rewards: list[Any] = await rm_hub.batched_async_rm(args, list(samples))
        if rm_hub._shared_session is not None:  # noqa: SLF001 - it belongs to this loop, which ends
            await rm_hub._shared_session.close()  # noqa: SLF001 - the same
        return rewards

    for sample, reward in zip(samples, asyncio.run(run()), strict=True):
        sample.reward = reward
    return list(samples)


def rewards_of(args: SimpleNamespace, samples: list[Sample]) -> list[float]:
    """The rewards, as slime reads them."""
    return [sample.get_reward_value(args) for sample in samples]


@pytest.mark.parametrize(("query", "key"), [("", None), ("?key=score", "score")])
def test_the_remote_reward_model_is_a_url(service: Service, query: str, key: str | None) -> None:
    """The body is the reward, or an object that holds it; the key stands in the path."""
    args = args_of(rm_url=f"{service.url}/compat/slime/{KEY}{query}", reward_key=key)
    samples = scored(args, sample_of(RIGHT), sample_of(WRONG), sample_of(RIGHT, "left lower lobe"))

    rewards = rewards_of(args, samples)
    assert rewards[:2] == [pytest.approx(REWARDS[RIGHT]), pytest.approx(REWARDS[WRONG])]
    assert check_reward_nonzero_std(args, samples).keep


def test_a_lost_reward_is_asked_for_again_and_then_an_error(service: Service) -> None:
    """A 0 would be trained on."""
    args = args_of(rm_url=f"{service.url}/compat/slime/{KEY}")

    async def twice() -> None:
        try:
            await rm_hub.remote_rm(args, sample_of(LOST), max_retries=2)
        finally:
            await rm_hub._get_shared_session().close()  # noqa: SLF001 - it belongs to this loop

    with pytest.raises(ClientResponseError) as caught:
        asyncio.run(twice())

    assert caught.value.status == 503


def test_zeros_have_to_be_asked_for(service: Service) -> None:
    """And `scored` says which they are."""
    url = f"{service.url}/compat/slime/{KEY}?on_unscored=zero&key=score"
    args = args_of(rm_url=url, reward_key="score")
    (lost,) = scored(args, sample_of(LOST))

    assert (lost.get_reward_value(args), lost.reward["scored"]) == (0.0, 0.0)


def test_a_group_is_scored_by_the_custom_function(service: Service) -> None:
    """What has no reward is removed, and leaves the baseline of the others as it is."""
    args = custom(service, group_rm=True)
    samples = scored(args, sample_of(RIGHT), sample_of(LOST), sample_of(WRONG))

    rewards = torch.tensor(rewards_of(args, samples))
    assert [sample.remove_sample for sample in samples] == [False, True, False]
    assert rewards.mean().item() == pytest.approx((REWARDS[RIGHT] + REWARDS[WRONG]) / 2)
    assert samples[0].metadata["medreward"]["scored"] == 1.0


def test_a_group_without_any_reward_is_dropped_by_slimes_filter(service: Service) -> None:
    """Its numbers are equal, so that dynamic sampling draws another; without it, all is masked."""
    args = custom(service, group_rm=True)
    samples = scored(args, sample_of(LOST), sample_of(LOST))

    assert not check_reward_nonzero_std(args, samples).keep
    assert all(sample.remove_sample for sample in samples)


def test_one_by_one_a_lost_reward_raises(service: Service) -> None:
    """Or has the number that was asked for, out of the loss."""
    with pytest.raises(NoReward):
        asyncio.run(rm_hub.async_rm(custom(service), sample_of(LOST)))

    sample = sample_of(LOST)
    args = custom(service, options={"on_unscored": "impute"})
    reward = asyncio.run(rm_hub.async_rm(args, sample))

    assert 0.0 < reward < 1.0
    assert sample.remove_sample
