"""A policy that is a bandit: its vocabulary is a list of whole responses, and it says one of them.

So what a response is, and whether the judge fails for it, can be told from its one token.
"""

from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM, set_seed

REFERENCE = "pneumonia"
ANSWERS = [
    *("pneumonia.", "Pneumonia", "pneumothorax", "effusion", "atelectasis", "fibrosis"),
    *("oedema", "fracture", "abscess", "embolism", "tuberculosis", "sarcoidosis"),
]
RESPONSES = [
    *(f"<X_RAY><thinking>Seen.</thinking><answer>{answer}</answer>" for answer in ANSWERS[:8]),
    *(f"<answer>{answer}</answer>" for answer in ANSWERS[8:]),
]
PROMPT = "Finding?"
RANKED = """
name = "ranked"
version = 1
description = "The better answers of a group."
template = "equivalence"
[tags]
[signals.group_rank]
weight = 1.0
"""
"""A recipe that compares the answers of a group."""
NEVER_SAID = ["<|endoftext|>", "<|im_end|>", "<|im_start|>", "user", "assistant", PROMPT]


def bandit() -> tuple[Any, Any]:
    """Build the model, with weights that are the same each time, and its tokenizer."""
    words = [*NEVER_SAID, *RESPONSES]
    pieces = WordLevel({word: n for n, word in enumerate(words)}, unk_token=words[0])
    tokenizer = Tokenizer(pieces)
    tokenizer.pre_tokenizer = WhitespaceSplit()
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=words[0], eos_token=words[1], padding_side="left"
    )
    wrapped.chat_template = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
    set_seed(0)
    config = Qwen3Config(
        vocab_size=len(words), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, pad_token_id=0, eos_token_id=1,
        max_position_embeddings=512,
    )  # fmt: skip
    model = Qwen3ForCausalLM(config)
    model.generation_config.suppress_tokens = list(range(len(NEVER_SAID)))
    return model, wrapped
