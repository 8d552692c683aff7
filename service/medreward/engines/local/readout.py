"""Readouts: the answer of a language model from a hidden state, by a linear classifier.

An upper layer tells right answers from wrong ones better than the word that the model would write
next (linear probes: Alain and Bengio, arXiv 1610.01644), and the layers above it need not run.
`medreward verifier readout` fits them on labelled answers.
"""

import copy
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from transformers.modeling_outputs import CausalLMOutput

from medreward.engines.local.storage import arithmetic_dtype
from medreward.errors import SetupError


@dataclass(frozen=True, slots=True, eq=False)
class Readout:
    """A classifier of one model's state at the verdict position, for the wording of one template."""

    template: str
    template_sha: str
    layers: int
    """Number of layers that are run; the state is the output of the last of them."""
    weights_KD: torch.Tensor
    """One row for each label of the template."""
    biases_K: torch.Tensor
    threshold: float = 0.5
    """P(YES) above which the verdict is YES."""

    @property
    def identity(self) -> str:
        """A digest of everything that can change a judgement."""
        facts = json.dumps([self.template_sha, self.layers, self.threshold]).encode()
        numbers = (part.numpy().tobytes() for part in (self.weights_KD, self.biases_K))
        return hashlib.sha256(b"".join([facts, *numbers])).hexdigest()[:12]

    def logits(self, states_PD: torch.Tensor) -> torch.Tensor:
        """Return the logits of the labels, of shape (P, K)."""
        device = states_PD.device
        return states_PD.float() @ self.weights_KD.T.to(device) + self.biases_K.to(device)


class LowerLayers(nn.Module):
    """The lower layers of a causal language model, with a head that takes their states."""

    def __init__(
        self, model: Any, layers: int, head: Callable[[torch.Tensor], torch.Tensor]
    ) -> None:
        super().__init__()
        self.config = model.config
        self.device: torch.device = model.device
        self.dtype = arithmetic_dtype(model)
        # A shallow copy shares the weights; with a list of parts of its own it can lose layers.
        self.base_model = copy.copy(model.base_model)
        self.base_model._modules = dict(self.base_model._modules)  # noqa: SLF001 - no public way
        self.base_model.layers = self.base_model.layers[:layers]
        # The norm belongs behind the last layer of the whole model.
        self.base_model.norm = nn.Identity()
        self._head = head

    def forward(
        self,
        input_ids: torch.Tensor,
        *,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        use_cache: bool = False,
        **cache: Any,
    ) -> CausalLMOutput:
        """Return the head's rows as logits, of shape (prompts, kept positions, K)."""
        states_BTD = self.base_model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            use_cache=use_cache,
            **cache,
        ).last_hidden_state
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        return CausalLMOutput(logits=self._head(states_BTD[:, kept]))


def save_readouts(file: Path, readouts: Sequence[Readout]) -> None:
    """Write the readouts of one model: tensors by template, and the other facts as metadata."""
    tensors = {f"{r.template}.weights": r.weights_KD.contiguous() for r in readouts}
    tensors |= {f"{r.template}.biases": r.biases_K.contiguous() for r in readouts}
    facts = {r.template: json.dumps([r.template_sha, r.layers, r.threshold]) for r in readouts}
    save_file(tensors, file, metadata=facts)


def load_readouts(file: Path) -> list[Readout]:
    """Read the readouts of one model.

    Raises:
        SetupError: the file cannot be read, or holds no readouts.
    """
    try:
        with safe_open(file, framework="pt") as content:
            # The file has them in any order; the judge's identity has them in one.
            metadata = sorted(content.metadata().items())
            facts = {name: json.loads(text) for name, text in metadata}
            return [
                Readout(
                    template,
                    sha,
                    layers,
                    content.get_tensor(f"{template}.weights"),
                    content.get_tensor(f"{template}.biases"),
                    threshold,
                )
                for template, (sha, layers, threshold) in facts.items()
            ]
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, AttributeError) as exc:
        raise SetupError(f"{file} holds no readouts ({type(exc).__name__})") from exc
