"""The questions of several tasks: their order, repeated iteration, and invalid rows."""

from pathlib import Path
from typing import Any

import pytest

from medreward_eval.errors import BadData
from medreward_eval.tasks.question_source import QuestionSource
from medreward_eval.tasks.tasks import Task
from tests.evaluation.conftest import own_task

GOOD = {"q": "Which organ?", "a": "spleen"}


def task(folder: Path, name: str, rows: list[dict[str, Any]] | None, **changes: Any) -> Task:
    """A task of that name."""
    return own_task(folder, rows, **{"name": name, "path": f"{name}.jsonl", **changes})


def ids(source: QuestionSource) -> list[str]:
    """The questions, by their ids."""
    return [question.id for question in source.questions()]


def test_tasks_follow_one_another(tmp_path: Path) -> None:
    """In the order in which they are named, each with its own numbers."""
    source = QuestionSource([task(tmp_path, "b", [GOOD, GOOD]), task(tmp_path, "a", [GOOD])])

    assert ids(source) == ["b_0", "b_1", "a_0"]
    assert source.mistakes == {}


def test_questions_are_read_anew_each_time(tmp_path: Path) -> None:
    """A retry of failed questions needs the same ones once more."""
    source = QuestionSource([task(tmp_path, "a", [GOOD, {"q": "?"}, GOOD])])

    assert list(source.questions()) == list(source.questions())
    assert source.mistakes["a"].count == 1


def test_a_limit_is_each_tasks_own(tmp_path: Path) -> None:
    """Every task has its first questions, so no task is left out."""
    tasks = [task(tmp_path, "a", [GOOD] * 5), task(tmp_path, "b", [GOOD])]
    source = QuestionSource(tasks, limit=2)

    assert ids(source) == ["a_0", "a_1", "b_0"]


def test_questions_are_counted_where_files_tell(tmp_path: Path) -> None:
    """A Parquet file knows its rows; of each task no more than the limit are asked."""
    tasks = [
        task(tmp_path, "a", [GOOD] * 5, path="a.parquet"),
        task(tmp_path, "b", [GOOD], path="b.parquet"),
    ]

    assert QuestionSource(tasks).count() == 6
    assert QuestionSource(tasks, limit=2).count() == 3


@pytest.mark.parametrize(
    "unknown",
    [{"path": "b.jsonl"}, {"path": "b.parquet", "only": {"kind": "rare"}}],
    ids=["lines", "only"],
)
def test_the_count_is_unknown_where_it_takes_reading(
    unknown: dict[str, Any], tmp_path: Path
) -> None:
    """The number of lines, and of rows that `only` selects, is unknown until they are read."""
    rows = [{**GOOD, "kind": "rare"}, {**GOOD, "kind": "common"}]
    known = task(tmp_path, "a", rows, path="a.parquet")

    assert QuestionSource([known, task(tmp_path, "b", rows, **unknown)]).count() is None


def test_a_missing_data_set_is_told_before_anything_is_asked(tmp_path: Path) -> None:
    """To count is to open each: better then than after hours of the first task."""
    source = QuestionSource([task(tmp_path, "a", [GOOD]), task(tmp_path, "away", None)])

    with pytest.raises(BadData, match=r"away"):
        source.count()
