"""What the tests of medreward-eval lean on: a real service as a process, and the command."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.trainers.serving import Service, serving

EXAMPLES = Path(__file__).parents[2] / "examples" / "evaluation"
TIMEOUT_S = 120

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """A service whose judge says YES to the reference's own words, in any case, and else NO."""
    with serving(None, judge="scripted", embedder="hashed") as running:
        yield running


@pytest.fixture
def run() -> Run:
    """`medreward-eval` as a process."""

    def run(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "medreward_eval", *map(str, arguments)]
        return subprocess.run(  # noqa: S603 - the command under test
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, **options
        )

    return run
