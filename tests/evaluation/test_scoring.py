"""Scores of grades, with figures that can be computed by hand."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from medreward_eval.errors import BadData
from medreward_eval.journal import Journal, line_of
from medreward_eval.records import Failure, Grade, Graded, Vote, graded_row, prediction_row
from medreward_eval.report.tables import csv_text, notes, warnings
from medreward_eval.statistics.scores import Group, Scores, TaskScore
from medreward_eval.statistics.scoring import Sums, score_file
from tests.evaluation.conftest import grades_file, rows_file
from tests.evaluation.sample_scores import HEADER, RIGHT, SPLIT, UNJUDGED, WRONG, item, sure
from tests.evaluation.test_judge_calibration import JUDGE, SHA, calibration_file, entry

GROUPS: dict[str, Group] = {
    "medqa": "llm",
    "pubmedqa": "llm",
    "slake_vqa": "vlm",
    "mimic_cxr_report_generation": "vlm",
}
REPORT = "mimic_cxr_report_generation"
CALIBRATED = {
    **HEADER,
    "judges": {"equivalence": JUDGE},
    "templates": {"equivalence": f"sha256:{SHA}"},
}
YES = Grade(1.0, "judge", 0.9, (Vote("as_written", "YES", 0.9), Vote("swapped", "YES", 0.9)))
NO = WRONG
NO_RESPONSE = Grade(None, error=Failure("no_response", "the model gave no response"))


def items(task: str, *grades: Grade, **changes: Any) -> list[Graded]:
    """Graded predictions of a task, by their grades."""
    return [item(task, number, grade, **changes) for number, grade in enumerate(grades)]


def three_tasks() -> list[Graded]:
    """One of right and wrong answers, one of reports, and one of the user's."""
    return [
        *items("medqa", YES, NO, RIGHT, SPLIT, UNJUDGED, NO_RESPONSE),
        *items(REPORT, *(Grade(score, "judge") for score in (5.0, 3.0, 0.0))),
        *items("ward", YES, NO),
    ]


def scored(tmp_path: Path, graded: Sequence[Graded], **options: Any) -> Scores:
    """The scores of a file of these grades."""
    headers = options.pop("headers", (HEADER,))
    return score_file(grades_file(tmp_path / "grades.jsonl", graded, headers), GROUPS, **options)


def by_name(scores: Scores) -> dict[str, TaskScore]:
    """The tasks by their names."""
    return {task.task: task for task in scores.tasks}


def test_an_accuracy_is_the_mean_of_what_was_judged(tmp_path: Path) -> None:
    """Three of four are right, one by a split vote; the two unjudged are counted by their reason."""
    medqa = by_name(scored(tmp_path, three_tasks()))["medqa"]
    low, high = stats.binomtest(3, 4).proportion_ci(method="wilson")

    assert (medqa.judged, medqa.of) == (4, 6)
    assert medqa.unjudged == {"judge_timeout": 1, "no_response": 1}
    assert (medqa.settled_by, medqa.split) == ({"judge": 3, "option": 1}, 1)
    assert sure(medqa.accuracy).value == 0.75
    assert sure(medqa.accuracy).interval == pytest.approx((low, high))


def test_reports_are_worth_their_share_of_five(tmp_path: Path) -> None:
    """Scores of 5, 3 and 0 are 1, 0.6 and 0, with Student's interval around their mean."""
    report = by_name(scored(tmp_path, three_tasks()))[REPORT]
    credit = [1.0, 0.6, 0.0]
    low, high = stats.t.interval(0.95, 2, np.mean(credit), stats.sem(credit))

    assert report.template == "report"
    assert sure(report.accuracy).value == pytest.approx(1.6 / 3)
    assert sure(report.accuracy).interval == pytest.approx((max(0.0, low), min(1.0, high)))


def test_averages_are_plain_means_of_tasks(tmp_path: Path) -> None:
    """Each task counts the same, however long it is, and it is told how many tasks there are."""
    graded = [*three_tasks(), *items("pubmedqa", *[NO] * 40)]
    averages = {one.name: one for one in scored(tmp_path, graded).averages}

    assert {name: (one.tasks, one.of) for name, one in averages.items()} == {
        "LLM": (2, 2),
        "VLM": (1, 2),
        "Overall": (3, 4),
    }
    assert averages["LLM"].accuracy.value == pytest.approx(0.75 / 2)
    assert averages["VLM"].accuracy.value == pytest.approx(1.6 / 3)
    assert averages["Overall"].accuracy.value == pytest.approx((0.75 + 0 + 1.6 / 3) / 3)


def test_own_tasks_have_an_average_from_two_on(tmp_path: Path) -> None:
    """They are in none of MediX-R1's, and the average of one would only repeat it."""
    graded = [*items("ward", YES, NO), *items("clinic", YES)]
    scores = scored(tmp_path, graded)
    (own,) = scores.averages

    assert {task.task: task.group for task in scores.tasks} == {"clinic": "own", "ward": "own"}
    assert (own.name, own.tasks, own.of, own.accuracy.value) == ("Own", 2, 2, 0.75)


def test_a_task_of_which_nothing_was_judged_is_in_no_average(tmp_path: Path) -> None:
    """It is not a task in which all was wrong."""
    scores = scored(tmp_path, [*items("medqa", YES), *items("pubmedqa", UNJUDGED, NO_RESPONSE)])
    (lost,) = [task for task in scores.tasks if task.task == "pubmedqa"]
    llm = scores.averages[0]

    assert (lost.accuracy, lost.judged, lost.of) == (None, 0, 2)
    assert (llm.tasks, llm.of, llm.accuracy.value) == (1, 2, 1.0)


def test_responses_without_an_answer_are_counted(tmp_path: Path) -> None:
    """Cut off in their thinking, or empty: they are judged, and wrong."""
    by_rule = Grade(0.0, "rule")
    graded = [
        item("medqa", 0, by_rule, response="<think>It might be"),
        item("medqa", 1, by_rule, response=""),
        item("medqa", 2, YES, response="<think>Long thoughts.</think><answer>Aspirin</answer>"),
    ]
    medqa = by_name(scored(tmp_path, graded))["medqa"]

    assert (medqa.unanswered, medqa.judged) == (2, 3)
    assert medqa.mean_answer_characters == pytest.approx(len("Aspirin") / 3)


def test_what_was_graded_again_has_the_last_word(tmp_path: Path) -> None:
    """The line that tells it again stands behind, and counts in the place of the first."""
    path = grades_file(tmp_path / "grades.jsonl", items("medqa", UNJUDGED, NO))
    with Journal(path, HEADER) as journal:
        journal.append_again([graded_row(item("medqa", 0, YES))])
    (medqa,) = score_file(path, GROUPS).tasks

    assert (medqa.judged, medqa.unjudged) == (2, {})
    assert sure(medqa.accuracy).value == 0.5


def test_tasks_stand_in_the_order_of_the_known_ones(tmp_path: Path) -> None:
    """Those of the user's come behind them, by their names."""
    graded = [item(task, 0, YES) for task in ("ward", "slake_vqa", "clinic", "pubmedqa", "medqa")]

    order = [task.task for task in scored(tmp_path, graded).tasks]
    assert order == ["medqa", "pubmedqa", "slake_vqa", "clinic", "ward"]


def test_a_model_is_named_by_the_header(tmp_path: Path) -> None:
    """The last run's, where several were mixed; where it says none, the file's own name."""
    nameless = {key: value for key, value in HEADER.items() if key != "model"}

    assert scored(tmp_path, []).model == "medix-r1-8b"
    assert scored(tmp_path, [], headers=[HEADER, {**HEADER, "model": "b"}]).model == "b"
    assert scored(tmp_path, [], headers=[nameless]).model == "grades"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not JSON\n",
        line_of(prediction_row(item("medqa", 0, YES).prediction)),
        line_of({"medreward_eval": "predictions", "model": "m"}),
    ],
    ids=["empty", "no JSON", "no header", "predictions"],
)
def test_anything_but_a_file_of_grades_is_refused(content: bytes, tmp_path: Path) -> None:
    """The message says what makes one."""
    path = tmp_path / "other.jsonl"
    path.write_bytes(content)

    with pytest.raises(BadData, match=r"other\.jsonl is no file of grades; make one with"):
        score_file(path, GROUPS)


@pytest.mark.parametrize("grade", [None, {}, {"score": 1.0}, "patient John Doe"])
def test_a_line_without_a_grade_is_named_by_its_number_and_id(
    grade: object, tmp_path: Path
) -> None:
    """The error shows none of the line's text."""
    row = {**prediction_row(item("medqa", 7, YES).prediction), "grade": grade}
    path = rows_file(tmp_path / "grades.jsonl", [HEADER, row])

    with pytest.raises(BadData, match=r"grades\.jsonl: line 2 \('medqa_7'\)") as told:
        score_file(path, GROUPS)
    assert "John Doe" not in str(told.value)


def test_reports_among_answers_widen_to_an_interval_of_means(tmp_path: Path) -> None:
    """A task whose lines are of both templates is a mean of shares, whichever comes first."""
    report = item("ward", 0, Grade(3.0, "judge"), template="report")
    answer = item("ward", 1, YES)
    tasks = [scored(tmp_path, order).tasks[0] for order in ([report, answer], [answer, report])]
    low, high = stats.t.interval(0.95, 1, 0.8, stats.sem([0.6, 1.0]))

    for task in tasks:
        assert task.template == "report"
        assert sure(task.accuracy).value == pytest.approx(0.8)
        assert sure(task.accuracy).interval == pytest.approx((max(0.0, low), min(1.0, high)))


@given(st.lists(st.sampled_from([YES, NO, RIGHT, SPLIT, UNJUDGED]), min_size=1))
def test_nothing_is_lost_and_only_the_judged_count(grades: list[Grade]) -> None:
    """For any grades the counts add up, and the accuracy is that of the judged ones."""
    sums = Sums()
    for graded in items("medqa", *grades):
        sums.add(graded, None)
    judged = [grade.score for grade in grades if grade.score is not None]

    assert sums.judged + sums.unjudged.total() == len(grades)
    assert sums.settled_by.total() == sums.judged == len(judged)
    if judged:
        low, high = stats.binomtest(int(sum(judged)), len(judged)).proportion_ci(method="wilson")
        assert sure(sums.accuracy).value == pytest.approx(np.mean(judged))
        assert sure(sums.accuracy).interval == pytest.approx((low, high), abs=1e-9)
    else:
        assert sums.accuracy is None


def corrected(tmp_path: Path, graded: Sequence[Graded], *families: str, **changes: Any) -> Scores:
    """The scores of these grades with a calibration of the families."""
    entries = [entry(family=family, **changes) for family in families]
    path = calibration_file(tmp_path / "calibration.json", *entries)
    return scored(tmp_path, graded, headers=[CALIBRATED], calibration=path)


def test_a_judge_that_errs_is_corrected_for(tmp_path: Path) -> None:
    """By hand: 6 of 10 YES at 0.9 and 0.8 mean (0.6 + 0.8 - 1) / 0.7 right; options as they are."""
    scores = corrected(tmp_path, items("medqa", *[YES] * 6, *[NO] * 4, *[RIGHT] * 5), "any")
    (medqa,) = scores.tasks

    assert sure(medqa.accuracy).value == pytest.approx(11 / 15)
    assert sure(medqa.corrected).value == pytest.approx((5 + 10 * 0.4 / 0.7) / 15)
    low, high = sure(medqa.corrected).interval
    assert low < sure(medqa.accuracy).interval.low
    assert low < sure(medqa.corrected).value < high
    assert sure(scores.averages[0].corrected).value == pytest.approx(sure(medqa.corrected).value)


def test_the_vote_as_written_is_corrected_and_the_majority_scored(tmp_path: Path) -> None:
    """A calibration counted the errors of one view, so it is that view's word that it corrects."""
    outvoted = replace(YES, votes=(Vote("swapped", "YES", 0.9), Vote("as_written", "NO", 0.1)))
    (medqa,) = corrected(tmp_path, items("medqa", *[outvoted] * 10), "any").tasks

    assert sure(medqa.accuracy).value == 1.0
    assert sure(medqa.corrected).value == 0.0


def test_verdicts_that_no_labels_explain_are_not_corrected(tmp_path: Path) -> None:
    """A judge that finds half of the right answers cannot say YES to 96 of 100 of the like."""
    graded = items("medqa", *[YES] * 96, *[NO] * 4)
    (medqa,) = corrected(tmp_path, graded, "any", sensitivity=0.5).tasks

    assert medqa.is_beyond_calibration
    assert medqa.corrected is None


def test_each_family_is_corrected_by_its_own_entry(tmp_path: Path) -> None:
    """A judge of quantities may err otherwise than one of words; both share one task."""
    graded = [
        *items("medqa", *[YES] * 5, *[NO] * 5, reference="5 mg"),
        *(item("medqa", 10 + number, YES) for number in range(10)),
    ]
    path = calibration_file(
        tmp_path / "calibration.json",
        entry(family="quantity", sensitivity=1.0, specificity=0.5),
        entry(family="any"),
    )
    scores = scored(tmp_path, graded, headers=[CALIBRATED], calibration=path)
    (medqa,) = scores.tasks

    assert sure(medqa.corrected).value == pytest.approx((10 * 0.0 + 10 * 1.0) / 20)
    assert [one.family for one in scores.judging] == ["quantity", "any"]


def test_the_family_is_that_of_what_the_judge_was_shown(tmp_path: Path) -> None:
    """Eight words are short, but with their option's letter they are nine, and a passage."""
    words = "one two three four five six seven eight"
    graded = items("medqa", YES, NO, reference=words, options=(words, "other"))
    (passage,) = corrected(tmp_path, graded, "passage").tasks
    (short,) = corrected(tmp_path, graded, "short").tasks

    assert passage.corrected is not None
    assert short.corrected is None


def test_without_an_entry_for_a_family_nothing_is_corrected(tmp_path: Path) -> None:
    """Neither the task nor an average that it is in; another task is."""
    graded = [*items("medqa", YES, NO), *items("slake_vqa", YES, NO, reference="5 mg")]
    scores = corrected(tmp_path, graded, "quantity")
    averages = {one.name: one.corrected for one in scores.averages}

    assert by_name(scores)["medqa"].corrected is None
    assert by_name(scores)["slake_vqa"].corrected is not None
    assert averages["LLM"] is None
    assert averages["Overall"] is None
    assert averages["VLM"] is not None


def test_a_verdict_without_a_probability_cannot_be_corrected(tmp_path: Path) -> None:
    """Some judges return a verdict without a probability, to which no calibration applies."""
    wordless = replace(YES, votes=(Vote("as_written", "YES", None),))
    (medqa,) = corrected(tmp_path, items("medqa", YES, NO, wordless), "any").tasks

    assert medqa.accuracy is not None
    assert medqa.corrected is None


def test_what_no_judge_was_asked_needs_no_correction(tmp_path: Path) -> None:
    """Options, exact words and rules are right or wrong, whatever the judge is like."""
    settled = [RIGHT, Grade(0.0, "option"), Grade(1.0, "exact"), Grade(0.0, "rule")]
    (medqa,) = corrected(tmp_path, items("medqa", *settled), "quantity").tasks

    assert sure(medqa.corrected).value == 0.5


def test_reports_are_in_corrected_averages_as_they_are(tmp_path: Path) -> None:
    """A calibration is of verdicts; the report's task itself has no corrected accuracy."""
    graded = [*three_tasks(), *items("slake_vqa", *[YES] * 6, *[NO] * 4)]
    scores = corrected(tmp_path, graded, "any")
    vlm = next(one for one in scores.averages if one.name == "VLM")

    assert by_name(scores)[REPORT].corrected is None
    assert sure(vlm.corrected).value == pytest.approx((1.6 / 3 + 0.4 / 0.7) / 2)


def test_it_is_told_how_far_the_judge_can_be_trusted(tmp_path: Path) -> None:
    """By hand: 170 of 200 labels agree, where chance gives a half of them to kappa."""
    (judging,) = corrected(tmp_path, items("medqa", YES), "any").judging

    assert (judging.family, judging.labels) == ("any", 200)
    assert (judging.sensitivity, judging.specificity) == (0.9, 0.8)
    assert judging.cohen_kappa == pytest.approx((0.85 - 0.5) / 0.5)
    assert judging.gwet_ac1 is not None
    assert math.isclose(judging.gwet_ac1, (0.85 - 0.49875) / (1 - 0.49875))


def test_predictions_whose_run_was_broken_off_are_told(tmp_path: Path) -> None:
    """Graded or not, the questions without a prediction are missing from every accuracy."""
    graded = items("medqa", RIGHT, RIGHT)
    counts = {"predictions": 2, "questions": 5}
    part = scored(tmp_path, graded, headers=({**HEADER, **counts},))
    fewer = scored(tmp_path, graded, headers=({**HEADER, **counts, "predictions": 4},))
    later = ({**HEADER, **counts}, {**HEADER, "predictions": 2, "questions": 2})
    whole = scored(tmp_path, graded, headers=later)

    assert "Warning: 2 of 5 questions have a prediction so far" in "".join(warnings(part))
    assert "Warning: 4 of 5 questions have a prediction so far" in "".join(warnings(fewer))
    assert "Warning: 2 of 4 predictions are graded so far" in "".join(warnings(fewer))
    assert not any("so far" in text for text in warnings(whole))
    assert "not generated yet,,,3,0" in csv_text(part)
    assert "not generated yet" not in csv_text(whole)


def test_responses_that_were_cut_off_are_counted(tmp_path: Path) -> None:
    """With an answer or without: half a response may be graded as wrong."""
    cut = replace(item("medqa", 0, WRONG).prediction, finish_reason="length")
    scores = scored(tmp_path, [Graded(cut, WRONG), item("medqa", 1, RIGHT)])

    assert "1 of the judged responses were cut off at max_tokens" in "".join(notes(scores))


def test_grades_whose_run_was_broken_off_are_told(tmp_path: Path) -> None:
    """With how many there are of how many, which may be none; a whole file has no such warning."""
    graded = items("medqa", RIGHT, RIGHT)
    part = scored(tmp_path, graded, headers=({**HEADER, "predictions": 5},))
    none = scored(tmp_path, [], headers=({**HEADER, "predictions": 5},))
    whole = scored(tmp_path, graded, headers=({**HEADER, "predictions": 2},))
    older = scored(tmp_path, graded)

    assert any("2 of 5 predictions are graded so far" in text for text in warnings(part))
    assert any("0 of 5 predictions are graded so far" in text for text in warnings(none))
    for scores in (whole, older):
        assert not any("graded so far" in text for text in warnings(scores))


@pytest.mark.parametrize(
    ("ways", "words"),
    [
        ([{"model": "one"}, {"model": "two"}], "(model one / two)"),
        (
            [{"model": "m", "sampling": {"temperature": t, "top_p": 1.0}} for t in (0.0, 0.7)],
            "(temperature 0.0 / 0.7)",
        ),
        # The name is what the user said; what the server calls its model may tell more.
        (
            [{"model": "mine", "server_model": f"checkpoint-{n}"} for n in (100, 200)],
            "(served as checkpoint-100 / checkpoint-200)",
        ),
    ],
    ids=["models", "samplings", "served"],
)
def test_predictions_that_were_generated_in_two_ways_are_told(
    ways: list[dict[str, Any]], words: str, tmp_path: Path
) -> None:
    """By what differs, also if the ways stand under two headers of the grades."""
    together = [{**HEADER, "generated": ways}]
    apart = [{**HEADER, "generated": [way]} for way in ways]

    for headers in (together, apart):
        told = warnings(scored(tmp_path, three_tasks(), headers=headers))
        assert any(f"generated in 2 ways {words}" in text for text in told)


def test_scores_say_by_which_model_and_sampling(tmp_path: Path) -> None:
    """One way of generation gives a note, not a warning; a long prompt is cut."""
    sampling = {"max_tokens": 2048, "temperature": 0.0, "system": "Be brief. " * 20}
    way = {"model": "m", "server_model": "m", "sampling": sampling}
    scores = scored(tmp_path, items("medqa", RIGHT), headers=[{**HEADER, "generated": [way]}])
    (told,) = [text for text in notes(scores) if text.startswith("Generated by")]

    assert told.startswith("Generated by m: max tokens 2048, temperature 0.0, system Be brief. Be")
    assert len(told) < 150
    assert not any("generated" in text for text in warnings(scores))


def test_what_grades_were_made_with_is_told_once(tmp_path: Path) -> None:
    """Headers that differ in nothing but a number are neither a mixture nor told twice."""
    more = [{**HEADER, "predictions": n} for n in (1, 2)]
    mixed = [*more, {**HEADER, "votes": 1}]
    of_one, of_two = (scored(tmp_path, three_tasks(), headers=h) for h in (more, mixed))

    assert sum(text.startswith("Graded with") for text in notes(of_one)) == 1
    assert not any("made in" in text for text in warnings(of_one))
    assert any("made in 2 ways (votes)" in text for text in warnings(of_two))


def test_references_that_name_no_option_are_told(tmp_path: Path) -> None:
    """The judge alone graded them, where a rule would have been surer."""
    options = ("Heparin", "Aspirin")
    graded = [
        item("medqa", 0, YES, options=options, reference="Warfarin"),
        item("medqa", 1, YES, options=options),
        item("medqa", 2, RIGHT, options=options),
        item("medqa", 3, UNJUDGED, options=options, reference="Warfarin"),
    ]
    scores = scored(tmp_path, graded)
    named = [text for text in warnings(scores) if "name none" in text]

    assert scores.tasks[0].unnamed == 1
    assert len(named) == 1
    assert named[0].startswith(
        "Warning: medqa: references that name none of their options plainly: 1."
    )


@pytest.mark.parametrize("again", [False, True])
def test_a_line_without_an_id_is_named_by_its_number(again: bool, tmp_path: Path) -> None:
    """The error is a message, for a first line and for a retried one."""
    row = graded_row(item("medqa", 7, YES))
    del row["id"]
    path = grades_file(tmp_path / "grades.jsonl", items("medqa", YES))
    path.write_bytes(path.read_bytes() + line_of({"again": True, **row} if again else row))

    with pytest.raises(BadData, match=r"grades\.jsonl: line 3 .*an `?id"):
        score_file(path, GROUPS)
