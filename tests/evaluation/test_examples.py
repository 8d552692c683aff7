"""The small evaluation in examples/evaluation: that it can be asked, and that it is fair."""

from collections import Counter
from pathlib import Path

import orjson
import pytest

from medreward_eval.grading.choices import right_option
from medreward_eval.records import Question
from medreward_eval.tasks.questions import Questions
from medreward_eval.tasks.tasks import load_tasks, select

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = ["example_open", "example_choice", "example_report"]

ByTask = dict[str, list[Question]]


@pytest.fixture(scope="module")
def asked() -> ByTask:
    """The questions of each of the three tasks."""
    tasks = load_tasks(EXAMPLES / "evaluation" / "tasks.yaml")
    sources = {task.name: Questions(task) for task in select(tasks, NAMES)}
    held = {name: list(questions) for name, questions in sources.items()}
    assert not any(questions.mistakes.count for questions in sources.values())
    return held


def asked_before() -> set[str]:
    """The questions of the other example files."""
    rows = [
        orjson.loads(line)
        for file in EXAMPLES.glob("*.jsonl")
        for line in file.read_bytes().splitlines()
    ]
    return {str(row[key]) for row in rows for key in ("question", "problem") if key in row}


def test_three_tasks_of_text_hold_enough_to_tell_models_apart(asked: ByTask) -> None:
    """There are 26 open questions, 26 with options and 16 reports, all of them valid."""
    assert {name: len(questions) for name, questions in asked.items()} == {
        "example_open": 26,
        "example_choice": 26,
        "example_report": 16,
    }


def test_each_question_is_asked_once(asked: ByTask) -> None:
    """No id and no question stands twice, here or in the other examples."""
    questions = [question for questions in asked.values() for question in questions]
    texts = {question.question.partition("\n\nChoices:")[0] for question in questions}
    assert len({question.id for question in questions}) == len(questions)
    assert len(texts) == len(questions)
    assert not texts & asked_before()


def test_no_letter_is_a_good_guess(asked: ByTask) -> None:
    """Each question has four different options, and each letter is right at least five times."""
    questions = asked["example_choice"]
    letters = Counter(right_option(one.reference, one.options) for one in questions)
    assert all(len(set(one.options)) == len("ABCD") for one in questions)
    assert set(letters) == set(range(len("ABCD")))
    assert min(letters.values()) >= 5


def test_only_reports_are_graded_by_degrees(asked: ByTask) -> None:
    """Summaries are worth 0 to 5, and all else is right or wrong."""
    templates = {name: {one.template for one in questions} for name, questions in asked.items()}
    assert templates == {
        "example_open": {"equivalence"},
        "example_choice": {"equivalence"},
        "example_report": {"report"},
    }


def test_a_summary_is_shorter_than_its_report(asked: ByTask) -> None:
    """A question begins with the instruction, and its report is longer than the summary."""
    for one in asked["example_report"]:
        instruction, _, report = one.question.partition("\n\nReport:\n")
        assert instruction.startswith("Summarize")
        assert len(report) > 1.5 * len(one.reference)
