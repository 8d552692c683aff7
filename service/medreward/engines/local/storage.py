"""Weights stored in half precision for arithmetic in float32: half of the memory, the same numbers."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional

ROWS = 16_384
"""Rows of a weight that are widened at once: the widest layer, over the vocabulary, has ten times as many."""
HALF = (torch.bfloat16, torch.float16)
NATIVE_BFLOAT16 = ("amx_bf16", "avx512_bf16", "bf16")
"""Names that torch gives to the processors' instructions for bfloat16."""


class _Scratch:
    """The memory that all layers of a model convert their weights into, one after the other.

    A tensor of its own for each conversion would be mapped and unmapped by the system each time,
    which took longer than the conversion. For one thread at a time.
    """

    def __init__(self) -> None:
        self._numbers = torch.empty(0)

    def widened(self, rows: torch.Tensor) -> torch.Tensor:
        """Return *rows* in float32, valid until the next call."""
        if self._numbers.numel() < rows.numel():
            # Not an inference tensor, which later passes could not write to outside of that mode.
            with torch.inference_mode(mode=False):
                self._numbers = torch.empty(rows.numel())
        return self._numbers[: rows.numel()].view_as(rows).copy_(rows)


class _WidenedLinear(nn.Module):
    """A linear layer that converts its weight to float32 whenever it is applied."""

    def __init__(self, layer: nn.Linear, scratch: _Scratch) -> None:
        super().__init__()
        self.weight = layer.weight
        self.bias: torch.Tensor | None = layer.bias
        self._scratch = scratch

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Apply the layer in float32."""
        outputs = [
            functional.linear(inputs, self._scratch.widened(rows))
            for rows in torch.split(self.weight, ROWS)
        ]
        whole = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=-1)
        return whole if self.bias is None else whole + self.bias


def widen(model: Any) -> None:
    """Prepare a model in half precision for arithmetic in float32.

    Linear layers and embeddings, nearly all of the weights, stay as they are and are converted when
    they are used. A number in half precision is one in float32 too, so the results are those of a
    model in float32.
    """
    scratch = _Scratch()
    for name, module in list(model.named_modules()):
        if type(module) is nn.Linear:
            model.set_submodule(name, _WidenedLinear(module, scratch))
    for module in model.modules():
        if type(module) is nn.Embedding:
            module.register_forward_hook(lambda _module, _inputs, rows: rows.float())
        else:
            _widen_own(module, but="weight" if isinstance(module, _WidenedLinear) else None)


def arithmetic_dtype(model: Any) -> torch.dtype:
    """Return the type of a model's activations: float32 if it was widened, else that of its weights."""
    is_widened = any(isinstance(module, _WidenedLinear) for module in model.modules())
    return torch.float32 if is_widened else model.dtype


def quickest_dtype(device: str) -> str:
    """Return bfloat16 for devices that compute with it, and float32 for the others.

    Processors without AMX, AVX512-BF16 or ARM's BF16 emulate it: one with AVX2 took ten times as long.
    """
    if device != "cpu":
        return "bfloat16"
    can = torch.cpu.get_capabilities()
    return "bfloat16" if any(can.get(name) for name in NATIVE_BFLOAT16) else "float32"


def _widen_own(module: nn.Module, but: str | None) -> None:
    """Convert a module's own parameters and buffers, without those of its parts."""
    own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    for name, tensor in own:
        if name != but and tensor.dtype in HALF:
            tensor.data = tensor.data.float()
