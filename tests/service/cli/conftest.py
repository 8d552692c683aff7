"""What the command line's tests share: a service on a real socket, and two ways to run a command."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest
import structlog
from fastapi import FastAPI
from typer.testing import CliRunner

from medreward.app import create_app
from medreward.cli.commands import app as commands
from medreward.engines.judges.scripted import ScriptedJudge
from medreward.engines.supervisor import WARM_UP_TEXT
from medreward.errors import Problem, ProblemKind
from medreward.settings import Settings
from tests.support.logs import logging_restored
from tests.support.service import served

ROOT = Path(__file__).parents[3]
ROLLOUTS = ROOT / "examples" / "rollouts.jsonl"
ANSWERS = ROOT / "examples" / "answers.jsonl"
PATIENT_TEXT = "Mrs Roe, mass in the left lower lobe"
NO_MODELS = {
    "MEDREWARD_JUDGE": "scripted",
    "MEDREWARD_EMBEDDER": "hashed",
    "MEDREWARD_RECIPE": "medix-r1",
}
"""Stand-ins, and the published recipe, which asks them whatever an answer says."""
PROGRAM = [sys.executable, "-c", "from medreward.cli import main; main()"]

STRICT_RECIPE = """
name = "strict"
version = 1
description = "The judge and nothing else."
template = "match"

[tags]
tighten = true

[signals.accuracy_llm]
weight = 1.0
"""


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    stdout: str
    stderr: str


class Run(Protocol):
    """Runs `medreward` with arguments."""

    def __call__(self, *arguments: str | Path, stdin: str = "") -> Outcome:
        """Wait for the command to end."""
        ...


WARM_UP = (WARM_UP_TEXT, WARM_UP_TEXT)


def outage() -> FastAPI:
    """A service whose judge went away once it had warmed up."""
    problem = Problem(ProblemKind.JUDGE_UNREACHABLE, "judge: the server cannot be reached")
    return create_app(settings(), judge=ScriptedJudge({WARM_UP: "YES"}, default=problem))


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep this machine's settings out, but for where the models are, and the tests' profile."""
    kept = {"MEDREWARD_MODELS_DIR", "MEDREWARD_PROFILE"}
    for name in list(os.environ):
        if name.startswith("MEDREWARD_") and name not in kept:
            monkeypatch.delenv(name)
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture(autouse=True)
def unseen_logs() -> Iterator[None]:
    """Keep the log of services in this process out of the output of commands in it."""
    with structlog.testing.capture_logs():
        yield


@pytest.fixture
def logs_restored() -> Iterator[None]:
    """Put logging back after a function that sets it up for its whole process."""
    with logging_restored():
        yield


@pytest.fixture
def run() -> Run:
    """Run a command in this process."""
    runner = CliRunner()

    def run(*arguments: str | Path, stdin: str = "") -> Outcome:
        # Some commands set up logging for their whole process, which is that of all tests here.
        with logging_restored():
            result = runner.invoke(commands, [str(a) for a in arguments], input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Outcome(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def run_apart() -> Run:
    """Run a command in a process of its own: one that starts a service sets up logs and signals."""

    def run(*arguments: str | Path, stdin: str = "") -> Outcome:
        done = subprocess.run(  # noqa: S603 - our own program
            [*PROGRAM, *map(str, arguments)],
            input=stdin,
            capture_output=True,
            text=True,
            # Not what is inherited: pytest loads readline, which sets COLUMNS behind Python's back.
            env={**os.environ},
            timeout=600,
            check=False,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def no_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a service in this environment run without models."""
    for name, value in NO_MODELS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A service without models, with a second recipe and an empty cache."""
    recipe = tmp_path / "strict.toml"
    recipe.write_text(STRICT_RECIPE, "utf-8")
    with served(create_app(settings(recipes=(recipe,)))) as url:
        yield url


def settings(**given: Any) -> Settings:
    """The settings of a service without models."""
    return Settings(**{"judge": "scripted", "embedder": "hashed", "recipe": "medix-r1"} | given)


@pytest.fixture
def jsonl(tmp_path: Path) -> Callable[..., Path]:
    """Write a file of JSON Lines."""

    def write(*rows: Mapping[str, Any] | str | bytes, name: str = "in.jsonl") -> Path:
        path = tmp_path / name
        path.write_bytes(b"".join(_line(row) + b"\n" for row in rows))
        return path

    return write


def _line(row: Mapping[str, Any] | str | bytes) -> bytes:
    if isinstance(row, bytes):
        return row
    return (row if isinstance(row, str) else json.dumps(row)).encode()


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Read a file of JSON Lines."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
