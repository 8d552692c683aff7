"""Scoring of a file of grades in one pass."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medreward_eval.errors import BadData
from medreward_eval.grading.answers import read_answer
from medreward_eval.grading.choices import lettered
from medreward_eval.grading.predictions import Reading, is_unnamed, prediction_of
from medreward_eval.grading.witness import is_unwitnessed
from medreward_eval.journal import HEADER_KEY, Row, headers_of, seeming, standing_lines
from medreward_eval.records import Failure, Grade, Graded, SettledBy, Template, Vote, is_cut_off
from medreward_eval.statistics.intervals import (
    JudgedTask,
    Stratum,
    agreement,
    contradicts,
    corrected,
    macro,
    mean_interval,
    wilson,
)
from medreward_eval.statistics.judge_calibration import Entry, JudgeErrors, judge_errors
from medreward_eval.statistics.scores import (
    AVERAGES,
    FEWEST_TASKS,
    Average,
    Estimate,
    Group,
    Judging,
    Scores,
    TaskScore,
)


@dataclass(frozen=True, slots=True)
class Correction:
    """What a calibration makes of a task's verdicts."""

    task: JudgedTask | None
    """The task with its verdicts by family; None if not all of these can be corrected."""
    is_beyond: bool
    """True if verdicts contradict the calibration."""


@dataclass(slots=True)
class Sums:
    """Running counts of a task."""

    template: Template = "equivalence"
    """That of a report or rubric, if any line is one: the accuracy is then a mean of shares."""
    judged: int = 0
    credit: float = 0.0
    squares: float = 0.0
    unjudged: Counter[str] = field(default_factory=Counter)
    settled_by: Counter[SettledBy] = field(default_factory=Counter)
    settled_right: int = 0
    split: int = 0
    unanswered: int = 0
    cut_off: int = 0
    judged_right: int = 0
    unwitnessed: int = 0
    unnamed: int = 0
    characters: int = 0
    criteria: int = 0
    criteria_unanswered: int = 0
    by_family: dict[str, Counter[bool]] = field(default_factory=dict)
    """Numbers of YES and NO verdicts of the judge, by the calibration's family."""
    uncorrectable: int = 0
    """Verdicts that the calibration does not cover, or without a probability."""

    def add(self, graded: Graded, errors: JudgeErrors | None) -> None:
        """Count a graded prediction."""
        credit, grade = graded.credit, graded.grade
        if graded.prediction.template != "equivalence":
            self.template = graded.prediction.template
        if credit is None:
            self.unjudged["unknown" if grade.error is None else grade.error.kind] += 1
            return
        answer = read_answer(graded.prediction.response or "")
        self.judged += 1
        self.credit += credit
        self.squares += credit * credit
        self.characters += len(answer)
        self.criteria += len(grade.points)
        self.criteria_unanswered += grade.points.count(None)
        self.unanswered += not answer
        self.cut_off += is_cut_off(graded.prediction.finish_reason)
        self.split += grade.is_split
        self.judged_right += grade.settled_by == "judge" and credit == 1
        self.unwitnessed += is_unwitnessed(graded, answer)
        self.settled_by[grade.settled_by or "judge"] += 1
        if grade.settled_by != "judge":
            self.settled_right += credit == 1
            return
        self.unnamed += is_unnamed(graded.prediction)
        if errors is not None:
            self._add_verdict(graded, errors)

    def _add_verdict(self, graded: Graded, errors: JudgeErrors) -> None:
        """Count the verdict of the view `as_written`, whose errors a calibration measures."""
        one = graded.prediction
        entry = errors.entry_of(lettered(one.reference, one.options))
        vote = next((vote for vote in graded.grade.votes if vote.view == "as_written"), None)
        says_yes = None if entry is None or vote is None else errors.says_yes(entry, vote)
        if entry is None or says_yes is None:
            self.uncorrectable += 1
        else:
            self.by_family.setdefault(entry.family, Counter())[says_yes] += 1

    @property
    def accuracy(self) -> Estimate | None:
        """The mean credit with its interval."""
        if not self.judged:
            return None
        interval = (
            wilson(round(self.credit), self.judged)
            if self.template == "equivalence"
            else mean_interval(self.judged, self.credit, self.squares)
        )
        # Rubrics may go below 0: HealthBench clips the mean of a benchmark, and no single answer.
        return Estimate(min(1.0, max(0.0, self.credit / self.judged)), interval)

    def correction(self, errors: JudgeErrors) -> Correction:
        """Build the correction; only verdicts have a calibration, and the others stay as they are."""
        strata = tuple(
            Stratum(said.total(), said[True], errors.entries[family].calibrated, family)
            for family, said in sorted(self.by_family.items())
        )
        is_beyond = any(map(contradicts, strata))
        if self.template != "equivalence":
            return Correction((max(0.0, self.credit), self.judged, ()), is_beyond)
        if self.uncorrectable or is_beyond:
            return Correction(None, is_beyond)
        settled = self.judged - self.settled_by["judge"]
        return Correction((self.settled_right, settled, strata), is_beyond)


def score_file(
    path: Path, groups: Mapping[str, Group], *, calibration: Path | None = None
) -> Scores:
    """Add up a file of grades; *groups* are those of the known tasks, by their names.

    Raises:
        BadData: the file does not hold grades, or the calibration is of another judge.
    """
    headers = grades_headers(path)
    errors = None if calibration is None else judge_errors(calibration, headers)
    sums: dict[str, Sums] = {}
    for graded in read_graded(path):
        sums.setdefault(graded.prediction.task, Sums()).add(graded, errors)
    order = {name: place for place, name in enumerate(groups)}
    named = sorted(sums.items(), key=lambda item: (order.get(item[0], len(order)), item[0]))
    corrections = {} if errors is None else {name: task.correction(errors) for name, task in named}
    tasks = [_task_score(name, task, groups, corrections.get(name)) for name, task in named]
    return Scores(
        model=str(headers[-1].get("model", path.stem)),
        headers=headers,
        tasks=tasks,
        averages=list(_averages(tasks, groups, corrections)),
        judging=[] if errors is None else [_judging(one) for one in errors.entries.values()],
    )


def grades_headers(path: Path) -> list[Row]:
    """Read the headers of a file of grades.

    Raises:
        BadData: the file does not hold grades.
    """
    headers = headers_of(path)
    if not headers or any(header[HEADER_KEY] != "grades" for header in headers):
        raise BadData(
            f"{path} is no file of grades; make one with `medreward-eval grade`{seeming(path)}"
        )
    return headers


def read_graded(path: Path) -> Iterator[Graded]:
    """Yield graded predictions, each in its latest version.

    Raises:
        BadData: a line is no graded prediction.
    """
    for number, row in standing_lines(path):
        try:
            told = row["grade"]
            error = None if told["error"] is None else Failure(**told["error"])
            votes = tuple(Vote(**vote) for vote in told["votes"])
            points = tuple(told.get("points", ()))
            grade = Grade(told["score"], told["settled_by"], told["p_yes"], votes, error, points)
            graded = Graded(prediction_of(row, Reading({})), grade)
        except (KeyError, TypeError, ValueError):
            id_ = row.get("id")
            raise BadData(
                f"{path}: line {number} ({repr(id_) if isinstance(id_, str) else 'without an id'}) "
                "holds no prediction with its grade; grade anew, to a new file"
            ) from None
        yield graded


def _task_score(
    name: str, task: Sums, groups: Mapping[str, Group], correction: Correction | None
) -> TaskScore:
    return TaskScore(
        task=name,
        group=groups.get(name, "own"),
        template=task.template,
        judged=task.judged,
        unjudged=dict(task.unjudged),
        accuracy=task.accuracy,
        corrected=_corrected([correction]) if task.template == "equivalence" else None,
        settled_by=dict(task.settled_by),
        split=task.split,
        unanswered=task.unanswered,
        cut_off=task.cut_off,
        mean_answer_characters=task.characters / max(1, task.judged),
        judged_right=task.judged_right if task.template == "equivalence" else 0,
        unwitnessed=task.unwitnessed,
        unnamed=task.unnamed,
        criteria=task.criteria,
        criteria_unanswered=task.criteria_unanswered,
        is_beyond_calibration=correction is not None and correction.is_beyond,
    )


def _averages(
    tasks: Sequence[TaskScore], groups: Mapping[str, Group], corrections: Mapping[str, Correction]
) -> Iterator[Average]:
    for name, parts in AVERAGES.items():
        scored = [t for t in tasks if t.group in parts and t.accuracy is not None]
        if len(scored) < FEWEST_TASKS[name]:
            continue
        yield Average(
            name=name,
            tasks=len(scored),
            # The user's own tasks have no complete list, so their number is that of the file.
            of=len(scored) if name == "Own" else sum(group in parts for group in groups.values()),
            accuracy=macro([task.accuracy for task in scored if task.accuracy is not None]),
            corrected=_corrected([corrections.get(task.task) for task in scored]),
        )


def _corrected(corrections: Sequence[Correction | None]) -> Estimate | None:
    tasks = [one.task for one in corrections if one is not None and one.task is not None]
    return corrected(tasks) if len(tasks) == len(corrections) else None


def _judging(entry: Entry) -> Judging:
    kappa, ac1 = agreement(entry.calibrated)
    return Judging(entry.family, entry.labels, entry.sensitivity, entry.specificity, kappa, ac1)
