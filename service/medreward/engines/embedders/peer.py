"""An embedder in other processes of the same service, with the role `embed`."""

import base64
import binascii
from collections.abc import Sequence
from typing import Any

import numpy as np

from medreward.engines.embedder import Vector, unpack_vector
from medreward.engines.remote.peer import Peer
from medreward.engines.remote.peer_schemas import EMBED, Embedded, Row
from medreward.errors import EMBEDDER_FAILURES, NonsenseReply, Problem


class RoleEmbedder(Peer[str, Vector]):
    """Sends texts to the processes that hold the model."""

    role = "embed"
    path = EMBED
    failures = EMBEDDER_FAILURES

    async def embed(self, texts: Sequence[str]) -> Sequence[Vector | Problem]:
        """Embed each text."""
        return await self._answers(texts)

    def _body(self, questions: Sequence[str]) -> dict[str, object]:
        return {"texts": list(questions)}

    def _read(self, told: Any, questions: Sequence[str]) -> list[Vector | Problem]:
        rows = Embedded.model_validate(told).answers
        return [_vector(row) for row, _ in zip(rows, questions, strict=True)]


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
