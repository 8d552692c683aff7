"""Comparison of two files of grades: pairs of questions, and those that are left out."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medreward_eval.errors import OtherRun
from medreward_eval.records import Grade, Graded
from medreward_eval.statistics.comparison import Compared, compare_files
from medreward_eval.statistics.scores import Group
from tests.evaluation.conftest import grades_file
from tests.evaluation.sample_scores import HEADER, RIGHT, UNJUDGED, WRONG, item

GROUPS: dict[str, Group] = {"medqa": "llm", "mimic_cxr_report_generation": "vlm"}
OTHER_JUDGE = {"equivalence": "another", "report": "another"}


def named(model: str, **changes: Any) -> dict[str, Any]:
    """The header of a model's grades."""
    return {**HEADER, "model": model, **changes}


def compared(tmp_path: Path, first: list[Graded], second: list[Graded], **changes: Any) -> Compared:
    """Two models' grades; *changes* are of the second's header."""
    return compare_files(
        grades_file(tmp_path / "a.jsonl", first, [named("base")]),
        grades_file(tmp_path / "b.jsonl", second, [named("tuned", **changes)]),
        GROUPS,
    )


def test_answers_are_paired_by_their_ids(tmp_path: Path) -> None:
    """Whatever the order of either file, the same question meets itself."""
    first = [item("medqa", n, RIGHT if n < 4 else WRONG) for n in range(10)]
    second = [item("medqa", n, RIGHT if 2 <= n < 9 else WRONG) for n in range(10)]
    random.Random(3).shuffle(second)  # noqa: S311 - an order
    both = compared(tmp_path, first, second)
    (medqa,) = both.comparison.tasks

    assert (both.first, both.second) == ("base", "tuned")
    assert (medqa.name, medqa.items) == ("medqa", 10)
    assert (medqa.first, medqa.second) == (0.4, 0.7)
    assert medqa.discordant is not None
    assert (medqa.discordant.only_first, medqa.discordant.only_second) == (2, 5)
    assert both.left_out == {}


def test_what_is_unjudged_in_one_file_is_left_out_and_counted(tmp_path: Path) -> None:
    """A missing verdict, in either file, does not count as a wrong answer."""
    first = [item("medqa", n, grade) for n, grade in enumerate([UNJUDGED, RIGHT, RIGHT, UNJUDGED])]
    second = [item("medqa", n, grade) for n, grade in enumerate([RIGHT, UNJUDGED, WRONG, UNJUDGED])]
    both = compared(tmp_path, first, second)
    (medqa,) = both.comparison.tasks

    assert (medqa.items, medqa.first, medqa.second) == (1, 1.0, 0.0)
    assert both.left_out == {"unjudged in one of them": 3}


def test_questions_of_one_file_alone_are_counted(tmp_path: Path) -> None:
    """One model may have been asked fewer."""
    first = [item("medqa", n, RIGHT) for n in range(5)]
    second = [item("medqa", n, RIGHT) for n in range(3, 6)]
    both = compared(tmp_path, first, second)

    assert both.comparison.tasks[0].items == 2
    assert both.left_out == {"only in the first file": 3, "only in the second file": 1}


def test_reports_are_compared_by_their_shares(tmp_path: Path) -> None:
    """They are neither right nor wrong, so no answers are discordant."""
    task = "mimic_cxr_report_generation"
    first = [item(task, n, Grade(float(n), "judge")) for n in range(4)]
    second = [item(task, n, Grade(n + 2.0, "judge")) for n in range(4)]
    (report,) = compared(tmp_path, first, second).comparison.tasks

    assert (report.first, report.second) == pytest.approx((0.3, 0.7))
    assert report.discordant is None


@pytest.mark.parametrize("reports_first", [True, False])
def test_reports_among_answers_make_their_task_one_of_shares(
    reports_first: bool, tmp_path: Path
) -> None:
    """Predictions of the user's may be of both templates, in any order."""
    report = item("ward", 0, Grade(3.0, "judge"), template="report")
    graded = [report, item("ward", 1, RIGHT)][:: 1 if reports_first else -1]
    (ward,) = compared(tmp_path, graded, graded).comparison.tasks

    assert ward.items == 2
    assert ward.first == pytest.approx(0.8)
    assert ward.discordant is None


@pytest.mark.parametrize(
    "change",
    [
        {"question": "Which lobe?"},
        {"reference": "Heparin"},
        {"options": ("Aspirin", "Heparin")},
        {"template": "report"},
        {"task": "pubmedqa"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_question_under_the_same_id_is_told(change: dict[str, Any], tmp_path: Path) -> None:
    """Two data sets that number their questions alike do not compare; only the id is shown."""
    one = item("medqa", 0, RIGHT)

    with pytest.raises(OtherRun, match="'medqa_0' is another question than in") as told:
        compared(tmp_path, [one], [replace(one, prediction=replace(one.prediction, **change))])
    assert "lobe" not in str(told.value)


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"judges": OTHER_JUDGE}, "judges .*Qwen.*, now .*another.*"),
        ({"votes": 1}, "votes 2, now 1"),
        ({"rules": {"equivalence": None}}, "rules .*, now .*None.*"),
        ({"templates": {"equivalence": "sha256:other"}}, "templates .*, now .*sha256:other.*"),
        ({"service": "0.2.0"}, r"service '0\.1\.0', now '0\.2\.0'"),
        ({"version": 2}, "version 1, now 2"),
    ],
    ids=["judges", "votes", "rules", "templates", "service", "version"],
)
def test_grades_made_otherwise_do_not_compare(
    change: dict[str, Any], difference: str, tmp_path: Path
) -> None:
    """A difference could be the judges', so the error names them and nothing is compared."""
    graded = [item("medqa", 0, RIGHT)]

    with pytest.raises(OtherRun, match=rf"graded otherwise \({difference}\)"):
        compared(tmp_path, graded, graded, **change)


def test_a_file_that_was_mixed_does_not_compare(tmp_path: Path) -> None:
    """A part of it is of another judge, though its last header is the other file's."""
    graded = [item("medqa", 0, RIGHT)]
    mixed = grades_file(tmp_path / "a.jsonl", graded, [named("base", judges=OTHER_JUDGE), HEADER])
    second = grades_file(tmp_path / "b.jsonl", graded)

    with pytest.raises(OtherRun, match=r"graded otherwise \(judges"):
        compare_files(mixed, second, GROUPS)


def test_one_model_twice_is_told_apart_by_the_places(tmp_path: Path) -> None:
    """Else a sentence would say that a model is better than itself."""
    graded = [item("medqa", 0, RIGHT)]
    both = compare_files(
        grades_file(tmp_path / "a.jsonl", graded), grades_file(tmp_path / "b.jsonl", graded), GROUPS
    )

    assert (both.first, both.second) == ("medix-r1-8b (A)", "medix-r1-8b (B)")


def test_it_is_kept_of_which_predictions_either_file_is(tmp_path: Path) -> None:
    """By which models, and how many are not graded yet, whatever the other file has."""
    ways = [{"model": "tuned"}, {"model": "other"}]
    first = [item("medqa", n, RIGHT) for n in range(3)]
    second = [item("medqa", n, UNJUDGED) for n in range(2)]
    base, tuned = compared(tmp_path, first, second, predictions=5, generated=ways).provenance

    assert (base.generated, base.graded, base.ungraded) == ([], 3, 0)
    assert (tuned.generated, tuned.graded, tuned.ungraded) == (ways, 2, 3)
