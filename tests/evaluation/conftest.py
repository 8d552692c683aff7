"""Shared fixtures of medreward-eval: a real service as a process, and the command."""

import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from medreward_eval.journal import line_of
from medreward_eval.records import Graded, graded_row
from tests.evaluation.sample_scores import HEADER
from tests.support.process import Service, serving

EXAMPLES = Path(__file__).parents[2] / "examples" / "evaluation"
TIMEOUT_S = 600

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


def grades_file(
    path: Path, graded: Iterable[Graded], headers: Sequence[Mapping[str, Any]] = (HEADER,)
) -> Path:
    """A file of grades, as runs of grading leave it; more headers are of runs that added nothing."""
    path.write_bytes(b"".join(map(line_of, [*headers, *map(graded_row, graded)])))
    return path
