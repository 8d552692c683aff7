"""Two files of grades, question by question: what both models were judged on."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from medreward_eval.errors import OtherRun
from medreward_eval.journal import differences
from medreward_eval.records import Graded
from medreward_eval.statistics.comparison import Comparison, compare
from medreward_eval.statistics.scores import Group, Provenance, provenance_of
from medreward_eval.statistics.scoring import grades_headers, read_graded

BASIS: Final = ("version", "service", "judges", "templates", "votes")
"""What two files must share for their grades to compare; questions are compared one by one."""


@dataclass(frozen=True, slots=True)
class Compared:
    """Two models, what can be told of them, and what could not be compared."""

    first: str
    second: str
    comparison: Comparison
    left_out: Mapping[str, int]
    """Questions that do not count, by why."""
    provenance: tuple[Provenance, Provenance] = (Provenance(), Provenance())
    """Of which predictions either file's grades are."""


def compare_files(first: Path, second: Path, groups: Mapping[str, Group]) -> Compared:
    """Compare two models on the questions that both were judged on.

    Memory holds a number for each question of the first file.

    Raises:
        BadData: one is no file of grades.
        OtherRun: they were graded otherwise, or the same id is another question there.
    """
    headers = [grades_headers(path) for path in (first, second)]
    _see_that_comparable(headers, first, second)
    graded_second = 0
    known = {one.prediction.id: (_digest(one), one.credit) for one in read_graded(first)}
    graded_first = len(known)
    credits_: dict[str, list[tuple[float, float]]] = {}
    binary: dict[str, bool] = {}
    left_out: Counter[str] = Counter()
    for graded in read_graded(second):
        graded_second += 1
        asked, credit = known.pop(graded.prediction.id, (None, None))
        if asked is None:
            left_out["only in the second file"] += 1
        elif asked != _digest(graded):
            raise OtherRun(
                f"{second}: {graded.prediction.id!r} is another question than in {first}; "
                "generate both from the same tasks"
            )
        elif credit is None or graded.credit is None:
            left_out["unjudged in one of them"] += 1
        else:
            task = graded.prediction.task
            credits_.setdefault(task, []).append((credit, graded.credit))
            # A task may be of both: then its credits are shares.
            binary[task] = binary.get(task, True) and graded.prediction.template == "equivalence"
    if known:
        left_out["only in the first file"] = len(known)
    columns = {task: np.array(pairs, np.float64).T for task, pairs in credits_.items()}
    comparison = compare(
        {
            task: (groups.get(task, "own"), ours, theirs, binary[task])
            for task, (ours, theirs) in columns.items()
        }
    )
    named = [
        str(told[-1].get("model", path.stem))
        for told, path in zip(headers, (first, second), strict=True)
    ]
    # Two runs of one model are told apart by their places.
    one, other = named if named[0] != named[1] else (f"{named[0]} (A)", f"{named[1]} (B)")
    provenance = (
        provenance_of(headers[0], graded_first),
        provenance_of(headers[1], graded_second),
    )
    return Compared(one, other, comparison, dict(left_out), provenance)


def _see_that_comparable(
    headers: Sequence[Sequence[Mapping[str, Any]]], first: Path, second: Path
) -> None:
    bases = [
        {key: header.get(key) for key in BASIS if key in header}
        for told in headers
        for header in told
    ]
    other = next((basis for basis in bases if basis != bases[0]), None)
    if other is not None:
        raise OtherRun(
            f"{first} and {second} were graded otherwise ({differences(bases[0], other)}), so what "
            "differs may be the judge: grade both by the same service"
        )


def _digest(graded: Graded) -> int:
    """Stand for what was asked; a number, since there may be a million."""
    one = graded.prediction
    return hash((one.task, one.question, one.reference, one.template, one.options))
