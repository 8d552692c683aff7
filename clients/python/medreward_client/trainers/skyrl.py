"""SkyRL's environment of one turn, whose reward is that of the response.

    register(id="medreward", entry_point="medreward_client.trainers.skyrl:RewardEnv",
             kwargs={"base_url": "http://localhost:8080"})

`skyrl_gym.make` accepts only subclasses of its own `Env`. So `RewardEnv` is built on first access,
and this module can be imported without skyrl_gym.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, Unpack

from medreward_client.scoring import Options, one_by_one, scorer
from medreward_client.trainers._rows import read_sample
from medreward_client.trainers._signals import figures_of


class _Scoring:
    """The methods that RewardEnv adds to SkyRL's `BaseTextEnv`."""

    def __init__(
        self,
        env_config: object = None,  # noqa: ARG002 - SkyRL passes one to every environment
        extras: Mapping[str, Any] | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__()
        # Not checked here: with a TypeError, skyrl_gym prints its arguments, and so the row.
        self._row = extras or {}
        self._options = options
        self._metrics: dict[str, float] = {}

    def step(self, action: str) -> dict[str, Any]:
        """Score the response, which ends the episode.

        The reference is the row's `reward_spec.ground_truth`; `question` and `modality` are
        columns of the row, or fields of its `extra_info`.

        Raises:
            NoReward: the sample is unscored; SkyRL has no channel for a missing reward.
        """
        truth = (self._row.get("reward_spec") or {}).get("ground_truth")
        sample = read_sample(action, truth, self._row.get("extra_info") or {}, self._row)
        service = scorer(**self._options)
        (outcome,) = service.score_blocking([sample], ungrouped=one_by_one("SkyRL"))
        self._metrics = figures_of(outcome)
        return {"observations": [], "reward": outcome.number, "done": True, "metadata": {}}

    def get_metrics(self) -> dict[str, float]:
        """Return the components, and `scored`; SkyRL averages each over the episodes that have it."""
        return self._metrics


@cache
def _build_env() -> type:
    from skyrl_gym.envs.base_text_env import BaseTextEnv  # noqa: PLC0415 - see the module docstring

    return type("RewardEnv", (_Scoring, BaseTextEnv), {"__module__": __name__})


def __getattr__(name: str) -> type:
    """Build RewardEnv on first access."""
    if name != "RewardEnv":
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return _build_env()
