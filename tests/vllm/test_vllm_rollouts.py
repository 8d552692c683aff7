"""Rollouts of the bundled trainer by vLLM: those of the policy, after each update too."""

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from medreward_trainer.config.config import Config, Sampling
from medreward_trainer.config.files import load_config
from medreward_trainer.data.examples import Example
from medreward_trainer.data.prompts import Prompt
from medreward_trainer.rollouts.rollout import Sampler
from medreward_trainer.rollouts.samplers import make_sampler
from medreward_trainer.update.policy import Policy
from tests.conftest import RealEngines

# The engine is in this process, and so is what it and torch warn of.
pytestmark = pytest.mark.filterwarnings("ignore")

GREEDY = Sampling(temperature=0.0)
QUESTIONS = ("Which organ makes insulin?", "What is the capital of France?")


@pytest.fixture(scope="module")
def config(language_model: RealEngines) -> Config:
    """SmolLM2 in float32, as a CPU has it."""
    return load_config(
        "smollm2_format",
        [
            f"actor_rollout_ref.model.path={Path.home() / '.cache/medreward/models/smollm2-135m-instruct'}",
            "actor_rollout_ref.rollout.name=vllm",
            "actor_rollout_ref.rollout.enforce_eager=true",
            "data.max_response_length=12",
        ],
    )


@pytest.fixture(scope="module")
def policy(config: Config) -> Policy:
    """The policy in training."""
    return Policy.load(config, Accelerator(cpu=True), saved=None)


@pytest.fixture(scope="module")
def prompts(policy: Policy) -> list[Prompt]:
    """Two prompts."""
    return [policy.prompter.prompt(Example(f"q:{q}", q, "?", None)) for q in QUESTIONS]


@pytest.fixture(scope="module")
def engine(policy: Policy, config: Config) -> Sampler:
    """vLLM, in this process."""
    return make_sampler(policy, config)


def drawn(sampler: Sampler, prompts: list[Prompt]) -> dict[str, str]:
    """Each prompt's greedy response."""
    groups = sampler.groups(prompts, n=1, how=GREEDY)
    return {group.prompt.example.uid: group.rollouts[0].text for group in groups}


def by_generate(policy: Policy, config: Config, prompts: list[Prompt]) -> dict[str, str]:
    """The same by transformers."""
    rollout = config.actor_rollout_ref.rollout.model_copy(update={"name": "hf"})
    plain = config.actor_rollout_ref.model_copy(update={"rollout": rollout})
    return drawn(
        make_sampler(policy, config.model_copy(update={"actor_rollout_ref": plain})), prompts
    )


def test_an_engine_says_what_the_policy_says_before_and_after_an_update(
    engine: Sampler, policy: Policy, config: Config, prompts: list[Prompt]
) -> None:
    """Its weights are the policy's once it has taken them, and not before."""
    before = drawn(engine, prompts)
    assert before == by_generate(policy, config, prompts)

    torch.manual_seed(0)
    with torch.no_grad():
        for weight in policy.trained:
            weight.add_(0.02 * torch.randn_like(weight))
    assert drawn(engine, prompts) == before

    engine.take_weights()
    after = drawn(engine, prompts)
    assert after != before
    assert after == by_generate(policy, config, prompts)


def test_a_group_is_whole_and_its_samples_differ(engine: Sampler, prompts: list[Prompt]) -> None:
    """Drawn with a temperature, and within the longest response."""
    groups = list(engine.groups(prompts, n=4, how=Sampling(temperature=1.0)))

    assert {group.prompt.example.uid for group in groups} == {p.example.uid for p in prompts}
    for group in groups:
        assert len({rollout.tokens for rollout in group.rollouts}) > 1
        assert all(0 < len(rollout.tokens) <= 12 for rollout in group.rollouts)


def test_the_same_random_numbers_draw_the_same_group(
    engine: Sampler, prompts: list[Prompt]
) -> None:
    """So that a resumed run draws what the former would have drawn."""
    drawings = []
    for _ in range(2):
        torch.manual_seed(5)
        groups = engine.groups(prompts[:1], n=3, how=Sampling(temperature=1.0))
        drawings.append([rollout.tokens for group in groups for rollout in group.rollouts])

    assert drawings[0] == drawings[1]
