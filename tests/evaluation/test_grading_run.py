"""Runs of grading: interrupted, resumed, in trouble."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from medreward_eval.errors import Failed, OtherRun
from medreward_eval.grading.grader import BATCH_ITEMS, Grader, grades_header
from medreward_eval.grading.predictions import Reading
from medreward_eval.grading.run import BARREN_BATCHES, grade
from medreward_eval.journal import Journal, latest_rows, rows_of
from medreward_eval.records import Failure, Prediction, prediction_row
from medreward_eval.resume import Counts
from tests.evaluation.conftest import Run, rows_file
from tests.evaluation.wire import IDENTITY, Item, Say, client, judged, prediction, service, unjudged
from tests.support.process import Service

pytestmark = pytest.mark.anyio

HEADER = grades_header("m", IDENTITY, [], votes=3, total=1)


def yes(items: Sequence[Item], template: str) -> list[Item]:
    """YES to everything."""
    return [judged(item, "YES") for item in items]


def written(path: Path, predictions: Sequence[Prediction]) -> Path:
    """A file of predictions."""
    return rows_file(path, map(prediction_row, predictions))


async def graded(predictions: Path, out: Path, say: Say = yes) -> Counts:
    """One run."""
    async with client(service(say)) as asked:
        with Journal(out, HEADER) as journal:
            grader = Grader(asked, IDENTITY)
            return await grade(predictions, Reading({}), journal, grader, show=lambda **_: None)


async def test_a_line_holds_the_prediction_and_its_grade(tmp_path: Path) -> None:
    """So that a report needs no other file."""
    path = written(tmp_path / "p.jsonl", [prediction("q1", "A", options=("spleen", "liver"))])
    await graded(path, tmp_path / "g.jsonl")
    rows = [row for _, row in rows_of(tmp_path / "g.jsonl")]

    assert rows[0] == HEADER
    assert rows[1] == {
        "id": "q1",
        "task": "answers",
        "question": "Which organ?",
        "reference": "spleen",
        "response": "A",
        "template": "equivalence",
        "options": ["spleen", "liver"],
        "grade": {
            "score": 1.0,
            "settled_by": "option",
            "p_yes": None,
            "votes": [],
            "error": None,
        },
    }


async def test_what_was_not_judged_is_asked_about_again(tmp_path: Path) -> None:
    """Behind all others; its first place gets the later word."""
    path = written(tmp_path / "p.jsonl", [prediction(f"q{n}") for n in range(4)])
    out = tmp_path / "g.jsonl"

    def some(items: Sequence[Item], template: str) -> list[Item]:
        return [unjudged(one) if n == 1 else judged(one, "NO") for n, one in enumerate(items)]

    first = await graded(path, out, some)
    again = await graded(path, out)
    scores = [(row["id"], row["grade"]["score"]) for row in latest_rows(out)]

    assert (first.done, dict(first.failed)) == (3, {"judge_timeout": 1})
    assert (again.done, again.found, dict(again.failed)) == (1, 3, {})
    assert scores == [("q0", 0.0), ("q1", 1.0), ("q2", 0.0), ("q3", 0.0)]
    assert [row.get("again") for _, row in rows_of(out)][-1] is True


async def test_a_response_that_came_later_is_graded(tmp_path: Path) -> None:
    """A question that the model had not answered when its grades were begun."""
    out = tmp_path / "g.jsonl"
    path = written(tmp_path / "p.jsonl", [prediction("q0", None), prediction("q1")])
    first = await graded(path, out)
    written(path, [prediction("q0"), prediction("q1")])
    again = await graded(path, out)

    assert dict(first.failed) == {"no_response": 1}
    assert (again.done, again.found) == (1, 1)
    assert [row["response"] for row in latest_rows(out)] == ["spleen", "spleen"]


@pytest.mark.parametrize(
    ("change", "told"),
    [({"response": "liver"}, "response"), ({"reference": "liver"}, "reference")],
)
async def test_other_predictions_are_not_mixed_in(
    change: dict[str, str], told: str, tmp_path: Path
) -> None:
    """A grade of another response under the same id would be believed."""
    out = tmp_path / "g.jsonl"
    path = written(tmp_path / "p.jsonl", [prediction("q0")])
    await graded(path, out)
    rows_file(path, [{**prediction_row(prediction("q0")), **change}])

    with pytest.raises(OtherRun, match=rf"'q0' is of another \({told}\)"):
        await graded(path, out)


async def test_a_judge_that_answers_nothing_ends_the_run(tmp_path: Path) -> None:
    """A million lines of `judge_timeout` would be useless; the first are kept and sent again."""
    many = [prediction(f"q{n}") for n in range(BATCH_ITEMS * (BARREN_BATCHES + 2))]
    path = written(tmp_path / "p.jsonl", many)
    with pytest.raises(Failed, match=r"answers nothing any more \(judge_timeout\)"):
        await graded(
            path, tmp_path / "g.jsonl", lambda items, _: [unjudged(item) for item in items]
        )
    counts = await graded(path, tmp_path / "g.jsonl")

    assert counts.done == len(many)


async def test_items_that_no_judge_can_help_do_not_end_the_run(tmp_path: Path) -> None:
    """Items that are too long fail every time, while the rest of the file may be fine."""
    many = [prediction(f"q{n}") for n in range(BATCH_ITEMS * (BARREN_BATCHES + 1))]
    path = written(tmp_path / "p.jsonl", many)
    counts = await graded(
        path,
        tmp_path / "g.jsonl",
        lambda items, _: [unjudged(item, kind="too_long", retryable=False) for item in items],
    )

    assert dict(counts.failed) == {"too_long": len(many)}


async def test_responses_that_never_came_do_not_end_the_run(tmp_path: Path) -> None:
    """They are no trouble of the judge's, and what stands behind them is asked about again."""
    late = Failure("timeout", "no answer in 180 s", retryable=True)
    many = [
        prediction(f"q{n}", None, error=late) for n in range(BATCH_ITEMS * (BARREN_BATCHES + 1))
    ]
    path = written(tmp_path / "p.jsonl", [*many, prediction("last")])
    out = tmp_path / "g.jsonl"
    await graded(path, out, lambda items, _: [unjudged(item) for item in items])
    counts = await graded(path, out)

    assert (counts.done, dict(counts.failed)) == (1, {"timeout": len(many)})


@pytest.mark.parametrize("kills", [2, pytest.param(5, marks=pytest.mark.slow)])
def test_killed_at_random_points_it_leaves_the_same_file(
    service: Service, tmp_path: Path, run: Run, kills: int
) -> None:
    """Kills at any point leave the same file as an uninterrupted run."""
    many = [
        prediction(f"q{n}", "Spleen" if n % 3 else f"liver {n}", question=f"Organ {n}?" * 20)
        for n in range(3000)
    ]
    path = written(tmp_path / "p.jsonl", many)
    whole, killed = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    assert run("grade", path, "--out", whole, "--url", service.url).returncode == 0
    size = whole.stat().st_size
    draw = random.Random(5)  # noqa: S311 - where to kill

    struck = [
        _killed_beyond(round(size * share), path, killed, service.url)
        for share in sorted(draw.uniform(0.02, 0.9) for _ in range(kills))
    ]
    last = run("grade", path, "--out", killed, "--url", service.url)

    assert last.returncode == 0, last.stderr
    assert sum(struck) >= kills - 1, "the kills came too late to mean anything"
    assert killed.read_bytes() == whole.read_bytes()


def _killed_beyond(size: int, path: Path, out: Path, url: str) -> bool:
    """Start a run and kill it once its file is so long; tell whether it was still running."""
    command = [sys.executable, "-m", "medreward_eval", "grade", str(path), "--out", str(out)]
    with subprocess.Popen(  # noqa: S603 - the command under test
        [*command, "--url", url], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as running:
        while running.poll() is None and not (out.exists() and out.stat().st_size > size):
            time.sleep(0.0005)
        running.send_signal(signal.SIGKILL)
    return running.returncode == -signal.SIGKILL
