"""What a file of grades adds up to: the numbers that tables, pages and files show."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from medreward_eval.journal import COUNT_KEY, GENERATED_KEY
from medreward_eval.records import SettledBy, Template

Group = Literal["llm", "vlm", "own"]
"""Text tasks, image tasks, and those of the user's predictions."""


AverageName = Literal["LLM", "VLM", "Overall", "Own"]
AVERAGES: Final[Mapping[AverageName, tuple[Group, ...]]] = {
    "LLM": ("llm",),
    "VLM": ("vlm",),
    "Overall": ("llm", "vlm"),
    "Own": ("own",),
}


FEWEST_TASKS: Final[Mapping[AverageName, int]] = {"LLM": 1, "VLM": 1, "Overall": 1, "Own": 2}


class Interval(NamedTuple):
    """Bounds, at 95 %."""

    low: float
    high: float


class Estimate(NamedTuple):
    """A value and the interval that it lies in."""

    value: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class TaskScore:
    """One task. Accuracies are from 0 to 1: the mean score over the best one.

    What is unjudged is in no accuracy. None where nothing was judged, and `corrected` also where
    no calibration fits.
    """

    task: str
    group: Group
    template: Template
    judged: int
    unjudged: Mapping[str, int]
    """How many, by the kind of their error."""
    accuracy: Estimate | None
    """With Wilson's interval, or Student's for reports."""
    corrected: Estimate | None
    """As if the judge never erred: Rogan and Gladen's, with what the calibration leaves open."""
    settled_by: Mapping[SettledBy, int]
    split: int
    """How many were judged by votes that differ."""
    unanswered: int
    """How many of the judged had no answer in their response: cut off, or empty."""
    mean_answer_characters: float
    judged_right: int = 0
    """How many the judge took for right, rules apart."""
    unwitnessed: int = 0
    """How many of those have no word or number of their reference."""
    unnamed: int = 0
    """How many the judge graded whose reference names none of their options plainly."""
    is_beyond_calibration: bool = False
    """Whether the judge's verdicts show that its calibration is of other answers."""

    @property
    def of(self) -> int:
        """How many there are, judged or not."""
        return self.judged + sum(self.unjudged.values())


@dataclass(frozen=True, slots=True)
class Average:
    """The plain mean of tasks' accuracies, each task counting the same, as MediX-R1 reports.

    `tasks` of the `of` tasks of that kind that MediX-R1 has are in it. The user's own tasks have
    one of their own, where there are several. In `corrected`, reports count
    as they are: a calibration is of verdicts.
    """

    name: AverageName
    tasks: int
    of: int
    accuracy: Estimate
    corrected: Estimate | None


@dataclass(frozen=True, slots=True)
class Judging:
    """How far the judge can be trusted, of one entry of a calibration file."""

    family: str
    labels: int
    sensitivity: float
    specificity: float
    cohen_kappa: float | None
    gwet_ac1: float | None


Way = Mapping[str, Any]
"""By which model, with which sampling, predictions were generated."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """Of which predictions a file's grades are: made in which ways, and how many of them."""

    generated: Sequence[Way] = ()
    """Each way once: several where runs were mixed, none where somebody else made them."""
    graded: int = 0
    """Judged or not."""
    ungraded: int = 0
    """Whose turn has not come: a run of grading was broken off."""

    @property
    def of(self) -> int:
        """How many predictions there are."""
        return self.graded + self.ungraded


def ways_of(headers: Iterable[Mapping[str, Any]]) -> list[Way]:
    """Read from headers of predictions in which ways they were generated, each once."""
    keys = ("model", "server_model", "sampling")
    return _each_once({key: one[key] for key in keys if key in one} for one in headers)


def provenance_of(headers: Sequence[Mapping[str, Any]], graded: int) -> Provenance:
    """Read from headers of grades of which predictions they are; older ones say nothing of it."""
    ways = _each_once(way for header in headers for way in header.get(GENERATED_KEY, ()))
    total = headers[-1].get(COUNT_KEY) if headers else None
    ungraded = max(0, total - graded) if isinstance(total, int) else 0
    return Provenance(ways, graded, ungraded)


def _each_once(ways: Iterable[Way]) -> list[Way]:
    found: list[Way] = []
    for way in ways:
        if way and way not in found:
            found.append(way)
    return found


@dataclass(frozen=True, slots=True)
class Scores:
    """One model's."""

    model: str
    headers: Sequence[Mapping[str, Any]]
    """What the grades depend on; more than one where runs were mixed."""
    tasks: Sequence[TaskScore]
    averages: Sequence[Average]
    judging: Sequence[Judging] = ()

    @property
    def provenance(self) -> Provenance:
        """Of which predictions they are."""
        return provenance_of(self.headers, sum(task.of for task in self.tasks))
