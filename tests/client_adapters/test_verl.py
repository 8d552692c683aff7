"""The reward function of verl, called as verl 0.9.1 calls it; tests/real_trainers drives the real one."""

import asyncio
import logging
import pickle
from inspect import iscoroutinefunction
from typing import Any

import pytest

from medreward_client import NoReward
from medreward_client.trainers._signals import COMPONENTS
from medreward_client.trainers.verl import compute_score
from tests.client_adapters.told_service import RIGHT, UNJUDGED, WRONG, ToldService

pytestmark = pytest.mark.anyio

KEYS = {"score", "scored", *COMPONENTS}
"""Without `acc`, which verl's validation fills with zeros for whatever has no reward."""


async def score(service: ToldService, response: str, **given: Any) -> dict[str, float | None]:
    """Score as verl does: by keyword, the configured options among the rest."""
    call: dict[str, Any] = {
        "data_source": "slake",
        "solution_str": response,
        "ground_truth": "left lower lobe",
        "extra_info": {},
        "base_url": service.url,
    }
    return await compute_score(**call | given)


def test_verl_sees_that_it_is_asynchronous() -> None:
    """It asks `iscoroutinefunction`; otherwise it would take the coroutine for the score."""
    assert iscoroutinefunction(compute_score)


async def test_a_response_has_its_score_and_the_components(service: ToldService) -> None:
    """Everything is a number, under the same names."""
    assert await score(service, RIGHT, ground_truth="<X_RAY>left lower lobe") == {
        "score": 1.0,
        "scored": 1.0,
        "accuracy_llm": 1.0,
        "accuracy_embed": 1.0,
        "modality": 1.0,
        "format": 1.0,
    }


async def test_the_keys_are_the_same_whatever_a_sample_has(service: ToldService) -> None:
    """The first sample's keys are read from all; a missing component is None, which verl skips."""
    tagged = await score(service, RIGHT, extra_info={"modality": "X_RAY"})
    text_only = await score(service, WRONG)

    assert tagged.keys() == text_only.keys() == KEYS
    assert (tagged["modality"], text_only["modality"]) == (1.0, None)


async def test_a_response_without_a_reward_raises(service: ToldService) -> None:
    """The V1 trainer leaves a response out of its group if its reward function raises."""
    with pytest.raises(NoReward, match="judge_timeout") as caught:
        await score(service, UNJUDGED)

    assert caught.value.counts == {"judge_timeout": 1}


async def test_the_error_survives_the_way_between_rays_processes(service: ToldService) -> None:
    """Ray pickles what an actor raises; and no text of the sample goes with it."""
    with pytest.raises(NoReward) as caught:
        await score(service, UNJUDGED, ground_truth="Mrs Roe's left lower lobe")

    sent = pickle.dumps(caught.value)
    again = pickle.loads(sent)  # noqa: S301 - our own
    assert (str(again), again.counts) == (str(caught.value), caught.value.counts)
    assert b"Mrs Roe" not in sent


async def test_one_failure_among_many_calls_is_one_failure(service: ToldService) -> None:
    """All of a step are asked at once, and each has its own answer."""
    responses = [RIGHT, UNJUDGED, WRONG, RIGHT] * 4
    results = await asyncio.gather(*(score(service, r) for r in responses), return_exceptions=True)

    assert [type(one) if isinstance(one, NoReward) else one["score"] for one in results] == [  # type: ignore[index]
        1.0,
        NoReward,
        0.145,
        1.0,
    ] * 4


async def test_question_and_modality_come_from_extra_info(service: ToldService) -> None:
    """Neither prompt nor image is passed; what a row has not is not made up."""
    about = {"question": "Which lobe?", "modality": "X_RAY", "index": 17}
    await score(service, RIGHT, extra_info=about)
    await score(service, RIGHT, extra_info={"question": None, "modality": float("nan")})

    asked = [(sample["question"], sample["modality"]) for sample in service.samples]
    assert asked == [("Which lobe?", "X_RAY"), (None, None)]


async def test_what_verl_adds_to_the_call_is_left_alone(service: ToldService) -> None:
    """With a reward model of its own, verl passes its address and tokenizer."""
    added = {"reward_router_address": "10.0.0.1:8000", "reward_model_tokenizer": object()}

    assert (await score(service, RIGHT, **added))["score"] == 1.0


async def test_a_misspelt_option_is_refused(service: ToldService) -> None:
    """It would otherwise be a silent default for a whole run."""
    with pytest.raises(TypeError, match="on_unscord is no option; did you mean on_unscored"):
        await score(service, RIGHT, on_unscord="zero")


async def test_a_name_like_none_of_ours_is_ignored_aloud(
    service: ToldService, caplog: pytest.LogCaptureFixture
) -> None:
    """It may be what the next verl passes; the log says so once, without its value."""
    with caplog.at_level(logging.WARNING):
        await score(service, RIGHT, gen_tokenizer="secret")
        await score(service, WRONG, gen_tokenizer="secret")

    assert [r.getMessage() for r in caplog.records if r.name.endswith(".verl")] == [
        "gen_tokenizer is no option of medreward's, and is ignored"
    ]


async def test_a_run_without_a_channel_may_choose_zero_or_impute(service: ToldService) -> None:
    """The legacy trainer stops at an exception; an imputed reward is marked."""
    zeroed = await score(service, UNJUDGED, on_unscored="zero")
    imputed = await score(service, UNJUDGED, on_unscored="impute")

    assert (zeroed["score"], zeroed["scored"], zeroed["accuracy_llm"]) == (0.0, 0.0, None)
    assert imputed["score"] == pytest.approx(0.5)
    assert imputed["scored"] == 0.0
    assert zeroed.keys() == imputed.keys() == KEYS
