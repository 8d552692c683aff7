"""Runs of grading: predictions without a grade are graded, in the order of their file."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from medreward_client import AsyncRewardClient
from medreward_eval.errors import Failed
from medreward_eval.grading.grader import Grader, batches, find_identity, grades_header
from medreward_eval.grading.predictions import Inventory, Reading, prediction_of, read_predictions
from medreward_eval.journal import Journal, Row
from medreward_eval.ordered_map import ordered_map
from medreward_eval.records import Graded, Prediction, graded_row, prediction_row
from medreward_eval.resume import Outcome, Resumed, Show, see_that_same
from medreward_eval.terminal import progress

AT_ONCE: Final = 8
"""Requests in flight."""
BARREN_BATCHES: Final = 3
"""After this many batches in a row without one judgement, the run stops."""


@dataclass(slots=True)
class GradeCounts:
    """Counts of judged and unjudged predictions; `found` were judged before this run."""

    judged: int = 0
    found: int = 0
    unjudged: Counter[str] = field(default_factory=Counter)
    """Unjudged predictions by the kind of their error."""

    def add(self, graded: Sequence[Graded]) -> None:
        """Count a batch."""
        for one in graded:
            if one.grade.error is None:
                self.judged += 1
            else:
                self.unjudged[one.grade.error.kind] += 1


@dataclass(frozen=True, slots=True)
class GradeOptions:
    """Options of the command `grade` that name the service, the file and whose predictions."""

    url: str
    api_key: str | None
    model: str
    out: Path
    votes: int
    mix: bool
    at_once: int
    deadline_s: float


async def grade_file(
    predictions: Path, reading: Reading, stock: Inventory, options: GradeOptions
) -> GradeCounts:
    """Grade a file of predictions, whose inventory is *stock*, into another, with a progress bar.

    Raises:
        BadData: the file of grades holds something else.
        OtherRun: its lines are of other predictions or another grader, or the service changed.
        Failed: the service is gone, or its judge answers nothing; finished lines are kept.
    """
    votes, deadline_s = options.votes, options.deadline_s
    async with AsyncRewardClient(
        options.url, api_key=options.api_key, deadline_s=deadline_s
    ) as client:
        identity = await find_identity(client, stock.templates, votes=votes, deadline_s=deadline_s)
        header = grades_header(
            options.model, identity, stock.headers, votes=votes, total=stock.total
        )
        grader = Grader(client, identity, votes=votes, deadline_s=deadline_s)
        with (
            Journal(options.out, header, mix=options.mix) as journal,
            progress(stock.total, done="judged", trouble="unjudged") as show,
        ):
            run = GradingRun(
                predictions, reading, journal, grader, show=show, at_once=options.at_once
            )
            return await run.run()


class GradingRun:
    """Grades a file of predictions into a journal, and continues where an earlier run stopped.

    Predictions that an earlier run left unjudged are sent again, after all new ones.
    """

    def __init__(
        self,
        predictions: Path,
        reading: Reading,
        journal: Journal,
        grader: Grader,
        *,
        show: Show,
        at_once: int = AT_ONCE,
    ) -> None:
        self._path = predictions
        self._reading = reading
        self._journal = journal
        self._grader = grader
        self._show = show
        self._at_once = at_once
        self._resumed = Resumed(journal, tell=self._tell)
        self._counts = GradeCounts()

    async def run(self) -> GradeCounts:
        """Grade all predictions without a grade.

        Raises:
            OtherRun: the journal's lines are of other predictions, or the service has changed.
            Failed: the service is gone, or its judge answers nothing; finished grades are kept.
        """
        await self._grade(self._resumed.new(self._predictions(), self._failure_in))
        troubled = self._resumed.troubled
        if troubled:
            again = (one for one in self._predictions() if one.id in troubled)
            # No limit on failures in a row here: items that fail every time would end the run before the
            # items behind them are sent.
            await self._grade(again, most_barren=math.inf)
        self._tell()
        return self._counts

    def _predictions(self) -> Iterator[Prediction]:
        return read_predictions(self._path, self._reading)

    def _failure_in(self, row: Row, now: Prediction) -> str | None:
        was = prediction_of(row, Reading({}))
        later = FILLED_LATER if was.response is None else frozenset()
        keys = {**prediction_row(was), **prediction_row(now)}.keys() - later
        differing = [key for key in keys if getattr(was, key) != getattr(now, key)]
        see_that_same(differing, now, self._journal)
        error = row["grade"]["error"]
        return None if error is None else str(error["kind"])

    async def _grade(
        self, predictions: Iterator[Prediction], *, most_barren: float = BARREN_BATCHES
    ) -> None:
        barren = 0
        asked = ordered_map(self._grader.grade, batches(predictions), at_once=self._at_once)
        async with aclosing(asked) as answers:
            async for graded in answers:
                self._resumed.keep([_outcome(one) for one in graded])
                self._counts.add(graded)
                self._tell()
                barren = barren + 1 if all(map(_is_held_up, graded)) else 0
                if barren == most_barren:
                    raise Failed(
                        f"the judge answers nothing any more ({_kind(graded[-1])}): see the "
                        "service's /readyz and its log, then run this again; what was graded is "
                        "in the file"
                    )

    def _tell(self) -> None:
        counts = self._counts
        counts.found = self._resumed.found
        self._show(done=counts.judged, trouble=counts.unjudged.total(), found=counts.found)


FILLED_LATER: Final = frozenset({"response", "finish_reason", "reasoning", "error"})
"""Keys that may differ if a question had no response and was asked again."""


def _outcome(graded: Graded) -> Outcome:
    return Outcome(graded.prediction.id, _kind(graded), graded_row(graded))


def _kind(graded: Graded) -> str | None:
    return None if graded.grade.error is None else graded.grade.error.kind


def _is_held_up(graded: Graded) -> bool:
    """Return True if the judge was asked and gave no verdict for a passing reason."""
    error = graded.grade.error
    return graded.prediction.response is not None and error is not None and error.retryable
