"""What a file of grades adds up to: the numbers that tables, pages and files show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

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


@dataclass(frozen=True, slots=True)
class Scores:
    """One model's."""

    model: str
    headers: Sequence[Mapping[str, Any]]
    """What the grades depend on; more than one where runs were mixed."""
    tasks: Sequence[TaskScore]
    averages: Sequence[Average]
    judging: Sequence[Judging] = ()
