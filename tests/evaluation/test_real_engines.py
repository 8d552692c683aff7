"""Two real models' answers, graded by real judges: a verifier, and a tiny language model beside it."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from medreward_eval.grading.predictions import Reading, read_predictions
from medreward_eval.journal import line_of
from medreward_eval.records import prediction_row
from medreward_eval.statistics.scoring import read_graded
from tests.evaluation.conftest import EXAMPLES, Run
from tests.support.process import Service, serving

pytestmark = pytest.mark.models

OF_EACH_TASK = 3
MODELS = ("smollm2", "smollm2_tuned")


def shortened(model: str, folder: Path) -> Path:
    """The first of each task's real predictions: a report takes this machine seconds."""
    seen: Counter[str] = Counter()
    path = folder / f"{model}.jsonl"
    with path.open("wb") as lines:
        for one in read_predictions(EXAMPLES / f"{model}.jsonl", Reading({})):
            seen[one.task] += 1
            if seen[one.task] <= OF_EACH_TASK:
                lines.write(line_of(prediction_row(one)))
    return path


@pytest.fixture
def service() -> Iterator[Service]:
    """A service that can grade reports, however badly."""
    llm = {"llm": "causal_lm", "llm_model": "smollm2-135m-instruct"}
    with serving(None, recipe="medix-r1-guarded", **llm) as running:
        yield running


def test_two_models_are_graded_shown_and_compared(
    service: Service, tmp_path: Path, run: Run
) -> None:
    """Text, options and reports, from predictions to a conclusion, by commands alone."""
    grades = []
    for model in MODELS:
        path = shortened(model, tmp_path)
        assert run("grade", path, "--url", service.url).returncode == 0
        grades.append(path.with_name(f"{model}_eval.jsonl"))
    told = run("compare", *grades)
    page = run("report", grades[0])

    for path in grades:
        graded = list(read_graded(path))
        assert len(graded) == 3 * OF_EACH_TASK
        assert all(one.credit is not None and 0 <= one.credit <= 1 for one in graded)
        assert {len(one.grade.votes) for one in graded} <= {0, 3}
    assert (told.returncode, page.returncode) == (0, 0), told.stderr + page.stderr
    assert "smollm2 " in told.stdout
    assert "fits these 9 answers" in told.stdout or "chance alone" in told.stdout


def test_the_examples_are_whole(tmp_path: Path) -> None:
    """Each of the two models answered every question of the three tasks."""
    for model in MODELS:
        tasks = Counter(
            one.task for one in read_predictions(EXAMPLES / f"{model}.jsonl", Reading({}))
        )
        assert tasks == {"example_open": 26, "example_choice": 26, "example_report": 16}
