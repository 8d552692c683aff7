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


@pytest.mark.parametrize("ending", ["jsonl", "json", "parquet"])
def test_questions_are_counted_before_they_are_asked(tmp_path: Path, ending: str) -> None:
    """The count is of what can be asked: no more than the limit, and neither bad nor other rows."""
    rows = [
        {**GOOD, "kind": "rare"},
        {"q": "", "a": "A", "kind": "rare"},
        {**GOOD, "kind": "common"},
    ]
    tasks = [
        task(tmp_path, "a", rows, path=f"a.{ending}"),
        task(tmp_path, "b", rows, path=f"b.{ending}", only={"kind": "rare"}),
    ]
    source = QuestionSource(tasks)

    assert (source.count(), source.mistakes) == (3, {})
    assert len(ids(source)) == 3
    assert QuestionSource(tasks, limit=1).count() == 2


def test_to_count_no_image_is_read(tmp_path: Path) -> None:
    """A question whose image cannot be read counts, since its line says so."""
    rows = [{**GOOD, "image": b"no image"}]
    scans = task(tmp_path, "scans", rows, path="scans.parquet").model_copy(update={"group": "vlm"})
    source = QuestionSource([scans])

    assert source.count() == len(ids(source)) == 1


def test_rows_that_none_is_left_of_are_no_data_set(tmp_path: Path) -> None:
    """A value of `only` that no row has would ask nothing, and pass."""
    rows = [{**GOOD, "kind": "rare"}]
    with pytest.raises(BadData, match=r"a: no row has what `only` asks for: \{'kind': 'rara'\}"):
        QuestionSource([task(tmp_path, "a", rows, only={"kind": "rara"})]).count()


def test_a_missing_data_set_is_told_before_anything_is_asked(tmp_path: Path) -> None:
    """To count is to open each: better then than after hours of the first task."""
    source = QuestionSource([task(tmp_path, "a", [GOOD]), task(tmp_path, "away", None)])

    with pytest.raises(BadData, match=r"away"):
        source.count()
