"""Tables of the scores: for a terminal, in Markdown, and as CSV."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from rich.box import HORIZONTALS
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from medreward_eval.journal import COUNT_KEYS, GENERATED_KEY, HEADER_KEY
from medreward_eval.records import Template
from medreward_eval.report.markup import visible
from medreward_eval.statistics.scores import (
    Average,
    Estimate,
    Group,
    Provenance,
    Scores,
    TaskScore,
    Way,
    each_once,
)
from medreward_eval.tasks.tasks import Task

GROUPS: Final[Mapping[Group, str]] = {
    "llm": "Text tasks",
    "vlm": "Image tasks",
    "own": "Own tasks",
}
NOTHING: Final = "-"
WIDEST_NAME: Final = 30
"""Characters of a task's name that fit on one line of a narrow terminal."""
SHORT_DIGEST: Final = len("sha256:") + 12
WIDEST_AVERAGE: Final = "Overall average"
MOST_NAMED: Final = 20
"""Tasks that one note names; further ones are counted."""
Spread = Callable[[Estimate | None], str]
SINGULAR: Final = {"judges": "judge", "templates": "template"}
"""Singular names of keys with one value for each template: `equivalence judge`."""
CSV_COLUMNS: Final = (
    "task", "group", "template", "n", "judged", "unjudged", "accuracy", "low", "high",
    "corrected", "corrected_low", "corrected_high", "by_option", "by_exact", "by_rule", "by_judge",
    "split", "unanswered", "mean_answer_characters", "judged_right", "unwitnessed", "tasks",
    "of_tasks", "criteria", "criteria_unanswered",
)  # fmt: skip
UNGRADED_ROW: Final = "not graded yet"
UNASKED_ROW: Final = "not generated yet"
"""Names of the CSV rows that count what is missing, so that no program overlooks it."""
LONGEST_FACT: Final = 60
"""Characters of a value, such as a system prompt, that a note shows."""
FEW_UNWITNESSED: Final = 3
UNWITNESSED_SHARE: Final = 0.2
"""Share of the answers judged right above which a warning is due: fewer true synonyms than this
share no word with their term."""
GRADED: Final[Mapping[Template, str]] = {
    "equivalence": "right or wrong",
    "report": "0 to 5",
    "rubric": "points of criteria",
}


def score_table(scores: Scores) -> Table:
    """Draw the scores for a terminal of 80 columns or more; print `notes` below them."""
    table = Table(box=HORIZONTALS, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    longest = max((cell_len(visible(score.task)) for score in scores.tasks), default=0)
    width = min(longest, WIDEST_NAME)
    first, *others = titles(scores)
    # Without a minimum width, rich would fold the names before it breaks the other cells.
    table.add_column(first, width=max(width, len(WIDEST_AVERAGE)), overflow="fold")
    for title in others:
        table.add_column(title, justify="right")
    # Cells are Text, so that names are not parsed as markup.
    corrected = has_corrected(scores)
    for _, tasks in grouped(scores.tasks):
        for score in tasks:
            table.add_row(*map(Text, task_cells(score, corrected=corrected)))
        table.add_section()
    for average in scores.averages:
        table.add_row(*map(Text, average_cells(average, corrected=corrected)), style="bold")
    return table


def task_table(tasks: Iterable[Task]) -> Table:
    """Draw the list of tasks with their data sets, their templates and their requirements."""
    table = Table(box=None, pad_edge=False)
    for title in ("task", "group", "graded", "data set", "needs"):
        table.add_column(title, no_wrap=title == "task", overflow="fold")
    for task in tasks:
        source = " ".join(part for part in (task.path, task.config, f"({task.split})") if part)
        cells = (task.name, task.group, GRADED[task.template], source, " ".join(task.needs.split()))
        table.add_row(*map(Text, map(visible, cells)))
    return table


def markdown(scores: Scores) -> str:
    """Format the scores as a Markdown table with the notes as a list below it."""
    corrected = has_corrected(scores)
    head = titles(scores)
    lines = [head, ["---"] + ["---:"] * (len(head) - 1)]
    lines += [
        task_cells(score, corrected=corrected, spread=spread_bracketed)
        for _, tasks in grouped(scores.tasks)
        for score in tasks
    ]
    lines += [
        average_cells(average, corrected=corrected, spread=spread_bracketed)
        for average in scores.averages
    ]
    table = "\n".join(f"| {' | '.join(map(_in_markdown, line))} |" for line in lines)
    told = "\n".join(f"- {_in_markdown(note, code=True)}" for note in notes(scores))
    return f"{table}\n\n{told}\n"


def csv_text(scores: Scores) -> str:
    """Format the scores as CSV: a row for each task, then one for each average.

    Last rows count what is missing: predictions without a grade, questions without a prediction.
    Accuracies and their bounds are from 0 to 1; missing values are empty.
    """
    out = io.StringIO()
    writer = csv.DictWriter(out, CSV_COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(_task_record, scores.tasks))
    writer.writerows(map(_average_record, scores.averages))
    told = scores.provenance
    for name, missing in ((UNGRADED_ROW, told.ungraded), (UNASKED_ROW, told.unasked)):
        if missing:
            writer.writerow({"task": name, "n": missing, "judged": 0})
    return out.getvalue()


def spread_bare(estimate: Estimate | None) -> str:
    """Format an estimate and its interval in per cent, short enough for a terminal's cell."""
    return NOTHING if estimate is None else f"{percent(estimate.value)} {between(estimate, '-')}"


def spread_bracketed(estimate: Estimate | None) -> str:
    """Format an estimate in per cent with its interval in brackets."""
    if estimate is None:
        return NOTHING
    return f"{percent(estimate.value)} ({between(estimate, ' to ')})"


def titles(scores: Scores) -> list[str]:
    """Return the column titles; `corrected` is among them only if an accuracy could be corrected."""
    corrected = ["corrected %"] if has_corrected(scores) else []
    return ["task", "judged", "accuracy %", *corrected, "rules %", "split"]


def task_cells(score: TaskScore, *, corrected: bool, spread: Spread = spread_bare) -> list[str]:
    """Format a task's cells, in the order of `titles`."""
    judged = f"{score.judged:,}"
    return [
        visible(score.task),
        judged if score.judged == score.of else f"{judged} of {score.of:,}",
        spread(score.accuracy),
        *([spread(score.corrected)] if corrected else []),
        percent(_settled_share(score)),
        f"{score.split:,}",
    ]


def average_cells(average: Average, *, corrected: bool, spread: Spread = spread_bare) -> list[str]:
    """Format an average's cells, in the order of `titles`."""
    return [
        f"{average.name} average",
        f"{average.tasks} of {average.of} tasks",
        spread(average.accuracy),
        *([spread(average.corrected)] if corrected else []),
        "",
        "",
    ]


def notes(scores: Scores) -> list[str]:
    """Return notes on the provenance of the scores, how to read them, and all warnings."""
    return [
        *warnings(scores),
        *_readings(scores),
        *(f"Generated by {generated_by(way)}." for way in scores.provenance.generated[:MOST_NAMED]),
        # Headers may differ in the number of predictions alone.
        *dict.fromkeys(
            f"Graded with {', '.join(map(' '.join, facts(header).items()))}."
            for header in scores.headers
        ),
    ]


def warnings(scores: Scores) -> list[str]:
    """Return warnings of scores that are incomplete or not comparable."""
    return [
        *_mixed(scores.headers),
        *provenance_warnings(scores.provenance),
        *_incomplete(scores.averages),
        *_unjudged(scores.tasks),
        *_unnamed(scores.tasks),
        *_unwitnessed(scores.tasks),
        *_beyond_calibration(scores.tasks),
    ]


def _readings(scores: Scores) -> Iterator[str]:
    """Yield notes on how to read the columns."""
    yield (
        "Intervals are at 95 %. Rules: the share that was settled without the judge, by an option "
        "named, the reference itself or an empty answer. Split: judged by votes that differ."
    )
    if any(score.template == "report" for score in scores.tasks):
        yield "The accuracy of reports is their mean score over the best one, 5."
    if any(score.template == "rubric" for score in scores.tasks):
        yield (
            "The accuracy of rubrics is the mean of points earned over positive points, cut to 0 to "
            "100 %; single answers may be below 0."
        )
    if unanswered := sum(score.criteria_unanswered for score in scores.tasks):
        yield (
            f"{unanswered:,} of {sum(score.criteria for score in scores.tasks):,} criteria have no "
            "verdict, and are left out with their points."
        )
    if has_corrected(scores):
        yield "Corrected: as if the judge never erred, with what its calibration leaves open."
        if any(score.template != "equivalence" for score in scores.tasks):
            yield (
                "A calibration is of verdicts: reports and rubrics are in the corrected averages as "
                "they are."
            )
    elif not scores.judging:
        yield "Without a calibration, accuracies include the judge's own errors."
    if unanswered := sum(score.unanswered for score in scores.tasks):
        yield f"{unanswered:,} of the judged responses had no answer in them: cut off, or empty."
    if cut_off := sum(score.cut_off for score in scores.tasks):
        yield f"{cut_off:,} of the judged responses were cut off at max_tokens or the context's end."


def _unwitnessed(tasks: Iterable[TaskScore]) -> Iterator[str]:
    for score in tasks:
        least = max(FEW_UNWITNESSED, UNWITNESSED_SHARE * score.judged_right)
        if score.unwitnessed >= least:
            yield (
                f"Warning: {score.unwitnessed:,} of {score.judged_right:,} answers that the judge "
                f"took for right on {visible(score.task)} have no word of their reference in them. "
                "Read some in the report (`right by the judge alone`): a judge that is too small "
                "for such answers says YES to fluent nonsense."
            )


def _beyond_calibration(tasks: Iterable[TaskScore]) -> Iterator[str]:
    names = ", ".join(visible(score.task) for score in tasks if score.is_beyond_calibration)
    if names:
        yield (
            f"Warning: nothing is corrected on {names}, nor on average with it: the judge says YES "
            "more often than its calibration's right answers got, or less often than the wrong "
            "ones. Its labels are of other answers than these: calibrate it on some of these."
        )


def _mixed(headers: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    told = each_once(map(facts, headers))
    if len(told) > 1:
        keys = dict.fromkeys(key for one in told for key in one)
        differ = ", ".join(key for key in keys if len({one.get(key) for one in told}) > 1)
        yield (
            f"Warning: these grades were made in {len(told)} ways ({differ}), and "
            "do not compare. Grade anew, to a new file."
        )


def provenance_warnings(told: Provenance, *, whose: str = "") -> Iterator[str]:
    """Yield warnings of grades of several models, or of some of the predictions only.

    *whose* follows "predictions" in the text, if there are files of several models.
    """
    if len(told.generated) > 1:
        yield (
            f"Warning: the predictions{whose} were generated in {len(told.generated)} ways "
            f"({_differing(told.generated)}), so the numbers are of no single model and sampling. "
            "Generate anew, to a new file."
        )
    if told.ungraded:
        yield (
            f"Warning: {told.graded:,} of {told.of:,} predictions{whose} are graded so far, and "
            "the numbers are of those alone. Run `medreward-eval grade` again: it goes on."
        )
    if told.unasked:
        yield (
            f"Warning: {told.of:,} of {told.of + told.unasked:,} questions{whose} have a prediction "
            "so far, and the numbers are of those alone. Run `medreward-eval generate` again, then "
            "`grade`: both go on."
        )


def generated_by(way: Way, *, whole: bool = False) -> str:
    """Format the model and its sampling settings; long texts are cut unless *whole*."""
    model, *others = _way_facts(way).items()
    told = [f"{key} {value if whole else _cut(value)}" for key, value in others]
    return f"{_cut(model[1])}{': ' if told else ''}{', '.join(told)}"


def _differing(ways: Sequence[Way]) -> str:
    """Format the settings in which ways of generation differ, each with its values."""
    told = [_way_facts(way) for way in ways]
    keys = dict.fromkeys(key for one in told for key in one)
    values = {key: dict.fromkeys(_cut(one.get(key, "none")) for one in told) for key in keys}
    return "; ".join(f"{key} {' / '.join(each)}" for key, each in values.items() if len(each) > 1)


def _way_facts(way: Way) -> dict[str, str]:
    """Flatten a way of generation to names and values, the model first."""
    model, server = (str(way.get(key) or "") for key in ("model", "server_model"))
    sampling = way.get("sampling")
    return {
        "model": visible(model or server or "an unknown model"),
        **({"served as": visible(server)} if server not in ("", model) else {}),
        **(facts(sampling, whole=True) if isinstance(sampling, Mapping) else {}),
    }


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_FACT else f"{text[:LONGEST_FACT]}..."


def _incomplete(averages: Iterable[Average]) -> Iterator[str]:
    short = [f"{one.name} {one.tasks} of {one.of}" for one in averages if one.tasks < one.of]
    if short:
        yield (
            f"Warning: tasks are missing from an average ({', '.join(short)}); it does not compare "
            "with one of all tasks."
        )


def _unjudged(tasks: Iterable[TaskScore]) -> Iterator[str]:
    short = [score for score in tasks if score.unjudged]
    for score in short[:MOST_NAMED]:
        missing = sum(score.unjudged.values())
        yield (
            f"Warning: {visible(score.task)}: {missing:,} of {score.of:,} are in no accuracy: "
            f"{_counts(score.unjudged)}; `medreward-eval grade` again retries them."
        )
    if len(short) > MOST_NAMED:
        yield f"Warning: so it is with {len(short) - MOST_NAMED:,} more tasks."


def _unnamed(tasks: Iterable[TaskScore]) -> Iterator[str]:
    for score in tasks:
        if score.unnamed:
            yield f"Warning: {visible(score.task)}: {unnamed_words(score.unnamed)}"


def unnamed_words(count: int) -> str:
    """Format the warning that *count* references name no option."""
    return (
        f"references that name none of their options plainly: {count:,}. No rule settles these, so "
        "the judge does. Give an option's letter or text."
    )


def has_corrected(scores: Scores) -> bool:
    """Return True if any accuracy could be corrected."""
    return any(one.corrected for one in scores.tasks) or any(
        one.corrected for one in scores.averages
    )


def grouped(tasks: Iterable[TaskScore]) -> Iterator[tuple[Group, list[TaskScore]]]:
    """Yield groups with their tasks, in the order of `GROUPS`; empty groups are skipped."""
    held = list(tasks)
    for group in GROUPS:
        found = [score for score in held if score.group == group]
        if found:
            yield group, found


def _settled_share(score: TaskScore) -> float | None:
    """Return the share, from 0 to 1, of judged answers that were settled without the judge."""
    if not score.judged:
        return None
    return sum(n for by, n in score.settled_by.items() if by != "judge") / score.judged


def percent(share: float | None) -> str:
    """Format a share in per cent; only exactly 0 or 1 are shown as 0 or 100."""
    if share is None:
        return NOTHING
    told = f"{100 * share:.1f}"
    if told == "0.0" and share > 0:
        return "<0.1"
    return ">99.9" if told == "100.0" and share < 1 else told


def between(estimate: Estimate, word: str) -> str:
    """Format the bounds of an interval in per cent, with *word* between them."""
    return word.join(f"{100 * bound:.1f}".replace("100.0", "100") for bound in estimate.interval)


def facts(header: Mapping[str, Any], *, whole: bool = False) -> dict[str, str]:
    """Flatten a header to names and text values; digests are cut unless *whole*."""
    return {
        " ".join(SINGULAR.get(key, key) for key in reversed(path)).replace("_", " "): visible(
            _fact(value, whole=whole)
        )
        for path, value in _leaves(header, ())
        if path[0] not in {HEADER_KEY, "version", GENERATED_KEY, *COUNT_KEYS}
        and value not in (None, "", [])
    }


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, (*path, str(key)))
    else:
        yield path, value


def _fact(value: Any, *, whole: bool) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_fact(one, whole=whole) for one in value)
    text = str(value)
    return text if whole or not text.startswith("sha256:") else text[:SHORT_DIGEST]


def _counts(counts: Mapping[str, int]) -> str:
    named = [f"{visible(key)} {count:,}" for key, count in list(counts.items())[:MOST_NAMED]]
    left = len(counts) - len(named)
    return ", ".join(named) + (f", and {left:,} more" if left else "")


def _in_markdown(text: str, *, code: bool = False) -> str:
    """Escape Markdown's special characters; with *code*, a note's own backticks stay."""
    special = "\\|<>[]*" + ("" if code else "`")
    return "".join(f"\\{char}" if char in special else char for char in text.replace("\n", " "))


def _task_record(score: TaskScore) -> dict[str, object]:
    return {
        "task": score.task,
        "group": score.group,
        "template": score.template,
        "n": score.of,
        "judged": score.judged,
        "unjudged": sum(score.unjudged.values()),
        **_bounds(score.accuracy, "accuracy", "low", "high"),
        **_bounds(score.corrected, "corrected", "corrected_low", "corrected_high"),
        **{f"by_{by}": score.settled_by.get(by, 0) for by in ("option", "exact", "rule", "judge")},
        "split": score.split,
        "unanswered": score.unanswered,
        "mean_answer_characters": round(score.mean_answer_characters, 1),
        "judged_right": score.judged_right,
        "unwitnessed": score.unwitnessed,
        "criteria": score.criteria,
        "criteria_unanswered": score.criteria_unanswered,
    }


def _average_record(average: Average) -> dict[str, object]:
    return {
        "task": average.name,
        "group": "average",
        **_bounds(average.accuracy, "accuracy", "low", "high"),
        **_bounds(average.corrected, "corrected", "corrected_low", "corrected_high"),
        "tasks": average.tasks,
        "of_tasks": average.of,
    }


def _bounds(estimate: Estimate | None, *names: str) -> dict[str, float]:
    if estimate is None:
        return {}
    numbers = (estimate.value, *estimate.interval)
    return {name: round(number, 6) for name, number in zip(names, numbers, strict=True)}
