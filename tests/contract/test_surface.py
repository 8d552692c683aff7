"""The surface of the service beside a committed state: what operators and clients rely on.

`surface.json` holds settings with their defaults, metrics with their type and labels, and a digest of
the OpenAPI document without its descriptions, as they were at version 0.1.0. A change of it is a
change for users: it has a line here and one in CHANGELOG.md.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from medreward.settings import Settings
from medreward.telemetry.metrics import Labelled, Metrics

ROOT = Path(__file__).parents[2]
SURFACE: dict[str, Any] = json.loads((Path(__file__).parent / "surface.json").read_text("utf-8"))

REMOVED_SETTINGS = {"judge_max_cost_per_run"}
ADDED_SETTINGS = {
    "causal_lm_dtype": "None",
    "exam": "auto",
    "vllm_arguments": "PydanticUndefined",
    "head_timeout_s": "20.0",
    "reply_timeout_s": "60.0",
    "idle_timeout_s": "120.0",
    "max_connections": "8192",
    "text_cache_bytes": "67108864",
    "allowed_hosts": "()",
    "ready_when_degraded": "False",
    "lost_engine_s": "1800.0",
    "signals": "()",
    "signals_timeout_s": "10.0",
    "signals_memory_bytes": "1073741824",
}
OTHER_DEFAULTS = {"vllm_gpu_memory_utilization": "None", "cascade": "None"}
"""Settings with another default than in that state: None is computed from the free memory, and for
`cascade` is the profile's choice."""


def without_descriptions(node: object) -> object:
    """Return a JSON document without the descriptions in it; a field of that name stays."""
    if isinstance(node, dict):
        return {
            key: without_descriptions(value)
            for key, value in node.items()
            if key != "description" or not isinstance(value, str)
        }
    return [without_descriptions(part) for part in node] if isinstance(node, list) else node


def test_the_settings_are_the_same() -> None:
    """Names and defaults, but for those listed above."""
    found = {name: str(field.default) for name, field in Settings.model_fields.items()}
    before = {n: v for n, v in SURFACE["settings"].items() if n not in REMOVED_SETTINGS}

    assert found == before | OTHER_DEFAULTS | ADDED_SETTINGS


def test_the_metrics_are_the_same() -> None:
    """Names, types and labels."""
    metrics = Metrics()
    types = {family.name: family.type for family in metrics.registry.collect()}
    labels = {}
    for declared in vars(metrics).values():
        metric = declared.metric if isinstance(declared, Labelled) else declared
        for family in metric.describe() if hasattr(metric, "describe") else ():
            names: Any
            names = getattr(metric, "_labelnames", None) or getattr(metric, "_labels", ())
            labels[family.name] = [types.get(family.name, family.type), *names]

    assert labels == SURFACE["metrics"]


def test_the_openapi_document_is_the_same() -> None:
    """Paths, bodies and fields, whatever describes them."""
    document = json.loads((ROOT / "service" / "openapi.json").read_text("utf-8"))
    canonical = json.dumps(without_descriptions(document), sort_keys=True)

    assert hashlib.sha256(canonical.encode()).hexdigest() == SURFACE["openapi"]


@pytest.mark.parametrize("name", sorted(REMOVED_SETTINGS | OTHER_DEFAULTS.keys()))
def test_a_changed_setting_is_in_the_changelog(name: str) -> None:
    """A user who sets it reads why."""
    assert f"MEDREWARD_{name.upper()}" in (ROOT / "CHANGELOG.md").read_text("utf-8")
