"""OpenRLHF's function file, loaded and called as it does; tests/real_trainers has its own code call it."""

import asyncio
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from dirty_equals import IsPartialDict

from medreward.http.compat import texts
from medreward.recipes.recipe import SIGNALS
from medreward_client import NoReward
from medreward_client.trainers import _texts, openrlhf
from medreward_client.trainers._signals import COMPONENTS
from tests.client_adapters.told_service import RIGHT, UNJUDGED, WRONG, ToldService

PROMPT = "<|im_start|>user\nWhich lobe?<|im_end|>\n<|im_start|>assistant\n"
LABEL = "left lower lobe"

RewardFunc = Callable[..., dict[str, Any]]


@pytest.fixture
def reward_func(service: ToldService, load: Callable[[ModuleType, str], ModuleType]) -> RewardFunc:
    """The function, loaded from its file without a package, as OpenRLHF does."""
    return partial(load(openrlhf, "reward_func").reward_func, base_url=service.url)


def asked(*responses: str, label: object = LABEL) -> tuple[list[str], list[str], list[object]]:
    """Queries, prompts and labels, as OpenRLHF passes them."""
    queries = [f"{PROMPT}{response}<|im_end|>" for response in responses]
    return queries, [PROMPT] * len(responses), [label] * len(responses)


def test_one_query_gets_numbers(service: ToldService, reward_func: RewardFunc) -> None:
    """That is what OpenRLHF asks for, from a thread for each rollout; the end token is cut off."""
    reply = reward_func(*asked(WRONG))

    assert (reply["rewards"], reply["scores"]) == (0.145, 0.145)
    assert [sample["response"] for sample in service.samples] == [WRONG]


def test_several_get_lists(service: ToldService, reward_func: RewardFunc) -> None:
    """One of each, in order."""
    reply = reward_func(*asked(RIGHT, WRONG))

    assert reply["rewards"] == [1.0, 0.145]
    assert reply["extra_logs"]["scored"] == [1.0, 1.0]


def test_scores_are_mapped_to_the_unit_range(service: ToldService, reward_func: RewardFunc) -> None:
    """OpenRLHF filters groups by them; the rewards that it trains on stay as they are."""
    service.range = (-1.0, 1.0)

    one, both = reward_func(*asked(WRONG)), reward_func(*asked(RIGHT, WRONG))

    assert (one["rewards"], one["scores"]) == (0.145, pytest.approx(0.5725))
    assert both["scores"] == [1.0, pytest.approx(0.5725)]


def test_the_logs_have_the_same_names_for_every_sample(
    service: ToldService, reward_func: RewardFunc
) -> None:
    """With a modality or without, scored or not: OpenRLHF stacks them, and they are numbers."""
    imputing = partial(reward_func, on_unscored="zero")
    logs = [
        imputing(*asked(RIGHT))["extra_logs"],
        imputing(*asked(RIGHT, label=f"<X_RAY>{LABEL}"))["extra_logs"],
        imputing(*asked(UNJUDGED))["extra_logs"],
    ]

    assert {tuple(log) for log in logs} == {("scored", *SIGNALS)}
    assert all(isinstance(value, float) for log in logs for value in log.values())
    assert [log["scored"] for log in logs] == [1.0, 1.0, 0.0]


def test_a_label_may_say_more_than_the_reference(
    service: ToldService, reward_func: RewardFunc
) -> None:
    """Question and modality, as JSON; the prompt is not shown to the judge."""
    label = json.dumps({"reference": LABEL, "question": "Which lobe?", "modality": "X_RAY"})
    reward_func(*asked(RIGHT, label=label))

    (sample,) = service.samples
    assert sample == IsPartialDict(
        response=RIGHT, reference=LABEL, question="Which lobe?", modality="X_RAY"
    )


@pytest.mark.parametrize("label", [{"modality": "X_RAY"}, object()])
def test_a_label_without_a_reference_is_told_by_its_type(
    service: ToldService, reward_func: RewardFunc, label: object
) -> None:
    """It is a mistake in the data set, found at the first sample."""
    with pytest.raises(TypeError, match=r"label is an object|ground truth is a"):
        reward_func(*asked(RIGHT, label=label))


def test_a_sample_without_a_reward_raises(service: ToldService, reward_func: RewardFunc) -> None:
    """OpenRLHF has no word for it, and a 0 would be trained on."""
    with pytest.raises(NoReward):
        reward_func(*asked(UNJUDGED))


def test_zero_has_to_be_asked_for(service: ToldService, reward_func: RewardFunc) -> None:
    """And is marked as none of the service's."""
    reply = reward_func(*asked(UNJUDGED), on_unscored="zero")

    assert (reply["rewards"], reply["extra_logs"]["scored"]) == (0.0, 0.0)


def test_many_threads_ask_at_once(service: ToldService, reward_func: RewardFunc) -> None:
    """OpenRLHF has a thread for each rollout; their samples travel together."""

    async def rollouts() -> list[dict[str, Any]]:
        threads = (asyncio.to_thread(reward_func, *asked(WRONG)) for _ in range(40))
        return await asyncio.gather(*threads)

    replies = asyncio.run(rollouts())

    assert [reply["rewards"] for reply in replies] == [0.145] * 40
    assert len(service.bodies) < len(service.samples) == 40


def test_a_query_without_its_prompt_is_not_guessed_at(
    service: ToldService, reward_func: RewardFunc
) -> None:
    """The message holds nothing of either."""
    with pytest.raises(ValueError, match="does not begin with its prompt") as caught:
        reward_func([RIGHT], [PROMPT], [LABEL])

    assert "lobe" not in str(caught.value)


def test_the_response_is_found_as_the_service_finds_it() -> None:
    """The client and the service hold copies of the same code."""
    ours, theirs = (Path(module.__file__ or "").read_text("utf-8") for module in (_texts, texts))

    assert ours == theirs


def test_every_signal_is_logged() -> None:
    """Those that a recipe can have."""
    assert COMPONENTS == SIGNALS
