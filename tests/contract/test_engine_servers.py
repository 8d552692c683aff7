"""Two servers of one judge, one of which is frozen, killed and started again under load."""

import asyncio
import hashlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from medreward.engines.embedders.hashed import HashedEmbedder
from medreward.engines.judge import Judge
from medreward.engines.judges.openai import OpenAiJudge
from tests.conftest import Serve
from tests.redis_servers import free_port
from tests.support.process import Program
from tests.support.wait import until

pytestmark = pytest.mark.anyio

STAND_IN = Path(__file__).parents[2] / "benchmarks" / "stand_ins.py"


class ModelServer(Program):
    """The stand-in for a model server, in a process of its own; it keeps its address."""

    def __init__(self) -> None:
        self.port = free_port()
        options = ("--port", str(self.port), "--delay-ms", "2")
        super().__init__([sys.executable, str(STAND_IN), *options], os.environ)
        self.url = f"http://127.0.0.1:{self.port}/v1"

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        self.spawn()
        await until(self._answers)

    async def _answers(self) -> bool:
        async with httpx.AsyncClient(trust_env=False) as client:
            try:
                await client.get(f"http://127.0.0.1:{self.port}/health")
            except httpx.TransportError:
                return False
        return True


def says_yes(answer: str, reference: str) -> bool:
    """What the stand-in's judge says: a hash decides."""
    return hashlib.sha256(f"{answer}\0{reference}".encode()).digest()[0] % 2 == 0


async def check_scores(client: httpx.AsyncClient, numbers: Sequence[int]) -> None:
    """Score samples that no one has asked about; each is scored, and as the judge says."""
    pairs = [(f"finding {number}", f"the finding of case {number}") for number in numbers]
    body: dict[str, Any] = {
        "samples": [
            {
                "response": f"<X_RAY><thinking>hm</thinking><answer>{answer}</answer>",
                "reference": reference,
                "modality": "X_RAY",
            }
            for answer, reference in pairs
        ]
    }
    reply = (await client.post("/reward", json=body)).json()
    for pair, result in zip(pairs, reply["results"], strict=True):
        assert result["status"] == "scored", result["error"]
        assert result["components"]["accuracy_llm"]["value"] == float(says_yes(*pair))


async def test_a_judge_server_that_dies_under_load_costs_no_score(serve: Serve) -> None:
    """Frozen, killed, back again: the other takes over, and every verdict is the right one."""
    stop = asyncio.Event()
    rounds = dict.fromkeys((0, 10**6, 2 * 10**6), 0)

    async def load(client: httpx.AsyncClient, start: int) -> None:
        while not stop.is_set():
            first = start + 30 * rounds[start]
            await check_scores(client, range(first, first + 30))
            rounds[start] += 1

    async def several_rounds() -> None:
        """Wait until each of the loads has been answered a few times more."""
        wanted = {start: count + 3 for start, count in rounds.items()}

        async def are_done() -> bool:
            return all(task.done() or rounds[n] >= wanted[n] for n, task in loads.items())

        await until(are_done)

    with ModelServer() as one, ModelServer() as other:
        await asyncio.gather(one.start(), other.start())
        judge: Judge = OpenAiJudge(
            one.url, other.url, model="stand-in", timeout_s=110.0, try_timeout_s=1.0
        )
        async with serve(judge=judge, embedder=HashedEmbedder()) as client:
            loads = {start: asyncio.create_task(load(client, start)) for start in rounds}
            await several_rounds()
            one.send(signal.SIGSTOP)
            await several_rounds()
            one.send(signal.SIGCONT)
            await several_rounds()
            other.kill()
            await several_rounds()
            await other.start()
            await several_rounds()
            one.kill()
            await several_rounds()
            stop.set()
            await asyncio.gather(*loads.values())

    assert min(rounds.values()) >= 18
