"""The command `medreward-eval`."""

import asyncio
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from medreward_client.terminal import (
    FAILED,
    command,
    examples,
    output,
    run_app,
    shown,
    tell,
    version_printer,
)
from medreward_eval.errors import BadData, BadTask
from medreward_eval.generation.run import AT_ONCE as QUESTIONS_AT_ONCE
from medreward_eval.generation.run import Sampling, generate_file, shortfalls
from medreward_eval.grading.grader import VOTES
from medreward_eval.grading.predictions import Reading, inspect_predictions
from medreward_eval.grading.run import AT_ONCE, grade_file
from medreward_eval.journal import check_place, writing
from medreward_eval.records import TEMPLATES, Template
from medreward_eval.report.comparison_tables import (
    comparison_csv,
    comparison_notes,
    comparison_table,
    conclusions,
)
from medreward_eval.report.page import write_page
from medreward_eval.report.submission import write_submission
from medreward_eval.report.tables import (
    csv_text,
    markdown,
    notes,
    provenance_warnings,
    score_table,
    task_table,
    unnamed_words,
    warnings,
)
from medreward_eval.resume import Counts
from medreward_eval.statistics.comparison import compare_files
from medreward_eval.statistics.findings import Findings
from medreward_eval.statistics.scores import Group, Provenance, ways_of
from medreward_eval.statistics.scoring import read_graded, score_file
from medreward_eval.tasks.question_source import QuestionSource
from medreward_eval.tasks.tasks import load_tasks, select, task_file_hash
from medreward_eval.terminal import PLAIN_WIDTH, PROGRAM, failing_in_words

MOST_SHOWN = 300
GREEDY = Sampling()

app = command(PROGRAM)

Url = Annotated[
    str,
    typer.Option(
        "--url", metavar="URL", envvar="MEDREWARD_URL", help="The medreward service that judges."
    ),
]
ApiKey = Annotated[
    str | None,
    typer.Option(
        metavar="KEY",
        envvar="MEDREWARD_API_KEY",
        show_default=False,
        help="The service's key; better in the environment, where no list of processes shows it.",
    ),
]
TaskFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE.yaml", help="Tasks of yours, beside those that come along."),
]
Grades = Annotated[
    Path, typer.Argument(metavar="GRADES.jsonl", help="What `medreward-eval grade` wrote.")
]
CalibrationFile = Annotated[
    Path | None,
    typer.Option(
        "--calibration",
        metavar="FILE.json",
        help="What `medreward calibrate` wrote of the judge: accuracies as if it never erred.",
    ),
]
CsvFile = Annotated[Path | None, typer.Option(metavar="FILE.csv", help="Write it as CSV, too.")]


def main() -> None:
    """Run the command that the command line names."""
    run_app(app, PROGRAM)


@app.callback()
def medreward_eval_(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            is_eager=True,
            callback=version_printer(PROGRAM),
            help="Show the version and exit.",
        ),
    ] = False,
) -> None:
    """Grade a model on medical benchmarks, or anyone's predictions, by a medreward service.

    In their order: generate, grade, score, report; compare for two models.
    A command that was interrupted goes on where it was.

    For research, not for clinical use.
    """


@app.command(
    epilog=examples(
        "medreward-eval generate medqa slake_vqa --server http://127.0.0.1:8000/v1 --data-dir data",
        "medreward-eval generate example_open example_choice example_report "
        "--task-file examples/evaluation/tasks.yaml --server http://127.0.0.1:8000/v1",
    )
)
@failing_in_words()
def generate(
    tasks: Annotated[
        list[str], typer.Argument(metavar="TASK...", help="Names of tasks, or all, llm, vlm.")
    ],
    *,
    server: Annotated[
        str,
        typer.Option(
            metavar="URL",
            envvar="OPENAI_BASE_URL",
            help="The model's server, of OpenAI's protocol: vLLM, SGLang, llama.cpp, or a hosted one.",
        ),
    ],
    server_key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            envvar="OPENAI_API_KEY",
            show_default=False,
            help="Its key; better in the environment.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The model; else the one that the server has."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="PREDICTIONS.jsonl", help="Else results/MODEL/MODEL.jsonl, as MediX-R1 has it."
        ),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Copies of data sets, by their names; else they are downloaded."
        ),
    ] = None,
    images_dir: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Images that a data set names by their URL (MIMIC)."),
    ] = None,
    task_file: TaskFile = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Only the first questions of each task.")
    ] = None,
    system: Annotated[
        str | None, typer.Option(metavar="TEXT", help="A system prompt; else there is none.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, metavar="N")] = GREEDY.max_tokens,
    temperature: Annotated[float, typer.Option(min=0)] = GREEDY.temperature,
    extra: Annotated[
        str | None,
        typer.Option(
            metavar="JSON", help="Keys of the server's own, sent beside the rest, as an object."
        ),
    ] = None,
    mix: Annotated[
        bool, typer.Option("--mix", help="Go on in a file that was generated otherwise.")
    ] = False,
    at_once: Annotated[
        int, typer.Option(min=1, metavar="N", help="Questions on their way.")
    ] = QUESTIONS_AT_ONCE,
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=1, metavar="SECONDS", help="Of one response.")
    ] = GREEDY.timeout_s,
) -> None:
    """Ask a model the questions of benchmarks; run it again to go on where it was.

    Greedy, 2,048 tokens, images as data URLs. Responses are kept whole, with their thinking.
    A question without a response is no wrong answer: it is asked again by the next run, and makes
    the exit code 1.
    """
    if out is not None:
        check_place(out)
    chosen = select(load_tasks(task_file), tasks)
    sampling = Sampling(
        max_tokens=max_tokens,
        temperature=temperature,
        system=system,
        extra=_object(extra),
        timeout_s=timeout_s,
    )
    source = QuestionSource(chosen, data_dir, images_dir, limit)
    run = generate_file(
        source, task_file_hash(chosen), sampling,
        server=server, server_key=server_key, model=model, out=out, mix=mix, at_once=at_once,
    )  # fmt: skip
    counts, path = asyncio.run(run)
    _print_counts(counts, "responses", "questions without one", path, has_reasons=True)
    _print_shortfalls(path)
    for task, mistakes in source.mistakes.items():
        tell(f"{task}: rows that cannot be asked: {mistakes}", "yellow")
    if counts.failed:
        tell("Run the same command again to ask them once more.")
    tell(f"Next: medreward-eval grade {path}")
    raise typer.Exit(FAILED if counts.failed or source.mistakes else 0)


@app.command(
    epilog=examples(
        "medreward-eval grade examples/evaluation/smollm2.jsonl --url http://127.0.0.1:8080",
        "medreward-eval grade answers.jsonl --out grades.jsonl --model my-model",
    )
)
@failing_in_words()
def grade(
    predictions: Annotated[
        Path,
        typer.Argument(
            metavar="PREDICTIONS.jsonl",
            help="A line each with id, question, reference, response; or what generate wrote.",
        ),
    ],
    *,
    url: Url = "http://127.0.0.1:8080",
    api_key: ApiKey = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="GRADES.jsonl", help="Where grades go; else beside PREDICTIONS, as ..._eval."
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Whose predictions; else as they say.")
    ] = None,
    task: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of predictions that name no task.")
    ] = None,
    template: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="equivalence (YES or NO), report (0 to 5) or rubric (points of criteria), for "
            "predictions that name none.",
        ),
    ] = None,
    votes: Annotated[
        int, typer.Option(min=1, max=3, help="Views of the judge; the majority decides.")
    ] = VOTES,
    no_rules: Annotated[
        bool,
        typer.Option(
            "--no-rules",
            help="Ask the judge about plain cases, too: no rule settles, no guard vetoes.",
        ),
    ] = False,
    task_file: TaskFile = None,
    mix: Annotated[
        bool,
        typer.Option("--mix", help="Go on in a file whose grades are of another judge or service."),
    ] = False,
    at_once: Annotated[
        int, typer.Option(min=1, metavar="N", help="Requests on their way.")
    ] = AT_ONCE,
    deadline_s: Annotated[
        float | None,
        typer.Option(
            "--deadline",
            min=1,
            metavar="SECONDS",
            help="Deadline of a request; by default an hour, or ten minutes without a grade.",
        ),
    ] = None,
) -> None:
    """Grade predictions; run it again to go on, and to ask again about what was not judged.

    Options named in plain words are settled without the judge. What could not be judged is
    unjudged, never 0, and makes the exit code 1.
    """
    tasks = load_tasks(task_file)
    reading = Reading(
        {name: one.template for name, one in tasks.items()}, task, _template(template)
    )
    stock = inspect_predictions(predictions, reading)
    unasked = max(0, (stock.questions or 0) - stock.total)
    for line in provenance_warnings(Provenance(ways_of(stock.headers), stock.total, 0, unasked)):
        tell(line, "yellow")
    if stock.unnamed:
        tell(f"Warning: {unnamed_words(stock.unnamed)}", "yellow")
    out = out or predictions.with_name(f"{predictions.stem}_eval.jsonl")
    _check_output("--out", out, predictions)
    check_place(out)
    run = grade_file(
        predictions, reading, stock,
        url=url, api_key=api_key, model=model or stock.model or predictions.stem, out=out,
        votes=votes, rules=not no_rules, mix=mix, at_once=at_once, deadline_s=deadline_s,
    )  # fmt: skip
    counts = asyncio.run(run)
    _print_counts(counts, f"of {stock.total:,} judged", "unjudged", out)
    if counts.failed:
        tell("Run the same command again to ask about the unjudged once more.")
    tell(f"Next: medreward-eval score {out}")
    raise typer.Exit(FAILED if counts.failed else 0)


def _check_output(option: str, out: Path | None, *read: Path) -> None:
    """Raise BadData if an output is one of the inputs: grades may be hours of a judge's work."""
    if out is not None and out.resolve() in {path.resolve() for path in read}:
        raise BadData(f"{option}: {out} is the file that is read; name another")


def _template(name: str | None) -> Template | None:
    match name:
        case None | "equivalence" | "report" | "rubric":
            return name
        case _:
            raise BadTask(f"--template: no {name!r}; choose from {', '.join(TEMPLATES)}")


@app.command(
    epilog=examples(
        "medreward-eval score results/MediX_R1_8B/MediX_R1_8B_eval.jsonl",
        "medreward-eval score grades.jsonl --calibration calibration.json --csv scores.csv",
    )
)
@failing_in_words()
def score(
    grades: Grades,
    *,
    calibration: CalibrationFile = None,
    task_file: TaskFile = None,
    csv: CsvFile = None,
    markdown_file: Annotated[
        Path | None,
        typer.Option("--markdown", metavar="FILE.md", help="Write it as Markdown, too."),
    ] = None,
) -> None:
    """Show accuracies with their intervals, by task and on average, and what was not judged."""
    _check_output("--csv", csv, grades)
    _check_output("--markdown", markdown_file, grades)
    scores = score_file(grades, _groups(task_file), calibration=calibration)
    console = output(plain_width=PLAIN_WIDTH)
    console.print(score_table(scores))
    _print_notes(console, notes(scores))
    for path, text in ((csv, csv_text), (markdown_file, markdown)):
        if path is not None:
            with writing(path):
                path.write_text(text(scores), encoding="utf-8")
            tell(f"wrote {path}")


@app.command(
    epilog=examples(
        "medreward-eval report results/MediX_R1_8B/MediX_R1_8B_eval.jsonl",
        "medreward-eval report grades.jsonl --out report.html --no-texts",
    )
)
@failing_in_words()
def report(
    grades: Grades,
    *,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Else beside GRADES, as .html.")
    ] = None,
    calibration: CalibrationFile = None,
    task_file: TaskFile = None,
    texts: Annotated[
        bool,
        typer.Option(help="Show questions, references and predictions; without, numbers alone."),
    ] = True,
    most: Annotated[
        int, typer.Option(min=0, metavar="N", help="Examples of each task and kind.")
    ] = MOST_SHOWN,
) -> None:
    """Write one HTML page: plots, tables, and the answers on which model and reference differ."""
    path = out or grades.with_suffix(".html")
    _check_output("--out", path, grades)
    scores = score_file(grades, _groups(task_file), calibration=calibration)
    findings = Findings(most=most, with_texts=texts)
    for graded in read_graded(grades):
        findings.add(graded)
    write_page(path, scores, findings)
    output(plain_width=PLAIN_WIDTH).print(shown(f"wrote {path}"), soft_wrap=True)


@app.command(
    epilog=examples(
        "medreward-eval compare a_eval.jsonl b_eval.jsonl",
        "medreward-eval compare base_eval.jsonl tuned_eval.jsonl --csv difference.csv",
    )
)
@failing_in_words()
def compare(
    first: Annotated[Path, typer.Argument(metavar="A.jsonl", help="Grades of one model.")],
    second: Annotated[Path, typer.Argument(metavar="B.jsonl", help="Grades of the other.")],
    *,
    task_file: TaskFile = None,
    csv: CsvFile = None,
) -> None:
    """Say what can be concluded of the difference between two models, on the same questions.

    Paired: only questions that are judged in both count. Grades of two judges do not compare.
    """
    _check_output("--csv", csv, first, second)
    both = compare_files(first, second, _groups(task_file))
    console = output(plain_width=PLAIN_WIDTH)
    console.print(comparison_table(both))
    _print_notes(console, comparison_notes(both))
    for line in conclusions(both.comparison, both.first, both.second):
        console.print(shown(line), soft_wrap=True)
    if csv is not None:
        with writing(csv):
            csv.write_text(comparison_csv(both), encoding="utf-8")
        tell(f"wrote {csv}")


@app.command(
    epilog=examples("medreward-eval submission results/MediX_R1_8B/MediX_R1_8B_eval.jsonl")
)
@failing_in_words()
def submission(
    grades: Grades,
    *,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where the zip goes; else beside GRADES.")
    ] = None,
    task_file: TaskFile = None,
) -> None:
    """Pack a zip as the leaderboard of MediX-R1 takes it."""
    scores = score_file(grades, _groups(task_file))
    path = write_submission(grades, scores, out or grades.parent)
    for line in warnings(scores):
        tell(line, "yellow")
    output(plain_width=PLAIN_WIDTH).print(shown(f"wrote {path}"), soft_wrap=True)


@app.command("tasks", epilog=examples("medreward-eval tasks", "medreward-eval tasks vlm"))
@failing_in_words()
def tasks_(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="TASK...", help="Names, or all, llm, vlm.")
    ] = None,
    *,
    task_file: TaskFile = None,
) -> None:
    """List the tasks, where their questions come from, and what they need."""
    output(plain_width=PLAIN_WIDTH).print(
        task_table(select(load_tasks(task_file), names or ["all"]))
    )


def _groups(task_file: Path | None) -> dict[str, Group]:
    tasks = load_tasks(task_file)
    return {name: "own" if one.is_own else one.group for name, one in tasks.items()}


def _print_notes(console: Console, lines: Iterable[str]) -> None:
    """Print notes below a table, with warnings in yellow."""
    console.print()
    for line in lines:
        console.print(shown(line, "yellow" if line.startswith("Warning") else "dim"))
    console.print()


def _object(text: str | None) -> Mapping[str, Any]:
    try:
        value = {} if text is None else json.loads(text)
    except json.JSONDecodeError as exc:
        raise BadData(f"--extra is not JSON: {exc.msg}") from exc
    if not isinstance(value, dict):
        raise BadData("--extra must be an object, such as '{\"top_k\": 1}'")
    return value


def _print_counts(
    counts: Counts, done: str, failed: str, out: Path, *, has_reasons: bool = False
) -> None:
    """Print the summary of a run, and the number of each kind of error, perhaps with a message."""
    console = output(plain_width=PLAIN_WIDTH)
    before = f" ({counts.found:,} of them before)" if counts.found else ""
    line = (
        f"{counts.done + counts.found:,} {done}{before}, {counts.failed.total():,} {failed}: {out}"
    )
    console.print(shown(line), soft_wrap=True)
    for kind, number in sorted(counts.failed.items()):
        why = f": {counts.reasons[kind]}" if has_reasons and kind in counts.reasons else ""
        console.print(shown(f"  {number:,} {kind}{why}", "yellow"), soft_wrap=True)


def _print_shortfalls(path: Path) -> None:
    """Print how many responses of a file are empty or were cut off."""
    console = output(plain_width=PLAIN_WIDTH)
    for what, number in shortfalls(path).items():
        console.print(shown(f"  {number:,} {what}", "yellow"))
