"""Kubernetes' own schemas, strictly: every error, and a kind that nobody knows is one."""

import json
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

CUSTOM = Path(__file__).parents[4] / "shared" / "data" / "crd-schemas"
"""Beside the repository: they are others' data, and not kept in it."""

CUSTOM_FILES = {
    ("monitoring.coreos.com/v1", "ServiceMonitor"): "monitoring.coreos.com_servicemonitor_v1.json",
    ("monitoring.coreos.com/v1", "PodMonitor"): "monitoring.coreos.com_podmonitor_v1.json",
    ("monitoring.coreos.com/v1", "PrometheusRule"): "monitoring.coreos.com_prometheusrule_v1.json",
    ("keda.sh/v1alpha1", "ScaledObject"): "keda.sh_scaledobject_v1alpha1.json",
    (
        "keda.sh/v1alpha1",
        "TriggerAuthentication",
    ): "keda.sh_triggerauthentication_v1alpha1.json",
    ("gateway.networking.k8s.io/v1", "HTTPRoute"): "gateway.networking.k8s.io_httproute_v1.json",
}


def errors_of(document: dict[str, Any], kubernetes: str) -> list[str]:
    """Everything that is wrong with a document."""
    name = f"{document['kind']}/{document['metadata']['name']}"
    validator = _validator(document["apiVersion"], document["kind"], kubernetes)
    if validator is None:
        return [f"{name}: no kind of {document['apiVersion']} in Kubernetes {kubernetes}"]
    return [
        f"{name}: {'/'.join(map(str, error.absolute_path))}: {error.message[:200]}"
        for error in validator.iter_errors(document)
    ]


def is_custom(document: dict[str, Any]) -> bool:
    """Whether an operator defines it, and not Kubernetes."""
    return (document["apiVersion"], document["kind"]) in CUSTOM_FILES


@cache
def _validator(api_version: str, kind: str, kubernetes: str) -> Draft7Validator | None:
    custom = CUSTOM_FILES.get((api_version, kind))
    if custom is not None:
        if not CUSTOM.is_dir():
            pytest.skip("the schemas of custom resources are not beside this checkout")
        return Draft7Validator(json.loads((CUSTOM / custom).read_text("utf-8")))
    folder = _folder(kubernetes)
    group = api_version.split("/")
    short = "-".join([group[0].split(".")[0], *group[1:]])
    file = folder / f"{kind.lower()}-{short}.json"
    if not file.exists():
        return None
    return Draft7Validator(json.loads(file.read_text("utf-8")), registry=_registry(kubernetes))


@cache
def _registry(kubernetes: str) -> Any:
    definitions = json.loads((_folder(kubernetes) / "_definitions.json").read_text("utf-8"))
    resource = Resource.from_contents(definitions, default_specification=DRAFT7)
    # Whatever is referred to, it is this document. attrs names the argument without its underscore.
    return Registry(retrieve=lambda _uri: resource)  # type: ignore[call-arg]


def _folder(kubernetes: str) -> Path:
    package = resources.files("kubernetes_validate")
    return Path(str(package)) / "kubernetes-json-schema" / f"v{kubernetes}-local-strict"
