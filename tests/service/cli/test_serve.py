"""`medreward serve`: the service as a user runs it, from a real process."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from medreward import NOTICE
from medreward.cli.environment import misspelt_variables
from tests.service.cli.conftest import PROGRAM, Run


class Serving:
    """A service that is ready, and what it has said."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.welcome = ""

    def read_welcome(self) -> None:
        """Read up to the last line of the welcome."""
        assert self._process.stdout is not None
        while NOTICE not in self.welcome:
            line = self._process.stdout.readline()
            assert line, "it ended before it was ready"
            self.welcome += line

    @property
    def url(self) -> str:
        """Where it says that it is."""
        return str(re.findall(r"ready at (\S+)", self.welcome)[0])

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def stop(self, number: signal.Signals) -> tuple[int, str]:
        """Send a signal; gives exit code and log."""
        os.kill(self._process.pid, number)
        return self.ended()

    def ended(self) -> tuple[int, str]:
        """Wait for its end; gives exit code and log."""
        _, log = self._process.communicate(timeout=30)
        return self._process.returncode, log


def waited_for(is_so: Callable[[], bool]) -> None:
    """Wait until something is so, at most ten seconds."""
    give_up_s = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < give_up_s
        time.sleep(0.02)


@contextmanager
def serving(*options: str) -> Iterator[Serving]:
    """Run a service on a free port until it is ready."""
    with subprocess.Popen(  # noqa: S603 - our own program
        [*PROGRAM, "serve", "--port", "0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ},
    ) as process:
        service = Serving(process)
        try:
            service.read_welcome()
            yield service
        finally:
            process.kill()


@pytest.mark.usefixtures("no_models")
def test_the_welcome_tells_what_was_loaded() -> None:
    """Judge, embedder, recipe and fingerprint, address, keys, and what the numbers are not for."""
    with serving() as service:
        assert httpx.get(f"{service.url}/readyz").status_code == 200
        words = " ".join(service.welcome.split())

    assert "judge (scripted) embedder (hashed) loaded in " in words
    assert "recipe medix-r1 sha256:" in words
    assert "listens on 127.0.0.1 port" in words
    assert "keys none are asked for" in words
    assert words.endswith(NOTICE)


@pytest.mark.usefixtures("no_models")
def test_the_welcomes_command_can_be_pasted() -> None:
    """The shell reads it as one command, and its body is a request that is scored."""
    with serving() as service:
        command = service.welcome[service.welcome.index("curl") :].split("\n\n")[0]
        arguments = shlex.split(command)
        body = arguments[arguments.index("-d") + 1]
        reply = httpx.post(arguments[2], content=body.encode())

    assert all(len(line) <= 80 for line in command.splitlines())
    assert reply.json()["results"][0]["status"] == "scored"


@pytest.mark.usefixtures("no_models")
def test_the_welcome_names_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command to paste reads it from the environment."""
    monkeypatch.setenv("MEDREWARD_API_KEYS", "hunter2")
    with serving() as service:
        assert httpx.get(f"{service.url}/version").status_code == 401

    assert "every request has to send one; 1 known" in service.welcome
    assert '-H "Authorization: Bearer $MEDREWARD_KEY"' in service.welcome
    assert "hunter2" not in service.welcome


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.usefixtures("no_models")
def test_it_stops_when_asked(number: signal.Signals) -> None:
    """Both signals end it in order, and that is no failure."""
    with serving() as service:
        code, log = service.stop(number)

    assert code == 0
    assert "Traceback" not in log
    assert log.endswith("stopped\n")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


@pytest.mark.usefixtures("no_models")
def test_told_to_end_it_serves_until_its_callers_can_know(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unready at once, serving during the delay, and then gone, with its admin port."""
    monkeypatch.setenv("MEDREWARD_DRAIN_DELAY_S", "2")
    admin = f"http://127.0.0.1:{(admin_port := free_port())}"
    sample = {"response": "<answer>left</answer>", "reference": "left"}
    with serving("--admin-port", str(admin_port)) as service:
        before = httpx.get(f"{admin}/readyz").status_code
        os.kill(service.pid, signal.SIGTERM)
        waited_for(lambda: httpx.get(f"{admin}/readyz").status_code == 503)
        served = httpx.post(f"{service.url}/reward", json={"samples": [sample]})
        code, log = service.ended()

    assert before == 200
    assert served.json()["results"][0]["status"] == "scored"
    assert served.headers["connection"] == "close"
    assert code == 0
    assert log.endswith("stopped\n")
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{admin}/readyz")


@pytest.mark.usefixtures("no_models")
def test_a_second_signal_ends_the_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is in a hurry need not kill it."""
    monkeypatch.setenv("MEDREWARD_DRAIN_DELAY_S", "600")
    with serving() as service:
        os.kill(service.pid, signal.SIGTERM)
        waited_for(lambda: httpx.get(f"{service.url}/readyz").status_code == 503)
        code, _ = service.stop(signal.SIGTERM)

    assert code == 0


@pytest.mark.usefixtures("no_models")
def test_ctrl_c_waits_for_nobody_to_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    """At a terminal there is nobody to tell."""
    monkeypatch.setenv("MEDREWARD_DRAIN_DELAY_S", "600")
    with serving() as service:
        code, _ = service.stop(signal.SIGINT)

    assert code == 0


def test_a_misspelt_secret_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, run_apart: Run
) -> None:
    """A file that no setting reads would be a service without its key."""
    (tmp_path / "medreward_api_key").write_text("hunter2")
    monkeypatch.setenv("MEDREWARD_SECRETS_DIR", str(tmp_path))

    refused = run_apart("serve", "--port", "0")

    assert refused.code == 2
    assert "MEDREWARD_API_KEY is no setting; did you mean MEDREWARD_API_KEYS?" in " ".join(
        refused.stderr.split()
    )
    assert "hunter2" not in refused.stderr


@pytest.mark.usefixtures("no_models")
def test_the_log_is_one_json_object_a_line() -> None:
    """Whatever reads it need not tell ours from the libraries'."""
    with serving() as service:
        httpx.get(f"{service.url}/version")
        _, log = service.stop(signal.SIGTERM)
    lines = [line for line in log.splitlines() if line.startswith("{")]

    assert [json.loads(line)["event"] for line in lines] == [
        "ready",
        "request",
        "draining",
        "drained",
    ]


@pytest.mark.usefixtures("no_models")
def test_options_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is typed is meant."""
    monkeypatch.setenv("MEDREWARD_RECIPE", "none-such")
    with serving("--recipe", "medix-r1") as service:
        assert "medix-r1" in service.welcome


@pytest.mark.usefixtures("no_models")
def test_a_taken_port_is_named(run_apart: Run) -> None:
    """With the option that chooses another."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = run_apart("serve", "--port", str(port))

    assert told.code == 2
    assert told.stderr.count("\n") == 1
    assert f"cannot listen on 127.0.0.1 port {port} (Address already in use)" in told.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--host", "::"], "set MEDREWARD_API_KEYS"),
        (["--profile", "cloud"], "MEDREWARD_PROFILE: Input should be 'embedded', 'gpu'"),
        (["--recipe", "medix"], "MEDREWARD_RECIPE='medix'; choose from medix-r1"),
    ],
)
def test_a_wrong_setting_is_told_in_one_line(run_apart: Run, options: list[str], said: str) -> None:
    """It names the variable, and ends with 2."""
    told = run_apart("serve", *options)

    assert told.code == 2
    assert told.stderr.count("\n") == 1
    assert said in told.stderr


def test_a_misspelt_setting_is_refused(monkeypatch: pytest.MonkeyPatch, run_apart: Run) -> None:
    """A key in a variable that nobody reads would leave the door open."""
    monkeypatch.setenv("MEDREWARD_API_KEY", "hush")

    told = run_apart("serve", "--port", "0")

    assert told.code == 2
    assert "MEDREWARD_API_KEY is no setting; did you mean MEDREWARD_API_KEYS?" in told.stderr
    assert "hush" not in told.stderr


def test_what_commands_find_a_service_by_is_no_misspelt_setting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever grades and serves in one shell has both."""
    for name in ("MEDREWARD_URL", "MEDREWARD_KEY"):
        monkeypatch.setenv(name, "http://rewards:8080")

    assert misspelt_variables() == {}


def test_models_that_cannot_be_loaded_end_it(
    run_apart: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With the reason, instead of a service that is never ready."""
    monkeypatch.setenv("MEDREWARD_MODELS_DIR", str(tmp_path))
    told = run_apart("serve", "--port", "0")

    assert told.code == 1
    assert "run `medreward models fetch`" in told.stderr.splitlines()[-1]
    assert "Traceback" not in told.stderr


@pytest.mark.models
def test_the_small_models_say_what_they_are_worth() -> None:
    """Nobody should train on them unawares."""
    with serving() as service:
        words = " ".join(service.welcome.split())

    assert "smollm2-135m-instruct shows the machinery and is not fit to train on" in words
    assert "all-minilm-l6-v2 is a general model, not a medical one" in words
