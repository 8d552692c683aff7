"""The commands with a vLLM judge, as processes: they score, and stop without leaving anything."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.process import Service, medreward_command
from tests.support.wait import wait_until
from tests.vllm.conftest import MODEL, processes_of

CHOSEN: dict[str, Any] = {
    "judge": "vllm",
    "judge_model": MODEL,
    "embedder": "hashed",
    "recipe": "medix-r1-guarded",
    "vllm_kv_cache_gib": 1,
    "deadline_s": 60,
}
PATIENT_TEXT = "Mrs Roe, mass in the left lower lobe"
IN_FLIGHT = 24


def sample(number: int) -> dict[str, str]:
    """One that the judge has to be asked about."""
    answer = f"<answer>{PATIENT_TEXT}, case {number}</answer>"
    return {
        "response": f"<X_RAY><thinking>…</thinking>{answer}",
        "reference": "left lower lobe",
        "modality": "X_RAY",
    }


def statuses_of(url: str) -> list[str]:
    """What becomes of the samples of one request."""
    body = {"samples": [sample(number) for number in range(IN_FLIGHT)]}
    reply = httpx.post(f"{url}/reward", json=body, timeout=120, trust_env=False)
    return [result["status"] for result in reply.json()["results"]]


def has_a_request(url: str) -> bool:
    """Whether the service works at a request to score something."""
    exposition = httpx.get(f"{url}/metrics", trust_env=False).text
    return "medreward_inflight_requests 1.0" in exposition


@contextmanager
def in_a_group() -> Iterator[Service]:
    """`medreward serve` in a process group of its own, like one that was started from a terminal."""
    with Service(**CHOSEN) as service:
        service.spawn(process_group=0)
        try:
            yield service
        finally:
            # The engine's processes are in the group too.
            with suppress(ProcessLookupError):
                os.killpg(service.pid, signal.SIGKILL)


def exists(pid: int) -> bool:
    """Whether a process is there and not just a name."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_ctrl_c_finishes_what_is_in_flight_and_leaves_nothing() -> None:
    """The terminal tells every process of the group; the service alone acts on it."""
    with in_a_group() as service:
        service.wait_until_ready()
        processes = processes_of(service.pid)
        assert len(processes) >= 2
        with ThreadPoolExecutor(1) as pool:
            in_flight = pool.submit(statuses_of, service.url)
            wait_until(lambda: has_a_request(service.url) or in_flight.done())
            assert not in_flight.done()

            os.killpg(service.pid, signal.SIGINT)

            statuses = in_flight.result()
        assert service.wait() == 0
        wait_until(lambda: not any(map(exists, processes)))
    assert statuses == ["scored"] * IN_FLIGHT
    assert "Traceback" not in service.stderr
    assert "engine_lost" not in service.stderr
    assert PATIENT_TEXT not in service.stderr


def test_stopping_while_the_engine_starts_leaves_nothing() -> None:
    """SIGTERM with the model half loaded: the command ends soon, and so does what it started."""
    with in_a_group() as service:
        wait_until(lambda: processes_of(service.pid, b"VLLM::"))
        processes = processes_of(service.pid)

        assert service.stop() == 0
        wait_until(lambda: not any(map(exists, processes)))
    assert "Traceback" not in service.stderr


@pytest.mark.parametrize("command", [["check"], ["score", "-"]], ids=["check", "score"])
def test_the_other_commands_start_and_end_an_engine_too(command: list[str]) -> None:
    """`check` finds all well, and `score` gives a reward."""
    with Service(**CHOSEN) as service:
        done = subprocess.run(  # noqa: S603 - our own program
            [medreward_command(), *command],
            input=json.dumps(sample(0)),
            env=service.environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
