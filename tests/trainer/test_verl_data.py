"""Data sets are written in the form that verl reads."""

from io import BytesIO
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from medreward_client import Criterion
from medreward_client.trainers._rows import read_sample
from medreward_trainer.config.config import Data
from medreward_trainer.config.files import load_config
from medreward_trainer.data.examples import ROWS_AT_A_TIME, Example
from medreward_trainer.data.verl_data import write_verl_data, write_verl_rows
from medreward_trainer.errors import BadData
from tests.trainer.conftest import write_rows


def test_a_row_has_what_verl_and_the_adapter_read(tmp_path: Path) -> None:
    """A row has the chat with its format, the untagged reference, and the image bounds."""
    Image.new("RGB", (4, 4)).save(tmp_path / "x.png")
    row = {"problem": "Which <image> lobe?", "solution": "<X_RAY>left lower lobe", "image": "x.png"}
    data = write_rows(tmp_path / "rows.jsonl", row)
    template = tmp_path / "mine.jinja"
    template.write_text("Answer: {{ content }}")
    config = load_config(
        "smoke",
        [f"data.train_files={data}", "data.val_files=[]",
         f"data.format_prompt={template}", "data.min_pixels=16", "data.max_pixels=null"],
    )  # fmt: skip

    (path,) = write_verl_data(config, tmp_path / "verl")

    (read,) = pq.read_table(path).to_pylist()
    (image,) = read.pop("images")
    assert path.name == "train.parquet"
    assert read == {
        "data_source": "rows.jsonl",
        "prompt": [{"role": "user", "content": "Answer: Which <image> lobe?"}],
        "reward_model": {"style": "model", "ground_truth": "left lower lobe"},
        "extra_info": {"index": 0, "question": "Which  lobe?", "modality": "X_RAY"},
    }
    assert Image.open(BytesIO(image["bytes"])).size == (4, 4)
    assert (image["min_pixels"], image["max_pixels"]) == (16, 2**31)


def test_rows_without_picture_and_modality_are_rows_too(tmp_path: Path) -> None:
    """All rows are written in their order, a few at a time."""
    count = 2 * ROWS_AT_A_TIME + 1
    examples = [Example(f"a.jsonl:{i}", f"{i}?", f"r{i}", None) for i in range(count)]

    write_verl_rows(examples, tmp_path / "rows.parquet", Data(format_prompt="plain"))

    rows = pq.read_table(tmp_path / "rows.parquet").to_pylist()
    assert [row["extra_info"]["index"] for row in rows] == list(range(count))
    assert rows[-1]["prompt"] == [{"role": "user", "content": f"{count - 1}?"}]
    assert rows[-1]["images"] == []
    assert rows[-1]["extra_info"]["modality"] is None


def test_a_rubric_that_verl_would_lose_is_refused(tmp_path: Path) -> None:
    """The adapter for verl sends the reference alone, and each reward would be missing."""
    rubric = (Criterion("Names the side.", 1.0),)
    example = Example("a.jsonl:1", "p", "", None, criteria=rubric)

    with pytest.raises(BadData, match=r"a\.jsonl:1 has `criteria` or `extra`"):
        write_verl_rows([example], tmp_path / "rows.parquet", Data())


def test_both_parts_of_a_data_set_are_written(tmp_path: Path) -> None:
    """The names are verl's, and the row counts the configuration's."""
    data = write_rows(tmp_path / "a.jsonl", *3 * [{"problem": "p", "solution": "s"}])
    files = [f"data.{part}_files={data}" for part in ("train", "val")]

    paths = write_verl_data(load_config("smoke", [*files, "data.val_max_samples=2"]), tmp_path)

    assert [(path.name, pq.read_table(path).num_rows) for path in paths] == [
        ("train.parquet", 3),
        ("test.parquet", 2),
    ]


def test_several_references_are_a_list_that_the_adapter_reads(tmp_path: Path) -> None:
    """The column holds texts."""
    example = Example("a.jsonl:1", "p", ("left lung", "lung, übrig"), None)
    write_verl_rows([example], tmp_path / "rows.parquet", Data())

    (row,) = pq.read_table(tmp_path / "rows.parquet").to_pylist()
    sample = read_sample("lung", row["reward_model"]["ground_truth"])
    assert sample.reference == ["left lung", "lung, übrig"]


def test_a_picture_that_is_gone_is_named_and_leaves_no_file(tmp_path: Path) -> None:
    """No incomplete file remains."""
    example = Example("a.jsonl:1", "p", "r", None, (tmp_path / "gone.png",))

    with pytest.raises(BadData, match=r"a\.jsonl:1"):
        write_verl_rows([example], tmp_path / "rows.parquet", Data())

    assert not (tmp_path / "rows.parquet").exists()
