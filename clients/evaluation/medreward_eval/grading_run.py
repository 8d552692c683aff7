"""One run of grading: what is graded already is left alone, what is not is graded, in order."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from medreward_eval.errors import Failed, OtherRun
from medreward_eval.grading import Grader, batches
from medreward_eval.in_order import in_order
from medreward_eval.ledger import Ledger, Row, standing_rows
from medreward_eval.predictions import Reading, prediction_of, read_predictions
from medreward_eval.records import Graded, Prediction, graded_row, prediction_row

AT_ONCE: Final = 4
"""Requests on their way."""
BARREN_BATCHES: Final = 3
"""After so many batches in a row without one judgement, it is no use to go on."""
FOUND_SHOWN: Final = 1000
"""What costs nothing goes by faster than it can be drawn."""


class Show(Protocol):
    """Shows how many are judged, unjudged, and were judged before this run."""

    def __call__(self, *, judged: int, unjudged: int, found: int) -> None:
        """Show the counts so far."""
        ...


@dataclass(slots=True)
class Tally:
    """How many are judged now and how many are not; `found` were judged before this run."""

    judged: int = 0
    found: int = 0
    unjudged: Counter[str] = field(default_factory=Counter)
    """By the kind of their error."""

    def add(self, graded: Sequence[Graded]) -> None:
        """Count a batch."""
        for one in graded:
            if one.grade.error is None:
                self.judged += 1
            else:
                self.unjudged[one.grade.error.kind] += 1


class GradingRun:
    """Grades a file of predictions into a ledger, going on where an earlier run was.

    Memory does not grow with the file, but with what is unjudged (their ids).
    What an earlier run could not have judged is asked about again, behind all others.
    """

    def __init__(
        self,
        predictions: Path,
        reading: Reading,
        ledger: Ledger,
        grader: Grader,
        *,
        show: Show,
        at_once: int = AT_ONCE,
    ) -> None:
        self._path = predictions
        self._reading = reading
        self._ledger = ledger
        self._grader = grader
        self._show = show
        self._at_once = at_once
        self._unjudged: dict[str, str] = {}
        """The ids of what an earlier run could not have judged, and the kind of trouble."""
        self.tally = Tally()

    async def run(self) -> Tally:
        """Grade what is not graded.

        Raises:
            OtherRun: the predictions are not those that the ledger's lines are of, or the service
                changed on the way.
            Failed: the service is gone, or its judge answers nothing; what was graded is kept.
        """
        await self._grade(self._not_graded())
        if self._unjudged:
            every = read_predictions(self._path, self._reading)
            await self._grade(one for one in every if one.id in self._unjudged)
        self._tell()
        return self.tally

    def _not_graded(self) -> Iterator[Prediction]:
        """Give what has no line in the ledger, and note what has one without a score."""
        rows = standing_rows(self._ledger.path)
        for prediction in read_predictions(self._path, self._reading):
            row = next(rows, None)
            if row is None:
                yield prediction
                continue
            _see_that_same(row, prediction, self._ledger.path)
            error = row["grade"]["error"]
            if error is not None:
                self._unjudged[prediction.id] = error["kind"]
            else:
                self._find()
        if next(rows, None) is not None:
            raise OtherRun(
                f"{self._ledger.path} has grades of more predictions than {self._path} holds; "
                "write to a new file"
            )

    async def _grade(self, predictions: Iterator[Prediction]) -> None:
        barren = 0
        asked = in_order(self._grader.grade, batches(predictions), at_once=self._at_once)
        async with aclosing(asked) as answers:
            async for graded in answers:
                self._keep(graded)
                barren = barren + 1 if all(map(_is_held_up, graded)) else 0
                if barren == BARREN_BATCHES:
                    raise Failed(
                        f"the judge answers nothing any more ({_kind(graded[-1])}): see the "
                        "service's /readyz and its log, then run this again; what was graded is "
                        "in the file"
                    )

    def _keep(self, graded: Sequence[Graded]) -> None:
        first = [one for one in graded if one.prediction.id not in self._unjudged]
        self._ledger.append([graded_row(one) for one in first])
        again = [
            one
            for one in graded
            # The same trouble again is known already.
            if self._unjudged.get(one.prediction.id, _kind(one)) != _kind(one)
        ]
        self._ledger.append_again([graded_row(one) for one in again])
        self.tally.add(graded)
        self._tell()

    def _find(self) -> None:
        self.tally.found += 1
        if self.tally.found % FOUND_SHOWN == 0:
            self._tell()

    def _tell(self) -> None:
        tally = self.tally
        self._show(judged=tally.judged, unjudged=tally.unjudged.total(), found=tally.found)


FILLED_LATER: Final = frozenset({"response", "finish_reason", "reasoning", "error"})
"""What a question that had no response gets when it is asked again."""


def _see_that_same(row: Row, prediction: Prediction, ledger: Path) -> None:
    """See that a line is of this very prediction; a response may have come since."""
    was = prediction_of(row, Reading({}))
    now = prediction
    had_none = was.response is None
    differing = [
        key
        for key in {**prediction_row(was), **prediction_row(now)}
        if getattr(was, key) != getattr(now, key) and not (had_none and key in FILLED_LATER)
    ]
    if differing:
        raise OtherRun(
            f"{ledger}: the line that should be of {prediction.id!r} is of another prediction "
            f"({', '.join(sorted(differing))}); write to a new file"
        )


def _kind(graded: Graded) -> str | None:
    return None if graded.grade.error is None else graded.grade.error.kind


def _is_held_up(graded: Graded) -> bool:
    return graded.grade.error is not None and graded.grade.error.retryable
