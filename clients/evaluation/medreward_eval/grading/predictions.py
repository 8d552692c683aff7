"""Anyone's predictions, read from JSONL: what a model answered to which question.

    {"id": "q1", "question": "Which lobe?", "reference": "left lower lobe", "response": "Left lower"}

`task`, `options`, `template` and `error` may be there, too; further keys are left alone. The files
of MediX-R1's own evaluation, whose references are under `answer`, can be read as they are.
"""

from array import array
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import numpy as np

from medreward_eval.errors import BadData
from medreward_eval.grading.choices import names_no_option
from medreward_eval.journal import Row, first_rows, headers_of, latest_rows
from medreward_eval.records import OWN_TASK, TEMPLATES, Failure, Prediction, Template

MISTAKES_SHOWN = 5
DIGEST_BYTES = 8


@dataclass(frozen=True, slots=True)
class Reading:
    """How lines are understood that do not say all of it.

    `tasks` are the known ones with their templates: an id such as `medqa_17` is of the task
    `medqa`. What remains is of the task `task`, and graded by `template`.
    """

    tasks: Mapping[str, Template]
    task: str | None = None
    template: Template | None = None


@dataclass(frozen=True, slots=True)
class Inventory:
    """What a file of predictions holds."""

    total: int
    by_task: Mapping[str, int]
    templates: Collection[Template]
    headers: Sequence[Mapping[str, Any]]
    """Those of the file: several where runs were mixed, none where somebody else made it."""
    unnamed: int = 0
    """How many references name none of their options plainly: no rule settles these."""

    @property
    def model(self) -> str | None:
        """Whose predictions they are: of several models, all of them."""
        models = dict.fromkeys(str(one["model"]) for one in self.headers if one.get("model"))
        return " + ".join(models) or None


def inspect_predictions(path: Path, reading: Reading) -> Inventory:
    """Read a whole file once, before anything is spent on it: every line, and that ids are unique.

    Raises:
        BadData: the file cannot be read, or lines are not as they should be. All are counted, and
            the first are named by number; nothing of what they hold is shown.
    """
    tasks: Counter[str] = Counter()
    templates: set[Template] = set()
    mistakes: list[str] = []
    ids = array("Q")
    unnamed = 0
    for number, row in first_rows(path):
        try:
            prediction = prediction_of(row, reading)
        except ValueError as exc:
            mistakes.append(f"line {number} {exc}")
            continue
        tasks[prediction.task] += 1
        templates.add(prediction.template)
        unnamed += is_unnamed(prediction)
        digest = blake2b(prediction.id.encode(), digest_size=DIGEST_BYTES).digest()
        ids.append(int.from_bytes(digest))
    _check(path, mistakes)
    if len(np.unique(np.frombuffer(ids, np.uint64))) < len(ids):
        raise BadData(f"{path}: lines share ids ({_repeated(path)}); ids must be unique")
    return Inventory(len(ids), tasks, templates, headers_of(path), unnamed)


def read_predictions(path: Path, reading: Reading) -> Iterator[Prediction]:
    """Read predictions one by one, in the order of the file; take stock of it first.

    Where a response was asked for again, it stands in its first place.
    """
    return (prediction_of(row, reading) for row in latest_rows(path))


def is_unnamed(prediction: Prediction) -> bool:
    """Tell whether an answer could name an option, and its reference names none plainly."""
    return prediction.template == "equivalence" and names_no_option(
        prediction.reference, prediction.options
    )


def prediction_of(row: Row, reading: Reading) -> Prediction:
    """Read a line's object.

    Raises:
        ValueError: it is no prediction; the message goes on after "line 7" and quotes nothing.
    """
    id_ = _id_of(row)
    reference = row.get("reference", row.get("answer"))
    if not isinstance(reference, str):
        raise ValueError("must have the ground truth as text in `reference`")  # noqa: TRY004 - the line is wrong, not the call
    response = _text(row, "response")
    task = _text(row, "task") or _task_of(id_, reading)
    template = row.get("template") or reading.template or reading.tasks.get(task, "equivalence")
    if template not in TEMPLATES:
        raise ValueError(f"has an unknown `template`; choose from {', '.join(TEMPLATES)}")
    return Prediction(
        id=id_,
        task=task,
        question=_text(row, "question") or "",
        reference=reference,
        response=response,
        template=template,
        options=_options(row),
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
    """Read a list of texts, or an object of letters and texts, in the order of the letters."""
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


def _check(path: Path, mistakes: Sequence[str]) -> None:
    if mistakes:
        more = len(mistakes) - MISTAKES_SHOWN
        raise BadData(
            f"{path}: {'; '.join(mistakes[:MISTAKES_SHOWN])}"
            + (f"; and {more:,} more" if more > 0 else "")
        )


def _repeated(path: Path) -> str:
    """Name lines whose ids were there before."""
    seen: dict[str, int] = {}
    repeated = (
        f"line {number} that of line {seen[row_id]}"
        for number, row in first_rows(path)
        if seen.setdefault(row_id := str(row.get("id")), number) != number
    )
    return ", ".join(islice(repeated, MISTAKES_SHOWN))
