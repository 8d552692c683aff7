"""The table of a difference: signs, bounds and p as they are, and names that do nothing."""

import csv
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from medreward_eval.report.comparison_tables import (
    CSV_COLUMNS,
    comparison_csv,
    comparison_notes,
    comparison_table,
    conclusions,
)
from medreward_eval.statistics.comparison import Compared, compare
from medreward_eval.statistics.scores import Provenance
from tests.evaluation.sample_scores import Credits, binary


def reports(*credit: float) -> Credits:
    """Reports that the second writes better by 0.2."""
    ours = np.array(credit)
    return "vlm", ours, ours + 0.2, False


TASKS: dict[str, Credits] = {
    "medqa": binary(40, 5, 35, 20),
    "pubmedqa": binary(40, 1, 2, 57),
    "mimic": reports(0.2, 0.4, 0.4, 0.6, 0.8),
}


def compared(tasks: Mapping[str, Credits] = TASKS, **changes: Any) -> Compared:
    """Two models."""
    told = {"first": "base", "second": "tuned", "left_out": {}, **changes}
    return Compared(comparison=compare(tasks), **told)


def printed(both: Compared, width: int = 160) -> list[str]:
    """The lines that a terminal shows."""
    console = Console(width=width, file=io.StringIO(), color_system=None)
    with console.capture() as shown:
        console.print(comparison_table(both))
        console.print("\n".join(comparison_notes(both)))
    return shown.get().splitlines()


def line(both: Compared, task: str) -> list[str]:
    """The cells of a task, taken apart at each space."""
    (found,) = [one for one in printed(both) if one.startswith(task)]
    return found.split()


def test_a_task_stands_with_both_accuracies_and_what_parts_them() -> None:
    """Below the models' names. By hand: 45 and 75 of 100, 30 points more, and 5 against 35 answers apart."""
    cells = line(compared(), "medqa")

    assert "base % " in printed(compared())[0]
    assert "tuned % " in printed(compared())[0]
    assert cells[:5] == ["medqa", "100", "45.0", "75.0", "+30.0"]
    assert cells[6] == "to"
    assert cells[8:] == ["5", ":", "35", "<0.001"]
    assert 10 < float(cells[5]) < 30 < float(cells[7]) < 45


@pytest.mark.parametrize(
    ("task", "cells"),
    [
        # 1 against 2 is 1 with McNemar, which no number of tasks makes more.
        ("pubmedqa", ["1", ":", "2", "1.000"]),
        # Reports are not right or wrong.
        ("mimic", ["-", "-"]),
    ],
)
def test_discordant_answers_stand_with_the_adjusted_p(task: str, cells: list[str]) -> None:
    """In the last two columns, and a report has neither."""
    assert line(compared(), task)[-len(cells) :] == cells


def test_averages_stand_behind_the_tasks() -> None:
    """The discordant answers are those of all their tasks."""
    lines = printed(compared())
    firsts = [one.split()[0] for one in lines[1:7]]

    assert firsts == ["medqa", "pubmedqa", "mimic", "LLM", "VLM", "Overall"]
    assert line(compared(), "LLM")[1:5] == ["200", "43.0", "58.5", "+15.5"]
    assert line(compared(), "LLM")[8:11] == ["6", ":", "37"]


def test_what_was_left_out_is_told() -> None:
    """A comparison of a tenth of the questions must not look like one of all."""
    left_out = {"unjudged in one of them": 1200, "only in the first file": 3}
    text = "\n".join(printed(compared(left_out=left_out)))

    assert "Left out: 1,200 questions, unjudged in one of them." in text
    assert "Left out: 3 questions, only in the first file." in text


def test_holm_is_told_where_there_are_several_tasks() -> None:
    """With one task there is no adjustment to mention."""
    one = compared({"medqa": TASKS["medqa"]})

    assert "(Holm)" in "\n".join(printed(compared()))
    assert "(Holm)" not in "\n".join(printed(one))
    assert "McNemar's, exact." in "\n".join(printed(one))


def test_a_task_without_common_questions_is_named() -> None:
    """In the table and among the conclusions."""
    both = compared({**TASKS, "ward": binary(0, 0, 0, 0)})

    assert "Without a question that both were judged on: ward." in "\n".join(printed(both))
    assert conclusions(both.comparison, both.first, both.second)[-1].startswith(
        "On ward nothing can be said"
    )


@pytest.mark.parametrize("width", [100, 160])
def test_no_number_is_cut_off(width: int) -> None:
    """Also where the names of models are long."""
    long = "an-organisation/a-model-of-a-very-long-name-8B-Instruct"
    text = "\n".join(printed(compared(first=long, second=f"{long}-tuned"), width))

    assert "…" not in text
    assert "+30.0" in text
    assert max(map(len, text.splitlines())) <= width


def test_a_name_is_no_markup() -> None:
    """Neither of a task nor of a model, and nothing invisible is in it."""
    odd = compared({"[red]a\u202e": TASKS["medqa"]}, first="[bold]b\x1b")
    text = "\n".join(printed(odd))

    assert "[red]a⟨U+202E⟩" in text
    assert "[bold]b⟨U+001B⟩" in text
    assert "\x1b" not in text


def test_csv_holds_tasks_then_averages() -> None:
    """Numbers are from 0 to 1, and what there is none of is empty."""
    rows = list(csv.DictReader(io.StringIO(comparison_csv(compared()))))
    medqa, mimic, llm = rows[0], rows[2], rows[3]

    assert list(medqa) == list(CSV_COLUMNS)
    assert [row["task"] for row in rows] == [*TASKS, "LLM", "VLM", "Overall"]
    assert (medqa["items"], medqa["first"], medqa["second"]) == ("100", "0.45", "0.75")
    assert (medqa["difference"], medqa["only_first"], medqa["only_second"]) == ("0.3", "5", "35")
    assert float(medqa["p_adjusted"]) == pytest.approx(2 * float(medqa["p"]))
    assert (mimic["only_first"], mimic["p"], mimic["p_adjusted"]) == ("", "", "")
    assert (llm["only_second"], llm["p_adjusted"]) == ("37", "")


def test_nothing_in_common_is_a_table_all_the_same() -> None:
    """Two files of other questions are no error."""
    both = compared({}, left_out={"only in the first file": 1})

    assert printed(both)
    assert comparison_csv(both).count("\n") == 1
    assert conclusions(both.comparison, both.first, both.second) == []


def test_a_model_that_was_not_asked_all_is_told_by_its_name() -> None:
    """The pairs are then of the first questions alone."""
    part = Provenance(graded=4, unasked=6)
    told = list(comparison_notes(compared(provenance=(Provenance(graded=10), part))))

    assert told[0].startswith("Warning: 4 of 10 questions of tuned have a prediction so far")


def test_a_model_that_is_not_all_graded_is_told_by_its_name() -> None:
    """Also where its predictions are of several ways; of a whole file there is nothing to tell."""
    mixed = Provenance([{"model": "one"}, {"model": "two"}], graded=4, ungraded=6)
    told = list(comparison_notes(compared(provenance=(Provenance(graded=10), mixed))))

    assert told[0].startswith(
        "Warning: the predictions of tuned were generated in 2 ways (model one / two)"
    )
    assert told[1].startswith("Warning: 4 of 10 predictions of tuned are graded so far")
    assert not any("of base" in text for text in told)
    assert not any("Warning" in text for text in comparison_notes(compared()))
