"""Values that would not work are refused when the chart is rendered, with what mends them."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from docs.make_chart_readme import readme

from medreward.settings import PROFILES, VllmArgument
from tests.deploy.helm.conftest import CHART, with_values

pytestmark = pytest.mark.xdist_group("helm")


def nested(by_path: Mapping[str, object]) -> dict[str, Any]:
    """Values of a chart, from their paths."""
    values: dict[str, Any] = {}
    for path, value in by_path.items():
        *parents, last = path.split(".")
        here = values
        for key in parents:
            here = here.setdefault(key, {})
        here[last] = value
    return values


CLAIM = {"type": "pvc", "size": "1Gi"}
AUTOSCALING = "roles.judge.autoscaling"

STOPPED = {"type": "RollingUpdate", "maxSurge": 0, "maxUnavailable": 0}
OPEN = {"api.allowUnauthenticated": True}
HASTY = {"type": "keda", "prometheusAddress": "http://p", "cooldownSeconds": 60}
REDIS = {"enabled": True, "host": "r"}
INGRESS = {"enabled": True, "hosts": [{"host": "h"}]}
GATEWAY = {"enabled": True, "parentRefs": [{"name": "g"}]}
CACHE = "roles.judge.model.cache"

REFUSED: list[tuple[dict[str, object], str]] = [
    # The schema: one case of each kind, and what must not be said in the open.
    ({"replicaCount": 2}, "replicaCount"),
    ({"roles.judge.replica": 2}, "replica"),
    ({"roles.judge.replicas": 0}, "replicas"),
    ({"roles.gpu": {}}, "gpu"),
    ({"mode": "both"}, "mode"),
    ({"roles.api.image.tag": "latest"}, "tag"),
    ({"roles.api.image.digest": "sha256:12"}, "digest"),
    ({"roles.judge.settings": {"api_keys": "hunter2"}}, "api_keys"),
    ({"api.settings": {"port": 9000}}, "port"),
    ({"roles.single.settings": {"profile": "small"}}, "profile"),
    ({"roles.api.extraEnv": [{"name": "MEDREWARD_API_KEYS", "value": "x"}]}, "name"),
    ({"roles.judge.resources": {"limits": {"cpu": "1", "memory": None}}}, "memory"),
    ({"networkPolicy.clients": []}, "clients"),
    ({"service.type": "ExternalName"}, "type"),
    ({"gateway.requestTimeout": "long"}, "requestTimeout"),
    ({"podSecurityContext": {"runAsUsr": 1}}, "runAsUsr"),
    ({"redis": {"enabled": True, "host": "fd00::1"}}, "host"),
    ({"service.ipFamilies": ["IPv5"]}, "ipFamilies"),
    ({f"{AUTOSCALING}.prometheusMetadata": {"query": "up"}}, "query"),
    ({f"{AUTOSCALING}.triggers": [{"type": "cron"}]}, "metadata"),
    ({"roles.api.extraContainers": [{"image": "i:1"}]}, "name"),
    ({"extraObjects": [{"kind": "Secret"}]}, "apiVersion"),
    ({"api.recipes": {"strict.yaml": ""}}, "strict.yaml"),
    # Only the values together tell what is wrong with these.
    ({"mode": "single", "external.judge.url": "http://j/v1"}, "external:"),
    ({"external.judge.url": "http://j/v1"}, "external.judge.model"),
    ({"redis.enabled": True}, "redis.host"),
    ({"valkey.enabled": True}, "valkey.enabled"),
    ({"valkey.enabled": True, "redis": REDIS}, "valkey.enabled"),
    ({"redis": REDIS | {"hosts": ["s:1"]}}, "redis.hosts"),
    ({"redis": REDIS | {"tls": {"clientCertificate": True}}}, "redis.tls.existingSecret"),
    ({"redis": REDIS | {"sentinelPasswordKey": "p"}}, "redis.existingSecret"),
    ({"ingress.enabled": True}, "ingress.hosts"),
    ({"gateway.enabled": True}, "gateway.parentRefs"),
    (OPEN | {"ingress": INGRESS}, "api.allowUnauthenticated"),
    (OPEN | {"gateway": GATEWAY}, "api.allowUnauthenticated"),
    ({"api": {"recipes": {"a.toml": ""}, "recipesConfigMap": "r"}}, "api.recipes"),
    ({AUTOSCALING: {"type": "keda"}}, "autoscaling.prometheusAddress"),
    ({AUTOSCALING: HASTY}, "autoscaling.cooldownSeconds"),
    ({AUTOSCALING: {"type": "hpa", "minReplicas": 5, "maxReplicas": 4}}, "autoscaling.minReplicas"),
    ({AUTOSCALING: {"type": "hpa", "minReplicas": 0}}, "minReplicas"),
    ({"roles.judge.pdb.enabled": True}, "roles.judge.pdb.enabled"),
    ({"roles.api.pdb.maxUnavailable": 2}, "roles.api.pdb.maxUnavailable"),
    ({"roles.judge.strategy": STOPPED}, "roles.judge.strategy"),
    ({"roles.judge.progressDeadlineSeconds": 1800}, "progressDeadlineSeconds"),
    ({"mode": "single", "roles.single.replicas": 2}, "roles.single.replicas"),
    ({"hub.offline": True}, "model.source"),
    ({"roles.judge.model.revision": "main"}, "roles.judge.model.revision"),
    ({"roles.judge.model.source": "pvc"}, "roles.judge.model.path"),
    ({"roles.judge.model": {"source": "pvc", "path": "m"}}, f"{CACHE}.type"),
    ({f"{CACHE}.type": "existingClaim"}, f"{CACHE}.existingClaim"),
    ({"roles.judge": {"replicas": 2, "model": {"cache": CLAIM}}}, f"{CACHE}.accessModes"),
    (
        {"roles.judge.model": {"predownload": True, "source": "image"}},
        "roles.judge.model.predownload",
    ),
    ({"roles.api.progressDeadlineSeconds": 600}, "roles.api.progressDeadlineSeconds"),
    ({"roles.api.probes.liveness": {"periodSeconds": 1}}, "roles.api.probes.liveness"),
    ({"inner.acceptedKey": "inner-keys"}, "inner.existingSecret"),
    ({"ingress": INGRESS}, "networkPolicy.controllerPeers"),
    ({"gateway": GATEWAY}, "networkPolicy.controllerPeers"),
    ({"service.type": "LoadBalancer"}, "networkPolicy.controllerPeers"),
    ({"service.type": "NodePort"}, "networkPolicy.controllerPeers"),
    (
        {
            "ingress": INGRESS,
            "networkPolicy.clients": [{"podSelector": {"matchLabels": {"a": "b"}}}],
        },
        "networkPolicy.controllerPeers",
    ),
    ({"roles.judge": {"gpu": {"count": 2}, "shmSize": ""}}, "roles.judge.shmSize"),
    ({"roles.api.gpu.count": 1}, "roles.api.gpu.count"),
    ({"roles.embed.vllmArguments": {"max_num_seqs": 1}}, "roles.embed.vllmArguments"),
    ({"roles.judge.vllmArguments": {"trust_remote_code": True}}, "trust_remote_code"),
    ({"mode": "single", "api.readyWhenDegraded": True}, "api.readyWhenDegraded"),
]


@pytest.mark.parametrize(("values", "named"), REFUSED, ids=[str(n) for n in range(len(REFUSED))])
def test_what_cannot_work_is_refused_by_name(
    values: dict[str, object], named: str, tmp_path: Path
) -> None:
    """Helm's own words differ by version; the key stands in all of them."""
    refused = with_values(nested(values), tmp_path)

    assert refused.returncode != 0
    assert named in refused.stderr


def test_the_schema_knows_the_profiles_of_the_service() -> None:
    """All of them, and no other."""
    schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))

    assert schema["definitions"]["settings"]["properties"]["profile"]["enum"] == list(PROFILES)


def test_the_schema_knows_the_arguments_of_vllm_that_the_service_takes() -> None:
    """All of them, and no other."""
    schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    arguments = schema["definitions"]["role"]["properties"]["vllmArguments"]["properties"]

    assert sorted(arguments) == sorted(get_args(VllmArgument))


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
        elif "object" in here.get("type", "") and "properties" not in here:
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
    # What goes to Kubernetes as it is, Kubernetes checks, and settings the service.
    passed_on = {"/definitions/role/properties/extraEnv/items", "/definitions/settings"}

    for path, described_object in objects(schema):
        if path not in passed_on:
            assert described_object.get("additionalProperties") is False, path


def test_the_readme_is_what_the_values_say() -> None:
    """`make docs` writes it anew."""
    assert (CHART / "README.md").read_text("utf-8") == readme()
