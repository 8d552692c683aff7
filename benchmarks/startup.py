"""How fast and how large: `medreward serve` from its start to readyz, and its resident memory.

usage: python benchmarks/startup.py [remote|embedded|embedded-small] [--rounds 5] [--rollouts examples/rollouts.jsonl]

`remote` talks to a stand-in server that this script runs on loopback; the others load
their models. With --rollouts, rewards a second for that file on a cold and on a warm cache.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

POLL_S = 0.01


class StandIn(BaseHTTPRequestHandler):
    """An OpenAI-compatible server that says YES and embeds everything alike."""

    def do_POST(self) -> None:
        """Answer a chat or an embeddings request."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.endswith("/embeddings"):
            rows = range(len(asked["input"]))
            reply: dict[str, Any] = {"data": [{"index": i, "embedding": [1.0, 0.0]} for i in rows]}
        else:
            tops = [{"token": "YES", "logprob": -0.1}, {"token": "NO", "logprob": -3.0}]
            reply = {"choices": [{"logprobs": {"content": [{"top_logprobs": tops}]}}]}
        body = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def environment(profile: str, port: int, engine_port: int) -> dict[str, str]:
    """The settings of one run."""
    url = f"http://127.0.0.1:{engine_port}/v1"
    remote = {"MEDREWARD_JUDGE_URL": url, "MEDREWARD_EMBEDDER_URL": url}
    # An exam of the judge would take its part of the measured seconds.
    chosen = {"PROFILE": profile, "PORT": str(port), "EXAM": "off"}
    named = {f"MEDREWARD_{name}": value for name, value in chosen.items()}
    return os.environ | named | (remote if profile == "remote" else {})


def wait_until_ready(url: str, started: float, timeout_s: float = 300.0) -> float:
    """Seconds from the start to readyz."""
    while time.perf_counter() - started < timeout_s:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=5):
                return time.perf_counter() - started
        except (urllib.error.URLError, ConnectionError):
            time.sleep(POLL_S)
    raise SystemExit(f"not ready after {timeout_s} s")


def resident_mb(pid: int) -> float:
    """Resident memory of a process, in megabytes (Linux)."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1000


def score(url: str, samples: list[Any]) -> float:
    """Rewards a second for one request."""
    body = json.dumps({"samples": samples, "deadline_ms": 600_000}).encode()
    started = time.perf_counter()
    with urllib.request.urlopen(
        urllib.request.Request(f"{url}/reward", body), timeout=600
    ) as reply:
        results = json.load(reply)["results"]
    if any(result["status"] != "scored" for result in results):
        raise SystemExit("not all samples were scored")
    return len(samples) / (time.perf_counter() - started)


def main() -> None:
    """Run the rounds and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "profile", choices=["remote", "embedded", "embedded-small"], nargs="?", default="remote"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rollouts", type=Path)
    arguments = parser.parse_args()
    engine = ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
    threading.Thread(target=engine.serve_forever, daemon=True).start()
    ready, resident, speeds = [], [], []
    for _ in range(arguments.rounds):
        port = free_port()
        command = [sys.executable, "-m", "medreward", "serve"]
        started = time.perf_counter()
        with subprocess.Popen(
            command,
            env=environment(arguments.profile, port, engine.server_port),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as service:
            url = f"http://127.0.0.1:{port}"
            ready.append(wait_until_ready(url, started))
            resident.append(resident_mb(service.pid))
            if arguments.rollouts:
                lines = arguments.rollouts.read_text("utf-8").splitlines()
                samples = [json.loads(line) for line in lines]
                speeds.append((score(url, samples), score(url, samples)))
                resident[-1] = max(resident[-1], resident_mb(service.pid))
            service.terminate()
    print(f"{arguments.profile}: {arguments.rounds} rounds, medians")
    print(f"  start to readyz  {statistics.median(ready):.2f} s")
    print(f"  resident memory  {statistics.median(resident):.0f} MB")
    if speeds:
        cold, warm = (statistics.median(column) for column in zip(*speeds, strict=True))
        print(f"  rewards/s        {cold:.1f} cold, {warm:.0f} warm")


if __name__ == "__main__":
    main()
