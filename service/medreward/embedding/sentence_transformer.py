"""An embedder in this process: any model that sentence-transformers can load."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer

from medreward.embedding.embedder import Vector, unit
from medreward.errors import Problem
from medreward.hugging_face import loading
from medreward.judging.judge import Capacity


class SentenceTransformerEmbedder:
    """Embeds with a sentence-transformers model; what is over its window is cut, as published."""

    def __init__(self, model: SentenceTransformer, *, name: str, worker: Executor) -> None:
        self._model = model
        self._worker = worker
        self.identity = f"sentence_transformer:{name}:{model.dtype}"
        # Above 32 texts the activations leave a CPU's second-level cache, and speed falls.
        self.capacity = Capacity(batch=32)

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

    async def start(self) -> None:
        """Nothing is left to do."""

    async def embed(self, texts: Sequence[str]) -> Sequence[Vector | Problem]:
        """Embed each text, off the event loop."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._worker, self._embed, list(texts))

    async def aclose(self) -> None:
        """The memory goes with the object."""

    def _embed(self, texts: list[str]) -> list[Vector]:
        vectors = self._model.encode(
            texts, batch_size=self.capacity.batch, convert_to_numpy=True, show_progress_bar=False
        )
        return [unit(vector) for vector in vectors.astype(np.float32)]
