"""Forward passes: shared or padded, a prompt's probabilities are its own."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.service.engines.small_models import SMALL, WORDS, llama

if TYPE_CHECKING:
    import torch

    from medreward.engines.local.forward import Passes

pytestmark = pytest.mark.xdist_group("models")


@pytest.fixture(scope="module", params=["sdpa", "eager"])
def model(request: pytest.FixtureRequest) -> Any:
    """The same under each attention that takes masks of our own."""
    return llama(request.param)


def run(passes: "Passes", prompts: list[list[int]], prefix: list[int]) -> "torch.Tensor":
    """The probabilities after each prompt, in order."""
    import torch

    rows: dict[int, torch.Tensor] = {}
    for one in passes.plan(dict(enumerate(prompts)), prefix):
        rows |= zip(one.members, one.run(), strict=True)
    return torch.stack([rows[i] for i in range(len(prompts))]).softmax(-1)


def plainly(model: Any, prompt: list[int]) -> "torch.Tensor":
    """The model's own forward pass over one prompt, as its documentation has it."""
    import torch

    with torch.inference_mode():
        row: torch.Tensor = model(torch.tensor([prompt])).logits[0, -1].float().softmax(-1)
    return row


ids = st.lists(st.integers(0, WORDS - 1), min_size=1, max_size=24)


@given(st.lists(ids, min_size=1, max_size=10), st.lists(ids, min_size=1, max_size=3))
def test_a_prompt_gets_what_it_gets_alone(
    model: Any, rests: list[list[int]], groups: list[list[int]]
) -> None:
    """Whatever it shares and whatever stands beside it: equal to 1e-5 to its own forward pass."""
    import torch

    from medreward.engines.local.forward import PaddedPasses, TreePasses

    prefix = [5, 9, 2, 40]
    prompts = [prefix + groups[i % len(groups)] + rest for i, rest in enumerate(rests)]
    alone = torch.stack([plainly(model, prompt) for prompt in prompts])

    for passes in (TreePasses(model), PaddedPasses(model)):
        assert torch.allclose(run(passes, prompts, prefix), alone, atol=1e-5)


def test_a_long_prompt_goes_alone() -> None:
    """What is longer than a tree is computed plainly, in a pass of its own."""
    import torch

    from medreward.engines.local.forward import TreePasses

    model = llama()
    prompts = [[1] * 700, [1, 2], [1, 3]]
    passes = TreePasses(model).plan(dict(enumerate(prompts)), [])

    assert sorted(one.members for one in passes) == [[0], [1, 2]]
    assert torch.allclose(
        run(TreePasses(model), prompts, [])[0], plainly(model, prompts[0]), atol=1e-5
    )


def test_a_prefix_is_computed_once_and_few_are_kept() -> None:
    """The states of a prefix outlive their batch; those long unused make room."""
    from medreward.engines.local.forward import TreePasses

    passes = TreePasses(llama())
    for first in range(12):
        run(passes, [[first, 1, 2], [first, 1, 3]], [first, 1])

    kept = passes._prefixes  # noqa: SLF001
    assert len(kept) == 8
    assert (11, 1) in kept
    assert (0, 1) not in kept


def sliding_window() -> Any:
    """A model that forgets tokens."""
    from transformers import MistralConfig, MistralForCausalLM

    return MistralForCausalLM(MistralConfig(**SMALL, sliding_window=16))


def state_space() -> Any:
    """A model that has a state instead of a cache."""
    from transformers import MambaConfig, MambaForCausalLM

    return MambaForCausalLM(MambaConfig(vocab_size=WORDS, hidden_size=32, num_hidden_layers=2))


def positions_off_the_mask() -> Any:
    """A model that counts the positions in its mask."""
    from transformers import BloomConfig, BloomForCausalLM

    config = BloomConfig(vocab_size=WORDS, hidden_size=32, n_layer=2, n_head=4)
    return BloomForCausalLM(config)


@pytest.mark.parametrize("build", [sliding_window, state_space, positions_off_the_mask])
def test_a_model_that_cannot_share_is_asked_plainly(build: Callable[[], Any]) -> None:
    """Its prompts are padded rows, as before."""
    import torch

    from medreward.engines.local.forward import PaddedPasses, passes_for

    torch.manual_seed(1)

    assert isinstance(passes_for(build().eval()), PaddedPasses)


def test_a_model_that_can_share_does() -> None:
    """Rotary positions or learned ones, a cache of every token: the tree is taken."""
    from transformers import GPT2Config, GPT2LMHeadModel

    from medreward.engines.local.forward import TreePasses, passes_for

    learned = GPT2LMHeadModel(GPT2Config(vocab_size=WORDS, n_embd=32, n_layer=2, n_head=4)).eval()

    assert isinstance(passes_for(llama()), TreePasses)
    assert isinstance(passes_for(llama().bfloat16()), TreePasses)
    assert isinstance(passes_for(learned), TreePasses)
