"""SkyRL's environment, made by the real `skyrl_gym.make` where skyrl-gym is installed.

Elsewhere `make` below is a fake, built from its contract: it wants a subclass of its `Env`, calls
it with `env_config`, `extras` and the registered keywords, and asks for its metrics.
"""

import importlib.util
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

import pytest

from medreward_client import NoReward
from tests.client_adapters.told_service import RIGHT, UNJUDGED, WRONG, ToldService

ENTRY_POINT = "medreward_client.trainers.skyrl:RewardEnv"
ROW = {
    "reward_spec": {"method": "rule", "ground_truth": "left lower lobe"},
    "extra_info": {"question": "Which lobe?", "modality": "X_RAY"},
    "max_turns": 1,
}


class BaseTextEnv:
    """The fake of SkyRL's base class."""

    def init(self, prompt: Any) -> Any:
        """Return the prompt unchanged."""
        return prompt, {}

    def close(self) -> None:
        """Do nothing."""


@pytest.fixture
def make(service: ToldService, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make an environment of a row, as SkyRL's generator does for each response."""
    if importlib.util.find_spec("skyrl_gym"):
        gym = importlib.import_module("skyrl_gym")
        monkeypatch.setattr(gym.envs.registration, "registry", {})
        gym.register(id="medreward", entry_point=ENTRY_POINT, kwargs={"base_url": service.url})
        return lambda **row: gym.make("medreward", env_config={}, extras=ROW | row)

    fake = ModuleType("skyrl_gym.envs.base_text_env")
    vars(fake)["BaseTextEnv"] = BaseTextEnv
    for name in ("skyrl_gym", "skyrl_gym.envs"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, fake.__name__, fake)

    def make(**row: Any) -> Any:
        module, _, name = ENTRY_POINT.partition(":")
        env_class = getattr(importlib.import_module(module), name)
        assert issubclass(env_class, BaseTextEnv)
        return env_class(env_config={}, extras=ROW | row, base_url=service.url)

    return make


def test_an_episode_is_one_response_and_its_reward(make: Any, service: ToldService) -> None:
    """The prompt goes to the policy as it is; the reward comes with the end."""
    env = make()
    prompt = [{"role": "user", "content": "Which lobe?"}]

    assert env.init(prompt) == (prompt, {})
    assert env.step(RIGHT) == {"observations": [], "reward": 1.0, "done": True, "metadata": {}}
    env.close()
    asked = service.samples[0]
    assert (asked["reference"], asked["question"]) == ("left lower lobe", "Which lobe?")


def test_the_components_are_the_environments_metrics(make: Any) -> None:
    """SkyRL averages them over the episodes that have them; there is none before the end."""
    env = make()

    assert env.get_metrics() == {}
    env.step(WRONG)
    assert env.get_metrics() == {
        "accuracy_llm": 0.0,
        "accuracy_embed": 0.0,
        "modality": 1.0,
        "format": 1.0,
        "scored": 1.0,
    }


def test_a_response_without_a_reward_raises(make: Any) -> None:
    """SkyRL cannot leave a response out, and a 0 would pass for a verdict."""
    with pytest.raises(NoReward):
        make().step(UNJUDGED)


def test_many_threads_step_at_once(make: Any) -> None:
    """SkyRL steps its environments in 32 threads."""
    responses = [RIGHT, WRONG] * 16
    with ThreadPoolExecutor(32) as threads:
        steps = list(threads.map(lambda one: make().step(one), responses))

    assert [one["reward"] for one in steps] == [1.0, 0.145] * 16


def test_a_column_speaks_where_extra_info_is_silent(make: Any, service: ToldService) -> None:
    """Parquet gives a field that only other rows have as None."""
    make(question="Which?", extra_info={"question": None, "modality": "X_RAY"}).step(RIGHT)

    (asked,) = service.samples
    assert (asked["question"], asked["modality"]) == ("Which?", "X_RAY")


def test_a_row_without_a_reference_is_the_services_to_judge(
    make: Any, service: ToldService
) -> None:
    """It says `invalid_reference`; SkyRL would print the row with an error of the constructor."""
    make(reward_spec=None).step(RIGHT)

    assert service.samples[0]["reference"] == ""


def test_the_module_is_imported_without_skyrl_gym() -> None:
    """Its base class is looked for when the environment is, and nothing else is there to take."""
    code = (
        "import sys; import medreward_client.trainers.skyrl as it;"
        "assert not hasattr(it, 'Env');"
        "sys.exit('skyrl_gym' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0  # noqa: S603
