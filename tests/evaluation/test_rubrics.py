"""Answers graded by criteria with points of either sign: HealthBench's arithmetic, by the service."""

import json
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from math import fsum
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from medreward_client import Choice, ChoiceCriterion, Criterion
from medreward_eval.errors import BadData, BadTask, Failed, OtherRun
from medreward_eval.grading.grader import Grader, GraderIdentity, find_identity
from medreward_eval.grading.predictions import Reading, inspect_predictions, read_predictions
from medreward_eval.journal import rows_of
from medreward_eval.records import Failure, Grade, Graded, Prediction, prediction_row
from medreward_eval.report.tables import csv_text, notes
from medreward_eval.statistics.comparison import compare
from medreward_eval.statistics.findings import outcome
from medreward_eval.statistics.scores import TaskScore
from medreward_eval.statistics.scoring import score_file
from medreward_eval.tasks.questions import Questions
from medreward_eval.tasks.tasks import load_tasks
from tests.evaluation.conftest import Run, grades_file, own_task, rows_file
from tests.evaluation.wire import client
from tests.support.judge_server import Say
from tests.support.process import serving
from tests.support.rubric_judge import RubricModels

RUBRIC = (
    Criterion("Names an ambulance.", 6.0),
    Criterion("Tells to wait.", -8.0),
    ChoiceCriterion("Says how urgent.", (Choice("no", 0.0), Choice("now", 4.0))),
)
IN_JSON = [
    {"criterion": "Names an ambulance.", "points": 6, "tags": ["x"]},
    {"text": "Tells to wait.", "points": -8},
    {"text": "Says how urgent.", "choices": [{"text": "no", "points": 0}, {"text": "now", "points": 4}]},
]  # fmt: skip
IDENTITY = GraderIdentity("1", {"rubric": "judge"}, {"rubric": "sha256:r"}, {"rubric": None})


def row(id_: str, response: str, **more: Any) -> dict[str, Any]:
    """A line of predictions with a rubric and no reference."""
    return {
        "id": id_,
        "question": "My arm is numb.",
        "response": response,
        "criteria": IN_JSON,
        **more,
    }


def says(answer: str, criterion: str) -> Say:
    """Judge by words: an answer meets what it has the key word of; one word makes the judge fail."""
    if "gargle" in answer and criterion.startswith("Tells"):
        return "400"
    words = {"Names": "ambulance", "Tells": "wait", "Says": "now"}
    return "YES" if words.get(criterion.partition(" ")[0], "?") in answer else "NO"


@pytest.fixture
def url() -> Iterator[str]:
    """The address of a real service with that judge."""
    with RubricModels(says) as models, serving(models) as service:
        yield service.url


def test_a_file_with_criteria_becomes_a_score_with_its_interval(
    url: str, run: Run, tmp_path: Path
) -> None:
    """By commands alone: single answers are not clipped, failures are told, and the mean is clipped."""
    said = ["Call an ambulance now.", "Just wait.", "", "Call an ambulance, or wait.", "gargle now"]
    answers = rows_file(tmp_path / "a.jsonl", [row(f"q{n}", text) for n, text in enumerate(said)])
    out = tmp_path / "grades.jsonl"

    graded = run("grade", answers, "--url", url, "--out", out)
    scored = run("score", out, "--csv", tmp_path / "s.csv")
    others = [run("report", out), run("compare", out, out), run("submission", out, cwd=tmp_path)]

    lines = [line for _, line in rows_of(out)]
    assert lines[0]["judges"].keys() == lines[0]["templates"].keys() == {"rubric"}
    assert [line["grade"]["score"] for line in lines[1:]] == [1.0, -0.8, -0.8, -0.2, None]
    assert lines[1]["grade"]["points"] == [6.0, 0.0, 4.0]
    assert (lines[3]["grade"]["settled_by"], "points" in lines[3]["grade"]) == ("rule", False)
    assert lines[5]["grade"]["error"]["kind"] == "judge_refused"
    assert lines[5]["grade"]["points"] == [0.0, None, 4.0]
    assert (graded.returncode, scored.returncode) == (1, 0), graded.stderr + scored.stderr
    assert [one.returncode for one in others] == [0, 0, 0], [one.stderr for one in others]
    assert "Tells to wait." in out.with_suffix(".html").read_text()
    assert "points earned over positive points" in " ".join(scored.stdout.split())
    (told,) = (tmp_path / "s.csv").read_text().splitlines()[1:]
    assert told.startswith("answers,own,rubric,5,4,1,0.0,0.0,")


def scored(result: Mapping[str, Any]) -> httpx.MockTransport:
    """A fake service on the wire that gives each sample this result."""

    def reply(request: httpx.Request) -> httpx.Response:
        samples = json.loads(request.content)["samples"]
        results = [{"flags": [], "error": None, "components": {}, **result} for _ in samples]
        told = {
            "results": [{"id": one["id"], **found} for one, found in zip(samples, results, strict=True)],
            "counts": dict.fromkeys(("scored", "unscored", "cache_hits", "coalesced", "judge_calls"), 0),
            "provenance": {"recipe": "rubric", "fingerprint": "sha256:r", "judge": "judge",
                           "embedder": "e", "service": "1"},
            "timings_ms": {},
            "range": [-2.0, 1.0],
        }  # fmt: skip
        return httpx.Response(200, json=told)

    return httpx.MockTransport(reply)


def prediction(response: str = "Wait.") -> Prediction:
    """An answer with a rubric."""
    return Prediction("q", "mine", "Which?", "", response, "rubric", criteria=RUBRIC)


@pytest.mark.anyio
async def test_criteria_without_a_verdict_are_told() -> None:
    """The score is that of the service, and the criterion has no points."""
    met = {"verdict": "YES", "points": 6.0}
    lost = {"error": {"kind": "judge_timeout", "message": "late", "retryable": True}}
    part = {"rubric": {"value": 0.6, "weight": 1.0, "source": "cache"}}
    result = {"status": "scored", "reward": 0.6, "components": part, "criteria": [met, lost]}
    async with client(scored(result)) as asked:
        (graded,) = await Grader(asked, IDENTITY).grade([prediction()])

    assert graded.grade == Grade(0.6, "judge", points=(6.0, None))
    assert outcome(graded) == "0.6 of 1"


@pytest.mark.anyio
async def test_a_rubric_that_the_service_cannot_use_is_unjudged() -> None:
    """With its message, which names the line; its neighbours are graded."""
    error = {"kind": "invalid_request", "message": "criteria[1].text: blank", "retryable": False}
    async with client(scored({"status": "unscored", "reward": None, "error": error})) as asked:
        (graded,) = await Grader(asked, IDENTITY).grade([prediction()])

    assert graded.grade == Grade(None, error=Failure("invalid_request", "criteria[1].text: blank"))
    assert graded.credit is None


@pytest.mark.anyio
async def test_the_judge_of_rubrics_is_known_before_anything_is_graded() -> None:
    """By an empty answer, which needs no model; another judge later on ends the run."""
    result = {"status": "scored", "reward": -0.8}
    async with client(scored(result)) as asked:
        assert await find_identity(asked, ["rubric"]) == IDENTITY
        other = GraderIdentity("1", {"rubric": "another"}, {"rubric": "sha256:r"})
        with pytest.raises(OtherRun, match="has changed since the run began"):
            await Grader(asked, other).grade([prediction()])


@pytest.mark.anyio
async def test_a_judge_that_answers_no_rubric_is_told() -> None:
    """A service without a language model refuses the recipe by its template."""
    error = {"error": {"kind": "template_unavailable", "message": "no llm", "retryable": False}}
    async with client(httpx.MockTransport(lambda _: httpx.Response(422, json=error))) as asked:
        with pytest.raises(Failed, match=r"the template 'rubric'.*template_unavailable"):
            await find_identity(asked, ["rubric"])


def test_lines_with_criteria_are_graded_by_them(tmp_path: Path) -> None:
    """HealthBench's key for a text is read; a reference may be beside them, or another template."""
    rows = [
        row("q1", "Wait."),
        row("q2", "Wait.", reference="ambulance"),
        row("q3", "Wait.", reference="ambulance", template="equivalence"),
    ]
    path = rows_file(tmp_path / "a.jsonl", rows)

    found = list(read_predictions(path, Reading({})))

    assert [(one.template, one.criteria) for one in found] == [
        ("rubric", RUBRIC), ("rubric", RUBRIC), ("equivalence", ())]  # fmt: skip
    assert [one.reference for one in found] == ["", "ambulance", "ambulance"]
    assert inspect_predictions(path, Reading({})).templates == {"rubric", "equivalence"}
    again = rows_file(tmp_path / "b.jsonl", map(prediction_row, found))
    assert list(read_predictions(again, Reading({}))) == found


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"criteria": [{"text": "a"}]}, r"line 1 criteria\[0\]: must have either"),
        ({"criteria": None, "template": "rubric"}, "line 1 must have a list of criteria"),
        ({"criteria": None}, "line 1 must have the ground truth"),
    ],
)
def test_a_line_whose_criteria_cannot_be_read_is_named(
    tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    """Before anything is graded."""
    path = rows_file(tmp_path / "a.jsonl", [row("q1", "Wait.") | change])

    with pytest.raises(BadData, match=told):
        inspect_predictions(path, Reading({}))


def test_a_task_may_have_a_column_of_criteria(tmp_path: Path) -> None:
    """It needs no reference; a row without criteria is named."""
    task = own_task(
        tmp_path, [{"q": "Numb?", "r": IN_JSON}, {"q": "Cold?", "r": []}],
        template="rubric", criteria_column="r", answer_column=(),
    )  # fmt: skip
    questions = Questions(task)

    (question,) = questions

    assert (question.template, question.criteria, question.reference) == ("rubric", RUBRIC, "")
    assert "has no criteria in `r`" in str(questions.mistakes)


@pytest.mark.parametrize("keys", ["template: rubric", "criteria_column: r"])
def test_the_template_and_its_column_belong_together(tmp_path: Path, keys: str) -> None:
    """One without the other is told with the file, the task and both keys."""
    path = tmp_path / "my.yaml"
    path.write_text(
        f"llm: {{mine: {{path: a.jsonl, question_column: q, answer_column: a, {keys}}}}}"
    )

    with pytest.raises(BadTask, match="mine: needs template: rubric and criteria_column together"):
        load_tasks(path)


def task_of(path: Path, scores: Sequence[float], *points: float | None) -> TaskScore:
    """Write answers with these scores to a file of grades, and score it."""
    graded = [
        Graded(Prediction(f"q{n}", "mine", "Which?", "", "Wait.", "rubric", criteria=RUBRIC),
               Grade(score, "judge", points=points))
        for n, score in enumerate(scores)
    ]  # fmt: skip
    (task,) = score_file(grades_file(path, graded), {}).tasks
    return task


SCORES = st.lists(st.integers(-200, 100).map(lambda n: n / 100), min_size=2, max_size=30)


@given(SCORES)
def test_a_benchmark_is_the_clipped_mean_of_scores_that_are_not(
    tmp_path_factory: pytest.TempPathFactory, scores: list[float]
) -> None:
    """As HealthBench has it; Student's interval is cut to 0 to 1 and holds the mean."""
    task = task_of(tmp_path_factory.mktemp("rubrics") / "grades.jsonl", scores)

    assert task.accuracy is not None
    mean = float(Fraction(fsum(scores)) / len(scores))
    value, (low, high) = task.accuracy
    assert value == pytest.approx(min(1.0, max(0.0, mean)))
    assert 0 <= low <= value + 1e-12
    assert value - 1e-12 <= high <= 1
    if np.ptp(scores) > 0.01:
        spread = stats.t.interval(0.95, len(scores) - 1, np.mean(scores), stats.sem(scores))
        assert (low, high) == pytest.approx(np.clip(spread, 0, 1).tolist())


def test_what_has_no_verdict_is_counted_in_the_notes(tmp_path: Path) -> None:
    """Of two answers, with one of three criteria each."""
    path = tmp_path / "grades.jsonl"
    task = task_of(path, [0.5, -0.5], 6.0, None, 0.0)

    assert (task.criteria, task.criteria_unanswered) == (6, 2)
    scores = score_file(path, {})
    assert any(note.startswith("2 of 6 criteria have no verdict") for note in notes(scores))
    assert csv_text(scores).splitlines()[1].endswith(",6,2")
    assert task.corrected is None
    assert task.judged_right == 0


def test_models_are_compared_by_scores_that_are_not_clipped() -> None:
    """A difference below 0 counts as far as it goes, and swapping the models changes its sign."""
    rng = np.random.default_rng(1)
    first, second = rng.uniform(-2, 1, 60), rng.uniform(-1, 1, 60)

    (there,) = compare({"mine": ("own", first, second, False)}).tasks
    (back,) = compare({"mine": ("own", second, first, False)}).tasks

    assert there.difference.value == pytest.approx(float(np.mean(second - first)))
    assert there.discordant is None
    low, high = there.difference.interval
    assert low < there.difference.value < high
    assert back.difference.interval == pytest.approx((-high, -low))
    student = stats.t.interval(0.95, 59, np.mean(second - first), stats.sem(second - first))
    assert (low, high) == pytest.approx(student, abs=0.05)
