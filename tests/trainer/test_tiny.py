"""Models: tiny ones drawn from a seed, and loaded ones."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file

from medreward_trainer.config.config import Model
from medreward_trainer.errors import BadConfig
from medreward_trainer.tiny_models import (
    END,
    PAD,
    PRINTABLE,
    TINY,
    load_model,
    plain_generation,
    tiny_text,
)
from medreward_trainer.tiny_models import tiny_tokenizer as made_tokenizer


def loaded(path: str | Path, *, seed: int = 1, dtype: str = "float32") -> tuple[Any, Any]:
    """Load a model."""
    return load_model(Model.model_validate({"path": str(path), "dtype": dtype}), seed=seed)


def saved(folder: Path, name: str = "tiny-random", *, seed: int = 1) -> Path:
    """Save a tiny model."""
    for part in loaded(name, seed=seed):
        part.save_pretrained(folder)
    return folder


def are_equal(one: Any, other: Any) -> bool:
    """Compare two models' weights."""
    ours, theirs = dict(one.named_parameters()), dict(other.named_parameters())
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def refusal(path: str | Path) -> str:
    """Return the message of a model that cannot be loaded."""
    with pytest.raises(BadConfig) as caught:
        loaded(path)
    return str(caught.value)


@pytest.mark.parametrize("name", TINY)
def test_a_tiny_model_is_drawn_from_its_seed_alone(name: str) -> None:
    """The weights are the same after any other draws, and the global state stays."""
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, _ = loaded(name, seed=1)
    after = torch.get_rng_state()
    torch.rand(3)
    again, _ = loaded(name, seed=1)

    assert torch.equal(before, after)
    assert are_equal(first, again)
    assert not are_equal(first, loaded(name, seed=2)[0])
    assert sum(weight.numel() for weight in first.parameters()) < 100_000


@given(st.text(PRINTABLE))
def test_a_token_of_a_tiny_model_is_a_sign(text: str) -> None:
    """Encoding and decoding give the same text."""
    tokenizer = made_tokenizer()

    tokens = tokenizer(text)["input_ids"]

    assert len(tokens) == len(text)
    assert tokenizer.decode(tokens) == text


def test_a_toy_may_have_an_alphabet_of_its_own() -> None:
    """A repeated character counts once, and others are unknown."""
    model, tokenizer = loaded("tiny-random:abca")

    assert tokenizer("cab?")["input_ids"] == [5, 3, 4, tokenizer.unk_token_id]
    assert model.get_input_embeddings().num_embeddings == len(tokenizer) == 6
    assert tokenizer.convert_ids_to_tokens([0, 1]) == [PAD, END]


def test_the_angles_of_positions_keep_their_precision() -> None:
    """Only weights are rounded to the requested type."""
    rounded, _ = loaded("tiny-random", dtype="bfloat16")
    exact, _ = loaded("tiny-random")

    assert {weight.dtype for weight in rounded.parameters()} == {torch.bfloat16}
    for (name, ours), (_, theirs) in zip(
        rounded.named_buffers(), exact.named_buffers(), strict=True
    ):
        assert torch.equal(ours, theirs), name


@pytest.mark.parametrize("name", TINY)
def test_a_saved_model_computes_the_same(tmp_path: Path, name: str) -> None:
    """Its tokenizer or processor also reads texts and images the same way."""
    asked: dict[str, Any] = {"text": ["Which lung? <left>"]}
    if name == "tiny-random-vl":
        image = Image.linear_gradient("L").convert("RGB")
        asked = {"text": ["<image>Which lung?"], "images": [image]}
    model, reader = loaded(name)
    saved_model, saved_reader = loaded(saved(tmp_path, name), seed=9)

    inputs, read = (one(**asked, return_tensors="pt") for one in (reader, saved_reader))

    assert inputs.keys() == read.keys()
    assert all(torch.equal(inputs[name], read[name]) for name in inputs)
    assert reader.chat_template == saved_reader.chat_template
    assert torch.equal(model(**inputs).logits, saved_model(**read).logits)


def test_a_model_that_is_not_there_is_told_with_what_may_be_given(tmp_path: Path) -> None:
    """The message lists a folder, an id, and the tiny models."""
    said = refusal(tmp_path / "nothing")

    assert said.startswith(f"actor_rollout_ref.model.path: {tmp_path / 'nothing'} (no such folder")
    assert "tiny-random, tiny-random-vl" in said


def test_weights_that_are_absent_or_cut_off_are_told(tmp_path: Path) -> None:
    """A copy may have been interrupted."""
    assert f"{tmp_path} cannot be loaded" in refusal(tmp_path)
    file = saved(tmp_path) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])

    assert "cannot be loaded" in refusal(tmp_path)


def test_weights_that_are_missing_are_not_drawn(tmp_path: Path) -> None:
    """A policy with a random layer would train in vain."""
    file = saved(tmp_path) / "model.safetensors"
    weights = load_file(file)
    del weights["model.norm.weight"], weights["model.layers.0.mlp.up_proj.weight"]
    save_file(weights, file, metadata={"format": "pt"})

    assert "has no weights for model.layers.0.mlp.up_proj.weight and 1 more" in refusal(tmp_path)


def without(folder: Path, token: str) -> Path:
    """Save a tiny model whose tokenizer lacks a special token."""
    file = saved(folder) / "tokenizer_config.json"
    settings = json.loads(file.read_text())
    del settings[token]
    file.write_text(json.dumps(settings))
    return folder


def test_a_tokenizer_without_padding_pads_with_the_end(tmp_path: Path) -> None:
    """Many models lack a padding token, and padding is masked."""
    _, tokenizer = loaded(without(tmp_path, "pad_token"))

    assert tokenizer.pad_token_id == tokenizer.eos_token_id


def test_a_tokenizer_without_an_end_is_refused(tmp_path: Path) -> None:
    """No response could ever be finished."""
    assert "has no eos" in refusal(without(tmp_path, "eos_token"))


def test_a_checkpoint_does_not_shape_rollouts_unseen() -> None:
    """Of its defaults for generation, only special tokens stay."""
    model, tokenizer = tiny_text(1)
    model.generation_config.update(temperature=0.3, top_k=5, repetition_penalty=1.2, do_sample=True)

    plain_generation(model)

    kept = model.generation_config
    assert kept.eos_token_id == tokenizer.eos_token_id
    assert kept.pad_token_id == tokenizer.pad_token_id
    assert not kept.do_sample
    assert {kept.temperature, kept.top_k, kept.repetition_penalty} == {None}
