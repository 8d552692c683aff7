"""The embedder behind a server: what is found out at its start, and several servers of one mind."""

import base64
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import httpx
import numpy as np
import pytest

from medreward.engines.embedder import Vector, cosine, is_sound
from medreward.engines.embedders.openai import BATCH_TEXTS, OpenAiEmbedder
from medreward.errors import BackendDown, NonsenseReply, Problem, SetupError
from tests.service.engines.judge_servers import SHORT_PAUSES

pytestmark = pytest.mark.anyio

Embed = Callable[[str], list[float]]


def by_digest(size: int = 8, seed: str = "") -> Embed:
    """A model: each text points somewhere of its own."""

    def embed(text: str) -> list[float]:
        digest = hashlib.sha256((seed + text).encode()).digest()
        return [byte / 127.5 - 1.0 for byte in digest[:size]]

    return embed


class EmbeddingServer:
    """A server with `/v1/embeddings`: TEI, infinity, vLLM or llama.cpp, by what it takes."""

    def __init__(
        self, model: Embed | None = None, *, compact: str = "yes", most_texts: int = 1000
    ) -> None:
        self.model = model or by_digest()
        self.compact = compact
        self.most_texts = most_texts
        self.too_many = 413
        """What it says to more texts than it takes."""
        self.fails_with: int | None = None
        self.bodies: list[dict[str, Any]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        if self.fails_with is not None:
            return httpx.Response(self.fails_with)
        if request.method == "GET":
            return httpx.Response(200, json={"data": []})
        body = json.loads(request.content)
        self.bodies.append(body)
        is_base64 = body["encoding_format"] == "base64"
        if is_base64 and self.compact == "refused":
            return httpx.Response(422)
        if len(body["input"]) > self.most_texts:
            return httpx.Response(self.too_many)
        vectors = [self._written(self.model(text), is_base64) for text in body["input"]]
        rows = [{"index": i, "embedding": vector} for i, vector in enumerate(vectors)]
        return httpx.Response(200, json={"data": rows})

    def _written(self, vector: list[float], is_base64: bool) -> object:
        if not is_base64 or self.compact == "ignored":
            return vector
        order = ">f4" if self.compact == "other way round" else "<f4"
        return base64.b64encode(np.asarray(vector, dtype=order).tobytes()).decode()


@asynccontextmanager
async def started(*servers: EmbeddingServer, **options: Any) -> AsyncIterator[OpenAiEmbedder]:
    """An embedder that has found out about its servers."""
    hosts = {f"embed{n}": server for n, server in enumerate(servers)}
    transport = httpx.MockTransport(lambda request: hosts[request.url.host](request))
    urls = [f"http://{host}/v1" for host in hosts]
    built = OpenAiEmbedder(*urls, model="m", pauses=SHORT_PAUSES, transport=transport, **options)
    async with aclosing(built) as embedder:
        await embedder.start()
        yield embedder


def sound(vectors: Any) -> list[Vector]:
    """The vectors, if all are."""
    assert all(not isinstance(v, Problem) and is_sound(v, "") for v in vectors)
    return list(vectors)


@pytest.mark.parametrize(
    ("compact", "form"),
    [("yes", "base64"), ("refused", "float"), ("ignored", "float"), ("other way round", "float")],
)
async def test_vectors_come_in_base64_where_that_gives_the_same(compact: str, form: str) -> None:
    """A third of the bytes, if the server takes it, does it, and means the same by it."""
    server = EmbeddingServer(compact=compact)

    async with started(server) as embedder:
        server.bodies.clear()
        (vector,) = sound(await embedder.embed(["mass"]))

    assert [body["encoding_format"] for body in server.bodies] == [form]
    assert cosine(vector, np.asarray(by_digest()("mass"), np.float32)) > 0


async def test_both_formats_give_the_same_vectors() -> None:
    """To the precision of float32."""
    texts = [f"finding {n}" for n in range(20)]
    float_only = EmbeddingServer(compact="refused")
    async with started(EmbeddingServer()) as one, started(float_only) as two:
        ones, twos = sound(await one.embed(texts)), sound(await two.embed(texts))

    assert np.allclose(ones, twos, atol=1e-6)


@pytest.mark.parametrize(("most_texts", "batch"), [(1000, BATCH_TEXTS), (32, 32), (50, 32), (1, 1)])
async def test_the_batch_is_what_the_server_takes(most_texts: int, batch: int) -> None:
    """Found out once at the start, so that no batch is sent twice; some take 32 texts."""
    server = EmbeddingServer(most_texts=most_texts, compact="refused")

    if most_texts == 1:
        with pytest.raises((BackendDown, NonsenseReply)):
            async with started(server):
                pass
        return
    async with started(server) as embedder:
        assert embedder.capacity.batch == batch
        server.bodies.clear()
        sound(await embedder.embed([f"t{n}" for n in range(batch)]))

    assert [len(body["input"]) for body in server.bodies] == [batch]


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_batch_that_overloads_the_server_is_made_smaller(status: int) -> None:
    """TEI has a permit for each text and answers 429 where there are too few; others fall over."""
    server = EmbeddingServer(most_texts=64)
    server.too_many = status

    async with started(server) as embedder:
        assert embedder.capacity.batch == 64


async def test_a_batch_is_bounded_in_tokens_too() -> None:
    """What the batcher is told, so that long texts do not fill a server's memory."""
    async with started(EmbeddingServer(), EmbeddingServer()) as embedder:
        assert embedder.capacity.tokens is not None
        assert embedder.capacity.concurrency == 8


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(lambda _text: [0.0, 0.0], id="zeros"),
        pytest.param(lambda _text: [], id="nothing"),
        pytest.param(lambda _text: ["a"], id="text"),
        pytest.param(lambda _text: [[1.0]], id="a matrix"),
    ],
)
async def test_an_embedder_that_embeds_nothing_is_noticed_at_the_start(model: Any) -> None:
    """Before a sample could get a similarity of 0 from it."""
    with pytest.raises(NonsenseReply):
        async with started(EmbeddingServer(model)):
            pass


@pytest.mark.parametrize("other", [by_digest(seed="b"), by_digest(size=16)])
async def test_another_model_beside_the_first_or_after_it_is_refused(other: Embed) -> None:
    """Vectors of two models, also of the same size, cannot be compared."""
    with pytest.raises(SetupError, match="MEDREWARD_EMBEDDER_URL"):
        async with started(EmbeddingServer(), EmbeddingServer(other)):
            pass
    server = EmbeddingServer()
    async with started(server) as embedder:
        server.model = other
        with pytest.raises(SetupError, match="restart the service"):
            await embedder.start()
        server.model = by_digest()
        await embedder.start()


async def test_one_server_of_three_that_fails_costs_no_vector() -> None:
    """The others are asked; also where it was down at the start."""
    servers = [EmbeddingServer() for _ in range(3)]
    servers[0].fails_with = 503
    async with started(*servers) as embedder:
        early = [sound(await embedder.embed([f"a{n}"])) for n in range(6)]
        servers[1].fails_with = 500
        late = [sound(await embedder.embed([f"b{n}"])) for n in range(6)]

    assert len(early + late) == 12
    assert servers[0].bodies == []


async def test_half_a_character_can_be_embedded() -> None:
    """What is no UTF-8 is sent as JSON's escape."""
    server = EmbeddingServer(lambda _text: [1.0, 2.0])

    async with started(server) as embedder:
        sound(await embedder.embed(["\ud800", "b"]))

    assert server.bodies[-1]["input"] == ["\ud800", "b"]
