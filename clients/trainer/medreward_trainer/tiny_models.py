"""Models: tiny random ones that need no download, and all that transformers can load."""

import string
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from tokenizers import Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

from medreward_trainer.config.config import Model
from medreward_trainer.errors import BadConfig

PRINTABLE = string.ascii_letters + string.digits + string.punctuation + " \n"
END, PAD, UNKNOWN = "<|end|>", "<|pad|>", "<|unknown|>"
IMAGE = "<image>"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{% endfor %}"
)
HIDDEN = 32
SIDE, PATCH = 16, 8
"""Edges of an image and of its patches, in pixels."""


def load_model(wanted: Model, *, seed: int) -> tuple[Any, Any]:
    """Load a model and its processor (or tokenizer, if it reads only text).

    Raises:
        BadConfig: the model is missing, lacks some of its weights, or has no end-of-sequence token.
    """
    name, _, alphabet = wanted.path.partition(":")
    if name in TINY:
        model, processor = TINY[name](seed, alphabet or PRINTABLE)
        for weight in model.parameters():
            # Not `model.to`, which would also round the angles of the position embedding.
            weight.data = weight.data.to(getattr(torch, wanted.dtype))
    else:
        model, processor = _load(wanted)
    tokenizer = getattr(processor, "tokenizer", processor)
    if tokenizer.eos_token_id is None:
        raise BadConfig(f"actor_rollout_ref.model.path: the tokenizer of {wanted.path} has no eos")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model, processor


def plain_generation(model: Any) -> None:
    """Remove a checkpoint's defaults for `generate`, except the tokens that end a response.

    A temperature, a top_k or a penalty in the checkpoint would change rollouts silently.
    """
    before = model.generation_config
    model.generation_config = GenerationConfig(
        bos_token_id=before.bos_token_id,
        eos_token_id=before.eos_token_id,
        pad_token_id=before.pad_token_id,
    )


def tiny_tokenizer(alphabet: str = PRINTABLE, extra: tuple[str, ...] = ()) -> Any:
    """Make a tokenizer whose tokens are single characters."""
    tokens = dict.fromkeys((PAD, END, UNKNOWN, *extra, *alphabet))
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = Split("", "isolated")
    tokenizer.decoder = Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        unk_token=UNKNOWN,
        additional_special_tokens=list(extra),
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def tiny_text(seed: int, alphabet: str = PRINTABLE) -> tuple[Any, Any]:
    """Make a Llama of some tens of thousands of random weights that reads characters."""
    tokenizer = tiny_tokenizer(alphabet)
    config = _text_config(tokenizer)
    return _drawn(LlamaForCausalLM, config, seed), tokenizer


def tiny_vision(seed: int, alphabet: str = PRINTABLE) -> tuple[Any, Any]:
    """Make a LLaVA of some tens of thousands of random weights, with its processor.

    Its images are prepared with PIL. A Qwen-VL would want torchvision for videos it never sees.
    """
    tokenizer = tiny_tokenizer(alphabet, extra=(IMAGE,))
    text = _text_config(tokenizer)
    vision = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=SIDE,
        patch_size=PATCH,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE),
        image_seq_length=(SIDE // PATCH) ** 2,
        vision_feature_select_strategy="default",
        vision_feature_layer=-1,
    )
    images = CLIPImageProcessorPil(
        size={"height": SIDE, "width": SIDE}, crop_size={"height": SIDE, "width": SIDE}
    )
    processor = LlavaProcessor(
        images,
        tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
        image_token=IMAGE,
    )
    return _drawn(LlavaForConditionalGeneration, config, seed), processor


TINY: Mapping[str, Callable[[int, str], tuple[Any, Any]]] = {
    "tiny-random": tiny_text,
    "tiny-random-vl": tiny_vision,
}
"""Random models by name; `name:alphabet` restricts their tokens to these characters."""


def _text_config(tokenizer: Any) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN,
        intermediate_size=4 * HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _drawn(kind: Callable[[Any], Any], config: Any, seed: int) -> Any:
    """Draw a model's weights from a seed, without changing the global random numbers."""
    with torch.random.fork_rng(devices=[]):
        # Not `torch.manual_seed`, which also seeds the generators of GPUs.
        torch.default_generator.manual_seed(seed)
        return kind(config)


def _load(wanted: Model) -> tuple[Any, Any]:
    path, trust = wanted.path, wanted.trust_remote_code
    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=trust)
        sees = type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
        kind, reader = (
            (AutoModelForImageTextToText, AutoProcessor)
            if sees
            else (AutoModelForCausalLM, AutoTokenizer)
        )
        processor = reader.from_pretrained(path, trust_remote_code=trust)
        model, report = kind.from_pretrained(
            path,
            dtype=getattr(torch, wanted.dtype),
            trust_remote_code=trust,
            output_loading_info=True,
        )
    except (OSError, ValueError, ImportError, SafetensorError) as exc:
        there = "" if Path(path).is_dir() else " (no such folder here)"
        # Some messages begin with an empty line.
        reason = next(iter(str(exc).strip().splitlines()), type(exc).__name__)
        raise BadConfig(
            f"actor_rollout_ref.model.path: {path}{there} cannot be loaded: {reason} "
            f"Give a folder, an id of the hub, or one of {', '.join(TINY)}"
        ) from exc
    if report["missing_keys"]:
        # transformers would draw missing weights at random, and only warn.
        first, *more = sorted(report["missing_keys"])
        raise BadConfig(
            f"actor_rollout_ref.model.path: {path} has no weights for {first}"
            + (f" and {len(more)} more" * bool(more))
        )
    return model, processor
