"""The tasks that are known: seventeen of MediX-R1, and those of a file of the user's."""

import hashlib
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
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
"""Where an image is looked for if a task does not say: the first of them that holds one."""
FILE_ENDINGS: Final = (".jsonl", ".json", ".parquet")

OTHER_NAMES: Final[Mapping[str, str]] = {
    "name": "config",
    "subset": "config",
    "answer_id": "answer_index_column",
    "answer": "answer_column",
    "reference": "answer_column",
    "options": "choices",
}
"""What MediX-R1 and others call a key; the rest is guessed by its letters."""
WORDS: Final[Mapping[str, str]] = {
    "string_type": "must be a text; YAML reads numbers, yes and no otherwise unless they are quoted",
    "string_too_short": "must not be empty",
    "model_type": "must hold keys and values",
    "dict_type": "must hold keys and values",
    "tuple_type": "must be a text or a list of texts",
    "missing": "is missing",
}
"""For those of pydantic's errors that speak of Python."""


def _listed(value: object) -> object:
    """Take one text for a list of it, and a list for what it becomes."""
    return (
        (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value
    )


Word = Annotated[str, StringConstraints(min_length=1)]
Columns = Annotated[tuple[Word, ...], BeforeValidator(_listed)]


class Entry(BaseModel):
    """What a task file holds of one task; `tasks.yaml` explains the keys."""

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
        if bool(self.answer_column) == (self.answer_index_column is not None):
            raise ValueError("needs either answer_column or answer_index_column")
        if self.answer_index_column and not (self.choices or self.choices_column):
            raise ValueError("has answer_index_column and no choices or choices_column to count in")
        return self


class Task(Entry):
    """A task, by its name."""

    name: str
    group: TaskGroup
    folder: Path | None = None
    """Of the file of the user's that it is from; None is one of the seventeen."""

    @property
    def is_own(self) -> bool:
        """Whether it is none of the seventeen, and so in no average of theirs."""
        return self.folder is not None

    @property
    def required_columns(self) -> tuple[str, ...]:
        """What every row must have."""
        index, image = self.answer_index_column, self.image_column
        columns = (
            *self.only,
            *self.question_column,
            *self.choices_column,
            *self.answer_column,
            *([index] if index else []),
            *([image] if image and self.group == "vlm" else []),
        )
        return tuple(dict.fromkeys(columns))

    @property
    def image_columns(self) -> tuple[str, ...]:
        """Where its images may be; one of them is enough. A task of text has none."""
        if self.group != "vlm":
            return ()
        return IMAGE_COLUMNS if self.image_column is None else (self.image_column,)


def load_tasks(extra: Path | None = None) -> dict[str, Task]:
    """Give the seventeen by their names and, behind them, the tasks of a file of the user's.

    Raises:
        BadTask: the file cannot be read or an entry cannot be; each mistake is named with its
            file, task and key.
    """
    ours = resources.files("medreward_eval") / "tasks.yaml"
    tasks = _tasks_in(ours.read_text(encoding="utf-8"), "tasks.yaml", folder=None)
    if extra is None:
        return tasks
    try:
        text = extra.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise BadTask(f"{extra} cannot be read: {type(exc).__name__}") from exc
    own = _tasks_in(text, str(extra), folder=extra.parent)
    if shadowed := [name for name in own if name in tasks]:
        raise BadTask(f"{extra}: {shadowed[0]} is a task that comes along; take another name")
    return tasks | own


def select(tasks: Mapping[str, Task], selectors: Sequence[str]) -> list[Task]:
    """Choose tasks: by `all`, `llm` or `vlm`, or by their names; each once, in the order of *tasks*.

    Raises:
        BadTask: a selector is none of these, or there are none.
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
    """Name what tasks ask: `sha256:` and the digest of their entries, as canonical JSON.

    What a key says by default is left out, so that a new key does not change old hashes; so are
    `needs`, which nobody is asked, and the folder, which is another one elsewhere.
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
    """YAML in which a key may stand once; YAML itself would let the last one win in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Refuse what names a key twice.

        Raises:
            ConstructorError: it does.
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
                tasks[name] = _task(entry, name, group, folder)
            except ValidationError as exc:
                mistakes += [f"{where}: {name}: {line}" for line in _said(exc)]
            except ValueError as exc:
                mistakes.append(f"{where}: {name} {exc}")
    if mistakes:
        raise BadTask("\n".join(mistakes))
    return tasks


def _task(entry: object, name: str, group: TaskGroup, folder: Path | None) -> Task:
    known = Entry.model_validate(entry)
    return Task(**known.model_dump(), name=name, group=group, folder=folder)


def _check_name(name: object, tasks: Mapping[str, Task]) -> None:
    if not isinstance(name, str):
        raise ValueError("is no text; quote it")  # noqa: TRY004 - the file is wrong, not the call
    if name in (ALL, *GROUPS):
        raise ValueError("names tasks together; take another name")
    # Ids and the names of files are made of it.
    if not name.replace("-", "_").isidentifier() or not name.isascii():
        raise ValueError("must be of letters, digits, _ and -, and not start with a digit")
    if name in tasks:
        raise ValueError("stands twice")


def _read_yaml(text: str, where: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, ValueError) as exc:
        raise BadTask(f"{where} is not YAML: {exc}") from None


def _mapping(value: object, where: str) -> Mapping[Any, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadTask(f"{where} must hold names and, below each, what it is")
    return value


def _said(exc: ValidationError) -> Iterator[str]:
    """Put pydantic's errors into words that name the key and the way out."""
    for error in exc.errors():
        yield _line(".".join(map(str, error["loc"])), error)


def _line(key: str, error: ErrorDetails) -> str:
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
