"""The chart as two Helms render it, for every Kubernetes it supports, against Kubernetes' schemas."""

from pathlib import Path

import pytest
import yaml

from tests.deploy.helm.conftest import (
    CHART,
    EVERY_VALUES,
    KUBERNETES,
    NEWEST,
    NEWEST_KUBERNETES,
    Document,
    of_kind,
    rendered,
    run_helm,
)
from tests.deploy.helm.schemas import errors_of, is_custom
from tests.deploy.tools import HELMS

OLDER = next(version for version in HELMS if version != NEWEST)
EVERY_PAIR = [
    pytest.param(
        values,
        kubernetes,
        # The newest Kubernetes takes all values, and each Kubernetes the defaults, in `make test`.
        marks=[pytest.mark.slow] if values and kubernetes != NEWEST_KUBERNETES else [],
    )
    for values in EVERY_VALUES
    for kubernetes in KUBERNETES
]

pytestmark = pytest.mark.xdist_group("helm")


def without_chance(documents: list[Document]) -> list[Document]:
    """Documents without the keys that are made up anew at each rendering."""
    return [
        {**document, "data": sorted(document["data"])} if document["kind"] == "Secret" else document
        for document in documents
    ]


@pytest.mark.parametrize(("values", "kubernetes"), EVERY_PAIR)
def test_two_helms_render_the_same(values: str, kubernetes: str) -> None:
    """Whichever of them a cluster's owner has."""
    newest = without_chance(rendered(values, NEWEST, kubernetes))

    assert newest == without_chance(rendered(values, OLDER, kubernetes))
    assert len(newest) > 5


@pytest.mark.parametrize(("values", "kubernetes"), EVERY_PAIR)
def test_every_document_is_what_kubernetes_says(values: str, kubernetes: str) -> None:
    """Strictly: an unknown field, a wrong type and an unknown kind are errors."""
    errors = [
        error
        for document in rendered(values, NEWEST, kubernetes)
        if not is_custom(document)
        for error in errors_of(document, kubernetes)
    ]

    assert errors == []


@pytest.mark.parametrize(
    "values", ["production.yaml", "keda.yaml", "gateway.yaml", "openshift.yaml", "extras.yaml"]
)
def test_custom_resources_are_what_their_operators_say(values: str) -> None:
    """Prometheus' operator, KEDA and the Gateway API."""
    custom = [document for document in rendered(values) if is_custom(document)]

    assert custom
    assert [error for document in custom for error in errors_of(document, "")] == []


def test_the_schemas_find_what_is_wrong() -> None:
    """A misspelt field, a wrong type and an unknown kind, all in one go."""
    deployment = of_kind(rendered(""), "Deployment")[0]
    wrong = yaml.safe_load(yaml.safe_dump(deployment))
    wrong["spec"]["replicsa"] = 2
    wrong["spec"]["progressDeadlineSeconds"] = "soon"

    errors = errors_of(wrong, "1.34.0")

    assert any("replicsa" in error for error in errors)
    assert any("progressDeadlineSeconds" in error for error in errors)
    assert errors_of({**wrong, "kind": "Deploymint"}, "1.34.0")


@pytest.mark.parametrize(
    ("version", "values"),
    [
        pytest.param(
            version, values, marks=[pytest.mark.slow] if values and version != NEWEST else []
        )
        for version in HELMS
        for values in EVERY_VALUES
    ],
)
def test_lint_has_nothing_to_say(version: str, values: str) -> None:
    """Strictly, with either Helm."""
    files = ["--values", str(CHART / "ci" / values)] if values else []
    linted = run_helm(version, "lint", "--strict", str(CHART), *files)

    assert linted.returncode == 0, linted.stdout + linted.stderr


@pytest.mark.parametrize("version", HELMS)
def test_an_older_kubernetes_is_refused(version: str) -> None:
    """By the chart itself, not by the first resource that fails."""
    refused = run_helm(version, "template", "t", str(CHART), "--kube-version", "1.26.0")

    assert refused.returncode != 0
    assert "kubeVersion" in refused.stderr


@pytest.mark.parametrize("version", HELMS)
def test_it_packs_without_a_network(version: str, tmp_path: Path) -> None:
    """It has no charts of others, and its examples stay out."""
    packed = run_helm(version, "package", str(CHART), "--destination", str(tmp_path))

    assert packed.returncode == 0, packed.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["medreward-0.1.0.tgz"]


def test_the_notes_tell_the_next_command() -> None:
    """Waiting, reaching it with its key, and trying it."""
    shown = run_helm(NEWEST, "install", "t", str(CHART), "--dry-run=client", "--namespace", "ns")

    # Without a cluster it may refuse, and then there is nothing to read.
    if shown.returncode == 0:
        for part in ("rollout status", "port-forward", "/reward", "helm test t"):
            assert part in shown.stdout
    else:
        assert "cluster" in shown.stderr.lower()
