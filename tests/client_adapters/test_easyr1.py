"""EasyR1's reward function, loaded and called as its managers do.

EasyR1 is no package of PyPI, so this follows its contract, read in its source; tests/real_trainers
drives the real manager where its source tree is at hand.
"""

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from medreward_client import NoReward
from medreward_client.trainers import easyr1
from tests.client_adapters.told_service import RIGHT, UNJUDGED, WRONG, ToldService

KEYS_OF_MEDICAL_PY = {"overall", "format", "accuracy_llm", "accuracy_embed", "modality"}
REFERENCE = "<X_RAY>left lower lobe"


@pytest.fixture
def loaded(load: Callable[[ModuleType, str], ModuleType]) -> ModuleType:
    """The module as EasyR1 has it: from its file, under EasyR1's name."""
    return load(easyr1, "custom_reward_fn")


@pytest.fixture
def compute_score(
    loaded: ModuleType, service: ToldService
) -> Callable[..., list[dict[str, float]]]:
    """The function, with responses for short."""

    def compute_score(*responses: str, **options: Any) -> list[dict[str, float]]:
        batch = [
            {"response": one, "response_length": len(one), "ground_truth": REFERENCE}
            for one in responses
        ]
        scores: list[dict[str, float]] = loaded.compute_score(
            batch, base_url=service.url, **options
        )
        return scores

    return compute_score


Compute = Callable[..., list[dict[str, float]]]


def test_easyr1_finds_how_to_call_it(loaded: ModuleType) -> None:
    """It is read from the module: whole batches."""
    assert (loaded.REWARD_NAME, loaded.REWARD_TYPE) == ("medreward", "batch")


def test_it_is_a_drop_in_for_medical_py(compute_score: Compute) -> None:
    """The same keys, so the same curves, and `scored`; floats only, in the order of the batch."""
    scores = compute_score(RIGHT, WRONG, RIGHT)

    assert [one["overall"] for one in scores] == [1.0, 0.145, 1.0]
    assert all(one.keys() == KEYS_OF_MEDICAL_PY | {"scored"} for one in scores)
    assert all(type(value) is float for one in scores for value in one.values())


def test_a_batch_is_one_request_with_references_whole(
    compute_score: Compute, service: ToldService
) -> None:
    """The service takes the tag and the reference apart."""
    compute_score(RIGHT, WRONG)

    assert [len(body["samples"]) for body in service.bodies] == [2]
    assert service.samples[0]["reference"] == REFERENCE


def test_a_response_without_a_reward_stops_the_step(compute_score: Compute) -> None:
    """EasyR1 has no way to leave a response out."""
    with pytest.raises(NoReward):
        compute_score(RIGHT, UNJUDGED)


def test_with_online_filtering_its_group_is_dropped(compute_score: Compute) -> None:
    """Whatever the filter's key and bounds, the mean of a group with NaN is not between them."""
    failed, right = compute_score(UNJUDGED, RIGHT, online_filtering=True)

    assert failed.pop("scored") == 0.0
    assert all(math.isnan(value) for value in failed.values())
    assert failed.keys() == right.keys() - {"scored"}  # the filter reads one value for each sample
    assert right["overall"] == 1.0


def test_a_run_may_choose_zero_or_impute(compute_score: Compute) -> None:
    """An imputed reward is marked; a missing component is left out."""
    zeroed, _ = compute_score(UNJUDGED, RIGHT, on_unscored="zero")
    imputed, _ = compute_score(UNJUDGED, RIGHT, on_unscored="impute")

    assert (zeroed["overall"], zeroed["scored"]) == (0.0, 0.0)
    assert imputed["scored"] == 0.0
    assert 0.0 < imputed["overall"] <= 1.0
    assert "accuracy_llm" not in zeroed
