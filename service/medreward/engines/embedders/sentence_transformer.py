"""An embedder in this process: any model that sentence-transformers can load."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import structlog
import torch
from sentence_transformers import SentenceTransformer

from medreward.engines.capacity import Capacity, Resident
from medreward.engines.embedder import Vector, unit
from medreward.engines.local.bucketing import by_length
from medreward.engines.local.loading import loading
from medreward.errors import Problem

T = TypeVar("T")
Tokens = Mapping[str, Sequence[list[int]]]
"""A tokenizer's output: ids, masks and the like, with a row for each text, not padded."""

TEXTS_PER_PASS = 32
PADDED_TOKENS_PER_PASS = 1024
"""With more of either, the activations exceed a CPU's second-level cache, which is slower."""

GPU_TEXTS_PER_PASS = 256
GPU_PADDED_TOKENS_PER_PASS = 16_384

PROBE = ("Left", "RIGHT lower lobe, 5 mm; β-haemolytic", "a mass of the left breast " * 200)
PROBE_TOLERANCE = 1e-3

log = structlog.get_logger(__name__)


class SentenceTransformerEmbedder(Resident):
    """Embeds with a sentence-transformers model, which truncates texts over its window as published."""

    def __init__(self, model: SentenceTransformer, *, name: str, worker: Executor) -> None:
        self._model = model
        self._worker = worker
        self.identity = f"sentence_transformer:{name}:{model.dtype}"
        on_cpu = model.device.type == "cpu"
        self._max_texts = TEXTS_PER_PASS if on_cpu else GPU_TEXTS_PER_PASS
        self._max_tokens = PADDED_TOKENS_PER_PASS if on_cpu else GPU_PADDED_TOKENS_PER_PASS
        # Several passes, so that sorting by length has an effect.
        self.capacity = Capacity(batch=4 * self._max_texts)
        self.is_direct = _reads_texts_only(model) and self._agrees_with_encode()
        """True if texts are tokenised here and go through the model's modules without `encode`."""
        log.info("embedder_passes", direct=self.is_direct)

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        name: str,
        revision: str | None = None,
        device: str = "cpu",
        worker: Executor,
    ) -> "SentenceTransformerEmbedder":
        """Load the model; blocks for as long as that takes."""
        with loading("embedder", name):
            model = SentenceTransformer(
                str(source),
                revision=revision,
                device=device,
                # Weights in pickles could run code.
                model_kwargs={"use_safetensors": True},
            )
        return cls(model.eval(), name=name, worker=worker)

    async def embed(self, texts: Sequence[str]) -> Sequence[Vector | Problem]:
        """Embed each text off the event loop; other batches run between forward passes."""
        if not self.is_direct:
            return await self._in_worker(partial(self._encode, texts))
        tokens = await self._in_worker(partial(self._tokenise, texts))
        vectors: dict[int, Vector] = {}
        for group in self._groups(tokens):
            vectors |= await self._in_worker(partial(self._pass, group, tokens))
        return [vectors[i] for i in range(len(texts))]

    async def _in_worker(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    def _encode(self, texts: Sequence[str]) -> list[Vector]:
        """Embed by the library's own call, which supports every kind of model."""
        vectors = self._model.encode(
            list(texts), batch_size=self._max_texts, convert_to_numpy=True, show_progress_bar=False
        )
        return [unit(vector) for vector in vectors.astype(np.float32)]

    def _tokenise(self, texts: Sequence[str]) -> Tokens:
        tokens: Tokens = self._model.tokenizer(
            list(texts), truncation="longest_first", max_length=self._model.max_seq_length
        )
        return tokens

    def _groups(self, tokens: Tokens) -> list[list[int]]:
        lengths = {i: len(ids) for i, ids in enumerate(tokens["input_ids"])}
        return list(by_length(lengths, max_tokens=self._max_tokens, max_texts=self._max_texts))

    @torch.inference_mode()
    def _pass(self, group: Sequence[int], tokens: Tokens) -> dict[int, Vector]:
        """Run texts of similar length through the model's own modules, with its pooling."""
        rows = {name: [column[i] for i in group] for name, column in tokens.items()}
        features = self._model.tokenizer.pad(rows, return_tensors="pt").to(self._model.device)
        vectors = self._model({**features})["sentence_embedding"].float().cpu().numpy()
        return {i: unit(vector) for i, vector in zip(group, vectors, strict=True)}

    def _agrees_with_encode(self) -> bool:
        """Return True if `_pass` and `encode` agree on two short texts and one over the window."""
        try:
            tokens = self._tokenise(PROBE)
            found = [self._pass([i], tokens)[i] for i in range(len(PROBE))]
        except Exception:  # noqa: BLE001 - a model's own tokenizer may refuse this with anything
            return False
        wanted = self._encode(PROBE)
        return all(
            np.allclose(a, b, atol=PROBE_TOLERANCE) for a, b in zip(found, wanted, strict=True)
        )


def _reads_texts_only(model: Any) -> bool:
    """Return True if texts are only tokenised before they enter a plain transformer."""
    return (
        type(model[0]).__name__ == "Transformer"
        and model.modalities == ["text"]
        and model.default_prompt_name is None
        and model.truncate_dim is None
    )
