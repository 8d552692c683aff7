"""The command line as a whole: quick to start, plain in its help."""

import subprocess
import sys

import pytest

import medreward
from tests.service.cli.conftest import Run

COMMANDS = [
    *("serve", "score", "judge", "calibrate", "explain", "recipes", "audit", "check", "size"),
    *("models list", "models fetch", "verifier train", "verifier measure", "verifier pack"),
    *("cache stats", "cache clear"),
]


def test_importing_the_command_line_loads_no_model_library() -> None:
    """Torch and transformers take seconds, and --help must not wait for them; nor for an app."""
    program = (
        "import sys, medreward.cli; "
        "print([m for m in ('torch', 'transformers', 'fastapi', 'uvicorn') if m in sys.modules])"
    )
    told = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert told.stdout == "[]\n"


def test_the_version_is_told(run: Run) -> None:
    """--version at the top names program and version."""
    assert run("--version").stdout == f"medreward {medreward.__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_an_example(run: Run, command: str) -> None:
    """--help ends with a line to copy."""
    told = run(*command.split(), "--help")

    assert told.code == 0
    assert f"medreward {command}" in told.stdout.split("Examples:")[1]


def test_help_names_every_command(run: Run) -> None:
    """The top page lists what there is."""
    told = run("--help").stdout

    assert all(command.split()[0] in told for command in COMMANDS)


def test_a_wrong_option_is_a_wrong_use(run: Run) -> None:
    """What the command line does not know ends with 2."""
    assert run("score", "--batches", "3").code == 2


def test_a_wrong_setting_is_named_and_its_value_kept_to_itself(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names the variable; what it holds may be a secret in the wrong place."""
    monkeypatch.setenv("MEDREWARD_PORT", "hunter2")

    told = run("recipes")

    assert told.code == 2
    assert told.stderr.startswith("medreward: MEDREWARD_PORT: ")
    assert told.stderr.count("\n") == 1
    assert "hunter2" not in told.stderr
