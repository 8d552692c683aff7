"""Shared fixtures of medreward-eval: a real service as a process, and the command."""

import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medreward_eval.journal import line_of
from medreward_eval.records import Graded, graded_row
from medreward_eval.tasks.tasks import Task
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


def rows_file(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """A file of rows, by its ending: Parquet with two in a group, a JSON array, or lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    match path.suffix:
        case ".parquet":
            pq.write_table(pa.Table.from_pylist(list(rows)), path, row_group_size=2)
        case ".json":
            path.write_bytes(orjson.dumps(list(rows)))
        case _:
            path.write_bytes(b"".join(map(line_of, rows)))
    return path


def own_task(
    folder: Path, rows: Iterable[Mapping[str, Any]] | None, path: str = "my.json", **keys: Any
) -> Task:
    """A task with a data file of these rows, or with none, in the folder of its task file."""
    if rows is not None:
        rows_file(folder / path, rows)
    columns = {"question_column": ("q",), "answer_column": ("a",)}
    return Task(
        **{"name": "mine", "group": "llm", "path": path, "folder": folder, **columns, **keys}
    )


def grades_file(
    path: Path, graded: Iterable[Graded], headers: Sequence[Mapping[str, Any]] = (HEADER,)
) -> Path:
    """A file of grades, as runs of grading leave it; more headers are of runs that added nothing."""
    return rows_file(path, [*headers, *map(graded_row, graded)])
