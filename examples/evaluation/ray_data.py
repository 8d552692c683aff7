"""Grade Parquet files of predictions with Ray Data; an interrupted run continues where it stopped.

    pip install ./clients/python ./clients/evaluation 'ray[data]>=2.50'
    python examples/evaluation/ray_data.py predictions/ grades/ http://rewards:8080

Rows need the columns `id`, `reference` and `response`; `question`, `options`, `task` and `template`
are optional. Each row gets a column `grade`. docs/evaluation/cluster.md has the rest.
"""

import asyncio
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray.data

from medreward_client import AsyncRewardClient
from medreward_eval.errors import BadData
from medreward_eval.grading.grader import VOTES, Grader, GraderIdentity, find_identity
from medreward_eval.grading.predictions import Reading, prediction_of
from medreward_eval.journal import HEADER_KEY, Journal, latest_rows
from medreward_eval.records import Failure, Grade, Prediction, Template

TEXTS = dict.fromkeys(("settled_by", "unjudged", "message"), pa.string())
GRADE = pa.struct({"score": pa.float64(), "p_yes": pa.float64(), **TEXTS})


def grading(
    url: str,
    *,
    api_key: str | None = None,
    templates: Sequence[Template] = ("equivalence",),
    workers: int = 4,
) -> dict[str, Any]:
    """Return the arguments of `Dataset.map_batches`: rows in, the same rows with `grade` out."""

    async def identity() -> GraderIdentity:
        async with AsyncRewardClient(url, api_key=api_key) as client:
            return await find_identity(client, templates)

    # The driver asks once which judge the service has, so all workers use the same one or fail.
    service = {"url": url, "api_key": api_key, "identity": asyncio.run(identity())}
    return {
        "fn": GradeRows,
        "fn_constructor_kwargs": service,
        "batch_format": "pyarrow",
        "batch_size": 256,
        "compute": ray.data.ActorPoolStrategy(size=workers),
        # Workers wait for the service. If each reserved a processor, a small cluster would have
        # none left to read files.
        "num_cpus": 0,
    }


class GradeRows:
    """The stage of one worker: a table of predictions in, the table with its grades out."""

    def __init__(self, url: str, api_key: str | None, identity: GraderIdentity) -> None:
        self._grader = Grader(AsyncRewardClient(url, api_key=api_key), identity)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Append the column `grade`; a row that is no valid prediction is unjudged, with its reason."""
        if "grade" in table.column_names:
            raise BadData("the rows have a column `grade` already; drop it or rename it")
        rows = [read(row) for row in table.to_pylist()]
        valid = [row for row in rows if isinstance(row, Prediction)]
        graded = iter(asyncio.run(self._grader.grade(valid)))
        grades = [
            Grade(None, error=row) if isinstance(row, Failure) else next(graded).grade
            for row in rows
        ]
        return table.append_column("grade", pa.array(map(cells, grades), GRADE))


def read(row: dict[str, Any]) -> Prediction | Failure:
    """Parse a row; an error is returned, since raising it would fail the other rows of the batch."""
    try:
        return prediction_of(row, Reading({}))
    except ValueError as exc:
        return Failure("invalid_prediction", f"the row {exc}")


def cells(grade: Grade) -> dict[str, Any]:
    """Return the fields of `GRADE`; `unjudged` and `message` are null if there is a score."""
    error = grade.error
    told = {"unjudged": error.kind, "message": error.message} if error else {}
    return {"score": grade.score, "p_yes": grade.p_yes, "settled_by": grade.settled_by, **told}


def grade_files(predictions: Path, grades: Path, stage: dict[str, Any]) -> None:
    """Grade the files that the journal does not list yet, one after another.

    The journal's header holds the grader's identity, so a run with another judge is refused.
    """
    identity = stage["fn_constructor_kwargs"]["identity"]
    header = {HEADER_KEY: "graded_files", **identity.header(), "votes": VOTES}
    # Readers of data sets skip names that begin with an underscore.
    with Journal(grades / "_journal.jsonl", header) as journal:
        done = {row["id"] for row in latest_rows(journal.path)}
        for file in sorted(predictions.glob("*.parquet")):
            if file.name in done:
                continue
            folder = (grades / file.stem).absolute()
            # A killed run may have left part of the rows: the folder is written from the start,
            # and listed once it is whole.
            shutil.rmtree(folder, ignore_errors=True)
            ray.data.read_parquet(str(file)).map_batches(**stage).write_parquet(str(folder))
            journal.append([{"id": file.name}])


if __name__ == "__main__":
    stage = grading(sys.argv[3], api_key=os.environ.get("MEDREWARD_API_KEY"))
    grade_files(Path(sys.argv[1]), Path(sys.argv[2]), stage)
