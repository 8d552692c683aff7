"""Prompts and responses as tensors: padding changes no result."""

from collections.abc import Sequence
from functools import cache
from io import BytesIO
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from medreward_trainer.config.config import Data, Model
from medreward_trainer.data.examples import Example
from medreward_trainer.data.prompts import Prompt, Prompter
from medreward_trainer.tiny_models import load_model, plain_generation
from medreward_trainer.update.batches import SequenceBatch, joined, prompt_batch, sequence_batch

DATA = Data(format_prompt="plain", min_pixels=None)
RESPONSES = st.lists(st.integers(4, 90), min_size=1, max_size=6)
PAD = 0


@cache
def tiny(name: str) -> tuple[Any, Prompter]:
    """Load a tiny model with enlarged weights, so that differences show, and its prompter."""
    model, processor = load_model(Model(path=name, dtype="float32"), seed=1)
    plain_generation(model)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(4 if weight.ndim > 1 else 1)
    return model.eval(), Prompter(processor, DATA)


def shaded(*shades: int) -> tuple[bytes, ...]:
    """Draw an image of each shade, brighter to one side."""
    images = []
    for shade in shades:
        image, written = Image.linear_gradient("L").resize((8, 8)), BytesIO()
        image.point(lambda value, by=shade: value * by // 255).save(written, "PNG")
        images.append(written.getvalue())
    return tuple(images)


def asked(prompter: Prompter, problem: str, *shades: int) -> Prompt:
    """Make a prompt, with an image of each shade."""
    return prompter.prompt(Example("a:1", problem, "b", None, images=shaded(*shades)))


@torch.no_grad()
def log_probs(model: Any, batch: SequenceBatch) -> Tensor:
    """Read the log-probabilities of the responses, of shape (B, T)."""
    longest = batch.responses_BT.shape[1]
    logits_BSV = model(**batch.inputs, use_cache=False, logits_to_keep=longest + 1).logits
    logs_BTV = logits_BSV[:, :-1].log_softmax(dim=-1)
    chosen_BT: Tensor = logs_BTV.gather(-1, batch.responses_BT.unsqueeze(-1)).squeeze(-1)
    return chosen_BT


def test_prompts_end_and_responses_begin_at_one_position() -> None:
    """Prompts are padded on the left, responses on the right, and positions count tokens alone."""
    _, prompter = tiny("tiny-random")
    prompts = [asked(prompter, "a"), asked(prompter, "abc")]
    a, b, c = prompts[1].token_ids

    batch = sequence_batch(prompts, [(5, 6), (7,)], prompter)

    assert batch.inputs["input_ids"].tolist() == [[PAD, PAD, a, 5, 6], [a, b, c, 7, PAD]]
    assert batch.inputs["attention_mask"].tolist() == [[0, 0, 1, 1, 1], [1, 1, 1, 1, 0]]
    assert batch.inputs["position_ids"].tolist() == [[0, 0, 0, 1, 2], [0, 1, 2, 3, 3]]
    assert batch.responses_BT.tolist() == [[5, 6], [7, PAD]]
    assert batch.mask_BT.tolist() == [[1, 1], [1, 0]]


def test_responses_may_be_empty() -> None:
    """An empty response adds no tokens, and the batch can still be computed."""
    model, prompter = tiny("tiny-random")

    batch = sequence_batch([asked(prompter, "a"), asked(prompter, "abc")], [(), ()], prompter)

    assert batch.mask_BT.shape == log_probs(model, batch).shape == (2, 0)


@pytest.mark.parametrize("name", ["tiny-random", "tiny-random-vl"])
@given(
    st.lists(
        st.tuples(
            st.text("abc", min_size=1, max_size=9),
            st.lists(st.integers(0, 255), max_size=2),
            RESPONSES,
        ),
        min_size=1,
        max_size=4,
    )
)
def test_log_probabilities_do_not_depend_on_the_rows_beside(
    name: str, rows: list[tuple[str, list[int], list[int]]]
) -> None:
    """Not even if some rows have several images and others have none."""
    model, prompter = tiny(name)
    if name == "tiny-random":
        rows = [(problem, [], response) for problem, _, response in rows]
    prompts = [asked(prompter, problem, *shades) for problem, shades, _ in rows]
    responses = [response for *_, response in rows]

    together_BT = log_probs(model, sequence_batch(prompts, responses, prompter))

    for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        alone_1T = log_probs(model, sequence_batch([prompt], [response], prompter))
        assert torch.allclose(together_BT[row, : len(response)], alone_1T[0], atol=1e-5)


def test_images_are_seen() -> None:
    """Another image changes the log-probabilities; otherwise the tests above prove nothing."""
    model, prompter = tiny("tiny-random-vl")
    prompts = [asked(prompter, "ab", 0), asked(prompter, "ab", 255)]

    dark_T, bright_T = log_probs(model, sequence_batch(prompts, [(5, 6), (5, 6)], prompter))

    assert (dark_T - bright_T).abs().max() > 0.01


@pytest.mark.parametrize("name", ["tiny-random", "tiny-random-vl"])
def test_what_is_generated_does_not_depend_on_the_rows_beside(name: str) -> None:
    """The most likely response to a prompt is the same in any batch."""
    model, prompter = tiny(name)
    shades = [(200,), (), (10, 250)] if name == "tiny-random-vl" else [(), (), ()]
    prompts = [
        asked(prompter, problem, *own)
        for problem, own in zip(["a", "abcdef", "cab"], shades, strict=True)
    ]

    def generated(rows: Sequence[Prompt]) -> list[list[int]]:
        inputs = prompt_batch(rows, prompter)
        found: Tensor = model.generate(**inputs, do_sample=False, max_new_tokens=4)
        return found[:, inputs["input_ids"].shape[1] :].tolist()

    assert generated(prompts) == [generated([prompt])[0] for prompt in prompts]


def test_a_prompt_that_stands_in_several_rows_has_its_images_in_each() -> None:
    """The samples of a group share the prepared images."""
    model, prompter = tiny("tiny-random-vl")
    prompt, other = asked(prompter, "ab", 200, 20), asked(prompter, "b", 90)

    found = log_probs(
        model, sequence_batch([prompt, other, prompt], [(5, 6), (5, 6), (5, 6)], prompter)
    )

    assert torch.allclose(found[0], found[2], atol=1e-6)
    assert not torch.allclose(found[0], found[1], atol=1e-3)


def test_pictures_of_several_sizes_are_filled_up_with_zeros() -> None:
    """Some processors return an image at its own size, with a mask of the padding."""
    found = joined([torch.ones(1, 2, 1), torch.ones(2, 1, 3)])

    assert found.shape == (3, 2, 3)
    assert found.sum(dim=(1, 2)).tolist() == [2, 3, 3]
    assert found[0].tolist() == [[1, 0, 0], [1, 0, 0]]
