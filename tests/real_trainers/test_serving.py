"""What the trainers' tests stand on: a service that can fail for chosen answers, and be killed."""

from collections.abc import Iterator

import pytest

from medreward_client import RewardClient, Sample
from tests.support.judge_server import Models, equal_is_yes, failing_for
from tests.support.process import Service, serving

ANSWERS = ["Left lobe", "right lobe", "both lobes", "no lobe"]
SAMPLES = [Sample(f"<answer>{answer}</answer>", "left lobe") for answer in ANSWERS]


@pytest.fixture(scope="module")
def models() -> Iterator[Models]:
    """A stand-in for judge and embedder."""
    with Models() as models:
        yield models


@pytest.fixture(scope="module")
def service(models: Models) -> Iterator[Service]:
    """One service for both tests: a start costs seconds, and each test leaves it running."""
    with serving(models) as service:
        yield service


def test_chosen_answers_have_no_reward(models: Models, service: Service) -> None:
    """An answer for which the judge fails is unscored, and its neighbours keep their rewards."""
    models.rule = failing_for("right lobe")
    with RewardClient(service.url) as client:
        rewards = client.reward(SAMPLES).rewards

    assert [reward is None for reward in rewards] == [False, True, False, False]


def test_a_killed_service_comes_back_at_its_address(models: Models, service: Service) -> None:
    """What was killed can be started again, and answers where it did."""
    models.rule = equal_is_yes
    service.kill()
    service.start()

    with RewardClient(service.url) as client:
        assert None not in client.reward(SAMPLES).rewards
