"""Rows of a data set, read from JSONL, Parquet or the Hugging Face hub."""

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from medreward_client import ChoiceCriterion, Criterion
from medreward_client.criteria import read_criteria
from medreward_client.jsonl import numbered_lines
from medreward_client.trainers._rows import read_reference, written_in
from medreward_trainer.config.config import Data
from medreward_trainer.errors import BadData

MODALITIES = (
    "X_RAY", "MICROSCOPY", "CLINICAL_PHOTOGRAPHY", "CT_SCAN", "GRAPHICS", "ANGIOGRAPHY", "PET_SCAN",
    "ULTRASOUND", "MRI_SCAN", "FUNDUS_PHOTOGRAPHY", "OCT_SCAN", "ENDOSCOPY", "MAMMOGRAPHY",
    "FLUOROSCOPY", "OTHER", "SPECT",
)  # fmt: skip
"""MediX-R1's sixteen tags."""
UNKNOWN_TAG = re.compile(r"<[A-Za-z_]+>")
IMAGE_MARK = "<image>"
"""Place of an image in a problem or a template, as in EasyR1."""
CRITERIA, EXTRA = "criteria", "extra"
"""The columns of what recipes with a rubric, and with further signals, read of a sample."""
MISTAKES_SHOWN = 5
ROWS_AT_A_TIME = 64
"""Rows of Parquet read or written at once; few, since pictures in them are large."""

ImageSource = bytes | Path
Row = Mapping[str, Any]
Columns = Mapping[str, str | None]
"""The columns that are read; a required one with the key of the configuration that names it."""


@dataclass(frozen=True, slots=True)
class Example:
    """One question with its reference; images are opened only when needed."""

    uid: str
    """The file's name and the row's number, unique among the examples read together."""
    problem: str
    reference: str | tuple[str, ...]
    """Of several, any is accepted."""
    modality: str | None
    images: tuple[ImageSource, ...] = ()
    response: str | None = None
    """A written response, for supervised steps."""
    content: str = ""
    """The problem for the template, with `<image>` where an image belongs; empty is the problem."""
    criteria: tuple[Criterion | ChoiceCriterion, ...] = ()
    """Its rubric; with one, the reference may be empty."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """What further signals of the recipe read."""


def read_examples(
    data: Data, files: Sequence[str], *, limit: int | None = None, needs_response: bool = False
) -> list[Example]:
    """Read files in their order, and at most *limit* rows of them.

    Raises:
        BadData: a file cannot be read, or rows do not fit `data`. The message counts all such rows
            of a file, names the first by number, and shows nothing of their content.
    """
    columns: dict[str, str | None] = {
        data.image_key: None,
        data.prompt_key: "data.prompt_key",
        data.answer_key: "data.answer_key",
        CRITERIA: None,
        EXTRA: None,
    }
    if needs_response:
        columns["response"] = "of warm_up.files"
    found: list[Example] = []
    for name, label in zip(files, labels_of(files), strict=True):
        mistakes, number = [], 0
        if len(found) == limit:
            break
        rows = islice(_rows(name, columns), None if limit is None else limit - len(found))
        for number, row in rows:
            try:
                cells = _object_of(row) if isinstance(row, bytes) else row
                uid, folder = f"{label}:{number}", data.image_dir or Path(name).parent
                found.append(_example(cells, data, uid, folder, needs_response=needs_response))
            except ValueError as exc:
                mistakes.append(f"{'line' if isinstance(row, bytes) else 'row'} {number} {exc}")
        if mistakes:
            more = len(mistakes) - MISTAKES_SHOWN
            raise BadData(
                f"{name}: {'; '.join(mistakes[:MISTAKES_SHOWN])}"
                + (f"; and {more} more" * (more > 0))
            )
        if not number:
            raise BadData(f"{name} holds no rows")
    return found


def digest_of(examples: Iterable[Example]) -> str:
    """Return a digest of what examples ask, whatever their files are called.

    An image in a file counts by its name and size, since reading thousands takes minutes.
    """
    digest = sha256()
    for one in examples:
        images = [
            sha256(image).hexdigest()
            if isinstance(image, bytes)
            else f"{image.name} {image.stat().st_size}"
            for image in one.images
        ]
        asked: list[Any] = [one.problem, one.content, one.reference, one.modality, images]
        # Only if there are some, so that runs from before these columns go on.
        asked += [[asdict(line) for line in one.criteria]] if one.criteria else []
        asked += [dict(one.extra)] if one.extra else []
        digest.update(json.dumps(asked, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def labels_of(files: Sequence[str]) -> list[str]:
    """Return file names without folders; equal ones get their position as a suffix."""
    names = [Path(file).name for file in files]
    return [
        name if names.count(name) == 1 else f"{name}#{place}"
        for place, name in enumerate(names, start=1)
    ]


def split_solution(solution: str) -> tuple[str | None, str]:
    """Split `<TAG>reference`; the tag is None unless it is one of the sixteen, at the start."""
    tag, closed, rest = solution.lstrip().removeprefix("<").partition(">")
    if closed and solution.lstrip().startswith("<") and tag.upper() in MODALITIES:
        return tag.upper(), rest.strip()
    return None, solution.strip()


def has_unknown_tag(example: Example) -> bool:
    """Return True if a reference begins with what looks like a tag, and is none of the sixteen."""
    return example.modality is None and any(map(UNKNOWN_TAG.match, references_of(example)))


def references_of(example: Example) -> tuple[str, ...]:
    """Return the accepted references, one or several."""
    reference = example.reference
    return (reference,) if isinstance(reference, str) else reference


def _example(row: Row, data: Data, uid: str, folder: Path, *, needs_response: bool) -> Example:
    content = _text(row, data.prompt_key, "data.prompt_key").strip()
    criteria = read_criteria(_written(row, CRITERIA))
    has_reference = not criteria or row.get(data.answer_key) not in (None, "")
    modality, reference = _solution(row, data.answer_key) if has_reference else (None, "")
    cell = row.get(data.image_key)
    if cell is None or cell == "":
        cell = []
    several = cell if isinstance(cell, list | tuple) else [cell]
    try:
        images = tuple(_image(one, folder) for one in several)
    except ValueError as exc:
        raise ValueError(f"has in `{data.image_key}` (data.image_key) {exc}") from None
    marks, problem = content.count(IMAGE_MARK), content.replace(IMAGE_MARK, "").strip()
    if marks > len(images):
        raise ValueError(
            f"has {marks} {IMAGE_MARK} in `{data.prompt_key}` and {len(images)} images in "
            f"`{data.image_key}` (data.image_key)"
        )
    if not problem:
        raise ValueError(f"has nothing but {IMAGE_MARK} in `{data.prompt_key}`")
    return Example(
        uid=uid,
        problem=problem,
        reference=reference,
        modality=modality,
        images=images,
        response=_text(row, "response", "of warm_up.files") if needs_response else None,
        content=content if marks else "",
        criteria=criteria,
        extra=_extra(row),
    )


def _extra(row: Row) -> dict[str, Any]:
    extra = _written(row, EXTRA) or {}
    if not isinstance(extra, Mapping):
        raise ValueError(f"must have an object in `{EXTRA}`")  # noqa: TRY004 - as below
    # Columns of Parquet give each key to each row.
    given = {name: value for name, value in extra.items() if value is not None}
    try:
        json.dumps(given)
    except TypeError:
        raise ValueError(f"must have values of JSON in `{EXTRA}`") from None
    return given


def _written(row: Row, column: str) -> object:
    """Return a cell, or what JSON wrote into it: many data sets hold only texts."""
    cell = row.get(column)
    return (written_in(cell) if cell.strip() else None) if isinstance(cell, str) else cell


def _solution(row: Row, key: str) -> tuple[str | None, str | tuple[str, ...]]:
    """Read a reference, or a list of accepted ones, with the tag that they have."""
    cell = row.get(key)
    if not isinstance(cell, list | tuple):
        cell = _text(row, key, "data.answer_key")
    try:
        written = read_reference(cell)
    except TypeError as exc:
        raise ValueError(f"must have a text or a list of texts in `{key}`: {exc}") from None
    if not written:
        raise ValueError(f"has an empty list in `{key}` (data.answer_key)")
    parts = [split_solution(one) for one in ([written] if isinstance(written, str) else written)]
    tags = {tag for tag, _ in parts if tag is not None}
    if len(tags) > 1:
        raise ValueError(f"has references with several tags in `{key}`; an image has one modality")
    references = tuple(reference for _, reference in parts)
    if not all(references):
        raise ValueError(f"has a tag in `{key}` and no reference behind it")
    return next(iter(tags), None), references[0] if len(references) == 1 else references


def _text(row: Row, key: str, named_by: str) -> str:
    value = row.get(key)
    if key not in row:
        raise ValueError(f"has no `{key}` ({named_by}); it has {', '.join(row) or 'nothing'}")
    if not isinstance(value, str) or not value.strip():
        found = "nothing" if value is None or isinstance(value, str) else type(value).__name__
        raise ValueError(f"must have a text in `{key}` ({named_by}) and has {found}")
    return value


def _image(value: object, folder: Path) -> ImageSource:
    """Read an image's source: a path, a data URL, bytes, or the hub's struct of path and bytes."""
    match value:
        case bytes(content) | {"bytes": bytes(content)}:
            return content
        case str(url) if url.startswith("data:"):
            try:
                return base64.b64decode(url.partition(",")[2], validate=True)
            except ValueError:
                raise ValueError("a data URL that is not base64") from None
        case str(path) | {"path": str(path)}:
            return _existing(folder / path, folder)
        case _:
            raise ValueError(f"{type(value).__name__}; it takes a path, a data URL, or bytes")


def _existing(path: Path, folder: Path) -> Path:
    try:
        is_there = path.is_file()
    except OSError:
        # The file system refuses names over its limit, and a wrong column may hold a long text.
        is_there = False
    if not is_there:
        # The message omits the path: if the column is wrong, it is a patient's text.
        raise ValueError(
            f"a path to no file; paths are relative to {folder}, or to data.image_dir if given"
        )
    return path


def _rows(name: str, columns: Columns) -> Iterable[tuple[int, Row | bytes]]:
    path = Path(name)
    if path.suffix not in {".jsonl", ".parquet"}:
        if path.is_file():
            raise BadData(f"{name} is neither .jsonl nor .parquet; write it as one of the two")
        return _hub_rows(name, columns)
    if not path.is_file():
        raise BadData(f"no file at {name}; see data.train_files and data.val_files")
    return _jsonl_rows(path) if path.suffix == ".jsonl" else _parquet_rows(path, columns)


def _jsonl_rows(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield lines before they are parsed, so that one error can list all malformed lines."""
    with path.open("rb") as lines:
        yield from numbered_lines(lines)


def _object_of(line: bytes) -> Row:
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8") from None
    except json.JSONDecodeError as exc:
        raise ValueError(f"is not JSON: {exc.msg}, at character {exc.pos + 1}") from None
    if not isinstance(row, dict):
        raise ValueError(  # noqa: TRY004 - the row is wrong, not the call
            f"must be an object whose keys are columns, not {type(row).__name__}"
        )
    return row


def _parquet_rows(path: Path, columns: Columns) -> Iterator[tuple[int, Row]]:
    try:
        with pq.ParquetFile(path) as file:
            there = _present(file.schema_arrow.names, columns, str(path))
            batches = file.iter_batches(batch_size=ROWS_AT_A_TIME, columns=there)
            yield from _numbered_rows(batches)
    except (pa.ArrowException, OSError) as exc:
        raise BadData(f"{path} cannot be read as Parquet: {type(exc).__name__}") from exc


def _hub_rows(name: str, columns: Columns) -> Iterable[tuple[int, Row]]:
    """Read a data set of the hub by its name, or a saved one by its folder: `name@split`."""
    try:
        import datasets  # noqa: PLC0415 - an extra
    except ImportError:
        raise BadData(
            f"{name} is neither .jsonl nor .parquet, and data sets of the hub need "
            "`pip install 'medreward-trainer[hub]'`"
        ) from None
    path, _, part = name.partition("@")
    split = part or "train"
    is_saved = any((Path(path) / one).is_file() for one in ("dataset_dict.json", "state.json"))
    try:
        found = (
            datasets.load_from_disk(path) if is_saved else datasets.load_dataset(path, split=split)
        )
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as exc:
        first_line = next(iter(str(exc).splitlines()), "")
        raise BadData(f"{name} cannot be read: {type(exc).__name__}: {first_line}") from exc
    if isinstance(found, dict) and split not in found:
        raise BadData(f"{name} has no split {split}; it has {', '.join(found)}")
    rows = found[split] if isinstance(found, dict) else found
    rows = rows.select_columns(_present(rows.column_names, columns, name))
    # In Arrow images stay encoded; thousands of decoded ones would fill the memory.
    return _numbered_rows(rows.with_format("arrow").iter(ROWS_AT_A_TIME))


def _present(there: Sequence[str], columns: Columns, name: str) -> list[str]:
    """Return the columns that a file has and that are read; a required one must be there.

    With a rubric, the reference is not required.
    """
    for column, key in columns.items():
        if key == "data.answer_key" and CRITERIA in there:
            continue
        if key and column not in there:
            raise BadData(f"{name} has no column `{column}` ({key}); it has {', '.join(there)}")
    return [column for column in there if column in columns]


def _numbered_rows(tables: Iterable[Any]) -> Iterator[tuple[int, Row]]:
    return enumerate((row for table in tables for row in table.to_pylist()), start=1)
