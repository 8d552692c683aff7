"""A judge in this process: any causal language model that transformers can load.

The verdict comes from the probabilities of the next token and not from generated text, so each
inquiry takes one forward pass; with a readout it comes from a hidden state, by a part of a pass.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from medreward.engines.capacity import Capacity, Resident
from medreward.engines.judge import Inquiry, Judgement
from medreward.engines.judges.next_token import NextTokenJudge
from medreward.engines.local.forward import Passes, passes_for
from medreward.engines.local.loading import loading
from medreward.engines.local.readout import LowerLayers, Readout
from medreward.engines.local.storage import HALF, arithmetic_dtype, quickest_dtype, widen
from medreward.engines.local.token_tree import common_length
from medreward.engines.local.worker import ForwardPass, ModelThread
from medreward.engines.templates import Template
from medreward.errors import Problem


class CausalLmJudge(Resident, NextTokenJudge):
    """Judges by the probabilities of the label forms at the verdict position."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        name: str,
        secret: str,
        coverage_floor: float,
        max_prompt_tokens: int = 2048,
        timeout_s: float = 120.0,
        readouts: Sequence[Readout] = (),
        worker: Executor,
    ) -> None:
        window_tokens = int(getattr(model.config, "max_position_embeddings", max_prompt_tokens))
        parts = ["causal_lm", name, str(arithmetic_dtype(model)), *(r.identity for r in readouts)]
        super().__init__(
            tokenizer,
            name=":".join(parts),
            secret=secret,
            coverage_floor=coverage_floor,
            max_prompt_tokens=min(window_tokens, max_prompt_tokens),
        )
        self._model = model
        self._model_thread = ModelThread(worker, timeout_s=timeout_s)
        self._passes = passes_for(model)
        # By the template's wording: of another one, the model's own words are read.
        self._readouts = {readout.template_sha: readout for readout in readouts}
        self._readout_passes = {
            sha: passes_for(LowerLayers(model, readout.layers, readout.logits))
            for sha, readout in self._readouts.items()
        }
        self._prefixes: dict[Template, list[int]] = {}
        # Sixteen take a CPU one second, or a few seconds for long prompts. So an inquiry that just
        # missed a batch is soon in the next one.
        self.capacity = Capacity(batch=16, tokens=4096)

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        name: str,
        revision: str | None = None,
        device: str = "cpu",
        dtype: str | None = None,
        secret: str = "",
        coverage_floor: float = 0.2,
        max_prompt_tokens: int = 2048,
        timeout_s: float = 120.0,
        readouts: Sequence[Readout] = (),
        worker: Executor,
    ) -> "CausalLmJudge":
        """Load model and tokenizer; blocks for as long as that takes."""
        dtype = dtype or quickest_dtype(device)
        # Weights that are stored in half precision stay so on a CPU, whatever the arithmetic.
        loaded_as = "auto" if (device, dtype) == ("cpu", "float32") else dtype
        with loading("judge", name):
            tokenizer = AutoTokenizer.from_pretrained(source, revision=revision)
            model = AutoModelForCausalLM.from_pretrained(
                source,
                revision=revision,
                dtype=loaded_as,
                use_safetensors=True,  # weights in pickles could run code
            )
        model = model.to(device).eval()
        if loaded_as == "auto" and model.dtype in HALF:
            widen(model)
        return cls(
            model,
            tokenizer,
            name=name,
            secret=secret,
            coverage_floor=coverage_floor,
            max_prompt_tokens=max_prompt_tokens,
            timeout_s=timeout_s,
            readouts=readouts,
            worker=worker,
        )

    async def decide(self, inquiries: Sequence[Inquiry]) -> Sequence[Judgement | Problem]:
        """Judge each inquiry, off the event loop.

        Each forward pass is a separate task of the worker, so that other batches run in between,
        and judgements made before the time-out are kept.
        """
        give_up_s = self._model_thread.give_up_s()
        prompts = await self._model_thread.take(lambda: [self.prompt_ids(i) for i in inquiries])
        passes = await self._model_thread.take(lambda: self._plan(inquiries, prompts))
        judged = await self._model_thread.judge(
            passes, lambda i, row: self._read(row, inquiries[i].template), give_up_s
        )
        return [judged.get(i) or self._too_long(prompt) for i, prompt in enumerate(prompts)]

    @property
    def layers(self) -> int:
        """Number of layers of the model."""
        return len(self._model.base_model.layers)

    def states(
        self, inquiries: Sequence[Inquiry], layers: int
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield the place of each inquiry, and the output of a layer at its verdict position, of shape (D,).

        Blocks. The inquiries have one template, and prompts that fit; they come in another order.
        """
        passes = passes_for(LowerLayers(self._model, layers, _as_it_is))
        prompts = dict(enumerate(map(self.prompt_ids, inquiries)))
        for one in passes.plan(prompts, self._prefix_of(inquiries[0].template)):
            yield from zip(one.members, one.run(), strict=True)

    def _plan(
        self, inquiries: Sequence[Inquiry], prompts: Sequence[list[int]]
    ) -> list[ForwardPass]:
        """Plan passes over the prompts that fit, for each template with its own prefix."""
        by_template: dict[Template, dict[int, list[int]]] = {}
        for i, (inquiry, prompt) in enumerate(zip(inquiries, prompts, strict=True)):
            if len(prompt) <= self._max_prompt_tokens:
                by_template.setdefault(inquiry.template, {})[i] = prompt
        return [
            one
            for template, fitting in by_template.items()
            for one in self._passes_of(template).plan(fitting, self._prefix_of(template))
        ]

    def _passes_of(self, template: Template) -> Passes:
        return self._readout_passes.get(template.sha, self._passes)

    def _prefix_of(self, template: Template) -> list[int]:
        """Return the common beginning of all prompts of *template*, whichever field comes first."""
        if template not in self._prefixes:
            firsts = [
                Inquiry(template, answer=""),
                Inquiry(template, answer="", reference=""),
                Inquiry(template, answer="", criterion=""),
                Inquiry(template, answer="", question=""),
                Inquiry(template, answer="", second=""),
            ]
            prompts = [self.prompt_ids(inquiry) for inquiry in firsts]
            first, last = min(prompts), max(prompts)
            self._prefixes[template] = first[: common_length(first, last)]
        return self._prefixes[template]

    def _read(self, logits_V: torch.Tensor, template: Template) -> Judgement | Problem:
        shares_V = logits_V.softmax(dim=-1)
        readout = self._readouts.get(template.sha)
        if readout is not None:
            shares = tuple(shares_V.tolist())
            return Judgement(template.labels, shares, threshold=readout.threshold)
        masses = torch.stack([shares_V[ids].sum() for ids in self.ids_of(template)])
        return self._judgement(masses.tolist(), template)


def _as_it_is(states_PD: torch.Tensor) -> torch.Tensor:
    return states_PD
