"""An embedder behind any server with `/v1/embeddings`: TEI, infinity, vLLM, hosted ones."""

from collections.abc import Sequence

import numpy as np

from medreward._http import AsyncBaseTransport, json_of, reaching, server
from medreward.embedding.embedder import Vector, unit
from medreward.errors import NonsenseReply, Problem
from medreward.judging.judge import Capacity


class OpenAiEmbedder:
    """Sends texts in batches; the server cuts what is over its model's window."""

    def __init__(
        self,
        url: str,
        *,
        model: str,
        api_key: str | None = None,
        timeout_s: float = 60.0,
        transport: AsyncBaseTransport | None = None,
    ) -> None:
        self._model = model
        self._http = server(url, api_key=api_key, timeout_s=timeout_s, transport=transport)
        self.identity = f"openai:{model}"
        self.capacity = Capacity(batch=64, concurrency=8)

    async def embed(self, texts: Sequence[str]) -> Sequence[Vector | Problem]:
        """Embed each text.

        Raises:
            EngineError: the server cannot be reached, or its reply is not one vector a text.
        """
        body = {"model": self._model, "input": list(texts), "encoding_format": "float"}
        with reaching():
            response = await self._http.post("embeddings", json=body)
        try:
            rows = sorted(json_of(response)["data"], key=lambda row: row["index"])
            vectors = [unit(np.asarray(row["embedding"], dtype=np.float32)) for row in rows]
        except (KeyError, TypeError, ValueError) as exc:
            raise NonsenseReply("the server's reply holds no vectors") from exc
        return vectors

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()
