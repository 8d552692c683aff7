"""Rows of a task's data set: from a file, a downloaded copy, or the Hugging Face hub."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from glob import escape
from pathlib import Path, PurePosixPath
from typing import Any, Final

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from medreward_client.jsonl import BYTE_ORDER_MARK, numbered_lines, object_in
from medreward_eval.errors import BadData
from medreward_eval.tasks.tasks import FILE_ENDINGS, Task

Row = Mapping[str, Any]

ROWS_AT_A_TIME: Final = 16
"""Rows of a Parquet batch: images are large, and several batches are in memory at once."""
BUFFER_BYTES: Final = 1 << 20
LARGEST_ARRAY_BYTES: Final = 1 << 26
"""Bytes of a JSON array, which is loaded as a whole."""
LAYOUTS: Final = (
    "{split}-*.parquet",
    # The hub's Parquet copies.
    "{split}/*.parquet",
    *(f"{{split}}{ending}" for ending in FILE_ENDINGS),
)
"""Patterns of the names of a split's files; the first that matches is read."""
CONVERTED: Final = "refs/convert/parquet"
"""The branch of the hub's Parquet copies, in which a config is a folder."""


@dataclass(frozen=True, slots=True)
class File:
    """A unit of reading: a file, or a whole data set of the hub."""

    name: str
    unit: str
    """The name of a numbered row, from 1: `row` or `line`."""
    columns: tuple[str, ...]
    count: int | None
    """The number of rows; None if it is unknown until they are read."""
    read: Callable[[Sequence[str]], Iterator[tuple[int, Row]]]
    """Yields rows, numbered from 1, with at least the named columns."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a data set, read lazily in their order."""

    files: Sequence[File]
    beside: Callable[[str], Path]
    """Returns the local path of a file or folder of the data set."""
    wanted: Sequence[str]

    def __iter__(self) -> Iterator[tuple[str, Row]]:
        """Yield each row with its place for messages: the file's name and the row's number."""
        for file in self.files:
            columns = [column for column in self.wanted if column in file.columns]
            for number, row in file.read(columns):
                yield f"{file.name} {file.unit} {number}", row


def open_rows(task: Task, *, data_dir: Path | None = None) -> Rows:
    """Find a task's data set: beside its task file, in *data_dir* by its path, or on the hub.

    Raises:
        BadData: the data set is missing, cannot be read, has no rows, or lacks a column that the
            task names. Errors in later rows are raised during iteration.
    """
    path = task.folder / task.path if task.folder is not None else None
    if path is not None and path.suffix in FILE_ENDINGS:
        rows = Rows([_open_file(path)], path.parent.joinpath, _columns_of(task))
    elif path is not None and path.is_dir():
        rows = _rows_of_copy(task, path)
    elif data_dir is not None and (data_dir / task.path).is_dir():
        rows = _rows_of_copy(task, data_dir / task.path)
    else:
        rows = _rows_of_hub(task, data_dir)
    for file in rows.files:
        _check_columns(task, file)
    return rows


def _columns_of(task: Task) -> tuple[str, ...]:
    return tuple(dict.fromkeys(task.required_columns + task.image_columns))


def _check_columns(task: Task, file: File) -> None:
    required = [(column,) for column in task.required_columns]
    for columns in (*required, task.image_columns):
        if columns and not any(column in file.columns for column in columns):
            raise BadData(
                f"{task.name}: {file.name} has no column {' or '.join(columns)}; "
                f"it has {', '.join(file.columns)}"
            )


def _rows_of_copy(task: Task, folder: Path) -> Rows:
    files = [_open_file(path, below=folder) for path in _files_of_split(task, folder)]
    return Rows(files, folder.joinpath, _columns_of(task))


def _files_of_split(task: Task, folder: Path) -> list[Path]:
    config = task.config
    places = ("", "data", "default") if config is None else (config, f"data/{config}")
    for place in places:
        for layout in LAYOUTS:
            found = sorted((folder / place).glob(layout.format(split=escape(task.split))))
            if found:
                _check_shards(task, found)
                return found
    tried = ", ".join(
        str(PurePosixPath(place) / layout.format(split=task.split))
        for place in places
        for layout in (LAYOUTS[0], LAYOUTS[1], f"{{split}}{FILE_ENDINGS[0]}")
    )
    raise BadData(
        f"{task.name}: {folder} has no files of the split {task.split}; looked for {tried} and the "
        f"like. To fetch them: {_fetching(task, folder)}"
    )


def _check_shards(task: Task, found: Sequence[Path]) -> None:
    """Raise BadData if shards of a split are missing: a part would pass for the whole."""
    said = [re.search(r"-of-(\d+)", path.name) for path in found]
    counts = {int(one[1]) for one in said if one}
    if counts and counts != {len(found)}:
        raise BadData(
            f"{task.name}: {found[0].parent} has {len(found)} files of the split {task.split}, "
            f"and by their names there are {' or '.join(map(str, sorted(counts)))}; fetch it anew"
        )


def _open_file(path: Path, below: Path | None = None) -> File:
    name = str(path.relative_to(below) if below else path)
    try:
        file = OPENERS[path.suffix](path, name)
    except (pa.ArrowException, OSError) as exc:
        raise BadData(f"{path} cannot be read: {type(exc).__name__}") from exc
    if not file.columns or file.count == 0:
        raise BadData(f"{path} holds no rows")
    return file


def _open_parquet(path: Path, name: str) -> File:
    with pq.ParquetFile(path) as file:
        columns, count = tuple(file.schema_arrow.names), file.metadata.num_rows

    def read(wanted: Sequence[str]) -> Iterator[tuple[int, Row]]:
        try:
            # Without read-ahead: a row group with images may be as large as the memory.
            with pq.ParquetFile(path, pre_buffer=False, buffer_size=BUFFER_BYTES) as file:
                yield from _numbered(file.iter_batches(ROWS_AT_A_TIME, columns=wanted))
        except (pa.ArrowException, OSError) as exc:
            raise BadData(f"{path} cannot be read: {type(exc).__name__}") from exc

    return File(name, "row", columns, count, read)


def _open_lines(path: Path, name: str) -> File:
    def read(_: Sequence[str]) -> Iterator[tuple[int, Row]]:
        with path.open("rb") as lines:
            for number, line in numbered_lines(lines):
                row = object_in(line)
                if row is None:
                    raise BadData(f"{path}: line {number} is not a JSON object")
                yield number, row

    first = next(read(()), (0, {}))[1]
    return File(name, "line", tuple(first), None, read)


def _open_json(path: Path, name: str) -> File:
    """Open an array of objects, or a file of lines: the hub uses this ending for both."""
    with path.open("rb") as file:
        start = file.read(1 << 10).removeprefix(BYTE_ORDER_MARK).lstrip()
    if not start.startswith(b"["):
        return _open_lines(path, name)
    if path.stat().st_size > LARGEST_ARRAY_BYTES:
        raise BadData(
            f"{path} is an array of more than {LARGEST_ARRAY_BYTES >> 20} MiB, which would have to "
            "be read as a whole; write it as .jsonl, a line for each row"
        )
    try:
        found = orjson.loads(path.read_bytes().removeprefix(BYTE_ORDER_MARK))
    except orjson.JSONDecodeError as exc:
        raise BadData(f"{path} is not JSON: see its line {exc.lineno}") from None
    for number, row in enumerate(found, start=1):
        if not isinstance(row, dict):
            raise BadData(f"{path}: row {number} is not a JSON object")
    columns = tuple(found[0]) if found else ()
    return File(name, "row", columns, len(found), lambda _: enumerate(found, start=1))


OPENERS: Final[Mapping[str, Callable[[Path, str], File]]] = {
    ".jsonl": _open_lines,
    ".json": _open_json,
    ".parquet": _open_parquet,
}


def _numbered(batches: Any) -> Iterator[tuple[int, Row]]:
    """Yield the numbered rows of arrow's batches or tables; images stay encoded."""
    return enumerate((row for batch in batches for row in batch.to_pylist()), start=1)


def _rows_of_hub(task: Task, data_dir: Path | None) -> Rows:
    try:
        import datasets  # noqa: PLC0415 - an extra
        import huggingface_hub  # noqa: PLC0415 - an extra
    except ImportError:
        raise BadData(_ways_out(task, data_dir)) from None
    # The branch has no list of configs, so the library must be given a folder.
    part = "data_dir" if task.revision == CONVERTED else "name"
    try:
        found = datasets.load_dataset(
            task.path, split=task.split, revision=task.revision, **{part: task.config}
        )
    # Network errors are OSErrors; the library raises several types of its own.
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as exc:
        first_line = next(iter(str(exc).splitlines()), "")
        raise BadData(
            f"{task.name}: the hub's {task.path} cannot be read: {type(exc).__name__}: {first_line}"
        ) from exc

    def read(wanted: Sequence[str]) -> Iterator[tuple[int, Row]]:
        chosen = found.select_columns(list(wanted)).with_format("arrow")
        return _numbered(chosen.iter(ROWS_AT_A_TIME))

    def beside(name: str) -> Path:
        try:
            path = huggingface_hub.hf_hub_download(
                task.path, name, repo_type="dataset", revision=task.revision
            )
        except (OSError, ValueError) as exc:
            raise BadData(
                f"{name} of the hub's {task.path} cannot be fetched: {type(exc).__name__}"
            ) from exc
        return Path(path)

    name = f"{task.path} ({task.split})"
    file = File(name, "row", tuple(found.column_names), len(found), read)
    return Rows([file], beside, _columns_of(task))


def _ways_out(task: Task, data_dir: Path | None) -> str:
    where = "no folder of data sets was given" if data_dir is None else f"not in {data_dir}"
    return (
        f"{task.name}: the data set {task.path} is not at hand ({where}). Either fetch it, "
        f"`{_fetching(task, (data_dir or Path('data')) / task.path)}`, and give that folder as "
        f"--data-dir {data_dir or 'data'}; or `pip install 'medreward-eval[hub]'`, which reads it "
        f"from the hub{needs_of(task)}"
    )


def needs_of(task: Task) -> str:
    """Return the end of an error's message with a task's requirements; empty if it has none."""
    return f". It needs: {task.needs}" if task.needs else ""


def _fetching(task: Task, folder: Path) -> str:
    revision = f" --revision {task.revision}" if task.revision else ""
    return f"hf download {task.path} --repo-type dataset{revision} --local-dir {folder}"
