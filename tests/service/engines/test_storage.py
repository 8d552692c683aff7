"""Weights in half precision give the numbers of float32."""

import copy
from typing import Any

import pytest

from tests.service.engines.small_models import llama

pytestmark = pytest.mark.models

WIDE = 40_000
"""A vocabulary of more rows than are widened at once."""


def logits(model: Any) -> Any:
    """Run a model on one row of tokens."""
    import torch

    with torch.inference_mode():
        return model(input_ids=torch.arange(9)[None]).logits


@pytest.mark.parametrize("half", ["bfloat16", "float16"])
def test_a_widened_model_gives_what_the_model_in_float32_gives(half: str) -> None:
    """The weights are those of the half precision in both, and the arithmetic is float32."""
    import torch

    from medreward.engines.local.storage import arithmetic_dtype, widen

    stored = llama(words=WIDE).to(getattr(torch, half))
    whole = copy.deepcopy(stored).float()

    widen(stored)

    assert torch.allclose(logits(stored), logits(whole), atol=1e-5)
    assert arithmetic_dtype(stored) is torch.float32
    assert stored.dtype is getattr(torch, half)


def test_its_linear_layers_and_embeddings_stay_in_half_precision() -> None:
    """They are nearly all of the memory."""
    import torch

    from medreward.engines.local.storage import widen

    model = llama(words=WIDE).to(torch.bfloat16)
    widen(model)

    wide = sum(p.numel() for p in model.parameters() if p.dtype is torch.float32)
    assert wide < sum(p.numel() for p in model.parameters()) / 100


def test_a_model_that_was_not_widened_keeps_its_type() -> None:
    """Its arithmetic has the precision of its weights."""
    import torch

    from medreward.engines.local.storage import arithmetic_dtype

    assert arithmetic_dtype(llama().to(torch.bfloat16)) is torch.bfloat16
    assert arithmetic_dtype(llama()) is torch.float32


def test_a_gpu_computes_in_bfloat16() -> None:
    """On a CPU it depends on the processor."""
    from medreward.engines.local.storage import quickest_dtype

    assert quickest_dtype("cuda") == "bfloat16"
    assert quickest_dtype("cpu") in {"bfloat16", "float32"}
