"""Export of a data set for verl: Parquet, with each prompt as a chat."""

import json
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from medreward_trainer.config.config import Config, Data
from medreward_trainer.data.examples import (
    IMAGE_MARK,
    ROWS_AT_A_TIME,
    Example,
    ImageSource,
    read_examples,
)
from medreward_trainer.data.prompts import parts_of, read_template
from medreward_trainer.errors import BadData

SCHEMA = pa.schema(
    {
        "data_source": pa.string(),
        "prompt": pa.list_(pa.struct({"role": pa.string(), "content": pa.string()})),
        "images": pa.list_(
            pa.struct({"bytes": pa.binary(), "min_pixels": pa.int64(), "max_pixels": pa.int64()})
        ),
        "reward_model": pa.struct({"style": pa.string(), "ground_truth": pa.string()}),
        "extra_info": pa.struct(
            {"index": pa.int64(), "question": pa.string(), "modality": pa.string()}
        ),
    }
)


def write_verl_data(config: Config, folder: Path) -> list[Path]:
    """Write a configuration's data to `train.parquet`, and to `test.parquet` if it has validation.

    Raises:
        BadData: a file cannot be read, or rows do not fit `data`.
    """
    data, written = config.data, []
    for name, files, limit in (
        ("train.parquet", data.train_files, data.train_max_samples),
        ("test.parquet", data.val_files, data.val_max_samples),
    ):
        if files:
            path = folder / name
            write_verl_rows(read_examples(data, files, limit=limit), path, data)
            written.append(path)
    return written


def write_verl_rows(examples: Iterable[Example], path: Path, data: Data) -> None:
    """Write examples with the columns that verl and medreward's adapter for it read.

    The chat contains the format prompt, since verl has no setting for it. The file appears only
    when it is complete.

    Raises:
        BadConfig: the template is missing.
        BadData: an image cannot be read, or has no mark.
    """
    template = read_template(data.format_prompt)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    rows = (
        _row(example, index, template.render(content=example.content or example.problem), data)
        for index, example in enumerate(examples)
    )
    with pq.ParquetWriter(unfinished, SCHEMA) as parquet:
        while some := list(islice(rows, ROWS_AT_A_TIME)):
            parquet.write_table(pa.Table.from_pylist(some, SCHEMA))
    unfinished.replace(path)


def _row(example: Example, index: int, text: str, data: Data) -> dict[str, Any]:
    if example.criteria or example.extra:
        raise BadData(
            f"{example.uid} has `criteria` or `extra`, which medreward's adapter for verl does not "
            "send; train with `medreward-train run`, or leave these columns out"
        )
    # Without bounds verl's reader of images would apply its own.
    bounds = {"min_pixels": data.min_pixels or 1, "max_pixels": data.max_pixels or 2**31}
    parts = parts_of(text, images=len(example.images), uid=example.uid)
    return {
        # verl reports validation by this column: the file's name, without the row's number.
        "data_source": example.uid.rpartition(":")[0],
        # verl replaces each mark by an image, and requires as many marks as images.
        "prompt": [
            {"role": "user", "content": "".join(part.get("text", IMAGE_MARK) for part in parts)}
        ],
        "images": [{"bytes": _bytes_of(one, example.uid), **bounds} for one in example.images],
        "reward_model": {"style": "model", "ground_truth": _ground_truth(example)},
        "extra_info": {"index": index, "question": example.problem, "modality": example.modality},
    }


def _ground_truth(example: Example) -> str:
    """Return the reference; several as a list in JSON, which medreward's adapter for verl reads."""
    if isinstance(example.reference, str):
        return example.reference
    return json.dumps(example.reference, ensure_ascii=False)


def _bytes_of(image: ImageSource, uid: str) -> bytes:
    if isinstance(image, bytes):
        return image
    try:
        return image.read_bytes()
    except OSError as exc:
        raise BadData(f"an image of {uid} cannot be read: {type(exc).__name__}") from exc
