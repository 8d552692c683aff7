"""Predictions of any model, read from JSONL: a question, its reference and a response a line.

    {"id": "q1", "question": "Which lobe?", "reference": "left lower lobe", "response": "Left lower"}

`task`, `options`, `criteria`, `template` and `error` are optional, and unknown keys are ignored. A
line with `criteria` is graded by them, and needs no reference, unless its template is another. Files of
MediX-R1's own evaluation, whose references are under `answer`, can be read unchanged.
"""

from array import array
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import numpy as np

from medreward_client.criteria import read_criteria
from medreward_eval.errors import MISTAKES_SHOWN, BadData, Mistakes
from medreward_eval.grading.choices import right_option
from medreward_eval.journal import QUESTIONS_KEY, Row, first_rows, headers_of, latest_rows
from medreward_eval.records import OWN_TASK, TEMPLATES, Failure, Prediction, Template

DIGEST_BYTES = 8


@dataclass(frozen=True, slots=True)
class Reading:
    """Defaults for lines that name no task or template.

    `tasks` maps known tasks to their templates: an id such as `medqa_17` is of the task `medqa`.
    Other lines are of the task `task`, and graded by `template`.
    """

    tasks: Mapping[str, Template]
    task: str | None = None
    template: Template | None = None


@dataclass(frozen=True, slots=True)
class Inventory:
    """Counts and headers of a file of predictions."""

    total: int
    templates: Collection[Template]
    headers: Sequence[Mapping[str, Any]]
    """The file's headers: several if runs were mixed, none if another program wrote it."""
    unnamed: int = 0
    """The number of references that name none of their options plainly: no rule settles these."""

    @property
    def questions(self) -> int | None:
        """The number of questions that were to be asked; None if the file does not tell."""
        asked = self.headers[-1].get(QUESTIONS_KEY) if self.headers else None
        return asked if isinstance(asked, int) else None

    @property
    def model(self) -> str | None:
        """The model that the headers name; of several, all names joined."""
        models = dict.fromkeys(str(one["model"]) for one in self.headers if one.get("model"))
        return " + ".join(models) or None


def inspect_predictions(path: Path, reading: Reading) -> Inventory:
    """Check every line of a file, and that ids are unique, before the judge is asked anything.

    Raises:
        BadData: the file cannot be read, has no predictions, or lines are invalid. All of these are
            counted, and the first are named by number; their content is not shown.
    """
    templates: set[Template] = set()
    mistakes = Mistakes()
    ids = array("Q")
    unnamed = 0
    for number, row in first_rows(path):
        try:
            prediction = prediction_of(row, reading)
        except ValueError as exc:
            mistakes.add(f"line {number} {exc}")
            continue
        templates.add(prediction.template)
        unnamed += is_unnamed(prediction)
        digest = blake2b(prediction.id.encode(), digest_size=DIGEST_BYTES).digest()
        ids.append(int.from_bytes(digest))
    if mistakes.count:
        raise BadData(f"{path}: {mistakes}")
    headers = headers_of(path)
    if not ids:
        none = "has no predictions yet; run `medreward-eval generate` again, which goes on"
        raise BadData(f"{path} {none if headers else 'is empty; it takes one JSON object a line'}")
    if len(np.unique(np.frombuffer(ids, np.uint64))) < len(ids):
        raise BadData(f"{path}: lines share ids ({_repeated(path)}); ids must be unique")
    return Inventory(len(ids), templates, headers, unnamed)


def read_predictions(path: Path, reading: Reading) -> Iterator[Prediction]:
    """Yield predictions in the order of the file, which `inspect_predictions` has checked before.

    A response that was generated again takes the place of the first one.
    """
    return (prediction_of(row, reading) for row in latest_rows(path))


def is_unnamed(prediction: Prediction) -> bool:
    """Return True if answers may name options and the reference names none of them plainly."""
    one = prediction
    is_choice = one.template == "equivalence" and bool(one.options)
    return is_choice and right_option(one.reference, one.options) is None


def prediction_of(row: Row, reading: Reading) -> Prediction:
    """Parse a line's object.

    Raises:
        ValueError: it is no valid prediction; the message continues "line 7" and quotes nothing.
    """
    id_ = _id_of(row)
    task = _text(row, "task") or _task_of(id_, reading)
    otherwise = "rubric" if row.get("criteria") else "equivalence"
    template = row.get("template") or reading.template or reading.tasks.get(task, otherwise)
    if template not in TEMPLATES:
        raise ValueError(f"has an unknown `template`; choose from {', '.join(TEMPLATES)}")
    criteria = read_criteria(row.get("criteria")) if template == "rubric" else ()
    if template == "rubric" and not criteria:
        raise ValueError("must have a list of criteria in `criteria`")
    reference = row.get("reference", row.get("answer"))
    if reference is None and criteria:
        reference = ""
    if not isinstance(reference, str):
        raise ValueError("must have the ground truth as text in `reference`")  # noqa: TRY004 - the line is wrong, not the call
    response = _text(row, "response")
    return Prediction(
        id=id_,
        task=task,
        question=_text(row, "question") or "",
        reference=reference,
        response=response,
        template=template,
        options=_options(row),
        criteria=criteria,
        finish_reason=_text(row, "finish_reason"),
        reasoning=_text(row, "reasoning"),
        error=_trouble(row.get("error")) if response is None else None,
    )


def _id_of(row: Row) -> str:
    id_ = row.get("id")
    if isinstance(id_, bool) or not isinstance(id_, str | int) or id_ == "":
        raise ValueError("must have an `id`, a text or a whole number")
    if "response" not in row:
        raise ValueError("has no `response`; where a model gave none, say null")
    return str(id_)


def _task_of(id_: str, reading: Reading) -> str:
    named = id_.rpartition("_")[0]
    return named if named in reading.tasks else reading.task or OWN_TASK


def _text(row: Row, key: str) -> str | None:
    value = row.get(key)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"must have text in `{key}`, and has {type(value).__name__}")
    return value


def _options(row: Row) -> tuple[str, ...]:
    """Parse a list of texts, or an object that maps letters to texts, in the order of the letters."""
    value = row.get("options", row.get("choices")) or ()
    if isinstance(value, Mapping):
        texts: object = [value[letter] for letter in sorted(value, key=str.upper)]
        if list(ascii_uppercase[: len(value)]) != sorted(letter.upper() for letter in value):
            raise ValueError("must have the letters A, B, C ... in `options`, and leave none out")
    else:
        texts = value
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise ValueError("must have a list of texts in `options`")
    return tuple(texts)


def _trouble(told: object) -> Failure:
    if not isinstance(told, Mapping):
        return Failure("no_response", "the model gave no response")
    kind, message = told.get("kind"), told.get("message")
    if not isinstance(kind, str) or not isinstance(message, str):
        raise ValueError(  # noqa: TRY004 - the line is wrong, not the call
            "must have a `kind` and a `message` in `error`"
        )
    return Failure(kind, message, retryable=told.get("retryable") is True)


def _repeated(path: Path) -> str:
    """Return the numbers of lines whose ids an earlier line has."""
    seen: dict[str, int] = {}
    repeated = (
        f"line {number} that of line {seen[row_id]}"
        for number, row in first_rows(path)
        if seen.setdefault(row_id := str(row.get("id")), number) != number
    )
    return ", ".join(islice(repeated, MISTAKES_SHOWN))
