"""The command line: from questions to a page, its error messages, and interruptions."""

import gzip
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import orjson
import pytest
from typer.main import get_command
from typer.testing import CliRunner, Result

from medreward_eval.cli import app
from medreward_eval.journal import latest_rows
from medreward_eval.records import prediction_row
from tests.evaluation.conftest import EXAMPLES, Run, grades_file, rows_file
from tests.evaluation.model_server import (
    Body,
    ModelServer,
    Reply,
    asked,
    failing,
    model_server,
    said,
)
from tests.evaluation.sample_scores import RIGHT, item
from tests.evaluation.test_judge_calibration import calibration_file, entry
from tests.evaluation.wire import prediction
from tests.support.process import Service

LINE = 1_000
"""Columns, so that no sentence is broken."""
FOREVER_S = 60.0
COMMANDS = ["generate", "grade", "score", "report", "compare", "submission", "tasks"]
OUTPUTS = {"--out", "--csv", "--markdown"}
MODELS_URL, SERVICE_URL = "http://127.0.0.1:8000/v1", "http://127.0.0.1:8080"
TASKS = """
llm:
  organs:
    path: organs.jsonl
    question_column: question
    answer_column: answer
  sides:
    path: sides.jsonl
    question_column: question
    choices_column: options
    answer_column: answer
  letters:
    path: letters.jsonl
    question_column: question
    answer_column: answer
    template: report
"""
OWN = ("organs", "sides", "letters")
ORGANS = ["spleen", "liver", "kidney", "heart", "lung", "pancreas"]


def invoked(*arguments: object) -> Result:
    """The command in this process, which is quicker; wide, so that lines are whole."""
    environment = {"COLUMNS": str(LINE), "TERMINAL_WIDTH": str(LINE), "NO_COLOR": "1"}
    return CliRunner().invoke(app, [*map(str, arguments)], env=environment)


def generating(server: ModelServer, tasks: Path, *arguments: object) -> Result:
    """The command that asks a server the questions of tasks, which are named first."""
    return invoked("generate", *arguments, "--task-file", tasks, "--server", server.url)


def write_tasks(folder: Path) -> Path:
    """A task file with three small data sets in its folder."""
    rows: dict[str, list[dict[str, Any]]] = {
        "organs": [{"question": f"Organ {n}?", "answer": organ} for n, organ in enumerate(ORGANS)],
        "sides": [
            {"question": f"Side {n}?", "options": ["left", "right"], "answer": "left"}
            for n in range(4)
        ],
        "letters": [{"question": f"Letter {n}.", "answer": "All is well."} for n in range(3)],
    }
    for name, lines in rows.items():
        rows_file(folder / f"{name}.jsonl", lines)
    path = folder / "tasks.yaml"
    path.write_text(TASKS, encoding="utf-8")
    return path


def knows(organs: int) -> Callable[[Body], Reply]:
    """A model that knows the first organs, says `left` to each side, and writes good letters."""

    def say(body: Body) -> Reply:
        kind, number = re.findall(r"\w+", asked(body))[:2]
        if kind == "Organ":
            answer = ORGANS[int(number)].upper() if int(number) < organs else "no idea"
            return said(f"<think>Hm.</think><answer>{answer}</answer>")
        return said("A" if kind == "Side" else "all is well.")

    return say


@pytest.fixture(scope="module")
def worked(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the task file, and the predictions and grades of two models."""
    folder = tmp_path_factory.mktemp("worked")
    tasks = write_tasks(folder)
    with model_server() as server:
        for model, organs in (("base", 2), ("tuned", 5)):
            server.say = knows(organs)
            out = folder / f"{model}.jsonl"
            done = generating(server, tasks, *OWN, "--model", model, "--out", out)
            assert done.exit_code == 0
            assert invoked("grade", out, "--url", service.url).exit_code == 0
    return folder


def test_processes_lead_from_questions_to_scores(
    service: Service, tmp_path: Path, run: Run
) -> None:
    """Each command says which is next, its result alone is on standard output, and all end in 0."""
    tasks = write_tasks(tmp_path)
    with model_server() as server:
        server.say = knows(4)
        asking = ("generate", "organs", "sides", "--task-file", tasks, "--server", server.url)
        generated = run(*asking, cwd=tmp_path)
    predictions = Path("results", "tiny", "tiny.jsonl")
    graded = run("grade", predictions, "--url", service.url, cwd=tmp_path)
    scored = run("score", predictions.with_stem("tiny_eval"), cwd=tmp_path)

    assert [one.returncode for one in (generated, graded, scored)] == [0, 0, 0]
    header = orjson.loads((tmp_path / predictions).read_bytes().splitlines()[0])
    assert {key: header[key] for key in ("medreward_eval", "version", "model", "server_model")} == {
        "medreward_eval": "predictions",
        "version": 1,
        "model": "tiny",
        "server_model": "tiny",
    }
    assert header["tasks"].startswith("sha256:")
    assert generated.stdout.split(":")[0] == "10 responses, 0 questions without one"
    assert f"Next: medreward-eval grade {predictions}" in generated.stderr
    assert graded.stdout.split(":")[0] == "10 of 10 judged, 0 unjudged"
    assert "Next: medreward-eval score results/tiny/tiny_eval.jsonl" in graded.stderr
    assert re.search(r"^organs +6 +66\.7 ", scored.stdout, re.MULTILINE)
    assert re.search(r"^sides +4 +100\.0 .* 100\.0 +0 *$", scored.stdout, re.MULTILINE)
    assert scored.stderr == ""


def test_scores_are_shown_and_written(worked: Path, tmp_path: Path) -> None:
    """The table, the CSV and the Markdown have the same numbers."""
    csv, md = tmp_path / "scores.csv", tmp_path / "scores.md"
    scored = invoked("score", worked / "base_eval.jsonl", "--csv", csv, "--markdown", md)

    assert scored.exit_code == 0
    assert re.search(r"^letters +3 +100\.0 ", scored.stdout, re.MULTILINE)
    assert re.search(r"^Own average +3 of 3 tasks +77\.8 ", scored.stdout, re.MULTILINE)
    assert "organs,own,equivalence,6,6,0,0.333333," in csv.read_text()
    assert "| organs | 6 | 33.3 (" in md.read_text()
    assert f"wrote {csv}" in scored.stderr


def test_a_calibration_adds_corrected_accuracies(worked: Path, tmp_path: Path) -> None:
    """It is looked for under the name by which the service's judge and template go."""
    path = calibration_file(tmp_path / "calibration.json", entry(temperature=1.0))
    scored = invoked("score", worked / "base_eval.jsonl", "--calibration", path)

    assert scored.exit_code == 0
    assert "corrected %" in scored.stdout


def test_a_report_is_one_page(worked: Path, tmp_path: Path) -> None:
    """Beside its grades, with what the model said; or elsewhere, without any text."""
    whole, numbers = worked / "base_eval.html", tmp_path / "numbers.html"
    written = invoked("report", worked / "base_eval.jsonl")
    bare = invoked("report", worked / "base_eval.jsonl", "--out", numbers, "--no-texts")

    assert (written.exit_code, bare.exit_code) == (0, 0)
    assert written.stdout == f"wrote {whole}\n"
    assert "no idea" in whole.read_text()
    assert "no idea" not in numbers.read_text()
    assert "organs" in numbers.read_text()


def test_two_models_are_compared(worked: Path, tmp_path: Path) -> None:
    """A table, a sentence for each task, and a CSV."""
    csv = tmp_path / "difference.csv"
    both = invoked("compare", worked / "base_eval.jsonl", worked / "tuned_eval.jsonl", "--csv", csv)

    assert both.exit_code == 0
    assert re.search(r"^organs +6 +33\.3 +83\.3 +\+50\.0 .* 0 : 3 ", both.stdout, re.MULTILINE)
    assert "Too few answers tell the two apart on organs: 3 of 6" in both.stdout
    assert csv.read_text().splitlines()[1].startswith("organs,6,0.333333,0.833333,0.5,")


def test_a_submission_stands_beside_its_grades(worked: Path, tmp_path: Path) -> None:
    """Or in another folder, which is made."""
    beside = invoked("submission", worked / "base_eval.jsonl")
    elsewhere = invoked("submission", worked / "base_eval.jsonl", "--out", tmp_path / "new")
    (path,) = worked.glob("*_base_submission.zip")

    assert (beside.exit_code, elsewhere.exit_code) == (0, 0)
    assert beside.stdout == f"wrote {path}\n"
    assert (tmp_path / "new" / path.name).exists()
    with ZipFile(path) as file:
        assert len(file.namelist()) == 3


def test_tasks_are_listed(worked: Path) -> None:
    """The seventeen, those of a group, and the user's own."""

    def listed(*arguments: object) -> list[str]:
        lines = invoked("tasks", *arguments).stdout.splitlines()[1:]
        return [line.split()[0] for line in lines if not line.startswith(" ")]

    assert len(listed()) == 17
    assert listed("vlm") == listed()[11:]
    assert listed("pubmedqa", "medqa") == ["medqa", "pubmedqa"]
    assert listed("organs", "--task-file", worked / "tasks.yaml") == ["organs"]


def test_run_again_everything_is_found(worked: Path, service: Service) -> None:
    """The second run sends no requests, and the files do not change."""
    out, grades = worked / "base.jsonl", worked / "base_eval.jsonl"
    before = out.read_bytes(), grades.read_bytes()
    with model_server() as server:
        tasks = worked / "tasks.yaml"
        generated = generating(server, tasks, *OWN, "--model", "base", "--out", out)
    graded = invoked("grade", out, "--url", service.url)

    assert (generated.exit_code, graded.exit_code) == (0, 0)
    assert server.bodies == []
    assert generated.stdout.startswith("13 responses (13 of them before), 0 questions without one")
    assert graded.stdout.startswith("13 of 13 judged (13 of them before), 0 unjudged")
    assert (out.read_bytes(), grades.read_bytes()) == before


def test_what_has_no_response_is_unjudged_and_the_exit_code_1(
    service: Service, tmp_path: Path
) -> None:
    """It is in no accuracy, and both commands say how to go on."""
    tasks = write_tasks(tmp_path)
    out = tmp_path / "tiny.jsonl"
    with model_server() as server:
        server.say = lambda body: said(None if "2" in asked(body) else "spleen")
        generated = generating(server, tasks, "organs", "--out", out)
    graded = invoked("grade", out, "--url", service.url)
    scored = invoked("score", tmp_path / "tiny_eval.jsonl")

    assert (generated.exit_code, graded.exit_code, scored.exit_code) == (1, 1, 0)
    assert "1 no_response" in generated.stdout
    assert "Run the same command again to ask them once more." in generated.stderr
    assert "5 of 6 judged, 1 unjudged" in graded.stdout
    assert "Run the same command again to ask about the unjudged once more." in graded.stderr
    assert re.search(r"^organs +5 of 6 +20\.0 ", scored.stdout, re.MULTILINE)
    assert "1 of 6 are in no accuracy: no_response 1" in " ".join(scored.stdout.split())


def test_a_generation_that_was_broken_off_does_not_pass_for_the_whole(
    service: Service, tmp_path: Path
) -> None:
    """Each later command says how many questions are missing, until all are asked and graded."""
    tasks, out, grades = write_tasks(tmp_path), tmp_path / "out.jsonl", tmp_path / "out_eval.jsonl"
    later = [("score", grades), ("report", grades), ("compare", grades, grades)]
    told = "2 of 6 questions"

    def commanded() -> tuple[Result, list[Result], Result]:
        graded = invoked("grade", out, "--url", service.url)
        return graded, [invoked(*command) for command in later], invoked("submission", grades)

    with model_server() as server:
        server.say = knows(6)
        generating(server, tasks, "organs", "--out", out)
        whole = out.read_bytes()
        # What a kill leaves: the header, two lines and a half.
        lines = whole.splitlines(keepends=True)
        out.write_bytes(b"".join(lines[:3]) + lines[3][:20])
        graded, shown, packed = commanded()
        generating(server, tasks, "organs", "--out", out)

    assert f"Warning: {told} have a prediction so far" in graded.stderr
    assert [one.exit_code for one in (graded, *shown, packed)] == [0, 0, 0, 0, 2]
    assert told in shown[0].stdout
    assert told in (tmp_path / "out_eval.html").read_text()
    assert "2 of 6 questions of tiny (B)" in " ".join(shown[2].stdout.split())
    assert f"{told} have a prediction so far; run `medreward-eval generate`" in packed.stderr
    assert out.read_bytes() == whole

    graded, shown, packed = commanded()
    assert graded.stdout.startswith("6 of 6 judged (2 of them before)")
    assert [one.exit_code for one in (graded, *shown, packed)] == [0] * 5
    assert not any("so far" in one.output for one in (graded, *shown, packed))


def test_empty_and_cut_responses_are_counted_at_the_end(tmp_path: Path) -> None:
    """The counts are of the whole file, and what the server lost is no response."""
    tasks, out = write_tasks(tmp_path), tmp_path / "out.jsonl"
    says = [
        said(""),
        said("spleen and", "length"),
        said(None, "length", reasoning="Hm"),
        said("spleen"),
        said("", reasoning_content="The answer is B."),
        said("The", "content_filter"),
    ]
    with model_server() as server:
        server.say = lambda body: says[int(asked(body).removeprefix("Organ ").strip("?"))]
        first = generating(server, tasks, "organs", "--out", out)
        again = generating(server, tasks, "organs", "--out", out)

    assert [one.exit_code for one in (first, again)] == [1, 1]
    for one in (first, again):
        filtered, lost, *shortfalls = one.stdout.splitlines()[1:]
        assert filtered.startswith("  1 content_filter: the server's content filter ended")
        assert lost.startswith("  1 no_response: the server's reply has `reasoning_content` and no")
        assert shortfalls == ["  2 empty", "  2 cut off at max_tokens"]


def test_a_parameter_that_is_refused_is_told_with_the_option_that_leaves_it_out(
    tmp_path: Path,
) -> None:
    """However few the questions are."""
    tasks = write_tasks(tmp_path)
    with model_server() as server:
        server.say = lambda _: failing(400, param="max_tokens", code="unsupported_parameter")
        done = generating(server, tasks, "organs", "--out", tmp_path / "out.jsonl")

    assert done.exit_code == 1
    assert "6 refused: " in done.stdout
    assert "(unsupported_parameter, param max_tokens)" in done.stdout
    assert """--extra '{"max_tokens": null, "max_completion_tokens": 2048}'""" in done.stdout


def test_rows_that_cannot_be_asked_make_the_exit_code_1(tmp_path: Path) -> None:
    """They are named by file and line; the others are asked."""
    tasks = write_tasks(tmp_path)
    with (tmp_path / "organs.jsonl").open("ab") as file:
        file.write(orjson.dumps({"question": "Patient John Doe?"}) + b"\n")
    with model_server() as server:
        generated = generating(server, tasks, "organs", "--out", tmp_path / "out.jsonl")

    assert generated.exit_code == 1
    assert "organs: rows that cannot be asked: " in generated.stderr
    assert "line 7" in generated.stderr
    assert "John Doe" not in generated.output


def written(path: Path, *ids: str) -> Path:
    """A file of predictions."""
    return rows_file(path, (prediction_row(prediction(one)) for one in ids))


def test_without_a_service_the_exit_code_is_1(tmp_path: Path) -> None:
    """The error is one line with the remedy, without a traceback."""
    path = written(tmp_path / "p.jsonl", "q1")
    graded = invoked("grade", path, "--url", "http://127.0.0.1:9", "--deadline", 1)

    assert graded.exit_code == 1
    assert "medreward-eval: the service cannot be asked to grade by the template" in graded.stderr
    assert "the connection to 127.0.0.1:9 failed" in graded.stderr
    assert "see that it runs (`medreward serve`)" in graded.stderr
    assert "Traceback" not in graded.output
    assert not (tmp_path / "p_eval.jsonl").exists()


def test_grades_of_other_votes_are_mixed_only_when_asked_for(
    service: Service, tmp_path: Path
) -> None:
    """The refusal names what differs and --mix; the scores then tell that they are mixed."""
    path = written(tmp_path / "p.jsonl", "q1")
    first = invoked("grade", path, "--url", service.url)
    written(path, "q1", "q2")
    refused = invoked("grade", path, "--url", service.url, "--votes", 1)
    mixed = invoked("grade", path, "--url", service.url, "--votes", 1, "--mix")
    scored = invoked("score", tmp_path / "p_eval.jsonl")

    assert (first.exit_code, refused.exit_code, mixed.exit_code) == (0, 1, 0)
    assert "(votes 3, now 1)" in refused.stderr
    assert "--mix" in refused.stderr
    assert "made in 2 ways (votes)" in scored.stdout


def test_grades_without_rules_do_not_go_on_in_a_file_with_them(
    service: Service, tmp_path: Path
) -> None:
    """--no-rules is another way of grading, and the header tells it."""
    path = written(tmp_path / "p.jsonl", "q1")
    first = invoked("grade", path, "--url", service.url)
    written(path, "q1", "q2")
    refused = invoked("grade", path, "--url", service.url, "--no-rules")

    assert (first.exit_code, refused.exit_code) == (0, 1)
    assert "rules {'equivalence':" in refused.stderr


def test_generating_otherwise_is_mixed_only_when_asked_for(tmp_path: Path) -> None:
    """A file holds responses of one way to generate them."""
    tasks = write_tasks(tmp_path)
    with model_server() as server:
        out = ("--out", tmp_path / "out.jsonl")
        first = generating(server, tasks, "organs", *out, "--limit", 2)
        refused = generating(server, tasks, "organs", *out, "--temperature", 1)
        mixed = generating(server, tasks, "organs", *out, "--temperature", 1, "--mix")

    assert (first.exit_code, refused.exit_code, mixed.exit_code) == (0, 1, 0)
    assert "sampling" in refused.stderr
    assert "--mix" in refused.stderr
    assert mixed.stdout.startswith("6 responses (2 of them before)")


def test_predictions_of_two_models_pass_for_no_single_one(service: Service, tmp_path: Path) -> None:
    """Grading and scores name both, and no zip is packed."""
    tasks, out, grades = write_tasks(tmp_path), tmp_path / "out.jsonl", tmp_path / "out_eval.jsonl"
    with model_server() as server:
        generating(server, tasks, *OWN, "--out", out, "--model", "one", "--limit", 2)
        two = ("--model", "two", "--temperature", 1, "--mix")
        generating(server, tasks, *OWN, "--out", out, *two)
    graded = invoked("grade", out, "--url", service.url)
    scored = invoked("score", grades)
    packed = invoked("submission", grades)
    differing = "generated in 2 ways (model one / two; temperature 0.0 / 1.0)"

    assert [one.exit_code for one in (graded, scored, packed)] == [0, 0, 2]
    for words in (graded.stderr, scored.stdout):
        assert f"the predictions were {differing}" in words
    assert "of several models (one, two)" in packed.stderr
    assert not list(tmp_path.glob("*.zip"))


def test_a_reference_that_names_no_option_is_told_before_it_is_graded(
    service: Service, tmp_path: Path
) -> None:
    """The warning has their number; they are graded nevertheless."""
    offered = enumerate([("liver", "lung"), ("liver", "spleen"), ()])
    rows = (prediction_row(prediction(f"q{n}", options=options)) for n, options in offered)
    path = rows_file(tmp_path / "p.jsonl", rows)
    graded = invoked("grade", path, "--url", service.url)

    assert graded.exit_code == 0
    assert "Warning: references that name none of their options plainly: 1." in graded.stderr


def test_options_of_a_servers_own_are_sent(tmp_path: Path) -> None:
    """The request has the keys of --extra, the system prompt and the API key."""
    tasks = write_tasks(tmp_path)
    with model_server() as server:
        how = ("--extra", '{"top_k": 1}', "--system", "Be brief.", "--server-key", "k")
        out = ("--out", tmp_path / "out.jsonl", "--limit", 1)
        done = generating(server, tasks, "organs", *how, *out)
    (body,), (headers,) = server.bodies, server.headers

    assert done.exit_code == 0
    assert body["top_k"] == 1
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert headers["Authorization"] == "Bearer k"


NOWHERE = ("--server", "http://127.0.0.1:9/v1")
MISUSES: dict[str, tuple[Sequence[str], str]] = {
    "unknown task": (["generate", "medqaa", *NOWHERE], "medqaa is no task; did you mean medqa?"),
    "no JSON": (["generate", "medqa", *NOWHERE, "--extra", "top_k=1"], "--extra is not JSON: "),
    "no object": (["generate", "medqa", *NOWHERE, "--extra", "[1]"], "--extra must be an object"),
    "key of ours": (
        ["generate", "medqa", *NOWHERE, "--extra", '{"model": "x"}'],
        "model: not to be set, since replies depend on it",
    ),
    "out is in": (
        ["grade", "p.jsonl", "--out", "./p.jsonl"],
        "--out: p.jsonl is the file that is read; name another",
    ),
    "csv is in": (["score", "g.jsonl", "--csv", "g.jsonl"], "--csv: g.jsonl is the file that is"),
    "markdown is in": (["score", "g.jsonl", "--markdown", "g.jsonl"], "--markdown: g.jsonl is the"),
    "page is in": (["report", "g.jsonl", "--out", "g.jsonl"], "--out: g.jsonl is the file that is"),
    "difference is in": (
        ["compare", "p.jsonl", "g.jsonl", "--csv", "g.jsonl"],
        "--csv: g.jsonl is the file that is read",
    ),
    "unknown template": (
        ["grade", "p.jsonl", "--template", "essay"],
        "--template: no 'essay'; choose from equivalence, report",
    ),
    "no URL": (["grade", "p.jsonl", "--url", "judge"], "must look like http://host:8080"),
    "bad line": (["grade", "bad.jsonl"], "bad.jsonl: line 2 must have the ground truth as text"),
    "no lines": (["grade", "notes.txt"], "notes.txt: line 1 is not a JSON object"),
    "no file": (["grade", "away.jsonl"], "away.jsonl cannot be read: No such file"),
    "an array": (["grade", "array.json"], "it seems to be one JSON array: write its objects one"),
    "no predictions": (["grade", "empty.jsonl"], "empty.jsonl is empty; it takes one JSON object"),
    "a device": (["grade", "/dev/null"], "/dev/null is a pipe or a device, and is read more than"),
    "scores of a device": (["score", "/dev/null"], "/dev/null is a pipe or a device"),
    "scores of an archive": (["score", "g.jsonl.gz"], "it seems to be compressed by gzip"),
    "grades to a device": (["grade", "p.jsonl", "--out", "/dev/null"], "/dev/null is a pipe or"),
    "grades to a folder": (["grade", "p.jsonl", "--out", "."], ". is a folder; name a file"),
    "grades in a file": (
        ["grade", "p.jsonl", "--out", "g.jsonl/x"],
        "g.jsonl is a file, not a fol",
    ),
    "responses to a device": (["generate", "medqa", *NOWHERE, "--out", "/dev/null"], "or a device"),
    "scores of predictions": (["score", "p.jsonl"], "p.jsonl is no file of grades; make one with"),
    "report of predictions": (["report", "p.jsonl"], "p.jsonl is no file of grades"),
    "zip of predictions": (["submission", "p.jsonl"], "p.jsonl is no file of grades"),
    "comparing predictions": (["compare", "p.jsonl", "p.jsonl"], "p.jsonl is no file of grades"),
    "no task file": (
        ["tasks", "--task-file", "away.yaml"],
        "away.yaml cannot be read: No such file",
    ),
    "no calibration": (
        ["score", "g.jsonl", "--calibration", "p.jsonl"],
        "p.jsonl is no calibration",
    ),
}


@pytest.mark.parametrize("misuse", MISUSES)
def test_a_misuse_is_told_in_words_with_exit_code_2(
    misuse: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error has the cause and the remedy but no content of a file, and no file changes."""
    monkeypatch.chdir(tmp_path)
    written(Path("p.jsonl"), "q1")
    bad = {"id": "q2", "question": "Patient John Doe?", "response": "x"}
    Path("bad.jsonl").write_bytes(Path("p.jsonl").read_bytes() + orjson.dumps(bad) + b"\n")
    Path("notes.txt").write_text("Patient John Doe\n")
    Path("array.json").write_text(json.dumps([bad]))
    Path("empty.jsonl").touch()
    grades_file(Path("g.jsonl"), [item("medqa", 0, RIGHT)])
    Path("g.jsonl.gz").write_bytes(gzip.compress(Path("g.jsonl").read_bytes()))
    before = {path: path.read_bytes() for path in Path().iterdir()}
    arguments, message = MISUSES[misuse]
    done = invoked(*arguments)

    assert done.exit_code == 2, done.output
    assert done.stderr.startswith("medreward-eval: ")
    assert message in done.stderr
    assert done.stdout == ""
    assert "John Doe" not in done.output
    assert {path: path.read_bytes() for path in Path().iterdir()} == before


def test_ctrl_c_leaves_responses_that_the_next_run_goes_on_with(tmp_path: Path) -> None:
    """It is told what to do, in one line; nothing is asked twice."""
    tasks, out = write_tasks(tmp_path), tmp_path / "out.jsonl"
    with model_server() as server:
        arguments = (
            "generate",
            "organs",
            "--task-file",
            tasks,
            "--server",
            server.url,
            "--out",
            out,
        )
        server.say = lambda body: Reply(
            said("spleen").body, after_s=FOREVER_S if "Organ 3" in asked(body) else 0
        )
        code, words = ended_by_ctrl_c([*arguments, "--at-once", 1], out, 1 + 3)
        server.say, server.bodies = knows(6), []
        again = invoked(*arguments)

    assert code == 130
    assert words.splitlines() == [
        "interrupted; what was done is in its file: run the same command again to go on"
    ]
    assert again.exit_code == 0
    assert again.stdout.startswith("6 responses (3 of them before)")
    assert len(server.bodies) == 3
    assert [row["id"] for row in latest_rows(out)] == [f"organs_{n}" for n in range(6)]


def ended_by_ctrl_c(arguments: Sequence[object], out: Path, lines: int) -> tuple[int, str]:
    """Start a command and press Ctrl-C once its file has so many lines; its exit code and words."""
    command = [sys.executable, "-m", "medreward_eval", *map(str, arguments)]
    # A shell's background jobs ignore Ctrl-C, and so would theirs.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        running = subprocess.Popen(  # noqa: S603 - the command under test
            command, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
    finally:
        signal.signal(signal.SIGINT, before)
    with running:
        ends_s = time.monotonic() + FOREVER_S
        while running.poll() is None and not (
            out.exists() and out.read_bytes().count(b"\n") >= lines
        ):
            if time.monotonic() > ends_s:
                running.kill()
            time.sleep(0.01)
        running.send_signal(signal.SIGINT)
        try:
            _, words = running.communicate(timeout=FOREVER_S)
        finally:
            running.kill()
    return running.returncode, words


def test_the_version_is_shown() -> None:
    """By its name, for a report of what went wrong."""
    assert re.fullmatch(r"medreward-eval \d+\.\d+\.\d+\n", invoked("--version").stdout)


def test_the_help_of_the_command_names_all_commands() -> None:
    """No command is there that these tests do not know."""
    assert set(get_command(app).commands) == set(COMMANDS)  # type: ignore[attr-defined] # it is a group
    text = invoked("--help").stdout
    assert all(re.search(rf"^\W+{command} ", text, re.MULTILINE) for command in COMMANDS)


def examples_of(command: str) -> list[str]:
    """The lines below `Examples:` in a command's help."""
    _, _, below = invoked(command, "--help").stdout.partition("Examples:")
    return [line.strip() for line in below.splitlines() if line.strip()]


@pytest.mark.parametrize("command", COMMANDS)
def test_each_commands_help_shows_examples(command: str) -> None:
    """Each example is of the command itself."""
    assert invoked(command, "--help").exit_code == 0
    examples = examples_of(command)
    assert examples
    assert all(line.startswith(f"medreward-eval {command}") for line in examples)


def files_read(words: Sequence[str]) -> Iterator[Path]:
    """Paths that an example reads: files by their suffixes, and the data folder."""
    for before, word in pairwise(words):
        is_file = word.endswith((".jsonl", ".json", ".yaml")) and before not in OUTPUTS
        if is_file or before == "--data-dir":
            yield Path(word)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what the examples read, as the folder that commands are typed in."""
    shutil.copytree(EXAMPLES, tmp_path / "examples" / "evaluation")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_examples_of_the_help_work_as_they_stand(checkout: Path, service: Service) -> None:
    """Files are in the checkout or written by an earlier example; otherwise the error names them."""
    worked = []
    with model_server() as server:
        for line in [line for command in COMMANDS for line in examples_of(command)]:
            typed = line.replace(MODELS_URL, server.url).replace(SERVICE_URL, service.url)
            words = shlex.split(typed)[1:]
            is_there = all(path.exists() for path in files_read(words))
            done = invoked(*words)
            assert done.exit_code == (0 if is_there else 2), f"{line}\n{done.output}"
            assert "Usage:" not in done.output
            worked += [line] * is_there

    assert any("examples/evaluation/tasks.yaml" in line for line in worked)
    assert [line for line in worked if line.startswith("medreward-eval tasks")]
    rows = json.loads((checkout / "results/tiny/tiny.jsonl").read_bytes().splitlines()[1])
    assert rows["id"] == "example_open_0"


def test_a_terminal_shows_how_far_a_run_is(
    worked: Path, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Items judged before count as done; without a terminal no bar is drawn."""
    arguments = ("grade", worked / "base.jsonl", "--url", service.url)
    unseen = invoked(*arguments)
    monkeypatch.setenv("FORCE_COLOR", "1")
    drawn = invoked(*arguments)

    assert "13 of 13" not in unseen.stderr
    assert "13 of 13" in drawn.stderr
    assert "13 judged" in drawn.stderr
    assert "0 unjudged" in drawn.stderr


def test_names_that_others_gave_do_nothing_to_a_terminal(tmp_path: Path) -> None:
    """A file's name with a control sequence or markup in it is shown as it is written."""
    done = invoked("score", tmp_path / "\x1b[31m[bold]x.jsonl")

    assert done.exit_code == 2
    assert r"\x1b[31m[bold]x.jsonl cannot be read" in done.stderr
    assert "\x1b" not in done.output
