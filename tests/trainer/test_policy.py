"""The policy: its log-probabilities, its adapter, its learning rate."""

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from hypothesis import given
from hypothesis import strategies as st

from medreward_trainer.config.config import Config, Optim, Sampling
from medreward_trainer.config.files import load_config
from medreward_trainer.data.examples import Example
from medreward_trainer.data.prompts import Prompt
from medreward_trainer.rollouts.generate import GeneratingSampler
from medreward_trainer.rollouts.rollout import read_rollout
from medreward_trainer.update.batches import sequence_batch
from medreward_trainer.update.policy import Policy, chosen_of, entropy_of, make_schedule
from medreward_trainer.update.updater import log_probs_of_rows

# peft asks transformers for an attribute under its former name.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"
)
GREEDY = Sampling(temperature=0.0)


def made(*overrides: str) -> tuple[Policy, Config]:
    """A tiny policy."""
    config = load_config("smoke", overrides)
    return Policy.load(config, Accelerator(cpu=True), saved=None), config


def prompts_of(policy: Policy, *texts: str) -> list[Prompt]:
    """Make a prompt of each text."""
    return [policy.prompter.prompt(Example("a:1", text, "b", None)) for text in texts]


def test_tags_that_are_special_tokens_reach_the_reward() -> None:
    """Only the end, the beginning and padding are left out of a response's text."""
    policy, _ = made()
    tokenizer = policy.tokenizer
    tokenizer.add_special_tokens({"additional_special_tokens": ["<answer>", "</answer>"]})
    tokens = tokenizer("<answer>ab</answer>", add_special_tokens=False)["input_ids"]

    ended = read_rollout([*tokens, tokenizer.eos_token_id, tokenizer.pad_token_id], policy)
    cut = read_rollout(tokens, policy)

    assert ended.text.replace(" ", "") == cut.text.replace(" ", "") == "<answer>ab</answer>"
    assert ended.tokens == (*tokens, tokenizer.eos_token_id)
    assert (ended.is_cut, cut.is_cut) == (False, True)


def test_the_log_probability_is_that_of_the_softmax() -> None:
    """Logits of 0 and log 3 give a quarter and three quarters."""
    logits_BTV = torch.tensor([[[0.0, 3.0]]]).log1p()  # log 1 and log 4
    logs_BTV = logits_BTV.log_softmax(dim=-1)

    assert chosen_of(logs_BTV, torch.tensor([[1]])).exp().item() == pytest.approx(0.8)
    expected = -(0.8 * torch.tensor(0.8).log() + 0.2 * torch.tensor(0.2).log()).item()
    assert entropy_of(logs_BTV).item() == pytest.approx(expected)


def test_the_temperature_of_the_rollouts_is_that_of_the_log_probabilities() -> None:
    """A policy that draws at 2.0 is measured at 2.0, as in verl."""
    warm, _ = made("actor_rollout_ref.rollout.temperature=2.0")
    plain, _ = made()
    batch = sequence_batch(prompts_of(plain, "ab"), [(5, 6, 7)], plain.prompter)

    logits = plain.bare_model(**batch.inputs).logits[:, -4:-1]

    assert torch.allclose(
        warm.log_probs(batch)[0],
        (logits / 2.0).log_softmax(-1).gather(-1, batch.responses_BT.unsqueeze(-1)).squeeze(-1),
        atol=1e-6,
    )


def test_rows_of_any_length_have_the_log_probabilities_they_have_alone() -> None:
    """Sorting, padding and micro-batches change nothing, and the order is kept."""
    policy, _ = made()
    prompts = prompts_of(policy, "a", "abcdef")
    rows = [(prompts[0], (5, 6)), (prompts[1], (7,)), (prompts[0], (8, 9, 10, 1))]

    together = log_probs_of_rows(policy, rows, micro_batch=2, model=policy.bare_model)
    alone = [
        log_probs_of_rows(policy, [row], micro_batch=1, model=policy.bare_model)[0] for row in rows
    ]

    for one, other in zip(together, alone, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_an_adapter_alone_is_trained_and_can_be_switched_off() -> None:
    """The reference is the base without its adapter, so no copy is held."""
    policy, _ = made("actor_rollout_ref.model.lora_rank=4")
    plain, _ = made()
    tokens = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        for weight in policy.trained:
            weight.add_(0.05)

    with policy.as_it_began() as model:
        assert torch.allclose(model(tokens).logits, plain.bare_model(tokens).logits, atol=1e-6)
    assert len(policy.trained) < len(plain.trained) * 4
    assert not torch.allclose(policy.bare_model(tokens).logits, plain.bare_model(tokens).logits)


@pytest.mark.parametrize("rank", [0, 4])
def test_whole_weights_are_those_of_a_merged_model(tmp_path: Path, rank: int) -> None:
    """The names are a checkpoint's, and the base does not change."""
    policy, _ = made(f"actor_rollout_ref.model.lora_rank={rank}")
    with torch.no_grad():
        for weight in policy.trained:
            weight.add_(0.05)
    weights = dict(policy.whole_weights())
    policy.save_whole(tmp_path)

    fresh, _ = made(f"actor_rollout_ref.model.path={tmp_path}")
    expected = dict(fresh.bare_model.named_parameters())

    assert weights.keys() == expected.keys()
    for name, whole in weights.items():
        assert torch.allclose(whole, expected[name], atol=1e-6), name


def test_a_sampler_ends_at_the_end_and_says_what_was_cut() -> None:
    """Tokens include the end, the text does not, and a response without one is cut."""
    policy, config = made("data.max_response_length=6")
    sampler = GeneratingSampler(policy, config)
    prompts = prompts_of(policy, "a", "bcd")
    torch.manual_seed(3)

    groups = list(sampler.groups(prompts, n=40, how=Sampling(temperature=3.0)))

    rollouts = [rollout for group in groups for rollout in group.rollouts]
    assert [group.prompt for group in groups] == prompts
    assert {rollout.is_cut for rollout in rollouts} == {True, False}
    for rollout in rollouts:
        assert rollout.is_cut == (rollout.tokens[-1] not in policy.end_ids)
        assert "<|end|>" not in rollout.text
        assert len(rollout.tokens) <= 6


def test_greedy_rollouts_of_a_prompt_are_alike() -> None:
    """They do not depend on the other prompts of the batch."""
    policy, config = made("data.max_response_length=8")
    sampler = GeneratingSampler(policy, config)
    first, second = prompts_of(policy, "a", "bcdefgh")

    (alone,) = sampler.groups([first], n=1, how=GREEDY)
    together = list(sampler.groups([first, second], n=2, how=GREEDY))

    assert together[0].rollouts[0].tokens == together[0].rollouts[1].tokens
    assert together[0].rollouts[0].tokens == alone.rollouts[0].tokens


@given(
    warm_up=st.integers(0, 8), kind=st.sampled_from(["constant", "cosine"]), low=st.floats(0, 0.9)
)
def test_the_learning_rate_rises_and_never_leaves_its_bounds(
    warm_up: int, kind: str, low: float
) -> None:
    """It rises linearly to its maximum; a cosine ends at its minimum."""
    optim = Optim.model_validate(
        {"lr": 1.0, "lr_warmup_steps": warm_up, "lr_scheduler_type": kind, "min_lr_ratio": low}
    )
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = make_schedule(optimizer, optim, steps=20)

    rates = []
    for _ in range(21):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()

    assert rates[:warm_up] == sorted(rates[:warm_up])
    assert rates[warm_up] == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(low if kind == "cosine" else 1.0)
