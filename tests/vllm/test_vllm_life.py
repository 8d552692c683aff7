"""The vLLM engine's life inside a service: rewards over HTTP, a crash, and what cannot be started."""

import asyncio
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from medreward.engines.judges.vllm_engine import EngineOptions
from medreward.settings import default_models_dir
from tests.vllm.conftest import MODEL, ServeVllm, own_processes

BURST = 48
PATIENT_TEXT = "Mrs Roe, mass in the left lower lobe"


def samples(count: int, mark: str) -> list[dict[str, Any]]:
    """Distinct samples that the judge has to be asked about."""
    return [
        {
            "response": f"<X_RAY><thinking>…</thinking><answer>{PATIENT_TEXT} {mark} {i}</answer>",
            "reference": "left lower lobe",
            "modality": "X_RAY",
        }
        for i in range(count)
    ]


async def reward(client: httpx.AsyncClient, count: int, mark: str) -> list[dict[str, Any]]:
    """The results of one request."""
    reply = await client.post("/reward", json={"samples": samples(count, mark)})
    assert reply.status_code == 200
    results: list[dict[str, Any]] = reply.json()["results"]
    return results


async def engine_state(client: httpx.AsyncClient) -> tuple[int, dict[str, Any]]:
    """The status of /readyz, and what it says of the judge."""
    reply = await client.get("/readyz")
    state: dict[str, Any] = reply.json()["engines"]["judge"]
    return reply.status_code, state


async def wait_until(client: httpx.AsyncClient, status: int, *, seconds: float) -> dict[str, Any]:
    """Wait for /readyz to answer so."""
    async with asyncio.timeout(seconds):
        while (told := await engine_state(client))[0] != status:  # noqa: ASYNC110 - seen from outside
            await asyncio.sleep(0.05)
    return told[1]


@pytest.mark.anyio
async def test_a_crash_costs_the_samples_in_flight_and_nothing_else(
    serve_vllm: ServeVllm, capfd: pytest.CaptureFixture[str]
) -> None:
    """In flight is unscored at once, readyz says so, a new engine comes up, and closing leaves nothing.

    One story, because each engine takes half a minute to start.
    """
    async with serve_vllm() as client:
        assert [r["status"] for r in await reward(client, 3, "before")] == ["scored"] * 3

        in_flight = asyncio.create_task(reward(client, BURST, "during"))
        await asyncio.sleep(0.3)
        (core,) = own_processes(b"EngineCore")
        os.kill(core, signal.SIGKILL)
        killed = time.monotonic()
        results = await in_flight

        lost = [r for r in results if r["status"] == "unscored"]
        assert lost
        assert {r["error"]["kind"] for r in lost} == {"judge_unreachable"}
        assert all(r["reward"] is None and r["error"]["retryable"] for r in lost)
        # Not the judge's time-out of two minutes.
        assert time.monotonic() - killed < 30
        state = await wait_until(client, 503, seconds=10)
        assert "process died" in state["message"]

        # Meanwhile it is said at once that there is no judge.
        (meanwhile,) = await reward(client, 1, "meanwhile")
        assert meanwhile["error"]["kind"] == "judge_unreachable"

        await wait_until(client, 200, seconds=240)
        assert [r["status"] for r in await reward(client, BURST, "during")] == ["scored"] * BURST
    assert own_processes() == []
    assert PATIENT_TEXT not in "".join(capfd.readouterr())


@pytest.mark.anyio
async def test_a_crash_while_idle_is_seen(serve_vllm: ServeVllm) -> None:
    """Nobody has to ask for readyz to know; and a service that stops while it mends ends all."""
    async with serve_vllm() as client:
        (core,) = own_processes(b"EngineCore")
        os.kill(core, signal.SIGKILL)

        state = await wait_until(client, 503, seconds=10)
        assert "process died" in state["message"]
        while core in own_processes() or not own_processes():  # noqa: ASYNC110 - the same
            await asyncio.sleep(0.05)
    assert own_processes() == []


@pytest.mark.anyio
async def test_a_model_that_does_not_fit_is_said_by_readyz(serve_vllm: ServeVllm) -> None:
    """With vLLM's own reason, and the settings that mend it."""
    async with serve_vllm(vllm_kv_cache_gib=0.01) as client:
        status, state = await engine_state(client)

        assert status == 503
        assert "KV cache" in state["message"]
        assert "MEDREWARD_VLLM_KV_CACHE_GIB" in state["message"]
        assert own_processes() == []


@pytest.mark.anyio
async def test_a_model_without_weights_is_said_by_readyz(
    serve_vllm: ServeVllm, tmp_path: Path
) -> None:
    """A folder with a tokenizer is no model yet."""
    folder = tmp_path / "bare"
    ignored = shutil.ignore_patterns("*.safetensors")
    shutil.copytree(default_models_dir() / MODEL, folder, ignore=ignored)

    async with serve_vllm(judge_model=str(folder)) as client:
        status, state = await engine_state(client)

        assert status == 503
        assert "cannot start with the judge" in state["message"]
        assert "weights" in state["message"]
        assert own_processes() == []


@pytest.mark.anyio
async def test_a_model_that_is_none_is_said_by_readyz(
    serve_vllm: ServeVllm, tmp_path: Path
) -> None:
    """An empty folder is refused before any process is started."""
    async with serve_vllm(judge_model=str(tmp_path)) as client:
        status, state = await engine_state(client)

        assert status == 503
        assert "MEDREWARD_JUDGE_MODEL" in state["message"]


def test_further_arguments_reach_the_engine_and_the_judges_identity() -> None:
    """In one order, whichever they were given in; without any, the identity is the precision alone."""
    options = EngineOptions(dtype="bfloat16", more={"quantization": "fp8", "max_num_seqs": 8})

    assert options.arguments()["max_num_seqs"] == 8
    assert options.arguments()["quantization"] == "fp8"
    assert options.identity == "bfloat16:max_num_seqs=8:quantization=fp8"
    assert EngineOptions(dtype="bfloat16").identity == "bfloat16"
