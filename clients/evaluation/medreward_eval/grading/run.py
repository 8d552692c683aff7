"""Runs of grading: predictions without a grade are graded, in the order of their file."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

from medreward_client import AsyncRewardClient
from medreward_eval.grading.grader import Grader, batches, find_identity, grades_header
from medreward_eval.grading.predictions import Inventory, Reading, prediction_of, read_predictions
from medreward_eval.journal import Journal, Row
from medreward_eval.ordered_map import ordered_map
from medreward_eval.records import Graded, Prediction, graded_row, prediction_row
from medreward_eval.resume import Counts, Outcome, Show, resume, see_that_same
from medreward_eval.terminal import progress

AT_ONCE: Final = 8
"""Requests in flight."""
BARREN_BATCHES: Final = 3
"""After this many batches in a row without one judgement, the run stops."""


STOPPED: Final = (
    "the judge answers nothing any more ({error.kind}): see the service's /readyz and its log, then "
    "run this again; what was graded is in the file"
)
FILLED_LATER: Final = frozenset({"response", "finish_reason", "reasoning", "error"})
"""Keys that may differ if a question had no response and was asked again."""


async def grade_file(
    predictions: Path,
    reading: Reading,
    stock: Inventory,
    *,
    url: str,
    api_key: str | None,
    model: str,
    out: Path,
    votes: int,
    rules: bool,
    mix: bool,
    at_once: int,
    deadline_s: float | None,
) -> Counts:
    """Grade a file of predictions, whose inventory is *stock*, into another, with a progress bar.

    Raises:
        BadData: the file of grades holds something else.
        OtherRun: its lines are of other predictions or another grader, or the service changed.
        Failed: the service is gone, or its judge answers nothing; finished lines are kept.
    """
    async with AsyncRewardClient(url, api_key=api_key, deadline_s=deadline_s) as client:
        identity = await find_identity(
            client, stock.templates, votes=votes, rules=rules, deadline_s=deadline_s
        )
        header = grades_header(
            model,
            identity,
            stock.headers,
            votes=votes,
            total=stock.total,
            questions=stock.questions,
        )
        grader = Grader(client, identity, votes=votes, rules=rules, deadline_s=deadline_s)
        with (
            Journal(out, header, mix=mix) as journal,
            progress(stock.total, done="judged", trouble="unjudged") as show,
        ):
            return await grade(predictions, reading, journal, grader, show=show, at_once=at_once)


async def grade(
    predictions: Path,
    reading: Reading,
    journal: Journal,
    grader: Grader,
    *,
    show: Show,
    at_once: int = AT_ONCE,
) -> Counts:
    """Grade the predictions of a file without a grade in the journal, and append these in order.

    Predictions that an earlier run left unjudged are sent again, after all new ones.

    Raises:
        OtherRun: the journal's lines are of other predictions, or the service has changed.
        Failed: the service is gone, or its judge answers nothing; finished grades are kept.
    """

    async def judge(batch: Sequence[Prediction]) -> list[Outcome]:
        return [_outcome(one) for one in await grader.grade(batch)]

    return await resume(
        journal,
        lambda: read_predictions(predictions, reading),
        lambda asked: ordered_map(judge, batches(asked), at_once=at_once),
        partial(_failure_in, journal),
        show=show,
        most_barren=BARREN_BATCHES,
        stopped=STOPPED,
    )


def _outcome(graded: Graded) -> Outcome:
    one, error = graded.prediction, graded.grade.error
    # The judge was asked and gave no verdict for a passing reason.
    is_barren = one.response is not None and error is not None and error.retryable
    return Outcome(one.id, graded_row(graded), error, is_barren)


def _failure_in(journal: Journal, row: Row, now: Prediction) -> str | None:
    was = prediction_of(row, Reading({}))
    later = FILLED_LATER if was.response is None else frozenset()
    keys = {**prediction_row(was), **prediction_row(now)}.keys() - later
    differing = [key for key in keys if getattr(was, key) != getattr(now, key)]
    see_that_same(differing, now, journal)
    error = row["grade"]["error"]
    return None if error is None else str(error["kind"])
