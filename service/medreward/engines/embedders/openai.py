"""An embedder behind any server with `/v1/embeddings`: TEI, infinity, vLLM, llama.cpp, hosted ones."""

import base64
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, Unpack

import numpy as np
import numpy.typing as npt
import structlog

from medreward.admission import Deadline
from medreward.engines.bisection import bisect
from medreward.engines.capacity import Capacity
from medreward.engines.embedder import Vector, cosine, is_sound
from medreward.engines.remote.http_client import REFUSAL_STATUS, Reply, encoded, json_of
from medreward.engines.remote.pool import Server, ServerOptions, ServerPool
from medreward.errors import (
    EMBEDDER_FAILURES,
    BackendDown,
    EngineError,
    NonsenseReply,
    Problem,
    ProblemKind,
    SetupError,
)
from medreward.offload import Offloader

BATCH_TEXTS = 256
BATCH_TOKENS = 16_384
"""A batch that most servers accept (TEI's own default): hundreds of texts of an answer's length."""
BATCHES_IN_FLIGHT = 4
PROBES = ("left lower lobe", "fracture of the femur")
SAME_COSINE = 0.999
"""Least cosine of two vectors of the same model, for the rounding of half precision."""

log = structlog.get_logger(__name__)

Rows = list[npt.NDArray[np.float64]]


class OpenAiEmbedder:
    """Sends texts in batches; the server truncates or refuses texts over its model's window."""

    def __init__(
        self,
        *urls: str,
        model: str,
        revision: str | None = None,
        offload: Offloader | None = None,
        **options: Unpack[ServerOptions],
    ) -> None:
        self._model = model
        self._offload = offload or Offloader()
        self._servers = ServerPool(urls, in_flight_each=BATCHES_IN_FLIGHT, **options)
        self._servers.examine = self._examine
        self._format = "float"
        self._dimensions: int | None = None
        """The size of the first vector, which all others must have."""
        self._expected: Sequence[Vector] | None = None
        """Vectors of the probes at the first start."""
        self.identity = f"openai:{model}@{revision or 'default'}"
        self.capacity = Capacity(BATCH_TEXTS, BATCHES_IN_FLIGHT * len(urls), BATCH_TOKENS)

    async def start(self) -> None:
        """Discover the servers' batch size and format, and check that their vectors agree.

        A later start checks that they still agree with the first, whose vectors are cached.

        Raises:
            EngineError: none of them answers yet.
            SetupError: they return different vectors for the same text.
        """
        found = await self._servers.ask_each(self._visit)
        first, *_ = found.values()
        expected = self._expected or first.vectors
        for other in found.values():
            _check_same(expected, other.vectors)
        self._expected, self._dimensions = expected, expected[0].size
        self._format = "base64" if all(one.is_compact for one in found.values()) else "float"
        batch = min(one.batch for one in found.values())
        self.capacity = replace(self.capacity, batch=batch)
        for server in found:
            server.breaker.succeeded()
        log.info("embedder_found", format=self._format, batch=batch)

    async def embed(self, texts: Sequence[str]) -> Sequence[Vector | Problem]:
        """Embed each text."""
        return await bisect(texts, partial(self._embed, deadline=self._servers.deadline()))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._servers.aclose()

    async def _embed(
        self, texts: Sequence[str], deadline: Deadline
    ) -> list[Vector | Problem] | Problem:
        """Send one request; a problem if the server refuses it, for a long text or for too many."""
        content = encoded(self._body(texts, self._format))
        reply = await self._servers.post("embeddings", content, deadline)
        if reply.status in REFUSAL_STATUS:
            message = f"embedder: the server refuses this text ({reply.status})"
            return Problem(ProblemKind.TOO_LONG, message)
        return await self._offload.run(lambda: self._read(reply, len(texts)), len(texts))

    def _read(self, reply: Reply, texts: int) -> list[Vector | Problem]:
        vectors = _vectors(json_of(reply), texts, self._format)
        return [self._sized(_unit(vector)) for vector in vectors]

    def _body(self, texts: Sequence[str], form: str) -> dict[str, object]:
        return {"model": self._model, "input": list(texts), "encoding_format": form}

    async def _visit(self, server: Server) -> "Found":
        plain = await self._probe(server, PROBES, "float")
        is_compact = await self._has_base64(server, plain)
        return Found(plain, is_compact, await self._batch_of(server))

    async def _has_base64(self, server: Server, plain: Sequence[Vector]) -> bool:
        """Return True if the server sends the same vectors in base64, which is a third of the bytes."""
        try:
            _check_same(plain, await self._probe(server, PROBES, "base64"))
        except (EngineError, SetupError):
            return False
        return True

    async def _batch_of(self, server: Server) -> int:
        """Find the most short texts that a server takes at once; for some it is 32."""
        batch = BATCH_TEXTS
        while batch > 1:
            body = self._body([PROBES[0]] * batch, "float")
            reply = await self._servers.ask(server, "POST", "embeddings", body)
            if reply.is_success and reply.is_json:
                break
            batch //= 2
        return batch

    async def _probe(self, server: Server, texts: Sequence[str], form: str) -> list[Vector]:
        reply = await self._servers.ask(server, "POST", "embeddings", self._body(texts, form))
        vectors = [_unit(vector) for vector in _vectors(json_of(reply), len(texts), form)]
        sound = [v for v in vectors if not isinstance(v, Problem) and is_sound(v, "")]
        if len(sound) < len(texts):
            raise NonsenseReply("what the server sends for a probe is no vector")
        return sound

    async def _examine(self, server: Server) -> None:
        """Check that an ejected server still has the same model."""
        if self._expected is None:
            raise BackendDown("the embedder has not started yet")
        _check_same(self._expected, await self._probe(server, PROBES, self._format))

    def _sized(self, vector: Vector | Problem) -> Vector | Problem:
        """Return a vector, or a problem if its size differs from that of the first one."""
        if isinstance(vector, Problem):
            return vector
        self._dimensions = self._dimensions or vector.size
        if vector.size == self._dimensions:
            return vector
        sizes = f"vectors had {self._dimensions} numbers, now {vector.size}: another model?"
        return EMBEDDER_FAILURES.problem(NonsenseReply(sizes))


class Found(NamedTuple):
    """The probes' vectors of one server, and the requests that it takes."""

    vectors: Sequence[Vector]
    """Vectors of the probes."""
    is_compact: bool
    batch: int


def _unit(vector: npt.NDArray[np.float64]) -> Vector | Problem:
    """Scale to length 1 in float64: in float32, very large or small vectors would become zeros."""
    with np.errstate(all="ignore"):
        length = float(np.linalg.norm(vector))
    if vector.ndim != 1 or not vector.size or not math.isfinite(length):
        return EMBEDDER_FAILURES.problem(NonsenseReply("what the server sent is no vector"))
    return (vector / length if length > 0 else vector).astype(np.float32)


def _vectors(told: Any, texts: int, form: str) -> Rows:
    """Parse one vector for each text, by their numbers.

    Raises:
        NonsenseReply: the reply does not hold them.
    """
    try:
        rows = sorted(told["data"], key=lambda row: row["index"])
        vectors = [_numbers(row["embedding"], form) for row in rows]
    except (KeyError, TypeError, ValueError, OverflowError) as exc:
        raise NonsenseReply("the server's reply holds no vectors") from exc
    if [row["index"] for row in rows] != list(range(texts)):
        raise NonsenseReply(f"the server's reply to {texts} texts is not one vector each")
    return vectors


def _numbers(embedding: Any, form: str) -> npt.NDArray[np.float64]:
    """Parse a list of numbers, or base64 of little-endian float32."""
    if form == "base64":
        raw = base64.b64decode(embedding, validate=True)
        return np.frombuffer(raw, dtype="<f4").astype(np.float64)
    return np.asarray(embedding, dtype=np.float64)


def _check_same(ones: Sequence[Vector], others: Sequence[Vector]) -> None:
    """Refuse vectors that cannot be from the same model."""
    for one, other in zip(ones, others, strict=True):
        if one.size != other.size or cosine(one, other) < SAME_COSINE:
            raise SetupError(
                "the servers of MEDREWARD_EMBEDDER_URL give different vectors for the same text, or "
                "others than at the start: give them one model and revision, or restart the service"
            )
