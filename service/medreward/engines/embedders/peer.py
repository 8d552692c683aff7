"""An embedder in another process of ours, of the role `embed`."""

import asyncio
import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import ValidationError

from medreward.engines.capacity import Capacity
from medreward.engines.embedder import Vector, unpack_vector
from medreward.engines.remote.api_key import ApiKey
from medreward.engines.remote.http_client import AsyncBaseTransport
from medreward.engines.remote.peer import Calls
from medreward.engines.remote.peer_schemas import EMBED, Embedded, Row
from medreward.errors import EMBEDDER_FAILURES, NonsenseReply, Problem, ProblemKind
from medreward.offload import Pace


class RoleEmbedder:
    """Hands texts on; the model is the other process's matter."""

    def __init__(
        self,
        *urls: str,
        api_key: ApiKey | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 60.0,
        try_timeout_s: float | None = None,
        pace: Pace | None = None,
        transport: AsyncBaseTransport | None = None,
    ) -> None:
        self._pace = pace or Pace()
        self._calls = Calls(
            urls,
            role="embed",
            key=api_key,
            headers=headers,
            timeout_s=timeout_s,
            try_timeout_s=try_timeout_s,
            transport=transport,
        )
        self.identity = ""
        """That of the engine itself, once it is known."""
        self.capacity = Capacity(1)

    @property
    def model(self) -> str:
        """What the engine's model is called there."""
        return self._calls.facts.model

    async def start(self) -> None:
        """Find out which embedder it is.

        Raises:
            EngineError: no process answers yet.
            SetupError: the processes hold different embedders.
        """
        self.identity = (await self._calls.start()).identity
        self.capacity = self._calls.capacity

    async def embed(self, texts: Sequence[str]) -> Sequence[Vector | Problem]:
        """Embed each text.

        Raises:
            EngineError: no process answers.
        """
        told = await self._calls.ask(EMBED, {"texts": list(texts)})
        if told is None:
            return await self._embed_halves(texts)
        return await self._pace.do(lambda: _read(told, len(texts)), len(texts))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._calls.aclose()

    async def _embed_halves(self, texts: Sequence[str]) -> list[Vector | Problem]:
        if len(texts) == 1:
            return [Problem(ProblemKind.TOO_LONG, "embedder: its process takes no body so large")]
        middle = len(texts) // 2
        first, second = await asyncio.gather(self.embed(texts[:middle]), self.embed(texts[middle:]))
        return [*first, *second]


def _read(told: Any, texts: int) -> list[Vector | Problem]:
    try:
        rows = Embedded.model_validate(told).answers
    except ValidationError as exc:
        raise NonsenseReply("what the embedder's process sent holds no vectors") from exc
    if len(rows) != texts:
        raise NonsenseReply(f"the embedder's process gave {len(rows)} vectors for {texts} texts")
    return [_vector(row) for row in rows]


def _vector(row: Row) -> Vector | Problem:
    if row.error is not None:
        return row.error.problem
    try:
        vector = unpack_vector(base64.b64decode(row.vector, validate=True), "")
    except binascii.Error:
        vector = None
    if vector is None or not np.isfinite(vector).all():
        return EMBEDDER_FAILURES.problem(NonsenseReply("its process sent what is no vector"))
    return vector
