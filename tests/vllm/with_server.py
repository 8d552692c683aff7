"""Run a command beside a vLLM server, and end the server.

usage: python tests/vllm/with_server.py COMMAND [ARGUMENT ...]

The command finds the server's URL in MEDREWARD_TEST_JUDGE_URL.
"""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

from medreward.engines.models import locate
from medreward.settings import default_models_dir

MODEL = "smollm2-135m-instruct"
START_S = 300.0
STOP_S = 30.0


def main() -> int:
    """Give the command's exit status."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # Its own console script asks for the metadata of a distribution that the CPU build is not.
    server = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    server += ["--model", locate(MODEL, default_models_dir()), "--served-model-name", MODEL]
    server += ["--host", "127.0.0.1", "--port", str(port), "--enforce-eager"]
    server += ["--max-model-len", "2048", "--kv-cache-memory-bytes", str(2**30)]
    environment = os.environ | {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
    with subprocess.Popen(server, env=environment, process_group=0) as serving:  # noqa: S603 - a server of ours
        try:
            wait_until_healthy(f"http://127.0.0.1:{port}/health", serving)
            url = {"MEDREWARD_TEST_JUDGE_URL": f"http://127.0.0.1:{port}/v1"}
            return subprocess.run(sys.argv[1:], env=os.environ | url, check=False).returncode  # noqa: S603 - the caller's
        finally:
            stop(serving)


def wait_until_healthy(url: str, serving: "subprocess.Popen[bytes]") -> None:
    """Wait for the model to be loaded."""
    give_up_s = time.monotonic() + START_S
    while time.monotonic() < give_up_s and serving.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - our own address
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.5)
    raise SystemExit("the vLLM server did not start")


def stop(serving: "subprocess.Popen[bytes]") -> None:
    """End the server, and whatever it started."""
    serving.terminate()
    try:
        serving.wait(STOP_S)
    except subprocess.TimeoutExpired:
        os.killpg(serving.pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
