"""Values that would not work are refused when the chart is rendered, with what mends them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from docs.make_chart_readme import readme

from tests.deploy.helm.conftest import CHART, with_values

pytestmark = pytest.mark.xdist_group("helm")


def set_at(path: str, value: object) -> dict[str, Any]:
    """Values with one set, by its path."""
    for key in reversed(path.split(".")):
        value = {key: value}
    assert isinstance(value, dict)
    return value


def both(one: Any, other: Any) -> Any:
    """Values together."""
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return other
    shared = {key: both(one[key], other[key]) for key in one.keys() & other.keys()}
    return one | other | shared


CLAIM = {"type": "pvc", "size": "1Gi"}
AUTOSCALING = "roles.judge.autoscaling"

REFUSED = [
    ({"replicaCount": 2}, "replicaCount"),
    (set_at("roles.judge.replica", 2), "replica"),
    (set_at("roles.judge.replicas", 0), "replicas"),
    (set_at("roles.gpu", {}), "gpu"),
    (set_at("mode", "both"), "mode"),
    (set_at("roles.api.image.tag", "latest"), "tag"),
    (set_at("roles.api.image.digest", "sha256:12"), "digest"),
    (set_at("roles.api.image.pullPolicy", "Sometimes"), "pullPolicy"),
    (set_at("roles.judge.engine", "oracle"), "engine"),
    (set_at("roles.judge.settings", {"api_keys": "hunter2"}), "api_keys"),
    (set_at("api.settings", {"port": 9000}), "port"),
    (set_at("roles.api.extraEnv", [{"name": "MEDREWARD_API_KEYS", "value": "x"}]), "name"),
    (set_at("roles.judge.resources", {"limits": {"cpu": "1", "memory": None}}), "memory"),
    (set_at("roles.judge.startup.timeoutSeconds", 1), "timeoutSeconds"),
    (set_at("roles.judge.gpu.count", -1), "count"),
    (set_at("drain.seconds", 0), "seconds"),
    (set_at("redis.mode", "ring"), "mode"),
    (set_at("redis.tls.check", "some"), "check"),
    (set_at("networkPolicy.clients", []), "clients"),
    (set_at("service.type", "ExternalName"), "type"),
    (set_at("gateway.requestTimeout", "long"), "requestTimeout"),
    (set_at("api.recipes", {"strict.yaml": ""}), "strict.yaml"),
    # What only the values together tell.
    (both({"mode": "single"}, set_at("external.judge.url", "http://j/v1")), "external:"),
    (set_at("external.judge.url", "http://j/v1"), "external.judge.model"),
    (set_at("external.embedder.url", "http://e/v1"), "external.embedder.model"),
    (set_at("redis.enabled", value=True), "redis.host"),
    (set_at("valkey.enabled", value=True), "valkey.enabled"),
    (
        both(
            set_at("valkey.enabled", value=True),
            set_at("redis", {"enabled": True, "host": "redis.example.org"}),
        ),
        "valkey.enabled",
    ),
    (set_at("redis", {"enabled": True, "host": "r", "hosts": ["s:1"]}), "redis.hosts"),
    (
        set_at("redis", {"enabled": True, "host": "r", "tls": {"clientCertificate": True}}),
        "redis.tls.existingSecret",
    ),
    (
        set_at("redis", {"enabled": True, "host": "r", "sentinelPasswordKey": "p"}),
        "redis.existingSecret",
    ),
    (set_at("ingress.enabled", value=True), "ingress.hosts"),
    (set_at("gateway.enabled", value=True), "gateway.parentRefs"),
    (
        both(
            set_at("api.allowUnauthenticated", value=True),
            set_at("ingress", {"enabled": True, "hosts": [{"host": "h"}]}),
        ),
        "api.allowUnauthenticated",
    ),
    (
        both(
            set_at("api.allowUnauthenticated", value=True),
            set_at("gateway", {"enabled": True, "parentRefs": [{"name": "g"}]}),
        ),
        "api.allowUnauthenticated",
    ),
    (set_at("api", {"recipes": {"a.toml": ""}, "recipesConfigMap": "r"}), "api.recipes"),
    (set_at(AUTOSCALING, {"type": "keda"}), "autoscaling.prometheusAddress"),
    (
        set_at(
            AUTOSCALING,
            {"type": "keda", "prometheusAddress": "http://p", "cooldownSeconds": 60},
        ),
        "autoscaling.cooldownSeconds",
    ),
    (
        set_at(AUTOSCALING, {"type": "hpa", "minReplicas": 5, "maxReplicas": 4}),
        "autoscaling.minReplicas",
    ),
    (set_at(AUTOSCALING, {"type": "hpa", "minReplicas": 0}), "minReplicas"),
    (set_at("roles.judge.pdb.enabled", value=True), "roles.judge.pdb.enabled"),
    (set_at("roles.api.pdb.maxUnavailable", 2), "roles.api.pdb.maxUnavailable"),
    (
        set_at(
            "roles.judge.strategy", {"type": "RollingUpdate", "maxSurge": 0, "maxUnavailable": 0}
        ),
        "roles.judge.strategy",
    ),
    (set_at("roles.judge.progressDeadlineSeconds", 1800), "progressDeadlineSeconds"),
    (both({"mode": "single"}, set_at("roles.single.replicas", 2)), "roles.single.replicas"),
    (set_at("hub.offline", value=True), "model.source"),
    (set_at("roles.judge.model.revision", "main"), "roles.judge.model.revision"),
    (set_at("roles.judge.model.source", "pvc"), "roles.judge.model.path"),
    (
        set_at("roles.judge.model", {"source": "pvc", "path": "m"}),
        "roles.judge.model.cache.type",
    ),
    (
        set_at("roles.judge.model.cache.type", "existingClaim"),
        "roles.judge.model.cache.existingClaim",
    ),
    (
        set_at("roles.judge", {"replicas": 2, "model": {"cache": CLAIM}}),
        "roles.judge.model.cache.accessModes",
    ),
    (set_at("roles.judge.model.predownload", value=True), "roles.judge.model.predownload"),
    (set_at("roles.judge", {"gpu": {"count": 2}, "shmSize": ""}), "roles.judge.shmSize"),
    (set_at("roles.api.gpu.count", 1), "roles.api.gpu.count"),
]


@pytest.mark.parametrize(("values", "named"), REFUSED, ids=[str(n) for n in range(len(REFUSED))])
def test_what_cannot_work_is_refused_by_name(
    values: dict[str, Any], named: str, tmp_path: Path
) -> None:
    """Helm's own words differ by version; the key stands in all of them."""
    refused = with_values(values, tmp_path)

    assert refused.returncode != 0
    assert named in refused.stderr


def leaves(values: dict[str, Any], path: str = "") -> Iterator[str]:
    """The paths of all values."""
    for key, value in values.items():
        here = f"{path}.{key}" if path else key
        if isinstance(value, dict) and value:
            yield from leaves(value, here)
        else:
            yield here


def described(schema: dict[str, Any], path: str) -> dict[str, Any] | None:
    """What the schema says of a path; None where it says nothing."""
    here: dict[str, Any] | None = schema
    for key in path.split("."):
        assert here is not None
        if "$ref" in here:
            here = schema["definitions"][here["$ref"].rpartition("/")[2]]
        assert here is not None
        if key in here.get("properties", {}):
            here = here["properties"][key]
        elif isinstance(here.get("additionalProperties"), dict):
            here = here["additionalProperties"]
        elif here.get("type") == "object" and "properties" not in here:
            return here
        else:
            return None
    return here


def test_the_schema_covers_every_value() -> None:
    """And knows no others."""
    schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))

    assert [path for path in leaves(values) if described(schema, path) is None] == []


def objects(schema: object, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object with named properties in the schema."""
    if isinstance(schema, dict):
        if "properties" in schema and schema.get("type") == "object":
            yield path, schema
        for key, value in schema.items():
            yield from objects(value, f"{path}/{key}")


def test_the_schema_takes_no_unknown_key() -> None:
    """A misspelt value would be a silent default."""
    schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    # What goes to Kubernetes as it is, Kubernetes checks.
    passed_on = {"/definitions/role/properties/extraEnv/items"}

    for path, described_object in objects(schema):
        if path not in passed_on:
            assert described_object.get("additionalProperties") is False, path


def test_the_readme_is_what_the_values_say() -> None:
    """`make docs` writes it anew."""
    assert (CHART / "README.md").read_text("utf-8") == readme()
