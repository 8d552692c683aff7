"""What befalls the commands of `medreward-client`, each told in words: no traceback reaches a user."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from medreward_client._cli.commands import app
from tests.client_adapters.told_service import RIGHT, told_service
from tests.support.logs import logging_restored
from tests.support.misfortunes import (
    CLOSED_PORT,
    FILES,
    FULL,
    PROXIES,
    URLS,
    assert_told,
    files_of_at_most,
    with_streams,
    wrong_file,
    wrong_server,
)

ASKING = {
    "score": ["score", "good.jsonl", "--out", "out.jsonl", "--deadline", "1", "--url"],
    "health": ["health"],
}
SCORING = ["score", "--deadline", "1", "--url", CLOSED_PORT]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a right file, in which commands run, and a bare environment."""
    for name in list(os.environ):
        if name.startswith(("MEDREWARD_", "SSL_CERT")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    Path("good.jsonl").write_text(f"{json.dumps({'response': RIGHT, 'reference': 'left lung'})}\n")
    return tmp_path


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Something else than a service."""
    with wrong_server() as url:
        yield url


def invoked(*arguments: object, environment: Mapping[str, str] | None = None) -> Result:
    """Run a command in this process; what would be a traceback is raised."""
    # `health` silences the log for its whole process, which is that of all tests here.
    with logging_restored():
        done = CliRunner().invoke(app, [*map(str, arguments)], env=environment)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_cannot_be_read_is_told(kind: str, folder: Path) -> None:
    """By its name, before anything is sent; nothing of it is shown."""
    path = wrong_file(folder, kind)
    done = invoked(*SCORING, path, "--out", "out.jsonl")

    assert_told("medreward-client", done.exit_code, done.stderr, names=path)
    assert "left lo" not in done.output


# An empty file, or one with the beginning of a result, is what an interrupted run leaves behind.
@pytest.mark.parametrize(
    "kind", [kind for kind in FILES if kind not in {"missing", "empty", "cut off"}]
)
def test_a_file_that_cannot_hold_results_is_told(kind: str, folder: Path) -> None:
    """Before anything is sent; what it holds is left alone."""
    path = wrong_file(folder, kind)
    done = invoked(*SCORING, "good.jsonl", "--out", path)

    assert_told("medreward-client", done.exit_code, done.stderr)
    assert str(path.parent) in done.stderr


@pytest.mark.parametrize("device", [os.devnull, FULL, "pipe"])
def test_a_device_that_cannot_hold_results_is_told(device: str | Path) -> None:
    """The next run could not read what is there; some devices can be read without an end."""
    os.mkfifo("pipe")
    done = invoked(*SCORING, "good.jsonl", "--out", device)

    assert_told("medreward-client", done.exit_code, done.stderr, names=device)
    assert "name a file" in done.stderr


def test_a_full_disk_is_told() -> None:
    """By the file that it was to hold; what was written is whole lines, for the next run."""
    with told_service() as service, files_of_at_most(16):
        done = invoked("score", "good.jsonl", "--out", "out.jsonl", "--url", service.url)

    assert_told("medreward-client", done.exit_code, done.stderr, names="out.jsonl: File too large")


@pytest.mark.parametrize("wrong", URLS)
@pytest.mark.parametrize("command", ASKING)
def test_an_address_that_is_wrong_is_told(command: str, wrong: str, server: str) -> None:
    """By commands that ask a service; `doctor` tells more."""
    done = invoked(*ASKING[command], URLS[wrong].format(server=server))

    assert_told("medreward-client", done.exit_code, done.stderr)


@pytest.mark.parametrize("wrong", URLS)
def test_the_diagnosis_of_a_wrong_address_is_told(wrong: str, server: str) -> None:
    """With advice, on standard output: it is the result of `doctor`."""
    done = invoked("doctor", URLS[wrong].format(server=server))

    assert done.exit_code == 1
    assert "Mend this, and ask again." in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MEDREWARD_URL", "judge"),
        ("MEDREWARD_URL", f"{CLOSED_PORT}\r"),
        ("MEDREWARD_API_KEY", "schlüssel"),
        ("MEDREWARD_API_KEY", "key\r"),
    ],
)
@pytest.mark.parametrize("command", ASKING)
def test_a_variable_that_is_wrong_is_told(command: str, variable: str, value: str) -> None:
    """A variable for the service's address or key; a key is never shown."""
    known = {"MEDREWARD_URL": CLOSED_PORT, variable: value}
    asking = [part for part in ASKING[command] if part != "--url"]
    done = invoked(*asking, environment=known)

    assert_told("medreward-client", done.exit_code, done.stderr, names=variable)
    assert "schlüssel" not in done.output


# Certificates are loaded once in a process: a test of proxies has one of its own.
@pytest.mark.parametrize("wrong", [name for name in PROXIES if name != "no certificates"])
def test_a_proxy_that_cannot_be_used_is_told(wrong: str) -> None:
    """By the variable that names it; a network in NO_PROXY is fine, and only the service is away."""
    (variable,) = PROXIES[wrong]
    url = CLOSED_PORT.replace("http", "https") if variable == "HTTPS_PROXY" else CLOSED_PORT
    done = invoked(*ASKING["score"], url, environment=PROXIES[wrong])

    names = "127.0.0.1:9" if variable == "NO_PROXY" else variable
    assert_told("medreward-client", done.exit_code, done.stderr, names=names)


@pytest.mark.parametrize("asked", [["path", "easyr1"], ["--help"]])
@pytest.mark.parametrize(
    ("stdout", "words"),
    [
        ("closed", ["medreward-client: standard output cannot be written: Bad file descriptor"]),
        ("full", ["medreward-client: standard output cannot be written: No space left on device"]),
        ("unread", []),
    ],
)
def test_a_result_that_nobody_can_have_is_told(
    asked: list[str], stdout: str, words: list[str]
) -> None:
    """And makes the command fail; a reader that has had enough needs no words."""
    command = [sys.executable, "-m", "medreward_client", *asked]
    done = with_streams(command, stdout=stdout)

    assert done.returncode == 1
    assert done.stderr.splitlines() == words


def test_samples_of_a_pipe_are_scored(folder: Path) -> None:
    """Such as `<(zcat rollouts.jsonl.gz)` in a shell, which can be read only once."""
    with told_service() as service:
        done = subprocess.run(  # noqa: S603 - our own program
            [
                "/bin/bash",
                "-c",
                '"$@" <(cat good.jsonl) --out out.jsonl',
                "bash",
                *[sys.executable, "-m", "medreward_client", "score", "--url", service.url],
            ],
            capture_output=True,
            text=True,
            check=False,
            cwd=folder,
        )

    assert len(service.samples) == 1, done.stderr


def test_a_command_without_its_streams_goes_on(folder: Path) -> None:
    """As under a supervisor that closes them: there is nothing to read, and nobody to tell."""
    command = [sys.executable, "-m", "medreward_client", *SCORING, "-", "--out", "out.jsonl"]
    done = subprocess.run(  # noqa: S603 - our own program
        ["/bin/bash", "-c", '"$@" <&- >&- 2>&-', "bash", *command], check=False, cwd=folder
    )

    assert done.returncode == 2
