"""Which samplers there are."""

from collections.abc import Callable, Mapping

from medreward_trainer.config.config import Config
from medreward_trainer.rollouts.generate import GeneratingSampler
from medreward_trainer.rollouts.rollout import Sampler
from medreward_trainer.update.policy import Policy


def generating(policy: Policy, config: Config) -> Sampler:
    """`generate` of the policy itself."""
    return GeneratingSampler(
        policy,
        config.actor_rollout_ref.rollout,
        max_response_length=config.data.max_response_length,
    )


def vllm(policy: Policy, config: Config) -> Sampler:
    """An engine of vLLM in this process; imported only here, since few have it."""
    from medreward_trainer.rollouts.vllm_engine import VLLMSampler  # noqa: PLC0415 - as above

    return VLLMSampler(policy, config)


SAMPLERS: Mapping[str, Callable[[Policy, Config], Sampler]] = {"hf": generating, "vllm": vllm}


def make_sampler(policy: Policy, config: Config) -> Sampler:
    """Make the sampler that the configuration names."""
    return SAMPLERS[config.actor_rollout_ref.rollout.name](policy, config)
