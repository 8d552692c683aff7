"""The same reward as a service, written the obvious way: FastAPI, pydantic, `re`, cachetools.

Bodies are pydantic models in the route's signature, replies are the return type, the
response is read by the published expressions, and verdicts are kept in a TTLCache under a SHA-256
of their JSON. A sample is a coroutine; nothing is asked in batches, nor once for many.
"""

import asyncio
import hashlib
import json
import math
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import httpx
import numpy as np
from cachetools import TTLCache
from fastapi import FastAPI
from pydantic import BaseModel

from baselines.medix_r1 import MODEL, PUBLISHED, Reading, question, read

EMBEDDER = "abhinand/MedEmbed-large-v0.1"
THRESHOLD = 0.80
AT_A_TIME = 16
CACHE_S = 3600.0
CACHE_ENTRIES = 200_000


class Sample(BaseModel):
    """One thing to score."""

    response: str
    reference: str
    id: str | None = None
    group: str | None = None
    question: str | None = None
    modality: str | None = None


class RewardRequest(BaseModel):
    """Body of `POST /reward`."""

    samples: list[Sample]
    recipe: str | None = None
    deadline_ms: int | None = None


class Component(BaseModel):
    """One signal's say."""

    value: float
    weight: float
    source: str
    p_yes: float | None = None
    coverage: float | None = None
    cosine: float | None = None


class SampleResult(BaseModel):
    """What became of one sample."""

    id: str | None
    status: str
    reward: float | None = None
    components: dict[str, Component]
    flags: list[str]
    error: str | None = None


class RewardReply(BaseModel):
    """Reply of `POST /reward`."""

    results: list[SampleResult]
    counts: dict[str, int]
    provenance: dict[str, str]
    timings_ms: dict[str, float]


class Scores(NamedTuple):
    """What judge and embedder said of one pair."""

    p_yes: float
    coverage: float
    cosine: float


class Engines:
    """The judge's and the embedder's server, and what they said before."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._slots = asyncio.Semaphore(AT_A_TIME)
        self._known: TTLCache[str, Scores] = TTLCache(CACHE_ENTRIES, CACHE_S)
        self.asked = 0

    async def scores(self, reading: Reading) -> tuple[Scores, str]:
        """Say what is known of a pair, asking if need be."""
        named = {"judge": MODEL, "answer": reading.answer, "reference": reading.reference}
        key = hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()
        known = self._known.get(key)
        if known is not None:
            return known, "cache"
        async with self._slots:
            p_yes, coverage = await self._judge(reading)
            cosine = await self._compare(reading)
        self._known[key] = Scores(p_yes, coverage, cosine)
        return self._known[key], "judge"

    async def _judge(self, reading: Reading) -> tuple[float, float]:
        self.asked += 1
        body = question(reading) | {"max_tokens": 1, "logprobs": True, "top_logprobs": 20}
        reply = await self._http.post("chat/completions", json=body)
        reply.raise_for_status()
        tokens = reply.json()["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        masses = {"YES": 0.0, "NO": 0.0}
        for token in tokens:
            word = token["token"].strip().upper()
            if word in masses:
                masses[word] += math.exp(token["logprob"])
        coverage = sum(masses.values())
        return masses["YES"] / coverage, coverage

    async def _compare(self, reading: Reading) -> float:
        body = {"model": EMBEDDER, "input": [reading.answer, reading.reference]}
        reply = await self._http.post("embeddings", json=body)
        reply.raise_for_status()
        rows: list[Any] = reply.json()["data"]
        answer, reference = (np.asarray(row["embedding"]) for row in rows)
        lengths = np.linalg.norm(answer) * np.linalg.norm(reference)
        return float(answer @ reference / lengths)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Keep one client for as long as the app lives."""
    async with httpx.AsyncClient(base_url=os.environ["ENGINES_URL"], timeout=60.0) as http:
        app.state.engines = Engines(http)
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/livez")
async def livez() -> dict[str, str]:
    """Tell that the process answers."""
    return {"status": "alive"}


@app.post("/reward")
async def reward(body: RewardRequest) -> RewardReply:
    """Score the samples."""
    started = time.perf_counter()
    engines: Engines = app.state.engines
    asked = engines.asked
    results = await asyncio.gather(*(_score(sample, engines) for sample in body.samples))
    sources = [part.source for result in results for part in result.components.values()]
    return RewardReply(
        results=results,
        counts={
            "scored": len(results),
            "unscored": 0,
            "cache_hits": sources.count("cache"),
            "coalesced": 0,
            "judge_calls": engines.asked - asked,
        },
        provenance={"recipe": "medix-r1", "judge": MODEL, "embedder": EMBEDDER, "service": "plain"},
        timings_ms={"total": 1000 * (time.perf_counter() - started)},
    )


async def _score(sample: Sample, engines: Engines) -> SampleResult:
    reading = read(sample.response, sample.reference)
    if reading.accuracy is None:
        scores, source = await engines.scores(reading)
        judged = float(scores.p_yes > 0.5)  # noqa: PLR2004 - half is half
        near = float(scores.cosine >= THRESHOLD)
    else:
        scores, source = None, "rule"
        judged = near = reading.accuracy
    components = {
        "accuracy_llm": Component(
            value=judged,
            weight=PUBLISHED.judge,
            source=source,
            p_yes=scores and scores.p_yes,
            coverage=scores and scores.coverage,
        ),
        "accuracy_embed": Component(
            value=near, weight=PUBLISHED.embed, source=source, cosine=scores and scores.cosine
        ),
        "modality": Component(value=reading.modality, weight=PUBLISHED.modality, source="rule"),
        "format": Component(value=reading.format, weight=PUBLISHED.format, source="rule"),
    }
    overall = sum(part.value * part.weight for part in components.values())
    return SampleResult(
        id=sample.id, status="scored", reward=overall, components=components, flags=[]
    )
