"""The samplers, by the names that the configuration has for them."""

from medreward_trainer.config.config import Config
from medreward_trainer.rollouts.generate import GeneratingSampler
from medreward_trainer.rollouts.rollout import Sampler
from medreward_trainer.update.policy import Policy


def make_sampler(policy: Policy, config: Config) -> Sampler:
    """Make the sampler that the configuration names."""
    if config.actor_rollout_ref.rollout.name == "hf":
        return GeneratingSampler(policy, config)
    from medreward_trainer.rollouts.vllm_engine import VLLMSampler  # noqa: PLC0415 - an extra

    return VLLMSampler(policy, config)
