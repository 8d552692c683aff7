"""What befalls the commands of `medreward-client`, each told in words: no traceback reaches a user."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from medreward_client._cli.commands import app
from tests.support.logs import logging_restored
from tests.support.misfortunes import (
    CLOSED_PORT,
    FILES,
    URLS,
    assert_told,
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
    for name in [name for name in os.environ if name.startswith("MEDREWARD_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    Path("good.jsonl").write_text('{"response": "left lung", "reference": "left lung"}\n')
    return tmp_path


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Something else than a service."""
    with wrong_server() as url:
        yield url


def invoked(*arguments: object) -> Result:
    """Run a command in this process; what would be a traceback is raised."""
    # `health` silences the log for its whole process, which is that of all tests here.
    with logging_restored():
        done = CliRunner().invoke(app, [*map(str, arguments)])
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


@pytest.mark.parametrize("kind", ["folder", "in a file", "not UTF-8", "gzip", "array"])
def test_a_file_that_cannot_hold_results_is_told(kind: str, folder: Path) -> None:
    """Before anything is sent; what it holds is left alone."""
    path = wrong_file(folder, kind)
    done = invoked(*SCORING, "good.jsonl", "--out", path)

    assert_told("medreward-client", done.exit_code, done.stderr)
    assert str(path.parent) in done.stderr


@pytest.mark.parametrize("wrong", [name for name in URLS if name != "port too high"])
@pytest.mark.parametrize("command", ASKING)
def test_an_address_that_is_wrong_is_told(command: str, wrong: str, server: str) -> None:
    """By commands that ask a service; `doctor` tells more."""
    done = invoked(*ASKING[command], URLS[wrong].format(server=server))

    assert_told("medreward-client", done.exit_code, done.stderr)
