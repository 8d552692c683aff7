"""Same request, same versions: the same rewards, however samples are ordered, batched or crowded."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from medreward.app import create_app
from medreward.settings import Settings
from tests.conftest import loaded

EXAMPLES = Path(__file__).parents[2] / "examples" / "rollouts.jsonl"
ROLLOUTS: list[dict[str, Any]] = [
    json.loads(line) for line in EXAMPLES.read_text("utf-8").splitlines()
]

pytestmark = [pytest.mark.anyio, pytest.mark.models]


@pytest.fixture
async def fresh() -> AsyncIterator[Any]:
    """Services with the embedded models, each with an empty cache."""
    opened = []

    async def make() -> httpx.AsyncClient:
        app = create_app(Settings())
        context = app.router.lifespan_context(app)
        await context.__aenter__()
        service = await loaded(app)
        assert service.engines.readiness.status == "ready", service.engines.readiness
        client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://service", timeout=300
        )
        opened.append((context, client))
        return client

    yield make
    for context, client in opened:
        await client.aclose()
        await context.__aexit__(None, None, None)


async def rewards_of(client: httpx.AsyncClient, samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Score samples, and give each one's reward, signals and probabilities by its id."""
    reply = await client.post("/reward", json={"samples": samples})
    return {result["id"]: result for result in reply.json()["results"]}


def values(result: dict[str, Any]) -> tuple[float, dict[str, float]]:
    """A reward and the values it is made of."""
    return result["reward"], {n: part["value"] for n, part in result["components"].items()}
