"""Forward passes: shared or padded, a prompt's probabilities are its own."""

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from medreward.engines.local.forward import PaddedPasses, Passes, TreePasses, passes_for

WORDS = 64
SMALL = {
    "vocab_size": WORDS,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.5,
}


def llama(attention: str = "sdpa") -> Any:
    """A small Llama with random weights, large enough to tell prompts apart."""
    torch.manual_seed(1)
    model = LlamaForCausalLM._from_config(LlamaConfig(**SMALL), attn_implementation=attention)  # noqa: SLF001
    return model.eval()


@pytest.fixture(scope="module", params=["sdpa", "eager"])
def model(request: pytest.FixtureRequest) -> Any:
    """The same under each attention that takes masks of our own."""
    return llama(request.param)


def run(passes: Passes, prompts: list[list[int]], prefix: list[int]) -> torch.Tensor:
    """The probabilities of each prompt, in order."""
    rows: dict[int, torch.Tensor] = {}
    for one in passes.plan(dict(enumerate(prompts)), prefix):
        rows |= zip(one.members, one.run(), strict=True)
    return torch.stack([rows[i] for i in range(len(prompts))])


@torch.inference_mode()
def plainly(model: Any, prompt: list[int]) -> torch.Tensor:
    """The model's own forward pass over one prompt, as its documentation has it."""
    row: torch.Tensor = model(torch.tensor([prompt])).logits[0, -1].float().softmax(-1)
    return row


ids = st.lists(st.integers(0, WORDS - 1), min_size=1, max_size=24)


@given(st.lists(ids, min_size=1, max_size=10), st.lists(ids, min_size=1, max_size=3))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_prompt_gets_what_it_gets_alone(
    model: Any, rests: list[list[int]], groups: list[list[int]]
) -> None:
    """Whatever it shares and whatever stands beside it: equal to 1e-5 to its own forward pass."""
    prefix = [5, 9, 2, 40]
    prompts = [prefix + groups[i % len(groups)] + rest for i, rest in enumerate(rests)]
    alone = torch.stack([plainly(model, prompt) for prompt in prompts])

    for passes in (TreePasses(model), PaddedPasses(model)):
        assert torch.allclose(run(passes, prompts, prefix), alone, atol=1e-5)


def test_a_long_prompt_goes_alone() -> None:
    """What is longer than a tree is computed plainly, in a pass of its own."""
    model = llama()
    prompts = [[1] * 700, [1, 2], [1, 3]]
    passes = TreePasses(model).plan(dict(enumerate(prompts)), [])

    assert sorted(one.members for one in passes) == [[0], [1, 2]]
    assert torch.allclose(
        run(TreePasses(model), prompts, [])[0], plainly(model, prompts[0]), atol=1e-5
    )


def test_a_prefix_is_computed_once_and_few_are_kept() -> None:
    """The states of a prefix outlive their batch; those long unused make room."""
    passes = TreePasses(llama())
    for first in range(12):
        run(passes, [[first, 1, 2], [first, 1, 3]], [first, 1])

    kept = passes._prefixes  # noqa: SLF001
    assert len(kept) == 8
    assert (11, 1) in kept
    assert (0, 1) not in kept


ODD_MODELS = {
    "a sliding window": lambda: MistralForCausalLM(MistralConfig(**SMALL, sliding_window=16)),
    "a state instead of a cache": lambda: MambaForCausalLM(
        MambaConfig(vocab_size=WORDS, hidden_size=32, num_hidden_layers=2)
    ),
    "positions read off the mask": lambda: BloomForCausalLM(
        BloomConfig(vocab_size=WORDS, hidden_size=32, n_layer=2, n_head=4)
    ),
}


@pytest.mark.parametrize("kind", ODD_MODELS)
def test_a_model_that_cannot_share_is_asked_plainly(kind: str) -> None:
    """Its prompts are padded rows, as before."""
    torch.manual_seed(1)
    model = ODD_MODELS[kind]().eval()

    assert isinstance(passes_for(model), PaddedPasses)


def test_a_model_that_can_share_does() -> None:
    """Rotary positions or learned ones, a cache of every token: the tree is taken."""
    learned = GPT2LMHeadModel(GPT2Config(vocab_size=WORDS, n_embd=32, n_layer=2, n_head=4)).eval()

    assert isinstance(passes_for(llama()), TreePasses)
    assert isinstance(passes_for(llama().bfloat16()), TreePasses)
    assert isinstance(passes_for(learned), TreePasses)
