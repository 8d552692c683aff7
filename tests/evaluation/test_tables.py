"""Tables of scores: their layout, and the notes on what they leave out."""

import csv
import io
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from medreward_eval.report.tables import (
    CSV_COLUMNS,
    csv_text,
    facts,
    markdown,
    notes,
    percent,
    score_table,
    spread_bare,
    warnings,
)
from medreward_eval.statistics.scores import Estimate, Interval, Scores
from tests.evaluation.sample_scores import HEADER, sample_scores, task_score, uncorrected

EMPTY = Scores(model="none", headers=[], tasks=[], averages=[])


def printed(scores: Scores, width: int) -> list[str]:
    """The lines that a terminal shows."""
    console = Console(width=width, file=io.StringIO(), color_system=None)
    with console.capture() as shown:
        console.print(score_table(scores))
        console.print(Text("\n".join(notes(scores))))
    return shown.get().splitlines()


@pytest.mark.parametrize("width", [80, 100, 160])
def test_a_terminal_of_80_columns_cuts_nothing_off(width: int) -> None:
    """Names stand in one line, and no number is lost."""
    lines = printed(sample_scores(), width)
    text = "\n".join(lines)

    assert max(map(len, lines)) <= width
    assert "…" not in text
    for told in ("mimic_cxr_report_summarization ", "65.5-76.0", "59.0-74.2", "53.6", "67.5-69.8"):
        assert told in text


def test_a_wide_terminal_has_one_line_for_a_task() -> None:
    """An accuracy and its interval are on the same line."""
    (line,) = [line for line in printed(sample_scores(), 120) if line.startswith("medqa")]

    assert line.split() == ["medqa", "1,236", "of", "1,273", "61.0", "58.5-63.3", "57.0",
                            "53.4-60.3", "53.4", "31"]  # fmt: skip


def test_groups_and_averages_are_parted_by_lines() -> None:
    """Text tasks, image tasks and averages each stand for themselves."""
    lines = printed(sample_scores(), 120)
    rules = [number for number, line in enumerate(lines) if set(line.strip()) == {"─"}]

    assert len(rules) == 3
    assert lines[rules[1] + 1].startswith("slake_vqa")
    assert lines[rules[2] + 1].split()[:6] == ["LLM", "average", "11", "of", "11", "tasks"]


def test_without_a_calibration_there_is_no_corrected_column() -> None:
    """A column of nothing would look like a failure; a note says what that means."""
    text = markdown(uncorrected(sample_scores()))

    assert "corrected" not in text
    assert "accuracies include the judge's own errors" in text
    assert "corrected %" in markdown(sample_scores())


def test_a_name_is_no_markup() -> None:
    """Neither rich nor Markdown reads a task's name, and nothing invisible is in it."""
    odd = task_score("[red]a|b*c\u202e", 10, "own")
    scores = Scores(model="m", headers=[], tasks=[odd], averages=[])

    assert printed(scores, 120)[2].startswith("[red]a|b*c⟨U+202E⟩")
    assert "| \\[red\\]a\\|b\\*c⟨U+202E⟩ |" in markdown(scores)


def test_every_line_of_markdown_has_the_same_cells() -> None:
    """A row with a cell too many would break the table."""
    rows = [line for line in markdown(sample_scores()).splitlines() if line.startswith("|")]

    assert {line.count("|") for line in rows} == {7}
    assert (
        "| medqa | 1,236 of 1,273 | 61.0 (58.5 to 63.3) | 57.0 (53.4 to 60.3) | 53.4 | 31 |" in rows
    )
    assert len(rows) == 2 + 17 + 3


def test_csv_holds_tasks_then_averages() -> None:
    """The numbers are shares, and what there is none of is empty."""
    rows = list(csv.DictReader(io.StringIO(csv_text(uncorrected(sample_scores())))))
    by_name = {row["task"]: row for row in rows}
    medqa, overall = by_name["medqa"], by_name["Overall"]

    assert list(rows[0]) == list(CSV_COLUMNS)
    assert [row["task"] for row in rows[17:]] == ["LLM", "VLM", "Overall"]
    assert (medqa["n"], medqa["judged"], medqa["unjudged"]) == ("1273", "1236", "37")
    assert (medqa["accuracy"], medqa["corrected"], medqa["by_rule"]) == ("0.61", "", "1")
    assert (overall["accuracy"], overall["n"]) == ("0.622", "")
    assert (overall["tasks"], overall["of_tasks"]) == ("17", "17")


def test_a_task_of_which_nothing_was_judged_has_no_accuracy() -> None:
    """It is not a task in which all was wrong."""
    lost = replace(task_score("medqa", 5, "llm", unjudged=5), accuracy=None, corrected=None)
    scores = Scores(model="m", headers=[], tasks=[lost], averages=[])

    assert "| medqa | 0 of 5 | - | - | 0 |" in markdown(scores)
    assert csv_text(scores).splitlines()[1].startswith("medqa,llm,equivalence,5,0,5,,,,,,,")


def test_what_is_unjudged_is_told_with_its_kinds() -> None:
    """The reader learns how many, why, and what to do."""
    (told,) = warnings(sample_scores())

    assert told == (
        "Warning: medqa: 37 of 1,273 are in no accuracy: judge_timeout 37; "
        "`medreward-eval grade` again retries them."
    )


def test_mixed_grades_are_told_with_what_differs() -> None:
    """Grades of two judges add up to no number that means anything."""
    mixed = replace(sample_scores(), headers=[HEADER, {**HEADER, "service": "0.2.0", "votes": 1}])
    told = warnings(mixed)[0]

    assert told.startswith("Warning: these grades were made in 2 ways (service, votes)")
    assert sum(note.startswith("Graded with") for note in notes(mixed)) == 2


def test_an_average_of_fewer_tasks_says_so() -> None:
    """It must not be held against one of all tasks."""
    scores = sample_scores()
    short = replace(scores, averages=[replace(scores.averages[0], tasks=10), *scores.averages[1:]])

    assert warnings(short)[0].startswith(
        "Warning: tasks are missing from an average (LLM 10 of 11); it does not compare"
    )


def test_many_troubled_tasks_do_not_flood_the_notes() -> None:
    """The first are named, and the rest counted."""
    tasks = [task_score(f"t{number}", 10, "own", unjudged=1) for number in range(30)]
    told = warnings(Scores(model="m", headers=[], tasks=tasks, averages=[]))

    assert len(told) == 21
    assert told[-1] == "Warning: so it is with 10 more tasks."


def test_headers_are_told_flat_and_digests_short() -> None:
    """A note names templates so that they can be told apart, and stays one line."""
    told = facts(HEADER)

    assert told["equivalence template"] == "sha256:abababababab"
    assert facts(HEADER, whole=True)["report template"] == "sha256:" + "cd" * 32
    assert "medreward eval" not in told
    assert facts({"a": {"b": [1, 2]}, "c": None}) == {"b a": "1, 2"}


def test_no_scores_are_a_table_all_the_same() -> None:
    """A file with only a header gives an empty table, not an error."""
    assert printed(EMPTY, 80)
    assert csv_text(EMPTY).count("\n") == 1
    assert markdown(EMPTY).startswith("| task |")


@pytest.mark.parametrize(
    ("share", "told"),
    [(None, "-"), (0.0, "0.0"), (1.0, "100.0"), (0.0001, "<0.1"), (0.9999, ">99.9"), (0.5, "50.0")],
)
def test_a_share_is_never_rounded_to_none_or_all(share: float | None, told: str) -> None:
    """One right answer among ten thousand is not none."""
    assert percent(share) == told


@given(st.floats(0, 1))
def test_a_share_fits_its_column(share: float) -> None:
    """Five characters do, whatever the share."""
    assert len(percent(share)) <= 5
    assert len(spread_bare(Estimate(share, Interval(0.0, share))).split()) == 2


@pytest.mark.parametrize(
    ("right", "alone", "is_told"), [(50, 10, True), (50, 9, False), (4, 2, False), (3, 3, True)]
)
def test_a_judge_that_stands_alone_is_warned_of(right: int, alone: int, is_told: bool) -> None:
    """The warning needs a fifth of the right answers, and at least three, without a reference's word."""
    medqa = replace(task_score("medqa", 100, "llm"), judged_right=right, unwitnessed=alone)
    told = " ".join(warnings(replace(EMPTY, tasks=[medqa])))

    assert (f"{alone} of {right} answers that the judge took for right on medqa" in told) is is_told


def test_a_calibration_of_other_answers_is_warned_of() -> None:
    """It says which tasks, and what to do."""
    beyond = replace(task_score("medqa", 100, "llm"), is_beyond_calibration=True)
    (told,) = warnings(replace(EMPTY, tasks=[beyond]))

    assert "nothing is corrected on medqa" in told
    assert "calibrate it on some of these" in told


def test_a_csv_counts_what_is_not_graded_yet() -> None:
    """So that no program takes a part for the whole; a whole file has no such row."""
    whole = sample_scores()
    total = sum(task.of for task in whole.tasks)
    part = replace(whole, headers=[{**HEADER, "predictions": total + 7}])
    last = list(csv.DictReader(io.StringIO(csv_text(part))))[-1]

    assert (last["task"], last["n"], last["judged"]) == ("not graded yet", "7", "0")
    assert not any(last[key] for key in CSV_COLUMNS if key not in {"task", "n", "judged"})
    assert "not graded yet" not in csv_text(whole)
