"""From a data set's rows to questions: of each of the seventeen tasks, and of rows that are bad."""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from medreward_eval.errors import BadData
from medreward_eval.records import Question
from medreward_eval.tasks.images import ImageFiles
from medreward_eval.tasks.questions import Questions, question_of, unlabelled
from medreward_eval.tasks.tasks import Task, load_tasks
from tests.evaluation.conftest import own_task, rows_file

Rows = list[dict[str, Any]]


def picture(kind: str, shade: int) -> bytes:
    """A small image."""
    written = io.BytesIO()
    Image.new("RGB", (2, 2), (shade, shade, shade)).save(written, kind)
    return written.getvalue()


JPEG, PNG, WEBP = picture("JPEG", 10), picture("PNG", 20), picture("WEBP", 30)


class Case(NamedTuple):
    """A task's rows as in its data set, and the expected question."""

    file: str
    """The path of the rows in the data set's folder."""
    rows: Rows
    questions: list[Question]


def hub_image(content: bytes) -> dict[str, Any]:
    """An image in the hub's Parquet files."""
    return {"bytes": content, "path": "a.jpg"}


def asked(task: str, n: int, question: str, reference: str, *options: str, **more: Any) -> Question:
    """A question of a task."""
    return Question(f"{task}_{n}", task, question, reference, options=options, **more)


def mmlu(task: str) -> Case:
    """One of the six: a list of choices and a number."""
    return Case(
        f"{task.removeprefix('mmlu_')}/test/0000.parquet",
        [
            {"question": "Which one? ", "choices": ["a1", "b1", "c1", "d1"], "answer": 0},
            {"question": "And now?", "choices": ["a2", "b2", "c2", "d2"], "answer": 3},
        ],
        [
            asked(task, 0, "Which one?\n\nChoices:\nA. a1\nB. b1\nC. c1\nD. d1", "a1",
                  "a1", "b1", "c1", "d1"),
            asked(task, 1, "And now?\n\nChoices:\nA. a2\nB. b2\nC. c2\nD. d2", "d2",
                  "a2", "b2", "c2", "d2"),
        ],
    )  # fmt: skip


def visual(task: str, folder: str = "data") -> Case:
    """One of those with a picture, a question and an answer."""
    return Case(
        f"{folder}/test-00000-of-00001.parquet",
        [
            {"image": hub_image(JPEG), "question": "Is it the lung?", "answer": "yes"},
            {"image": hub_image(PNG), "question": "Where?", "answer": "Left lobe"},
        ],
        [
            asked(task, 0, "Is it the lung?", "yes", image=JPEG),
            asked(task, 1, "Where?", "Left lobe", image=PNG),
        ],
    )


MIMIC_ROWS: Rows = [
    {"image": f"https://physionet.org/files/p1/s{n}/scan{n}.jpg", "report": f"Long {n}.",
     "summary": f"Short {n}."}
    for n in range(2)
]  # fmt: skip

CASES: Mapping[str, Case] = {
    **{name: mmlu(name) for name in load_tasks() if name.startswith("mmlu_")},
    "medmcqa": Case(
        "data/validation-00000-of-00001.parquet",
        [
            {"question": "Q1", "opa": "w", "opb": "x", "opc": "y", "opd": "z", "cop": 1, "exp": None},
            {"question": "Q2", "opa": "w", "opb": "x", "opc": "y", "opd": None, "cop": 2, "exp": "E"},
        ],
        [
            asked("medmcqa", 0, "Q1\n\nChoices:\nA. w\nB. x\nC. y\nD. z", "x", "w", "x", "y", "z"),
            asked("medmcqa", 1, "Q2\n\nChoices:\nA. w\nB. x\nC. y", "y", "w", "x", "y"),
        ],
    ),
    "medqa": Case(
        "test.json",
        [
            {"id": "i", "sent1": "Q1", "sent2": "", "ending0": "w", "ending1": "x", "ending2": "y",
             "ending3": "z", "label": 3},
        ],
        [asked("medqa", 0, "Q1\n\nChoices:\nA. w\nB. x\nC. y\nD. z", "z", "w", "x", "y", "z")],
    ),
    "usmle_sa": Case(
        "data/train-00000-of-00001.parquet",
        [
            {"question": "Q1", "options": {"A": "w", "B": "x", "C": None}, "answer": "x",
             "answer_idx": "B"},
            {"question": "Q2", "options": {"A": "w", "B": "x", "C": "y"}, "answer": "y",
             "answer_idx": "C"},
        ],
        [
            asked("usmle_sa", 0, "Q1\n\nChoices:\nA. w\nB. x", "x", "w", "x"),
            asked("usmle_sa", 1, "Q2\n\nChoices:\nA. w\nB. x\nC. y", "y", "w", "x", "y"),
        ],
    ),
    "pubmedqa": Case(
        "pubmedqa/test-00000-of-00001.parquet",
        [
            {"QUESTION": "Does it help?", "CONTEXTS": ["We asked.", "It did."],
             "final_decision": "yes", "LONG_ANSWER": "It helps."},
            {"QUESTION": "Is it safe?", "CONTEXTS": ["We looked."], "final_decision": "maybe",
             "LONG_ANSWER": ""},
        ],
        [
            asked("pubmedqa", 0, "Contexts:\nWe asked.\nIt did.\n\nQuestion:\nDoes it help?\n\n"
                  "Choices:\nA. yes\nB. no\nC. maybe", "yes\nIt helps.", "yes", "no", "maybe"),
            asked("pubmedqa", 1, "Contexts:\nWe looked.\n\nQuestion:\nIs it safe?\n\n"
                  "Choices:\nA. yes\nB. no\nC. maybe", "maybe", "yes", "no", "maybe"),
        ],
    ),
    "mimic_cxr_report_summarization": Case(
        "mimic_cxr/test-00000-of-00001.parquet",
        MIMIC_ROWS,
        [
            asked("mimic_cxr_report_summarization", n,
                  "Summarize the findings of this radiology report in a few short sentences.\n\n"
                  f"Report:\nLong {n}.", f"Short {n}.", template="report")
            for n in range(2)
        ],
    ),
    "slake_vqa": Case(
        "test.json",
        [
            {"img_name": "x1/source.jpg", "question": "What organ?", "answer": "Liver", "q_lang": "en"},
            {"img_name": "x1/source.jpg", "question": "什么器官", "answer": "肝", "q_lang": "zh"},
            {"img_name": "x2/source.jpg", "question": "How many?", "answer": "2", "q_lang": "en"},
        ],
        [
            asked("slake_vqa", 0, "What organ?", "Liver", image=JPEG),
            asked("slake_vqa", 1, "How many?", "2", image=WEBP),
        ],
    ),
    "rad_vqa": visual("rad_vqa"),
    "path_vqa": visual("path_vqa"),
    "pmc_vqa": Case(
        "pmc_vqa/test-00000-of-00001.parquet",
        [
            {"image": hub_image(JPEG), "question": "Which?", "choices": [" A: CT ", "B:MRI"],
             "answer": "B:MRI"},
            {"image": hub_image(PNG), "question": "Which?", "choices": ["CT", "PET"],
             "answer": "CT"},
        ],
        [
            asked("pmc_vqa", 0, "Which?\n\nChoices:\nA. CT\nB. MRI", "MRI", "CT", "MRI", image=JPEG),
            asked("pmc_vqa", 1, "Which?\n\nChoices:\nA. CT\nB. PET", "CT", "CT", "PET", image=PNG),
        ],
    ),
    "pmc_vqa_hard": visual("pmc_vqa_hard", "pmc_vqa_hard"),
    "mimic_cxr_report_generation": Case(
        "mimic_cxr/test-00000-of-00001.parquet",
        MIMIC_ROWS,
        [
            asked("mimic_cxr_report_generation", n,
                  "Write a detailed radiology report of what this scan shows.", f"Long {n}.",
                  template="report", image=(JPEG, PNG)[n])
            for n in range(2)
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", load_tasks())
def test_each_of_the_seventeen_asks_what_its_data_set_holds(tmp_path: Path, name: str) -> None:
    """The copy has the hub's columns, layout and images."""
    task, case = load_tasks()[name], CASES[name]
    copy, scans = tmp_path / task.path, tmp_path / "scans"
    rows_file(copy / case.file, case.rows)
    with zipfile.ZipFile(copy / "imgs.zip", "w") as archive:
        archive.writestr("imgs/x1/source.jpg", JPEG)
        archive.writestr("imgs/x2/source.jpg", WEBP)
    scans.mkdir()
    (scans / "scan0.jpg").write_bytes(JPEG)
    (scans / "scan1.jpg").write_bytes(PNG)
    images_dir = scans if name == "mimic_cxr_report_generation" else None

    questions = Questions(task, data_dir=tmp_path, images_dir=images_dir)

    assert list(questions) == case.questions
    assert questions.mistakes.count == 0
    assert questions.count() == len(case.questions)


def test_an_own_task_is_read_from_its_entry_alone(tmp_path: Path) -> None:
    """One entry, a file of rows and a folder of images are enough."""
    rows: Rows = [{"image": "a.png", "finding": "What is seen?", "said": "Nodule"}]
    rows_file(tmp_path / "scans.json", rows)
    (tmp_path / "png").mkdir()
    (tmp_path / "png" / "a.png").write_bytes(PNG)
    (tmp_path / "my.yaml").write_text(
        "vlm:\n  scans:\n    path: scans.json\n    question_column: finding\n"
        "    answer_column: said\n    image_folder: png\n"
    )
    task = load_tasks(tmp_path / "my.yaml")["scans"]

    assert list(Questions(task)) == [asked("scans", 0, "What is seen?", "Nodule", image=PNG)]


def test_a_limit_counts_what_is_asked(tmp_path: Path) -> None:
    """Rows that `only` leaves out count neither for it nor for ids."""
    rows = [{"q": f"Q{n}", "a": "A", "lang": "en" if n % 2 else "zh"} for n in range(10)]
    task = own_task(tmp_path, rows, only={"lang": "en"})
    plain = own_task(tmp_path, rows)

    assert [(one.id, one.question) for one in Questions(task, limit=2)] == [
        ("mine_0", "Q1"),
        ("mine_1", "Q3"),
    ]
    counts = [Questions(plain, limit=limit).count() for limit in (None, 1, 3, 99)]
    assert counts == [10, 1, 3, 10]


def test_bad_rows_do_not_cost_the_good_ones(tmp_path: Path) -> None:
    """They are left out with their ids, and the first five are told, without what they hold."""
    rows: Rows = [{"q": "The patient", "a": "" if n % 2 else "A"} for n in range(16)]
    questions = Questions(own_task(tmp_path, rows))

    assert [one.id for one in questions] == [f"mine_{n}" for n in range(0, 16, 2)]
    assert questions.mistakes.count == 8
    path = tmp_path / "my.json"
    assert str(questions.mistakes) == "; ".join(
        [*(f"{path} row {n} has nothing in `a`" for n in (2, 4, 6, 8, 10)), "and 3 more"]
    )


OPTIONS = {"q": "Q", "o": ["yes", "no", None]}
BY_INDEX = {"answer_index_column": "a", "answer_column": ()}


@pytest.mark.parametrize(
    ("row", "keys", "said"),
    [
        ({"a": "A"}, {}, "has no `q`; it has a"),
        ({"q": "Q", "a": ["A", {"x": 1}]}, {}, "must have texts in `a` and has dict"),
        ({"q": True, "a": "A"}, {}, "must have texts in `q` and has bool"),
        *(
            (OPTIONS | {"a": place}, BY_INDEX, "has in `a` no number of an option, from 0 to 2")
            for place in (3, 2, -1, True, float("nan"))
        ),
        (OPTIONS | {"a": "the patient"}, {}, "must name one of the options in `a`"),
        (OPTIONS | {"a": "C"}, {}, "must name one of the options in `a`"),
        ({"q": "Q", "o": ["B", "A"], "a": "A"}, {}, "must name one of the options in `a`"),
        ({"q": "Q", "o": "yes", "a": "yes"}, {}, "must have a list or an object in `o` and has str"),
        ({"q": "Q", "o": ["yes"], "a": "yes"}, {}, "has 1 options in `o`; it takes 2 to 26"),
        ({"q": "Q", "o": [str(n) for n in range(27)], "a": "1"}, {},
         "has 27 options in `o`; it takes 2 to 26"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_row_is_said_without_its_content(
    row: dict[str, Any], keys: dict[str, Any], said: str, tmp_path: Path
) -> None:
    """The error names the column and the expected content."""
    columns = {"question_column": ("q",), "answer_column": ("a",)}
    choices = {"choices_column": ("o",)} if "o" in row else {}
    task = Task(**{"name": "mine", "group": "llm", "path": "-", **columns, **choices, **keys})

    with pytest.raises(ValueError, match=r".") as caught:
        question_of(task, 0, row, ImageFiles(tmp_path.joinpath))
    assert str(caught.value).startswith(said)
    assert "the patient" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "answer", "reference"),
    [
        (["CT", "MRI"], "MRI", "MRI"),
        (["CT", "MRI"], "B", "MRI"),
        (["CT", "MRI"], "(b)", "MRI"),
        (["CT", "MRI"], "mri.", "MRI"),
        (["CT", "MRI"], "B. MRI", "MRI"),
        ({"A": "CT", "B": "MRI"}, "B", "MRI"),
        ({"B": "MRI", "A": "CT"}, "B", "MRI"),
        ({"first": "CT", "second": "MRI"}, "B", "MRI"),
        (["A", "B", "AB", "O"], "AB", "AB"),  # blood groups
        (["A", "B", "AB", "O"], "B", "B"),
        (["2", "4"], "4", "4"),
        (["pCO2", "PCO2"], "PCO2", "PCO2"),
        ([2, 4.5], 4.5, "4.5"),
    ],
)
def test_a_reference_is_the_right_options_text(
    tmp_path: Path, options: object, answer: object, reference: str
) -> None:
    """The data set may name it by its text or by its letter."""
    task = own_task(tmp_path, [{"q": "Q", "o": options, "a": answer}], choices_column=("o",))

    assert [one.reference for one in Questions(task)] == [reference]


@pytest.mark.parametrize(
    ("options", "bare"),
    [
        (["A: CT", "B: MRI"], ["CT", "MRI"]),
        (["(A) CT", "(B) MRI", ""], ["CT", "MRI", ""]),
        (["a.CT", "b.MRI"], ["CT", "MRI"]),
        (["E. coli", "S. aureus", "C. difficile"], ["E. coli", "S. aureus", "C. difficile"]),
        (["A: CT", "MRI"], ["A: CT", "MRI"]),
        (["A.", "B."], ["A.", "B."]),
    ],
)
def test_letters_are_taken_off_options_that_all_have_them(
    options: list[str], bare: list[str]
) -> None:
    """One that begins like its letter by chance keeps it."""
    assert unlabelled(options) == bare


TEXT = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8)


@given(options=st.lists(TEXT, min_size=2, max_size=26, unique=True), data=st.data())
def test_an_index_always_finds_its_option(options: list[str], data: st.DataObject) -> None:
    """The reference is the option of that number, and stands behind its letter in the question."""
    right = data.draw(st.integers(0, len(options) - 1))
    row = {"q": "Q", "o": options, "a": right}
    task = Task(
        name="mine", group="llm", path="-", question_column=("q",), choices_column=("o",),
        answer_index_column="a",
    )  # fmt: skip

    question = question_of(task, 0, row, ImageFiles(Path().joinpath))

    assert question.reference == question.options[right]
    letter = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[right]
    assert question.question.split("\n")[3 + right] == f"{letter}. {question.reference}"
    assert options[right].endswith(question.reference)


def test_a_question_whose_image_cannot_be_read_is_there_and_says_so(tmp_path: Path) -> None:
    """It counts as a question without a response; other questions are asked."""
    rows: Rows = [
        {"q": "Q", "a": "A", "i": None},
        {"q": "Q", "a": "A", "i": "the patient"},
        {"q": "Q", "a": "A", "i": "a.png"},
    ]
    (tmp_path / "a.png").write_bytes(PNG)
    task = own_task(tmp_path, rows, group="vlm", image_column="i")
    none, nowhere, there = Questions(task)

    assert none.trouble is not None
    assert (none.trouble.kind, none.trouble.message) == ("bad_image", "`i` has no image")
    assert nowhere.trouble is not None
    assert nowhere.trouble.message.startswith("`i` has a path to no file in ")
    assert "patient" not in nowhere.trouble.message
    assert (there.image, there.trouble) == (PNG, None)


def test_a_data_set_without_its_images_stops_at_once(tmp_path: Path) -> None:
    """The error names the task and its requirements."""
    task = load_tasks()["mimic_cxr_report_generation"]
    rows_file(tmp_path / task.path / "mimic_cxr/test-00000-of-00001.parquet", MIMIC_ROWS)

    with pytest.raises(BadData) as told:
        list(Questions(task, data_dir=tmp_path))
    said = str(told.value)

    assert said.startswith("mimic_cxr_report_generation: the images are named by URLs; fetch ")
    assert said.endswith(f"It needs: {task.needs}")
    assert "physionet.org" not in said
