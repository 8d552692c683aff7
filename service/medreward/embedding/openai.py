"""An embedder behind any server with `/v1/embeddings`: TEI, infinity, vLLM, hosted ones."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from medreward._http import REFUSAL_STATUS, AsyncBaseTransport, json_of, reaching, server
from medreward.embedding.embedder import Vector
from medreward.errors import EMBEDDER_FAILURES, NonsenseReply, Problem, ProblemKind
from medreward.judging.judge import Capacity


class OpenAiEmbedder:
    """Sends texts in batches; the server cuts, or refuses, what is over its model's window."""

    def __init__(
        self,
        url: str,
        *,
        model: str,
        revision: str | None = None,
        api_key: str | None = None,
        timeout_s: float = 60.0,
        transport: AsyncBaseTransport | None = None,
    ) -> None:
        self._model = model
        self._http = server(url, api_key=api_key, timeout_s=timeout_s, transport=transport)
        self._dimensions: int | None = None
        """How many numbers a vector has: as many as the first one had."""
        self.identity = f"openai:{model}@{revision or 'default'}"
        self.capacity = Capacity(batch=64, concurrency=8)

    async def start(self) -> None:
        """Nothing is left to do."""

    async def embed(self, texts: Sequence[str]) -> Sequence[Vector | Problem]:
        """Embed each text.

        Raises:
            EngineError: the server cannot be reached, or its reply is not one vector a text.
        """
        body = {"model": self._model, "input": list(texts), "encoding_format": "float"}
        with reaching():
            response = await self._http.post("embeddings", json=body)
        if response.status_code in REFUSAL_STATUS:
            return await self._embed_halves(texts, response.status_code)
        try:
            rows = sorted(json_of(response)["data"], key=lambda row: row["index"])
            vectors = [np.asarray(row["embedding"], dtype=np.float64) for row in rows]
        except (KeyError, TypeError, ValueError, OverflowError) as exc:
            raise NonsenseReply("the server's reply holds no vectors") from exc
        if [row["index"] for row in rows] != list(range(len(texts))):
            raise NonsenseReply(f"the server's reply to {len(texts)} texts is not one vector each")
        return [self._unit(vector) for vector in vectors]

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _embed_halves(self, texts: Sequence[str], status: int) -> list[Vector | Problem]:
        """Find the text that is too long, or the number of texts that is not too many."""
        if len(texts) <= 1:
            message = f"embedder: the server refuses this text ({status})"
            return [Problem(ProblemKind.TOO_LONG, message)] * len(texts)
        middle = len(texts) // 2
        return [*await self.embed(texts[:middle]), *await self.embed(texts[middle:])]

    def _unit(self, vector: npt.NDArray[np.float64]) -> Vector | Problem:
        """Scale to length 1, in float64: in float32 what is far from it would become zeros."""
        with np.errstate(all="ignore"):
            length = float(np.linalg.norm(vector))
        if vector.ndim != 1 or not vector.size or not math.isfinite(length):
            return EMBEDDER_FAILURES.problem(NonsenseReply("what the server sent is no vector"))
        self._dimensions = self._dimensions or vector.size
        if vector.size != self._dimensions:
            changed = f"vectors had {self._dimensions} numbers, now {vector.size}: another model?"
            return EMBEDDER_FAILURES.problem(NonsenseReply(changed))
        return (vector / length if length > 0 else vector).astype(np.float32)
