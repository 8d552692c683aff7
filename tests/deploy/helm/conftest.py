"""The chart, and what each Helm makes of it."""

import subprocess
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.tools import helm

CHART = Path(__file__).parents[3] / "helm" / "medreward"
VALUES = sorted(path.name for path in (CHART / "ci").glob("*.yaml"))
EVERY_VALUES = ["", *VALUES]
"""The defaults, and each file of examples."""
KUBERNETES = ("1.27.0", "1.31.0", "1.34.0", "1.37.0")
NEWEST_KUBERNETES = KUBERNETES[-1]
NEWEST = "v4.3.1"

Document = dict[str, Any]
Render = Callable[..., list[Document]]


def run_helm(version: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run Helm on something."""
    return subprocess.run(  # noqa: S603 - Helm, as pinned
        [str(helm(version)), *arguments], capture_output=True, text=True, timeout=60, check=False
    )


@cache
def rendered(
    values: str, version: str = NEWEST, kubernetes: str = NEWEST_KUBERNETES, *more: str
) -> list[Document]:
    """What a cluster would be given; do not change it."""
    files = ["--values", str(CHART / "ci" / values)] if values else []
    made = run_helm(
        version,
        *("template", "t", str(CHART), "--namespace", "ns", "--kube-version", kubernetes),
        *files,
        *more,
    )
    assert made.returncode == 0, made.stderr
    # libyaml's loader: the one in Python takes longer than Helm does.
    return [document for document in yaml.load_all(made.stdout, yaml.CSafeLoader) if document]


def with_values(values: Mapping[str, Any], folder: Path) -> "subprocess.CompletedProcess[str]":
    """What the newest Helm says to these values."""
    file = folder / "values.yaml"
    file.write_text(yaml.safe_dump(dict(values)), "utf-8")
    return run_helm(NEWEST, "template", "t", str(CHART), "--values", str(file))


def of_kind(documents: Sequence[Document], *kinds: str) -> list[Document]:
    """Those of some kinds."""
    return [document for document in documents if document["kind"] in kinds]


def pod_specs(documents: Sequence[Document]) -> list[tuple[str, Document, Document]]:
    """Every pod there will be: what makes it, its metadata and its specification."""
    pods = []
    for document in documents:
        name = f"{document['kind']}/{document['metadata']['name']}"
        if document["kind"] == "Pod":
            pods.append((name, document["metadata"], document["spec"]))
        elif document["kind"] in {"Deployment", "Job"}:
            template = document["spec"]["template"]
            pods.append((name, template["metadata"], template["spec"]))
    return pods


@pytest.fixture(params=EVERY_VALUES, ids=lambda values: values or "defaults")
def documents(request: pytest.FixtureRequest) -> list[Document]:
    """The chart with each of its example values."""
    return rendered(request.param)
