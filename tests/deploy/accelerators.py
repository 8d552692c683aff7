"""deploy/accelerators.toml, read: which torch, CUDA and driver each image needs."""

import re
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TABLE: dict[str, Any] = tomllib.loads((ROOT / "deploy" / "accelerators.toml").read_text("utf-8"))
IMAGES: dict[str, dict[str, str]] = TABLE["images"]
"""By the name of the Dockerfile."""


def torch_of(image: str) -> str:
    """The version of torch in an image."""
    told = IMAGES[image]
    return told.get("torch") or str(_row("vllm", told["vllm"])["torch"])


def cuda_of(image: str) -> str | None:
    """The version of CUDA in an image, such as 13.0; None for a CPU."""
    told = IMAGES[image]
    if "vllm" in told:
        return str(_row("vllm", told["vllm"])["cuda"])
    return cuda_of_index(told["index"])


def cuda_of_index(index: str) -> str | None:
    """The version of CUDA that an index of torch is for; None for a CPU."""
    found = re.fullmatch(r".*/cu(\d+)(\d)", index)
    return f"{found[1]}.{found[2]}" if found else None


def has_wheels(torch: str, index: str) -> bool:
    """Whether an index has wheels of this version of torch, by what is known of its release."""
    release = torch.rpartition(".")[0]
    return any(
        row["release"] == release and index.rpartition("/")[2] in row["indexes"]
        for row in TABLE["torch"]
    )


def needs_of(cuda: str) -> dict[str, Any]:
    """What a version of CUDA needs: driver, GPU and its compute capability."""
    (row,) = [row for row in TABLE["cuda"] if row["major"] == int(cuda.partition(".")[0])]
    return dict(row)


def _row(kind: str, release: str) -> dict[str, Any]:
    (row,) = [row for row in TABLE[kind] if row["release"] == release]
    return dict(row)
