"""The samplers, by the names that the configuration has for them."""

from collections.abc import Callable, Mapping

from medreward_trainer.config.config import Config
from medreward_trainer.rollouts.generate import GeneratingSampler
from medreward_trainer.rollouts.rollout import Sampler
from medreward_trainer.update.policy import Policy


def generating(policy: Policy, config: Config) -> Sampler:
    """Make a sampler that calls `generate` of the policy itself."""
    return GeneratingSampler(
        policy,
        config.actor_rollout_ref.rollout,
        max_response_length=config.data.max_response_length,
    )


def vllm(policy: Policy, config: Config) -> Sampler:
    """Make a sampler with an engine of vLLM; the import is here, since vLLM is optional."""
    from medreward_trainer.rollouts.vllm_engine import VLLMSampler  # noqa: PLC0415 - as above

    return VLLMSampler(policy, config)


SAMPLERS: Mapping[str, Callable[[Policy, Config], Sampler]] = {"hf": generating, "vllm": vllm}


def make_sampler(policy: Policy, config: Config) -> Sampler:
    """Make the sampler that the configuration names."""
    return SAMPLERS[config.actor_rollout_ref.rollout.name](policy, config)
