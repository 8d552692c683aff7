"""Scores of a file of grades: the numbers that tables, pages and files show."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from medreward_eval.journal import COUNT_KEY, GENERATED_KEY, QUESTIONS_KEY
from medreward_eval.records import SettledBy, Template

Group = Literal["llm", "vlm", "own"]
"""Text tasks, image tasks, and the user's own."""

AverageName = Literal["LLM", "VLM", "Overall", "Own"]
AVERAGES: Final[Mapping[AverageName, tuple[Group, ...]]] = {
    "LLM": ("llm",),
    "VLM": ("vlm",),
    "Overall": ("llm", "vlm"),
    "Own": ("own",),
}
FEWEST_TASKS: Final[Mapping[AverageName, int]] = {"LLM": 1, "VLM": 1, "Overall": 1, "Own": 2}


class Interval(NamedTuple):
    """The bounds of a 95 % interval."""

    low: float
    high: float


class Estimate(NamedTuple):
    """A value with its 95 % interval."""

    value: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class TaskScore:
    """Counts and accuracies of one task. An accuracy is the mean of score / best score, from 0 to 1.

    Unjudged items are left out of accuracies. These are None if nothing was judged, and `corrected`
    also if no calibration fits.
    """

    task: str
    group: Group
    template: Template
    judged: int
    unjudged: Mapping[str, int]
    """Unjudged items by the kind of their error."""
    accuracy: Estimate | None
    """The accuracy with Wilson's interval, or Student's for reports and rubrics.

    That of rubrics is the mean of the scores, cut to 0 to 1.
    """
    corrected: Estimate | None
    """The accuracy by Rogan and Gladen's estimator; its interval includes the calibration's error."""
    settled_by: Mapping[SettledBy, int]
    split: int
    """Items whose votes differ."""
    unanswered: int
    """Judged items without an answer in their response: cut off, or empty."""
    mean_answer_characters: float
    cut_off: int = 0
    """Judged items whose response was cut off at a limit of its length, with an answer or without."""
    judged_right: int = 0
    """Items that the judge, not a rule, called right."""
    unwitnessed: int = 0
    """Those of `judged_right` without a word or number of their reference."""
    unnamed: int = 0
    """Items graded by the judge whose reference names none of their options plainly."""
    criteria: int = 0
    """Criteria of the rubrics of judged items, as far as the judge was asked."""
    criteria_unanswered: int = 0
    """Those of `criteria` without a verdict, which are left out with their points."""
    is_beyond_calibration: bool = False
    """True if the judge's verdicts contradict its calibration, which is then of other answers."""

    @property
    def of(self) -> int:
        """The number of items, judged or not."""
        return self.judged + sum(self.unjudged.values())


@dataclass(frozen=True, slots=True)
class Average:
    """The unweighted mean of tasks' accuracies, as MediX-R1 reports it.

    It covers `tasks` of the `of` tasks that MediX-R1 has of that kind. The user's own tasks have a
    separate average if there are several. In `corrected`, reports are not corrected: a calibration
    is of verdicts.
    """

    name: AverageName
    tasks: int
    of: int
    accuracy: Estimate
    corrected: Estimate | None


@dataclass(frozen=True, slots=True)
class Judging:
    """Agreement of the judge with labels, of one entry of a calibration file."""

    family: str
    labels: int
    sensitivity: float
    specificity: float
    cohen_kappa: float | None
    gwet_ac1: float | None


Way = Mapping[str, Any]
"""The model and the sampling settings that generated predictions."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """The predictions behind a file's grades: how they were generated, and how many are graded."""

    generated: Sequence[Way] = ()
    """Each way once: several if runs were mixed, none if another program made the predictions."""
    graded: int = 0
    """Predictions with a line of grades, judged or unjudged."""
    ungraded: int = 0
    """Predictions without a line of grades yet, because the run was interrupted."""
    unasked: int = 0
    """Questions without a line of predictions yet, because `generate` was interrupted."""

    @property
    def of(self) -> int:
        """The number of predictions."""
        return self.graded + self.ungraded


def ways_of(headers: Iterable[Mapping[str, Any]]) -> list[Way]:
    """Return the distinct ways of generation in headers of predictions."""
    keys = ("model", "server_model", "sampling")
    return each_once({key: one[key] for key in keys if key in one} for one in headers)


def provenance_of(headers: Sequence[Mapping[str, Any]], graded: int) -> Provenance:
    """Return the provenance in headers of grades; old headers have none."""
    ways = each_once(way for header in headers for way in header.get(GENERATED_KEY, ()))
    last = headers[-1] if headers else {}
    total, questions = last.get(COUNT_KEY), last.get(QUESTIONS_KEY)
    ungraded = max(0, total - graded) if isinstance(total, int) else 0
    unasked = max(0, questions - graded - ungraded) if isinstance(questions, int) else 0
    return Provenance(ways, graded, ungraded, unasked)


def each_once(ways: Iterable[Way]) -> list[Way]:
    """Return the distinct ways in their order."""
    found: list[Way] = []
    for way in ways:
        if way and way not in found:
            found.append(way)
    return found


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of one model."""

    model: str
    headers: Sequence[Mapping[str, Any]]
    """Headers of the grades; more than one if runs were mixed."""
    tasks: Sequence[TaskScore]
    averages: Sequence[Average]
    judging: Sequence[Judging] = ()

    @property
    def provenance(self) -> Provenance:
        """The predictions behind the grades."""
        return provenance_of(self.headers, sum(task.of for task in self.tasks))
