"""The commands with a vLLM judge, as processes: they score, and stop without leaving anything."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.vllm.conftest import MODEL, processes_of

CHOSEN = {
    "MEDREWARD_JUDGE": "vllm",
    "MEDREWARD_JUDGE_MODEL": MODEL,
    "MEDREWARD_EMBEDDER": "hashed",
    "MEDREWARD_VLLM_KV_CACHE_GIB": "1",
    "MEDREWARD_DEADLINE_S": "60",
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


def statuses_of(port: int) -> list[str]:
    """What becomes of the samples of one request."""
    body = json.dumps({"samples": [sample(number) for number in range(IN_FLIGHT)]}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/reward", body)
    with urllib.request.urlopen(request, timeout=60) as reply:  # noqa: S310 - our own address
        return [result["status"] for result in json.load(reply)["results"]]


MEDREWARD = str(Path(sys.executable).with_name("medreward"))
"""The console script, as people run it: processes that are spawned import it again."""


def environment(port: int) -> dict[str, str]:
    """This one's, but for the settings."""
    bare = {name: value for name, value in os.environ.items() if name[:10] != "MEDREWARD_"}
    kept = {name: os.environ[name] for name in ("MEDREWARD_MODELS_DIR",) if name in os.environ}
    return bare | kept | CHOSEN | {"MEDREWARD_PORT": str(port)}


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def serving(port: int, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """`medreward serve` in a process group of its own, like one started from a terminal."""
    with (
        log.open("wb") as lines,
        subprocess.Popen(  # noqa: S603 - our own program
            [MEDREWARD, "serve"],
            env=environment(port),
            stdout=lines,
            stderr=lines,
            process_group=0,
        ) as service,
    ):
        try:
            yield service
        finally:
            if service.poll() is None:
                os.killpg(service.pid, signal.SIGKILL)


def wait_for(is_so: Callable[[], Any], *, seconds: float) -> None:
    """Wait until something is so."""
    give_up_s = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < give_up_s, "it did not come about"
        time.sleep(0.05)


def is_ready(port: int) -> bool:
    """Whether /readyz says so."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
            return True
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def exists(pid: int) -> bool:
    """Whether a process is there and not just a name."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_ctrl_c_finishes_what_is_in_flight_and_leaves_nothing(tmp_path: Path) -> None:
    """The terminal tells every process of the group; the service alone acts on it."""
    port, log = free_port(), tmp_path / "log"
    with serving(port, log) as service:
        wait_for(lambda: is_ready(port) or service.poll() is not None, seconds=240)
        processes = processes_of(service.pid)
        assert len(processes) >= 2
        with ThreadPoolExecutor(1) as pool:
            in_flight = pool.submit(statuses_of, port)
            time.sleep(0.5)
            assert not in_flight.done()

            os.killpg(service.pid, signal.SIGINT)

            statuses = in_flight.result()
        assert service.wait(60) == 0
        wait_for(lambda: not any(map(exists, processes)), seconds=10)
    said = log.read_text()
    assert statuses == ["scored"] * IN_FLIGHT
    assert "Traceback" not in said
    assert "engine_lost" not in said
    assert PATIENT_TEXT not in said


def test_stopping_while_the_engine_starts_leaves_nothing(tmp_path: Path) -> None:
    """SIGTERM with the model half loaded: the command ends soon, and so does what it started."""
    port, log = free_port(), tmp_path / "log"
    with serving(port, log) as service:
        wait_for(lambda: processes_of(service.pid, b"VLLM::"), seconds=120)
        processes = processes_of(service.pid)

        service.terminate()

        assert service.wait(60) == 0
        wait_for(lambda: not any(map(exists, processes)), seconds=10)
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize("command", [["check"], ["score", "-"]], ids=["check", "score"])
def test_the_other_commands_start_and_end_an_engine_too(command: list[str]) -> None:
    """`check` finds all well, and `score` gives a reward."""
    done = subprocess.run(  # noqa: S603 - our own program
        [MEDREWARD, *command],
        input=json.dumps(sample(0)),
        env=environment(free_port()),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
