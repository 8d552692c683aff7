"""Two servers of one judge, one of which is frozen, killed and started again under load."""

import asyncio
import hashlib
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from medreward.engines.embedders.hashed import HashedEmbedder
from medreward.engines.judge import Judge
from medreward.engines.judges.openai import OpenAiJudge
from tests.conftest import Serve

pytestmark = pytest.mark.anyio

STAND_IN = Path(__file__).parents[2] / "benchmarks" / "stand_ins.py"


class ServerProcess:
    """The stand-in for a model server, in a process of its own."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self.process: subprocess.Popen[bytes] | None = None

    def spawn(self) -> None:
        """Start it."""
        self.process = subprocess.Popen(  # noqa: S603 - what is tested against
            [sys.executable, str(STAND_IN), "--port", str(self.port), "--delay-ms", "2"]
        )

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        self.spawn()
        async with httpx.AsyncClient() as client:
            for _ in range(400):
                try:
                    await client.get(f"http://127.0.0.1:{self.port}/health")
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
                else:
                    return
        raise AssertionError("the stand-in does not answer")

    def send(self, number: signal.Signals) -> None:
        """Freeze it, let it go on, or kill it."""
        assert self.process is not None
        self.process.send_signal(number)
        if number is signal.SIGKILL:
            self.process.wait()


@contextmanager
def two_servers() -> Iterator[tuple[ServerProcess, ServerProcess]]:
    """Two that serve the same model, not started yet; killed in the end."""
    servers = ServerProcess(), ServerProcess()
    try:
        yield servers
    finally:
        for server in servers:
            if server.process is not None and server.process.poll() is None:
                server.send(signal.SIGKILL)


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

    async def load(client: httpx.AsyncClient, start: int) -> int:
        rounds = 0
        while not stop.is_set():
            first = start + 30 * rounds
            await check_scores(client, range(first, first + 30))
            rounds += 1
        return rounds

    with two_servers() as (one, other):
        await asyncio.gather(one.start(), other.start())
        judge: Judge = OpenAiJudge(
            one.url, other.url, model="stand-in", timeout_s=20.0, try_timeout_s=0.5
        )
        async with serve(judge=judge, embedder=HashedEmbedder()) as client:
            loads = [asyncio.create_task(load(client, start)) for start in (0, 10**6, 2 * 10**6)]
            await asyncio.sleep(0.3)
            one.send(signal.SIGSTOP)
            await asyncio.sleep(1.5)
            one.send(signal.SIGCONT)
            await asyncio.sleep(0.3)
            other.send(signal.SIGKILL)
            await asyncio.sleep(1.0)
            await other.start()
            await asyncio.sleep(1.0)
            one.send(signal.SIGKILL)
            await asyncio.sleep(0.5)
            stop.set()
            rounds = await asyncio.gather(*loads)

    assert all(rounds)
