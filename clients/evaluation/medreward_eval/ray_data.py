"""The same grading on a cluster: a Ray Data stage over our client.

Example:
    ray.data.read_parquet("predictions/").map_batches(**grading("http://rewards:8080"))

A data set needs the columns `id`, `reference` and `response`; `question`, `options`, `task` and
`template` are used where they are there. See docs/evaluation/cluster.md for when it is worth it.

"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import ray.data

from medreward_client import AsyncRewardClient
from medreward_eval.errors import BadData
from medreward_eval.grading.grader import DEADLINE_S, VOTES, Grader, GraderIdentity, find_identity
from medreward_eval.grading.predictions import Reading, prediction_of
from medreward_eval.records import Failure, Grade, Prediction, Template

BATCH_ROWS = 256
COLUMN = "grade"
GRADE = pa.struct(
    {
        "score": pa.float64(),
        "settled_by": pa.string(),
        "p_yes": pa.float64(),
        "unjudged": pa.string(),
        "message": pa.string(),
    }
)
"""What a row gets, as the column `grade`; `unjudged` is the kind of trouble, or null."""


def grading(
    url: str,
    *,
    api_key: str | None = None,
    templates: Sequence[Template] = ("equivalence",),
    votes: int = VOTES,
    workers: int = 4,
    batch: int = BATCH_ROWS,
    deadline_s: float = DEADLINE_S,
    reading: Reading | None = None,
) -> dict[str, Any]:
    """Give the arguments for `Dataset.map_batches`: rows in, the same rows with `grade` out.

    The service is asked here what it grades by, so that all *workers* grade by the same, or fail.
    *batch* rows are a request of one worker. A row that is no prediction is unjudged, and its
    neighbours are graded.

    Raises:
        Failed: the service cannot be asked, or has no judge for one of *templates*.
    """
    grader_identity = asyncio.run(_identity(url, api_key, templates, votes, deadline_s))
    return {
        "fn": GradeRows,
        "fn_constructor_kwargs": {
            "url": url,
            "api_key": api_key,
            "origin": grader_identity,
            "votes": votes,
            "deadline_s": deadline_s,
            "reading": reading or Reading({}),
        },
        "batch_format": "pyarrow",
        "batch_size": batch,
        "compute": ray.data.ActorPoolStrategy(size=workers),
        # They wait for the service; with a processor each, a small cluster would have none to read.
        "num_cpus": 0,
    }


class GradeRows:
    """Grades tables of predictions; Ray makes one for each worker."""

    def __init__(
        self,
        *,
        url: str,
        api_key: str | None,
        grader_identity: GraderIdentity,
        votes: int,
        deadline_s: float,
        reading: Reading,
    ) -> None:
        self._client = AsyncRewardClient(url, api_key=api_key, deadline_s=deadline_s)
        self._grader = Grader(self._client, grader_identity, votes=votes, deadline_s=deadline_s)
        self._reading = reading

    def __call__(self, table: pa.Table) -> pa.Table:
        """Add the column `grade`.

        Raises:
            Failed: the service is gone; Ray tells, and may try the batch again.
            OtherRun: it is another one than when the job began.
            BadData: the rows have that column.
        """
        if COLUMN in table.column_names:
            raise BadData(f"the rows have a column `{COLUMN}` already; drop it or rename it")
        read = [_read(row, self._reading) for row in table.to_pylist()]
        predictions = [one for one in read if isinstance(one, Prediction)]
        graded = iter(asyncio.run(self._grade(predictions)))
        grades = [
            next(graded) if isinstance(one, Prediction) else Grade(None, error=one) for one in read
        ]
        return table.append_column(COLUMN, pa.array(map(_row, grades), GRADE))

    async def _grade(self, predictions: Sequence[Prediction]) -> list[Grade]:
        graded = await self._grader.grade(predictions)
        return [one.grade for one in graded]


async def _identity(
    url: str, api_key: str | None, templates: Sequence[Template], votes: int, deadline_s: float
) -> GraderIdentity:
    async with AsyncRewardClient(url, api_key=api_key, deadline_s=deadline_s) as client:
        return await find_identity(client, templates, votes=votes, deadline_s=deadline_s)


def _read(row: dict[str, Any], reading: Reading) -> Prediction | Failure:
    try:
        return prediction_of(row, reading)
    except ValueError as exc:
        return Failure("invalid_prediction", f"the row {exc}")


def _row(grade: Grade) -> Mapping[str, Any]:
    return {
        "score": grade.score,
        "settled_by": grade.settled_by,
        "p_yes": grade.p_yes,
        "unjudged": None if grade.error is None else grade.error.kind,
        "message": None if grade.error is None else grade.error.message,
    }
