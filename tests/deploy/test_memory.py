"""The memory of an api: the chart, Compose, the guide and the benchmark name the same number."""

import re
from pathlib import Path

import yaml

from medreward.cache.write_behind import MAX_WAITING_BYTES
from medreward.settings import Settings

ROOT = Path(__file__).parents[2]
BOUNDS = (
    "judgement_cache_bytes",
    "embedding_cache_bytes",
    "text_cache_bytes",
    "max_bytes_in_flight",
)
UNITS = {"Gi": 2**30, "Mi": 2**20, "g": 2**30, "m": 2**20}
MB, SPARE = 10**6, 2**28
"""Bytes; a limit is rounded up to a quarter of a GiB."""


def found(pattern: str, file: str) -> int:
    """The number of megabytes that a file names."""
    (number,) = re.findall(pattern, (ROOT / file).read_text("utf-8"))
    return int(number) * MB


def in_bytes(quantity: str) -> int:
    """A quantity of Kubernetes or of Compose."""
    number, unit = re.fullmatch(r"(\d+)(\w+)", quantity).groups()  # type: ignore[union-attr]
    return int(number) * UNITS[unit]


def test_the_limit_of_an_api_follows_from_its_bounds() -> None:
    """The bounds of its settings fit into what the guide plans, and that into the limits, just so."""
    planned = found(r"Plan for (\d+) MB above", "docs/scaling.md")
    at_rest = found(r"at rest \(about (\d+) MB", "docs/scaling.md")
    defaults = (Settings.model_fields[name].default for name in BOUNDS)
    values = yaml.safe_load((ROOT / "helm/medreward/values.yaml").read_text("utf-8"))
    pod = values["roles"]["api"]["resources"]
    container = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]["api"]
    limits = (
        pod["requests"]["memory"],
        pod["limits"]["memory"],
        container["deploy"]["resources"]["limits"]["memory"],
    )

    assert sum(defaults) + MAX_WAITING_BYTES <= planned
    assert planned == found(r"AIM_MB, AIM_MS = (\d+)", "benchmarks/memory.py")
    assert all(0 <= in_bytes(limit) - planned - at_rest < SPARE for limit in limits)
