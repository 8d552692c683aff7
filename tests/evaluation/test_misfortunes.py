"""What befalls the commands of `medreward-eval`, each told in words: no traceback reaches a user."""

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from medreward_eval.cli import app
from medreward_eval.records import prediction_row
from tests.evaluation.conftest import grades_file, rows_file
from tests.evaluation.model_server import model_server
from tests.evaluation.sample_scores import RIGHT, item
from tests.evaluation.wire import prediction
from tests.support.misfortunes import (
    CLOSED_PORT,
    FILES,
    PROXIES,
    URLS,
    assert_told,
    files_of_at_most,
    with_streams,
    wrong_file,
    wrong_server,
)

PROGRAM = "medreward-eval"
SERVER = f"{CLOSED_PORT}/v1"
TASK = "llm:\n  own:\n    path: {path}\n    question_column: question\n    answer_column: answer\n"
READERS = {
    "grade": ["grade", "FILE", "--url", CLOSED_PORT],
    "score": ["score", "FILE"],
    "score by a calibration": ["score", "g.jsonl", "--calibration", "FILE"],
    "score by a task file": ["score", "g.jsonl", "--task-file", "FILE"],
    "report": ["report", "FILE"],
    "compare the first": ["compare", "FILE", "g.jsonl"],
    "compare the second": ["compare", "g.jsonl", "FILE"],
    "submission": ["submission", "FILE"],
    "tasks": ["tasks", "--task-file", "FILE"],
    "generate by a task file": ["generate", "own", "--task-file", "FILE"],
    "generate by a data set": ["generate", "own", "--task-file", "wrong.yaml"],
    "generate by a copy": ["generate", "medqa", "--data-dir", "FILE"],
}
WRITERS = {
    "score as CSV": ["score", "g.jsonl", "--csv", "FILE"],
    "score as Markdown": ["score", "g.jsonl", "--markdown", "FILE"],
    "report": ["report", "g.jsonl", "--out", "FILE"],
    "compare": ["compare", "g.jsonl", "h.jsonl", "--csv", "FILE"],
    "submission": ["submission", "g.jsonl", "--out", "FILE"],
    "generate": ["generate", "own", "--task-file", "own.yaml", "--out", "FILE"],
}
ASKING = {
    "grade": ["grade", "p.jsonl", "--deadline", "1"],
    "generate": ["generate", "own", "--task-file", "own.yaml"],
}
ADDRESS = {"grade": "--url", "generate": "--server"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a right file of each kind, in which commands run, and a bare environment."""
    for name in list(os.environ):
        if name.startswith(("MEDREWARD_", "OPENAI_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    rows_file(Path("p.jsonl"), [prediction_row(prediction("q1"))])
    rows_file(Path("own.jsonl"), [{"question": "Which organ?", "answer": "spleen"}])
    for name in ("g.jsonl", "h.jsonl"):
        grades_file(Path(name), [item("medqa", 0, RIGHT)])
    Path("own.yaml").write_text(TASK.format(path="own.jsonl"))
    return tmp_path


@pytest.fixture(scope="module")
def model() -> Iterator[str]:
    """A model's server that answers."""
    with model_server() as running:
        yield running.url


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Something else than a model's server or a service."""
    with wrong_server() as url:
        yield url


def invoked(*arguments: object, environment: Mapping[str, str] | None = None) -> Result:
    """Run a command in this process; what would be a traceback is raised."""
    done = CliRunner().invoke(app, [*map(str, arguments)], env=environment)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("command", READERS)
def test_a_file_that_cannot_be_read_is_told(
    command: str, kind: str, folder: Path, model: str
) -> None:
    """By its name, whichever command reads it; nothing of it is shown."""
    path = wrong_file(folder, kind)
    if command == "generate by a data set":
        Path("wrong.yaml").write_text(TASK.format(path=path))
    given = {"OPENAI_BASE_URL": model}
    done = invoked(
        *(path if part == "FILE" else part for part in READERS[command]), environment=given
    )

    # Without its data set a task may be on the hub, where it is looked for by another name.
    is_hub = command == "generate by a data set" and path.suffix != ".jsonl"
    assert_told(PROGRAM, done.exit_code, done.stderr, names="" if is_hub else path)
    assert "Ménière" not in done.output
    assert "left lo" not in done.output


@pytest.mark.parametrize("kind", ["folder", "in a file", "name too long"])
@pytest.mark.parametrize("command", [name for name in WRITERS if name != "submission"])
def test_a_file_that_cannot_be_made_is_told(command: str, kind: str, folder: Path) -> None:
    """Before a server is asked anything, if its answers would be lost."""
    path = wrong_file(folder, kind)
    given = {"OPENAI_BASE_URL": SERVER}
    done = invoked(
        *(path if part == "FILE" else part for part in WRITERS[command]), environment=given
    )

    assert_told(PROGRAM, done.exit_code, done.stderr, names=path)


def test_a_folder_that_cannot_be_made_is_told(folder: Path) -> None:
    """A submission goes into a folder, and a file may be in its place."""
    path = wrong_file(folder, "in a file")
    done = invoked("submission", "g.jsonl", "--out", path)

    assert_told(PROGRAM, done.exit_code, done.stderr, names=path)


@pytest.mark.parametrize("command", WRITERS)
def test_a_full_disk_is_told(command: str, folder: Path, model: str) -> None:
    """By the file that it was to hold; what stood there before is kept."""
    out = folder / "out"
    parts = [out if part == "FILE" else part for part in WRITERS[command]]
    with files_of_at_most(16):
        done = invoked(*parts, environment={"OPENAI_BASE_URL": model})

    assert_told(PROGRAM, done.exit_code, done.stderr, names=out)
    assert "File too large" in done.stderr


def test_a_page_for_a_device_does_not_take_its_place(folder: Path) -> None:
    """A pipe, a device or `/dev/stdout` is written to, not replaced by a file."""
    fifo = folder / "pipe"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        done = invoked("report", "g.jsonl", "--out", fifo, "--most", "0", "--no-texts")
    finally:
        os.close(reader)

    assert done.exit_code == 0
    assert fifo.is_fifo()


@pytest.mark.parametrize("wrong", URLS)
@pytest.mark.parametrize("command", ASKING)
def test_an_address_that_is_wrong_is_told(command: str, wrong: str, server: str) -> None:
    """Before anything is asked that costs."""
    url = URLS[wrong].format(server=server)
    done = invoked(*ASKING[command], ADDRESS[command], url)

    assert_told(PROGRAM, done.exit_code, done.stderr)


@pytest.mark.parametrize(
    ("command", "variable", "value"),
    [
        ("grade", "MEDREWARD_URL", "judge"),
        ("grade", "MEDREWARD_URL", f"{CLOSED_PORT}\r"),
        ("grade", "MEDREWARD_API_KEY", "schlüssel"),
        ("generate", "OPENAI_BASE_URL", ""),
        ("generate", "OPENAI_BASE_URL", "model"),
        ("generate", "OPENAI_BASE_URL", f"{SERVER}\r"),
        ("generate", "OPENAI_API_KEY", "key\r"),
        ("generate", "OPENAI_API_KEY", "schlüssel"),
    ],
)
def test_a_variable_that_is_wrong_is_told(command: str, variable: str, value: str) -> None:
    """A variable for a server's address or key; a key is never shown."""
    known = {"MEDREWARD_URL": CLOSED_PORT, "OPENAI_BASE_URL": SERVER}
    done = invoked(*ASKING[command], environment={**known, variable: value})

    assert_told(PROGRAM, done.exit_code, done.stderr, names=variable)
    assert "schlüssel" not in done.output


@pytest.mark.parametrize("wrong", [name for name in PROXIES if "NO_PROXY" not in PROXIES[name]])
def test_a_proxy_that_cannot_be_used_is_told(wrong: str) -> None:
    """By the variable that names it."""
    (variable,) = PROXIES[wrong]
    server = SERVER.replace("http", "https") if variable == "HTTPS_PROXY" else SERVER
    done = invoked(*ASKING["generate"], "--server", server, environment=PROXIES[wrong])

    assert_told(PROGRAM, done.exit_code, done.stderr, names=variable)


@pytest.mark.parametrize("proxy", ["", "http://ward:hunter2@127.0.0.1:9"])
def test_networks_of_ipv6_in_no_proxy_stop_nothing(proxy: str, model: str) -> None:
    """Dual-stack clusters set them; the model is reached without the proxy."""
    environment = {"NO_PROXY": "127.0.0.0/8,localhost,fd00::/8", "HTTP_PROXY": proxy}
    done = invoked(*ASKING["generate"], "--server", model, environment=environment)

    assert done.exit_code == 0, done.stderr


def test_a_proxy_that_is_not_there_is_told(model: str) -> None:
    """It is to blame, not the model's server; its password is not shown."""
    environment = {"HTTP_PROXY": "http://ward:hunter2@127.0.0.1:9"}
    done = invoked(*ASKING["generate"], "--server", model, environment=environment)

    way = "through the proxy 127.0.0.1:9 of the environment cannot be reached"
    assert_told(PROGRAM, done.exit_code, done.stderr, names=way)
    assert "hunter2" not in done.output


@pytest.mark.parametrize("asked", [["tasks"], ["--help"]])
@pytest.mark.parametrize(
    ("stdout", "words"),
    [
        ("closed", ["medreward-eval: standard output cannot be written: Bad file descriptor"]),
        ("full", ["medreward-eval: standard output cannot be written: No space left on device"]),
        ("unread", []),
    ],
)
def test_a_result_that_nobody_can_have_is_told(
    asked: list[str], stdout: str, words: list[str]
) -> None:
    """And makes the command fail; a reader that has had enough needs no words."""
    done = with_streams([sys.executable, "-m", "medreward_eval", *asked], stdout=stdout)

    assert done.returncode == 1
    assert done.stderr.splitlines() == words
