"""`on_unscored=zero` under a recipe whose least reward is not 0, through adapters of each kind."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from medreward_client import NoReward, Sample
from medreward_client.scoring import Scorer
from medreward_client.trainers import easyr1, openrlhf, slime, trl, verl
from tests.client.listening import listening
from tests.client_adapters.test_scoring import Broken
from tests.client_adapters.told_service import RIGHT, UNJUDGED, ToldService

Call = Callable[[str, str], Any]
"""Scores a response by the service at an address, with zeros for the unscored."""


def by_easyr1(url: str, response: str) -> Any:
    """A batch, blocking."""
    given = [{"response": response, "response_length": 1, "ground_truth": "left"}]
    return easyr1.compute_score(given, base_url=url, on_unscored="zero")


def by_openrlhf(url: str, response: str) -> Any:
    """A batch whose logs are columns, blocking."""
    return openrlhf.reward_func([response], [""], ["left"], base_url=url, on_unscored="zero")


def by_verl(url: str, response: str) -> Any:
    """One response a call."""
    return asyncio.run(verl.compute_score("", response, "left", base_url=url, on_unscored="zero"))


def by_trl(url: str, response: str) -> Any:
    """A batch whose components are functions of their own."""
    (func,) = trl.make_reward_funcs(["format"], base_url=url, on_unscored="zero")
    return asyncio.run(func(prompts=["Where?"], completions=[response], reference=["left"]))


def by_slime(url: str, response: str) -> Any:
    """A group, with a mean of its own for samples without a reward."""
    options = {"medreward_base_url": url, "medreward_on_unscored": "zero"}
    args = SimpleNamespace(group_rm=True, reward_key=None, eval_reward_key=None, **options)
    sample = SimpleNamespace(response=response, label="left", group_index=1, metadata={})
    return asyncio.run(slime.custom_rm(args, [sample]))


KINDS = [by_easyr1, by_openrlhf, by_verl, by_trl, by_slime]


@pytest.mark.parametrize("call", KINDS)
@pytest.mark.parametrize("response", [RIGHT, UNJUDGED])
@pytest.mark.parametrize("of_recipe", [(-2.0, 1.0), (0.5, 1.0)])
def test_a_failure_is_not_paid_by_a_recipe_that_goes_below_zero(
    service: ToldService, call: Call, response: str, of_recipe: tuple[float, float]
) -> None:
    """The first reply ends the run, even if nothing in it failed, and says what to choose."""
    service.range = of_recipe

    with pytest.raises(ValueError, match=r"rewards go from .* to 1.*native, raise or impute"):
        call(service.url, response)


@pytest.mark.parametrize("call", KINDS)
def test_zero_is_given_if_it_is_the_least(service: ToldService, call: Call) -> None:
    """Whatever the greatest reward of the recipe is."""
    service.range = (0.0, 3.0)

    call(service.url, UNJUDGED)


def test_before_the_first_reply_no_failure_is_a_zero() -> None:
    """Nobody knows the recipe's range, so the first step of a service that is away is lost."""
    with listening(Broken) as url, pytest.raises(NoReward, match="1 of 1 samples"):
        Scorer(base_url=url, on_unscored="zero").score_blocking([Sample(RIGHT, "left")])
