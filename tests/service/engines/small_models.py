"""Language models of two layers with random weights: each pass costs a millisecond."""

from typing import Any

WORDS = 64
SMALL = {
    "vocab_size": WORDS,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    # So large that different prompts get different probabilities.
    "initializer_range": 0.5,
}


def llama(attention: str = "sdpa", words: int = WORDS) -> Any:
    """A Llama over a vocabulary of so many tokens."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    config = LlamaConfig(**SMALL | {"vocab_size": words})
    return LlamaForCausalLM._from_config(config, attn_implementation=attention).eval()  # noqa: SLF001
