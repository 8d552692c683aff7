"""The graded reports: six answers for each reference, one of each grade; and what is no report."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from medreward.engines.templates import load_templates
from medreward.guards.chain import GRADING
from medreward.rewards.grade import plan_item
from medreward.samples import Item, Limits

ROWS = [
    json.loads(line)
    for line in Path(__file__).with_name("reports.jsonl").read_text("utf-8").splitlines()
]


def by_reference() -> dict[str, list[dict[str, Any]]]:
    """Sort the answers by what they are graded against."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in ROWS:
        found[row["reference"]].append(row)
    return found


def test_each_reference_has_an_answer_of_each_grade() -> None:
    """All of them in one split, so nothing is measured on a reference that something was fitted on."""
    for rows in by_reference().values():
        assert sorted(row["grade"] for row in rows) == [0, 1, 2, 3, 4, 5]
        assert len({row["split"] for row in rows}) == 1
        assert len({row["answer"] for row in rows}) == 6


def test_neither_length_nor_words_tell_the_grade() -> None:
    """A judge that counts words would earn nothing."""
    words: dict[int, list[int]] = defaultdict(list)
    for row in ROWS:
        words[row["grade"]].append(len(row["answer"].split()))
    means = [sum(lengths) / len(lengths) for lengths in words.values()]

    assert max(means) - min(means) < 5


def test_no_guard_takes_a_report_for_an_order() -> None:
    """Each goes to the judge; the guards in front of it veto grades and orders alone."""
    template = load_templates()["report"]
    for row in ROWS:
        item = Item(answer=row["answer"], reference=row["reference"], question=row["question"])
        assert plan_item(item, template, 1, Limits(), GRADING["report"]).outcome is None


def test_most_texts_that_are_no_reports_never_reach_the_judge() -> None:
    """All orders and praise, and most grades, pointers to the reference and claims to be complete."""
    template = load_templates()["report"]
    lines = Path(__file__).with_name("no_reports.jsonl").read_text("utf-8").splitlines()
    vetoed: dict[str, list[bool]] = defaultdict(list)
    for row in map(json.loads, lines):
        item = Item(answer=row["answer"], reference=row["reference"], question=row["question"])
        plan = plan_item(item, template, 1, Limits(), GRADING["report"])
        vetoed[row["kind"]].append(plan.outcome is not None)

    assert all(vetoed["order"])
    assert all(vetoed["praise"])
    assert sum(vetoed["grade"]) > 0.8 * len(vetoed["grade"])
    assert sum(map(sum, vetoed.values())) > 0.8 * len(lines)
