"""Rows of a data set, read from JSONL, Parquet or the Hugging Face hub."""

import base64
import binascii
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from medreward_trainer.config import Data
from medreward_trainer.errors import BadData

MODALITIES = (
    "X_RAY", "MICROSCOPY", "CLINICAL_PHOTOGRAPHY", "CT_SCAN", "GRAPHICS", "ANGIOGRAPHY", "PET_SCAN",
    "ULTRASOUND", "MRI_SCAN", "FUNDUS_PHOTOGRAPHY", "OCT_SCAN", "ENDOSCOPY", "MAMMOGRAPHY",
    "FLUOROSCOPY", "OTHER", "SPECT",
)  # fmt: skip
"""MediX-R1's sixteen tags."""
MISTAKES_SHOWN = 5

ImageSource = bytes | Path
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Example:
    """One question with its reference; images are opened when they are needed."""

    uid: str
    problem: str
    reference: str
    modality: str | None
    images: tuple[ImageSource, ...] = ()
    response: str | None = None
    """A written one, for supervised steps."""


def read_examples(
    data: Data, files: Sequence[str], *, limit: int | None = None, needs_response: bool = False
) -> list[Example]:
    """Read files in their order, and no more than *limit* rows of them.

    Raises:
        BadData: a file cannot be read, or rows are not as `data` says; they are named by number.
    """
    return list(islice(_all(data, files, needs_response=needs_response), limit))


def split_solution(solution: str) -> tuple[str | None, str]:
    """Take `<TAG>reference` apart; without one of the sixteen tags at its start it has none."""
    tag, closed, rest = solution.lstrip().removeprefix("<").partition(">")
    if closed and solution.lstrip().startswith("<") and tag.upper() in MODALITIES:
        return tag.upper(), rest.strip()
    return None, solution.strip()


def _all(data: Data, files: Sequence[str], *, needs_response: bool) -> Iterator[Example]:
    for name in files:
        mistakes: list[str] = []
        for number, row in _rows(name):
            try:
                yield _example(row, data, f"{Path(name).name}:{number}", name, needs_response)
            except ValueError as exc:
                mistakes.append(f"row {number}: {exc}")
        if mistakes:
            more = len(mistakes) - MISTAKES_SHOWN
            raise BadData(
                f"{name}: {'; '.join(mistakes[:MISTAKES_SHOWN])}"
                + (f"; and {more} rows more" if more > 0 else "")
            )


def _example(row: Row, data: Data, uid: str, file: str, needs_response: bool) -> Example:
    problem = _text(row, data.prompt_key, "data.prompt_key")
    modality, reference = split_solution(_text(row, data.answer_key, "data.answer_key"))
    if not reference:
        raise ValueError(f"`{data.answer_key}` has a tag and no reference behind it")
    return Example(
        uid=uid,
        problem=problem.replace("<image>", "").strip(),
        reference=reference,
        modality=modality,
        images=tuple(_images(row.get(data.image_key), data.image_dir or Path(file).parent)),
        response=_text(row, "response", "the warm-up's files") if needs_response else None,
    )


def _text(row: Row, key: str, named_by: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        found = "empty" if value in ("", None) else type(value).__name__
        raise ValueError(
            f"`{key}` ({named_by}) must be a text and is {found}; columns are {', '.join(row)}"
        )
    return value


def _images(value: object, folder: Path) -> Iterator[ImageSource]:
    """Read a column of images: a path, a data URL, bytes, the hub's struct, or several of them."""
    match value:
        case None | "":
            return
        case bytes():
            yield value
        case str() if value.startswith("data:"):
            yield _read_data_url(value)
        case str():
            path = folder / value
            if not path.is_file():
                raise ValueError(f"no image at {value}; data.image_dir says where images lie")
            yield path
        case {"bytes": bytes(content)}:
            yield content
        case {"path": str(path)}:
            yield from _images(path, folder)
        case list() | tuple():
            for one in value:
                yield from _images(one, folder)
        case _:
            raise ValueError(f"an image is a path, bytes or a data URL, not {type(value).__name__}")


def _read_data_url(url: str) -> bytes:
    try:
        return base64.b64decode(url.partition(",")[2], validate=True)
    except binascii.Error as exc:
        raise ValueError(f"the image's data URL is not base64: {exc}") from None


def _rows(name: str) -> Iterable[tuple[int, Row]]:
    path = Path(name)
    if path.suffix in READERS:
        if not path.is_file():
            raise BadData(f"no file at {name}; see data.train_files and data.val_files")
        return READERS[path.suffix](path)
    return _hub_rows(name)


def _jsonl_rows(path: Path) -> Iterator[tuple[int, Row]]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as exc:
                raise BadData(f"{path}: line {number} is not JSON: {exc.msg}") from None
            if not isinstance(row, dict):
                raise BadData(f"{path}: line {number} must be an object with columns as its keys")
            yield number, row


def _parquet_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Read a few rows at a time: pictures in them are large."""
    number = 0
    for batch in pq.ParquetFile(path).iter_batches(batch_size=64):
        for row in batch.to_pylist():
            number += 1
            yield number, row


def _hub_rows(name: str) -> Iterable[tuple[int, Row]]:
    """Read a data set by its name on the hub, or a folder of one that was saved: `name@split`."""
    try:
        from datasets import Image, load_dataset, load_from_disk  # noqa: PLC0415 - an extra
    except ImportError:
        raise BadData(
            f"{name} is neither .jsonl nor .parquet, and data sets of the hub need "
            "`pip install 'medreward-trainer[hub]'`"
        ) from None
    path, _, split = name.partition("@")
    is_saved = (Path(path) / "dataset_dict.json").is_file() or (Path(path) / "state.json").is_file()
    try:
        rows = load_from_disk(path) if is_saved else load_dataset(path, split=split or "train")
        rows = rows[split or "train"] if isinstance(rows, dict) else rows
    except (OSError, ValueError, KeyError, ConnectionError) as exc:
        raise BadData(f"{name} cannot be read: {exc}") from exc
    for column, kind in rows.features.items():
        if isinstance(kind, Image):
            # As bytes: to decode thousands of pictures now would fill the memory.
            rows = rows.cast_column(column, Image(decode=False))
    return enumerate(rows, start=1)


READERS = {".jsonl": _jsonl_rows, ".parquet": _parquet_rows}
"""By a file's ending; anything else is a data set's name."""
