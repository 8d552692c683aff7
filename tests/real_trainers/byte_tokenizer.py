"""A tokenizer that takes any text, made in memory: a token for each byte."""

from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
"""Those of Qwen3, without which verl takes no tokenizer."""


def byte_tokenizer() -> Any:
    """Make one; it pads with the first of SPECIAL, and ends with the last."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    numbers = {token: number for number, token in enumerate([*SPECIAL, *alphabet])}
    letters = Tokenizer(models.BPE(vocab=numbers, merges=[]))
    letters.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    letters.decoder = decoders.ByteLevel()
    letters.add_special_tokens(SPECIAL)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=letters,
        pad_token=SPECIAL[0],
        eos_token=SPECIAL[-1],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    return tokenizer
