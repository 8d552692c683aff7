"""Definitions of tasks: the seventeen of MediX-R1, and those of a user's task file."""

import hashlib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, get_args

import orjson
import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from medreward_eval.errors import BadTask
from medreward_eval.records import Template

TaskGroup = Literal["llm", "vlm"]
GROUPS: Final[tuple[TaskGroup, ...]] = get_args(TaskGroup)
ALL: Final = "all"
IMAGE_COLUMNS: Final = ("image", "image_id")
"""Default columns for an image; the first that has one counts."""
FILE_ENDINGS: Final = (".jsonl", ".json", ".parquet")

OTHER_NAMES: Final[Mapping[str, str]] = {
    "name": "config",
    "subset": "config",
    "answer_id": "answer_index_column",
    "answer": "answer_column",
    "reference": "answer_column",
    "options": "choices",
    "criteria": "criteria_column",
    "rubrics": "criteria_column",
}
"""Other names of keys, in MediX-R1 and elsewhere; further ones are guessed by their spelling."""
WORDS: Final[Mapping[str, str]] = {
    "string_type": "must be a text; YAML reads numbers, yes and no otherwise unless they are quoted",
    "string_too_short": "must not be empty",
    "model_type": "must hold keys and values",
    "dict_type": "must hold keys and values",
    "tuple_type": "must be a text or a list of texts",
    "missing": "is missing",
}
"""Replacements for messages of pydantic that mention Python's types."""


def _as_tuple(value: object) -> object:
    """Wrap a single text in a tuple, and convert a list to one."""
    return (
        (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value
    )


Word = Annotated[str, StringConstraints(min_length=1)]
Columns = Annotated[tuple[Word, ...], BeforeValidator(_as_tuple)]


class Entry(BaseModel):
    """One task's entry of a task file; `tasks.yaml` explains the keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    path: Word
    config: Word | None = None
    split: Word = "test"
    revision: Word | None = None
    only: Mapping[Word, Word] = {}
    instruction: str = ""
    question_column: Columns = ()
    headings: bool = False
    choices_column: Columns = ()
    choices: Columns = ()
    answer_column: Columns = ()
    answer_index_column: Word | None = None
    criteria_column: Word | None = None
    image_column: Word | None = None
    image_zip: Word | None = None
    image_folder: str = ""
    template: Template = "equivalence"
    needs: str = ""

    @model_validator(mode="after")
    def _says_enough(self) -> Self:
        if not (self.question_column or self.instruction):
            raise ValueError("needs question_column or instruction")
        if self.choices and self.choices_column:
            raise ValueError("has choices and choices_column; give one of them")
        if (self.template == "rubric") != (self.criteria_column is not None):
            raise ValueError("needs template: rubric and criteria_column together")
        if self.template == "rubric" and not (self.answer_column or self.answer_index_column):
            return self
        if bool(self.answer_column) == (self.answer_index_column is not None):
            raise ValueError("needs either answer_column or answer_index_column")
        if self.answer_index_column and not (self.choices or self.choices_column):
            raise ValueError("has answer_index_column and no choices or choices_column to count in")
        return self


class Task(Entry):
    """A task with its name."""

    name: str
    group: TaskGroup
    folder: Path | None = None
    """The folder of the user's task file; None for one of the seventeen."""

    @property
    def is_own(self) -> bool:
        """True if the task is the user's; it is then left out of the averages of the seventeen."""
        return self.folder is not None

    @property
    def required_columns(self) -> tuple[str, ...]:
        """The columns that every row must have."""
        index, image, rubric = self.answer_index_column, self.image_column, self.criteria_column
        columns = (
            *self.only,
            *self.question_column,
            *self.choices_column,
            *self.answer_column,
            *([index] if index else []),
            *([rubric] if rubric else []),
            *([image] if image and self.group == "vlm" else []),
        )
        return tuple(dict.fromkeys(columns))

    @property
    def image_columns(self) -> tuple[str, ...]:
        """The columns that may have the image, of which one is enough; empty for a text task."""
        if self.group != "vlm":
            return ()
        return IMAGE_COLUMNS if self.image_column is None else (self.image_column,)


def load_tasks(extra: Path | None = None) -> dict[str, Task]:
    """Return tasks by name: the seventeen, followed by those of the user's file.

    Raises:
        BadTask: the file cannot be read, or entries are invalid; each mistake is named with its
            file, task and key.
    """
    ours = resources.files("medreward_eval") / "tasks.yaml"
    tasks = _tasks_in(ours.read_text(encoding="utf-8"), "tasks.yaml", folder=None)
    if extra is None:
        return tasks
    try:
        text = extra.read_text(encoding="utf-8")
    except OSError as exc:
        raise BadTask(f"{extra} cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise BadTask(f"{extra} is not UTF-8 at byte {exc.start + 1}; save it as UTF-8") from None
    own = _tasks_in(text, str(extra), folder=extra.parent)
    if not own:
        raise BadTask(f"{extra} has no tasks; docs/evaluation shows one")
    if shadowed := [name for name in own if name in tasks]:
        raise BadTask(f"{extra}: {shadowed[0]} is a task that comes along; take another name")
    return tasks | own


def select(tasks: Mapping[str, Task], selectors: Sequence[str]) -> list[Task]:
    """Select tasks by `all`, `llm` or `vlm`, or by name; each once, in the order of *tasks*.

    Raises:
        BadTask: a selector is unknown, or nothing is selected.
    """
    if not selectors:
        raise BadTask(f"no tasks are named; choose {ALL}, {', '.join(GROUPS)}, or some by name")
    known = [ALL, *GROUPS, *tasks]
    for selector in selectors:
        if selector not in known:
            raise BadTask(f"{selector} is no task{_nearest(selector, known)}")
    wanted = set(selectors)
    return [task for task in tasks.values() if wanted & {ALL, task.group, task.name}]


def task_file_hash(tasks: Iterable[Task]) -> str:
    """Return a hash of tasks: `sha256:` and the digest of their entries as canonical JSON.

    Default values are left out, so that a new key does not change old hashes; so are `needs`, which
    is no part of a question, and the folder, which differs between machines.
    """
    entries = {
        task.name: task.model_dump(
            mode="json", exclude_defaults=True, exclude={"name", "folder", "needs"}
        )
        for task in tasks
    }
    text = orjson.dumps(entries, option=orjson.OPT_SORT_KEYS)
    return f"sha256:{hashlib.sha256(text).hexdigest()}"


class _Loader(yaml.SafeLoader):
    """A YAML loader that refuses duplicate keys, of which PyYAML silently keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Build a mapping.

        Raises:
            ConstructorError: a key occurs twice.
        """
        names = [self.construct_object(key, deep=True) for key, _ in node.value]
        for place, name in enumerate(names):
            if name in names[:place]:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {name} stands twice", node.value[place][0].start_mark
                )
        return super().construct_mapping(node, deep)


def _tasks_in(text: str, where: str, *, folder: Path | None) -> dict[str, Task]:
    groups = _mapping(_read_yaml(text, where), where)
    mistakes: list[str] = []
    tasks: dict[str, Task] = {}
    for group, entries in groups.items():
        if group not in GROUPS:
            meant = _nearest(str(group), GROUPS)
            raise BadTask(f"{where}: {group} is no group of tasks{meant}")
        for name, entry in _mapping(entries, f"{where}: {group}").items():
            try:
                _check_name(name, tasks)
                known = Entry.model_validate(entry).model_dump()
                tasks[name] = Task(**known, name=name, group=group, folder=folder)
            except ValidationError as exc:
                mistakes += [f"{where}: {name}: {_message(error)}" for error in exc.errors()]
            except ValueError as exc:
                mistakes.append(f"{where}: {name} {exc}")
    if mistakes:
        raise BadTask("\n".join(mistakes))
    return tasks


def _check_name(name: object, tasks: Mapping[str, Task]) -> None:
    if not isinstance(name, str):
        raise ValueError("is no text; quote it")  # noqa: TRY004 - the file is wrong, not the call
    if name in (ALL, *GROUPS):
        raise ValueError("names tasks together; take another name")
    # The name becomes part of ids and of file names.
    if not name.replace("-", "_").isidentifier() or not name.isascii():
        raise ValueError("must be of letters, digits, _ and -, and not start with a digit")
    if name in tasks:
        raise ValueError("stands twice")


def _read_yaml(text: str, where: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as exc:
        # Its text quotes the file, which may be another than was meant.
        line = "" if exc.problem_mark is None else f" in line {exc.problem_mark.line + 1}"
        raise BadTask(f"{where} is not YAML: {exc.problem}{line}") from None
    except (yaml.YAMLError, ValueError) as exc:
        raise BadTask(f"{where} is not YAML: {type(exc).__name__}") from None
    except RecursionError:
        raise BadTask(f"{where} is nested too deeply") from None


def _mapping(value: object, where: str) -> Mapping[Any, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadTask(f"{where} must hold names and, below each, what it is")
    return value


def _message(error: ErrorDetails) -> str:
    """Return a message for an error of pydantic's that names the key and the remedy."""
    key = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        meant = OTHER_NAMES.get(key)
        return f"{key} is no key" + (
            f"; did you mean {meant}?" if meant else _nearest(key, list(Entry.model_fields))
        )
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    message = WORDS.get(error["type"]) or error["msg"].replace("Input should be", "must be")
    return f"{key} {message}".strip()


def _nearest(name: str, known: Sequence[str]) -> str:
    close = get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(known)}"
