"""A zip as MediX-R1's leaderboard takes it: names, lines, and accuracies by their own scoring."""

import io
import json
from collections import defaultdict
from hashlib import md5
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from medreward_eval.errors import BadData
from medreward_eval.records import Grade, Graded, underscored
from medreward_eval.report.submission import score_text, write_submission, zip_name
from medreward_eval.statistics.scores import Group, Scores
from medreward_eval.statistics.scoring import score_file
from tests.evaluation.conftest import grades_file
from tests.evaluation.sample_scores import HEADER, RIGHT, UNJUDGED, WRONG, item

GROUPS: dict[str, Group] = {
    "medqa": "llm",
    "mmlu_college_biology": "llm",
    "mimic_cxr_report_generation": "vlm",
}
MODEL = {**HEADER, "model": "MBZUAI/MediX-R1-8B"}
REPORTS = [5.0, 3.667, 0.0, 2.5]


def graded() -> list[Graded]:
    """Answers and reports, of which some are not judged."""
    return [
        *(item("medqa", n, one) for n, one in enumerate([RIGHT, WRONG, UNJUDGED, RIGHT])),
        *(item("mmlu_college_biology", n, WRONG if n else RIGHT) for n in range(3)),
        *(
            item("mimic_cxr_report_generation", n, Grade(score, "judge"))
            for n, score in enumerate(REPORTS)
        ),
        item("mimic_cxr_report_generation", 9, UNJUDGED, response=None),
    ]


def handed_in(tmp_path: Path, given: list[Graded]) -> tuple[Path, Scores]:
    """The zip, and what our own scoring makes of the same grades."""
    path = grades_file(tmp_path / "grades.jsonl", given, [MODEL])
    scores = score_file(path, GROUPS)
    return write_submission(path, scores, tmp_path / "out"), scores


def content(path: Path) -> dict[str, str]:
    """The contents of a zip's files, by name."""
    with ZipFile(path) as file:
        assert file.testzip() is None
        return {name: file.read(name).decode() for name in file.namelist()}


def rows(text: str) -> list[dict[str, Any]]:
    """The objects of a file's lines."""
    return [json.loads(line) for line in io.StringIO(text)]


def scored_by_them(evaluated: list[dict[str, Any]]) -> dict[str, float]:
    """Accuracies as MediX-R1's eval.py adds them up: by the id, and MIMIC's out of 5."""
    got: dict[str, list[float]] = defaultdict(list)
    for row in evaluated:
        task = "_".join(row["id"].split("_")[:-1])
        score = row["evaluation"]["score"]
        got[task].append(float(score) / 5 if "mimic" in row["id"] else float(bool(int(score))))
    return {task: sum(shares) / len(shares) for task, shares in got.items()}


def test_names_are_those_of_their_script(tmp_path: Path) -> None:
    """Eight letters of a digest and the model, which is also the folder's and the files' name."""
    path, _ = handed_in(tmp_path, graded())
    letters = md5(b"MediX_R1_8B_submission", usedforsecurity=False).hexdigest()[:8]

    assert path == tmp_path / "out" / f"{letters}_MediX_R1_8B_submission.zip"
    assert list(content(path)) == [
        "MediX_R1_8B/MediX_R1_8B.jsonl",
        "MediX_R1_8B/MediX_R1_8B_eval.jsonl",
        "MediX_R1_8B/MediX_R1_8B_score.txt",
    ]


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("MBZUAI/MediX-R1-8B", "MediX_R1_8B"),
        ("/models/MediX-R1-8B/", "MediX_R1_8B"),
        ("gpt-4.1 mini", "gpt_4_1_mini"),
    ],
)
def test_a_model_is_named_without_its_organisation(model: str, name: str) -> None:
    """Letters and digits stay, as in the folders of their results."""
    assert underscored(model) == name
    assert zip_name(name).endswith(f"_{name}_submission.zip")


def test_every_answer_is_handed_in(tmp_path: Path) -> None:
    """Whole, with the keys that theirs have, the unjudged too; our header is in no file."""
    path, _ = handed_in(tmp_path, graded())
    answered = rows(content(path)["MediX_R1_8B/MediX_R1_8B.jsonl"])
    first = graded()[0].prediction

    assert [row["id"] for row in answered] == [one.prediction.id for one in graded()]
    assert answered[0] == {
        "id": "medqa_0",
        "question": first.question,
        "answer": "Aspirin",
        "response": first.response,
        "answer_idx": None,
    }
    assert answered[-1]["response"] == ""


def test_only_what_was_judged_is_evaluated(tmp_path: Path) -> None:
    """Verdicts are integers 0 or 1, reports are from 0 to 5, and unjudged items are left out."""
    path, _ = handed_in(tmp_path, graded())
    evaluated = rows(content(path)["MediX_R1_8B/MediX_R1_8B_eval.jsonl"])
    scores = {row["id"]: row["evaluation"]["score"] for row in evaluated}

    assert len(evaluated) == 3 + 3 + 4
    assert "medqa_2" not in scores
    assert [scores[f"medqa_{n}"] for n in (0, 1, 3)] == [1, 0, 1]
    assert all(isinstance(scores[f"medqa_{n}"], int) for n in (0, 1, 3))
    assert [scores[f"mimic_cxr_report_generation_{n}"] for n in range(4)] == REPORTS
    assert set(evaluated[0]) == {"id", "question", "answer", "response", "answer_idx", "evaluation"}


def test_their_scoring_of_our_file_gives_our_accuracies(tmp_path: Path) -> None:
    """The leaderboard's numbers are those of `medreward-eval score`."""
    path, scores = handed_in(tmp_path, graded())
    theirs = scored_by_them(rows(content(path)["MediX_R1_8B/MediX_R1_8B_eval.jsonl"]))
    ours = {task.task: task.accuracy.value for task in scores.tasks if task.accuracy is not None}

    assert theirs == pytest.approx(ours)
    assert len(theirs) == 3


def test_the_table_holds_shares_and_per_cent(tmp_path: Path) -> None:
    """The mean is the last line, and a note counts unjudged items."""
    path, _ = handed_in(tmp_path, graded())
    lines = content(path)["MediX_R1_8B/MediX_R1_8B_score.txt"].splitlines()
    report = sum(REPORTS) / 20
    told = {line.split()[0]: line.split()[1:] for line in lines[3:7]}

    assert lines[0] == "Model: MBZUAI/MediX-R1-8B"
    assert told["medqa"] == ["0.666667", "66.67%"]
    assert told["Overall"][0] == f"{(2 / 3 + 1 / 3 + report) / 3:.6f}"
    assert lines[-1] == "In no accuracy: 2 answers that were not judged."


def test_a_table_of_one_task_has_no_mean(tmp_path: Path) -> None:
    """It would only repeat the task."""
    path = grades_file(tmp_path / "grades.jsonl", [item("medqa", 0, RIGHT)], [MODEL])

    assert score_text(score_file(path, GROUPS)).splitlines()[3:] == ["medqa  1.000000   100.00%"]


def test_the_same_grades_give_the_same_name(tmp_path: Path) -> None:
    """Packed again, the zip takes the place of the first."""
    first, _ = handed_in(tmp_path, graded())
    again, _ = handed_in(tmp_path, graded()[:1])

    assert again == first
    assert len(rows(content(again)["MediX_R1_8B/MediX_R1_8B.jsonl"])) == 1


def test_nothing_judged_is_nothing_to_hand_in(tmp_path: Path) -> None:
    """A table of nothing would be refused by them; no zip is left behind."""
    with pytest.raises(BadData, match="nothing is judged"):
        handed_in(tmp_path, [item("medqa", 0, UNJUDGED)])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"predictions": 20}, "12 of 20 predictions are graded so far; run `medreward-eval grade`"),
        (
            {"predictions": 12, "questions": 20},
            "12 of 20 questions have a prediction so far; run `medreward-eval generate`",
        ),
        ({"generated": [{"model": "a"}, {"model": "b"}]}, r"of several models \(a, b\)"),
    ],
    ids=["grading broken off", "generation broken off", "two models"],
)
def test_only_one_models_whole_answers_are_handed_in(
    told: dict[str, Any], words: str, tmp_path: Path
) -> None:
    """A leaderboard would hide that grades are incomplete or mixed; no zip remains."""
    path = grades_file(tmp_path / "grades.jsonl", graded(), [{**MODEL, **told}])

    with pytest.raises(BadData, match=words):
        write_submission(path, score_file(path, GROUPS), tmp_path / "out")
    assert not (tmp_path / "out").exists()
