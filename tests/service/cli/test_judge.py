"""`medreward judge`: grades over HTTP, by template."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.service.cli.conftest import ANSWERS, PATIENT_TEXT, Run, outage, rows_of
from tests.support.service import served

Write = Callable[..., Path]

SAME = {"id": "same", "answer": "Left lower lobe", "reference": "left lower lobe"}
OTHER = {"id": "other", "answer": "spleen", "reference": "left lower lobe"}
RUBRIC = {
    "id": "plan",
    "template": "rubric",
    "answer": "rest",
    "criteria": [{"text": "advises rest", "points": 2}],
}


def test_every_item_gets_a_row(run: Run, url: str, jsonl: Write) -> None:
    """The row tells the verdict, and the probability behind it."""
    told = run("judge", jsonl(SAME, OTHER), "--url", url)

    assert told.code == 0
    assert _row(told.stdout, "same") == ["same", "equivalence", "YES", "-", "equal"]
    assert _row(told.stdout, "other") == ["other", "equivalence", "NO", "p", "0.000", "judge"]


def test_lines_are_grouped_by_their_template(run: Run, url: str) -> None:
    """The example has three; each gets a line of its own in the summary."""
    told = run("judge", ANSWERS, "--url", url)
    summary = told.stdout.split("mean expected")[1]

    assert told.code == 0
    assert _row(summary, "equivalence")[1:4] == ["16", "16", "2"]
    assert _row(summary, "report")[1:4] == ["11", "11", "-"]
    assert _row(summary, "rubric")[1:4] == ["10", "10", "-"]


def test_rows_keep_the_order_of_the_lines(run: Run, url: str, jsonl: Write) -> None:
    """Grouping is how they are sent, not how they are shown."""
    file = jsonl(SAME, OTHER | {"template": "report"}, RUBRIC, OTHER | {"id": "last"})
    told = run("judge", file, "--url", url).stdout
    ids = [line.split()[0] for line in told.split("template\n")[0].splitlines() if line.split()]

    assert [i for i in ids if i in {"same", "other", "plan", "last"}] == [
        "same",
        "other",
        "plan",
        "last",
    ]


def test_a_rubric_tells_how_much_of_it_is_met(run: Run, url: str, jsonl: Write) -> None:
    """Its score is a share of points, not a verdict."""
    told = run("judge", jsonl(RUBRIC), "--url", url).stdout

    assert _row(told, "plan") == ["plan", "rubric", "0", "0", "of", "1", "met", "judge"]


def test_the_template_of_the_others_is_an_option(run: Run, url: str, jsonl: Write) -> None:
    """--template is for lines that name none."""
    told = run("judge", jsonl(SAME, RUBRIC), "--url", url, "--template", "report").stdout

    assert _row(told, "same")[1:3] == ["report", "5"]
    assert _row(told, "plan")[1] == "rubric"


def test_votes_are_passed_on(run: Run, url: str, jsonl: Write, tmp_path: Path) -> None:
    """Each is another view, and the kept result has them all."""
    out = tmp_path / "out.jsonl"
    run("judge", jsonl(OTHER), "--url", url, "--votes", "2", "--out", out)

    assert [vote["view"] for vote in rows_of(out)[0]["votes"]] == ["as_written", "swapped"]


def test_without_rules_the_judge_decides(run: Run, url: str, jsonl: Write) -> None:
    """--no-rules asks it about what differs in its capital alone, and says so."""
    told = run("judge", jsonl(SAME), "--url", url, "--no-rules").stdout

    assert _row(told, "same") == ["same", "equivalence", "YES", "p", "1.000", "judge"]
    assert _row(told, "rules") == ["rules", "none"]


def test_results_are_kept_with_their_lines(run: Run, url: str, tmp_path: Path) -> None:
    """--out is grouped by template, so each object names its line."""
    out = tmp_path / "out.jsonl"
    run("judge", ANSWERS, "--url", url, "--out", out)
    rows, items = rows_of(out), rows_of(ANSWERS)

    assert sorted(row["line"] for row in rows) == list(range(1, len(items) + 1))
    assert all(items[row["line"] - 1]["id"] == row["id"] for row in rows)
    assert all(items[row["line"] - 1]["template"] == row["template"] for row in rows)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"answer": PATIENT_TEXT}, "reference: equivalence needs one"),
        (SAME | {"template": "rubric"}, "criteria: the rubric template needs criteria"),
        (SAME | {"template": "exam"}, "template: Input should be 'equivalence'"),
        (SAME | {"response": PATIENT_TEXT}, "response: unknown field"),
        ("nonsense", "not JSON at column 1"),
    ],
)
def test_a_bad_line_is_named_by_number_and_field(
    run: Run, jsonl: Write, row: object, reason: str
) -> None:
    """Before anything is sent, and without quoting it."""
    told = run("judge", jsonl(SAME, row), "--url", "http://127.0.0.1:9")

    assert told.code == 2
    assert f"\n  line 2: {reason}" in told.stderr
    assert PATIENT_TEXT not in told.stderr


def test_an_item_without_a_grade_is_no_zero(run: Run, jsonl: Write) -> None:
    """It has no number, and fails the command unless that is allowed."""
    with served(outage()) as url:
        told = run("judge", jsonl(SAME, OTHER), "--url", url)
        allowed = run("judge", jsonl(OTHER), "--url", url, "--max-unjudged", "1")

    assert told.code == 1
    assert _row(told.stdout, "other")[2] == "none"
    assert "1 without a grade: judge_unreachable 1" in told.stdout
    assert "1 of 2 items have no grade, more than --max-unjudged 0 allows" in told.stderr
    assert allowed.code == 0


def test_more_views_than_there_are_is_refused_by_the_service(
    run: Run, url: str, jsonl: Write
) -> None:
    """Its words are passed on."""
    told = run("judge", jsonl(SAME), "--url", url, "--votes", "9")

    assert told.code == 1
    assert "votes: 9 asked for" in told.stderr


def _row(table: str, label: str) -> list[str]:
    """The cells of the first row that begins with *label*."""
    return next(line.split() for line in table.splitlines() if line.split()[:1] == [label])
