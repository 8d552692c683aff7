"""Conversion of a data set's rows to the questions that a model is asked."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from string import ascii_uppercase
from typing import Any, Final

from medreward_client.criteria import read_criteria
from medreward_eval.errors import BadData, Mistakes
from medreward_eval.grading.choices import MAX_OPTIONS, right_option
from medreward_eval.records import Criteria, Failure, Question
from medreward_eval.tasks.datasets import Row, Rows, needs_of, open_rows
from medreward_eval.tasks.images import ImageFiles, read_image
from medreward_eval.tasks.tasks import Task

FEWEST_OPTIONS: Final = 2


class Questions:
    """The questions of a task in their order, read lazily and only once.

    Invalid rows are left out and counted in `mistakes`. Their ids stay unused, so the ids of other
    rows do not change when they are corrected.

    Raises:
        BadData: as `open_rows`; during iteration, a later part cannot be read, or no image can be
            found.
    """

    def __init__(
        self,
        task: Task,
        *,
        data_dir: Path | None = None,
        images_dir: Path | None = None,
        limit: int | None = None,
    ) -> None:
        self.task = task
        self._limit = limit
        self._rows = rows = open_rows(task, data_dir=data_dir)
        self.mistakes = Mistakes()
        self._files = ImageFiles(rows.beside, task.image_zip, task.image_folder, images_dir)
        self._read = self._questions()

    def __iter__(self) -> Iterator[Question]:
        return self._read

    def count(self) -> int:
        """Return the number of rows that can be asked, from a pass over their texts.

        Raises:
            BadData: a row cannot be read, or `only` leaves none.
        """
        # Whether a row can be asked depends on its texts alone, and images take long to read.
        texts = self.task.model_copy(update={"group": "llm"})
        rows = replace(self._rows, wanted=texts.required_columns)
        kept = count = 0
        with _named(self.task):
            for _, row in self._kept(rows):
                kept += 1
                with suppress(ValueError):
                    question_of(texts, 0, row, self._files)
                    count += 1
            if not kept:
                raise BadData(f"no row has what `only` asks for: {dict(self.task.only)}")
        return count

    def _questions(self) -> Iterator[Question]:
        try:
            with _named(self.task):
                for number, (place, row) in enumerate(self._kept(self._rows)):
                    try:
                        question = question_of(self.task, number, row, self._files)
                    except ValueError as exc:
                        self.mistakes.add(f"{place} {exc}")
                    else:
                        yield question
        finally:
            self._files.close()

    def _kept(self, rows: Rows) -> Iterator[tuple[str, Row]]:
        only = self.task.only.items()
        kept = (one for one in rows if all(one[1].get(key) == value for key, value in only))
        return islice(kept, self._limit)


@contextmanager
def _named(task: Task) -> Iterator[None]:
    """Add the task and its requirements to errors of its data set."""
    try:
        yield
    except BadData as exc:
        raise BadData(f"{task.name}: {exc}{needs_of(task)}") from exc


def question_of(task: Task, number: int, row: Row, files: ImageFiles) -> Question:
    """Convert a row to a question; *number* counts the rows that are asked, from 0.

    Raises:
        BadData: no image of the data set can be found with these options.
        ValueError: the row does not fit the task; the message continues the row's place.
    """
    options = options_of(task, row)
    shown = tuple(text for text in options if text)
    image, trouble = _image(task, row, files) if task.image_columns else (None, None)
    return Question(
        id=f"{task.name}_{number}",
        task=task.name,
        question=with_choices(_asked(task, row), shown),
        reference=_reference(task, row, options),
        template=task.template,
        options=shown,
        criteria=_criteria(task, row),
        image=image,
        trouble=trouble,
    )


def with_choices(asked: str, options: Sequence[str]) -> str:
    """Append the options to a question: a blank line, `Choices:`, and a line for each."""
    if not options:
        return asked
    lines = [f"{letter}. {text}" for letter, text in zip(ascii_uppercase, options, strict=False)]
    return "\n".join([asked, "", "Choices:", *lines])


def options_of(task: Task, row: Row) -> list[str]:
    """Return a row's options in the order of their letters; an empty one keeps its place.

    Raises:
        ValueError: the options are not texts, fewer than two, or more than there are letters.
    """
    columns = task.choices_column
    if not (task.choices or columns):
        return []
    place = " and ".join(f"`{column}`" for column in columns) or "choices"
    found: object = task.choices or [_value(row, column) for column in columns]
    if len(columns) == 1:
        found = _value(row, columns[0])
    if isinstance(found, dict):
        found = _by_letter(found)
    if not isinstance(found, list | tuple):
        raise ValueError(  # noqa: TRY004 - the row is wrong, not the call
            f"must have a list or an object in {place} and has {type(found).__name__}"
        )
    options = ["" if text is None else _plain(text, place) for text in found]
    there = sum(map(bool, options))
    if there < FEWEST_OPTIONS or len(options) > MAX_OPTIONS:
        raise ValueError(
            f"has {there} options in {place}; it takes {FEWEST_OPTIONS} to {MAX_OPTIONS}"
        )
    return unlabelled(options)


def unlabelled(options: Sequence[str]) -> list[str]:
    """Strip the letters of options that all begin with their own: `A: text`, `(B) text`.

    If only some do, all keep them: `C. difficile` may be option C.
    """
    labels = [
        re.match(rf"\(?{letter}[:.)]\s*(?=\S)", text, re.IGNORECASE)
        for letter, text in zip(ascii_uppercase, options, strict=False)
        if text
    ]
    if not all(labels):
        return list(options)
    ends = iter(label.end() for label in labels if label)
    return [text[next(ends) :] if text else "" for text in options]


def _by_letter(options: Mapping[object, object]) -> list[object]:
    """Order an object's options by their keys, which are letters; missing letters give None."""
    letters = {str(key).strip().upper(): text for key, text in options.items()}
    if len(letters) < len(options) or not letters.keys() <= set(ascii_uppercase):
        return list(options.values())
    last = max(map(ascii_uppercase.index, letters), default=-1)
    return [letters.get(letter) for letter in ascii_uppercase[: last + 1]]


def _asked(task: Task, row: Row) -> str:
    parts = [task.instruction] if task.instruction else []
    for column in task.question_column:
        heading = f"{column.replace('_', ' ').capitalize()}:\n" if task.headings else ""
        parts.append(heading + _text(row, column))
    return "\n\n".join(parts)


def _reference(task: Task, row: Row, options: Sequence[str]) -> str:
    if task.answer_index_column is not None:
        return _option_at(row, task.answer_index_column, options)
    if not task.answer_column:
        return ""
    first, *others = task.answer_column
    answer = _text(row, first)
    if options:
        answer = _option_named(answer, options, first)
    explained = [_text(row, column) for column in others if not _is_empty(_value(row, column))]
    return "\n".join([answer, *explained])


def _criteria(task: Task, row: Row) -> Criteria:
    if task.criteria_column is None:
        return ()
    criteria = read_criteria(_value(row, task.criteria_column))
    if not criteria:
        raise ValueError(f"has no criteria in `{task.criteria_column}`")
    return criteria


def _option_named(answer: str, options: Sequence[str], column: str) -> str:
    # A reference of one letter may be an option's text and the letter of another option.
    if len(answer) > 1 and answer in options:
        return answer
    right = right_option(answer, options)
    if right is None or not options[right]:
        raise ValueError(
            f"must name one of the options in `{column}`, by its text or its letter; for a number "
            "there is answer_index_column"
        )
    return options[right]


def _option_at(row: Row, column: str, options: Sequence[str]) -> str:
    value = _value(row, column)
    # Integer columns with nulls are read as floats.
    place = int(value) if isinstance(value, float) and value.is_integer() else value
    if isinstance(place, int) and not isinstance(place, bool) and 0 <= place < len(options):
        option = options[place]
        if option:
            return option
    raise ValueError(f"has in `{column}` no number of an option, from 0 to {len(options) - 1}")


def _image(task: Task, row: Row, files: ImageFiles) -> tuple[bytes | None, Failure | None]:
    """Read a row's image; if it is unreadable, return a failure, and the question still counts.

    If the question were left out, it would be missing from the counts of unanswered ones.
    """
    there = [column for column in task.image_columns if not _is_empty(row.get(column))]
    column = there[0] if there else task.image_columns[0]
    try:
        return read_image(row.get(column), files), None
    except ValueError as exc:
        return None, Failure("bad_image", f"`{column}` has {exc}")


def _text(row: Row, column: str) -> str:
    """Convert a text, a number, or a list of texts, which become lines, to a text."""
    value = _value(row, column)
    lines = value if isinstance(value, list) else [value]
    text = "\n".join(_plain(line, f"`{column}`") for line in lines if line is not None)
    if not text.strip():
        raise ValueError(f"has nothing in `{column}`")
    return text


def _plain(value: object, place: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(  # noqa: TRY004 - the row is wrong, not the call
            f"must have texts in {place} and has {type(value).__name__}"
        )
    return str(value).strip()


def _value(row: Row, column: str) -> Any:
    if column not in row:
        raise ValueError(f"has no `{column}`; it has {', '.join(row) or 'nothing'}")
    return row[column]


def _is_empty(value: object) -> bool:
    return value is None or (isinstance(value, str | list) and not value)
