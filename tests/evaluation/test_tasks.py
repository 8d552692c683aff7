"""The seventeen tasks, those of a user's file, and how they are chosen."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from medreward_eval.errors import BadTask
from medreward_eval.tasks.tasks import load_tasks, select, task_file_hash
from tests.evaluation import sample_scores

TEXT_TASKS, IMAGE_TASKS = list(sample_scores.TEXT_TASKS), list(sample_scores.IMAGE_TASKS)
REPORT_TASKS = ["mimic_cxr_report_summarization", "mimic_cxr_report_generation"]
OWN = """
llm:
  triage:
    path: triage.jsonl
    question_column: complaint
    choices: ["yes", "no"]
    answer_column: admitted
"""


def own_file(folder: Path, text: str = OWN) -> Path:
    """A task file of the user's."""
    path = folder / "my.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def complaint(folder: Path, text: str) -> str:
    """The message of the error that an invalid task file raises."""
    with pytest.raises(BadTask) as caught:
        load_tasks(own_file(folder, text))
    return str(caught.value).replace(str(folder / "my.yaml"), "my.yaml")


def test_seventeen_tasks_come_along() -> None:
    """Eleven of text and six of images, of which two are graded as reports."""
    tasks = load_tasks()

    assert [name for name, task in tasks.items() if task.group == "llm"] == TEXT_TASKS
    assert [name for name, task in tasks.items() if task.group == "vlm"] == IMAGE_TASKS
    assert [name for name, task in tasks.items() if task.template == "report"] == REPORT_TASKS
    assert not any(task.is_own for task in tasks.values())


def test_tasks_that_need_more_than_a_download_say_so() -> None:
    """MIMIC-CXR asks for an agreement with PhysioNet, and nothing else does."""
    needing = {name: task.needs for name, task in load_tasks().items() if task.needs}

    assert sorted(needing) == sorted(REPORT_TASKS)
    assert all("PhysioNet" in text for text in needing.values())


def test_one_entry_adds_a_task(tmp_path: Path) -> None:
    """An own task stands behind the seventeen, and knows the folder of its file."""
    tasks = load_tasks(own_file(tmp_path))

    assert list(tasks) == [*TEXT_TASKS, *IMAGE_TASKS, "triage"]
    assert tasks["triage"].is_own
    assert tasks["triage"].folder == tmp_path
    assert tasks["triage"].choices == ("yes", "no")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("llm: {medqa: {path: a.jsonl, question_column: q, answer_column: a}}",
         "my.yaml: medqa is a task that comes along; take another name"),
        ("llm: {mine: {path: a.jsonl, question_colum: q, question_column: q, answer_column: a}}",
         "my.yaml: mine: question_colum is no key; did you mean question_column?"),
        ("llm: {mine: {path: a.jsonl, name: x, question_column: q, answer_column: a}}",
         "my.yaml: mine: name is no key; did you mean config?"),
        ("llm: {mine: {question_column: q, answer_column: a}}", "my.yaml: mine: path is missing"),
        ("llm: {mine: {path: a.jsonl, question_column: q, answer_column: a, split: 7}}",
         "my.yaml: mine: split must be a text; YAML reads numbers, yes and no otherwise unless they are quoted"),
        ("llm: {mine: {path: a.jsonl, question_column: q, answer_column: a, template: yesno}}",
         "my.yaml: mine: template must be 'equivalence', 'report' or 'rubric'"),
        ("llm: {mine: {path: a.jsonl, answer_column: a}}",
         "my.yaml: mine: needs question_column or instruction"),
        ("llm: {mine: {path: a.jsonl, question_column: q}}",
         "my.yaml: mine: needs either answer_column or answer_index_column"),
        ("llm: {mine: {path: a.jsonl, question_column: q, answer_index_column: a}}",
         "my.yaml: mine: has answer_index_column and no choices or choices_column to count in"),
        ("llms: {mine: {}}", "my.yaml: llms is no group of tasks; did you mean llm?"),
        ("llm: {all: {}}", "my.yaml: all names tasks together; take another name"),
        ("llm: {a/b: {}}",
         "my.yaml: a/b must be of letters, digits, _ and -, and not start with a digit"),
        ("llm: {7: {}}", "my.yaml: 7 is no text; quote it"),
        ("[llm]", "my.yaml must hold names and, below each, what it is"),
    ],
)  # fmt: skip
def test_an_entry_that_cannot_be_is_named(tmp_path: Path, text: str, said: str) -> None:
    """The error names the file, the task, the key, and the nearest key there is."""
    assert complaint(tmp_path, text) == said


def test_unquoted_yes_and_no_are_refused(tmp_path: Path) -> None:
    """YAML reads them as truth values, which no model could choose between."""
    said = complaint(tmp_path, OWN.replace('["yes", "no"]', "[yes, no]")).splitlines()

    assert [line.split(" must ")[0] for line in said] == [
        "my.yaml: triage: choices.0",
        "my.yaml: triage: choices.1",
    ]
    assert all("quoted" in line for line in said)


def test_a_name_stands_once(tmp_path: Path) -> None:
    """A second entry of one name is an error, in the group and in the other one."""
    entry = "{path: a.jsonl, question_column: q, answer_column: a}"

    assert "the key mine stands twice" in complaint(
        tmp_path, f"llm:\n  mine: {entry}\n  mine: {entry}"
    )
    assert complaint(tmp_path, f"llm: {{mine: {entry}}}\nvlm: {{mine: {entry}}}") == (
        "my.yaml: mine stands twice"
    )


def test_a_task_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A missing file and invalid YAML give different errors."""
    with pytest.raises(BadTask, match=r"gone\.yaml cannot be read: No such file"):
        load_tasks(tmp_path / "gone.yaml")
    assert complaint(tmp_path, "llm: [").startswith("my.yaml is not YAML: ")


def test_a_task_does_not_change() -> None:
    """A loaded task is immutable, so its hash is of the questions that are asked."""
    with pytest.raises(ValidationError, match="frozen"):
        load_tasks()["medqa"].split = "train"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("selectors", "chosen"),
    [
        (["all"], [*TEXT_TASKS, *IMAGE_TASKS]),
        (["llm"], TEXT_TASKS),
        (["vlm"], IMAGE_TASKS),
        (["slake_vqa", "medqa", "medqa"], ["medqa", "slake_vqa"]),
        (["vlm", "medqa", "path_vqa"], ["medqa", *IMAGE_TASKS]),
    ],
)
def test_tasks_are_chosen_in_the_files_order(selectors: list[str], chosen: list[str]) -> None:
    """Groups and names may be mixed, and no task comes twice."""
    assert [task.name for task in select(load_tasks(), selectors)] == chosen


def test_an_unknown_selector_names_the_nearest() -> None:
    """If no name is near, all are listed; without a selector no task is selected."""
    with pytest.raises(BadTask, match=r"medqaa is no task; did you mean medqa\?"):
        select(load_tasks(), ["medqaa"])
    with pytest.raises(BadTask, match="there are all, llm, vlm, mmlu_clinical_knowledge"):
        select(load_tasks(), ["xyz"])
    with pytest.raises(BadTask, match="choose all, llm, vlm"):
        select(load_tasks(), [])


def test_the_hash_is_of_what_is_asked(tmp_path: Path) -> None:
    """It is the same in another folder and whatever `needs` says, and another for other columns."""

    def hash_of(text: str) -> str:
        return task_file_hash(select(load_tasks(own_file(tmp_path, text)), ["triage"]))

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    assert hash_of(OWN).startswith("sha256:")
    assert hash_of(OWN + "    needs: An account.\n    split: test\n") == hash_of(OWN)
    assert hash_of(OWN.replace("complaint", "history")) != hash_of(OWN)
    assert task_file_hash([load_tasks(own_file(elsewhere))["triage"]]) == hash_of(OWN)


def test_the_seventeen_are_pinned() -> None:
    """A change of a benchmark's questions changes this hash, and belongs in the changelog."""
    assert task_file_hash(load_tasks().values()) == (
        "sha256:142818fb5cc657681850ca4c4db1e52748ebde82218c6eae70108d5cbb68ae8a"
    )
