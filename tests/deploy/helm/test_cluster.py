"""What Helm looks up in a cluster: secrets of its owner, and those that the chart made before.

The cluster is as much of Kubernetes' HTTP interface as `helm template --dry-run=server` asks for.
"""

import base64
import json
import re
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.helm.conftest import CHART, NEWEST, Document, of_kind, run_helm
from tests.deploy.tools import HELMS

pytestmark = pytest.mark.xdist_group("helm")

KINDS = {
    "v1": ("Secret", "Service", "ServiceAccount", "ConfigMap", "PersistentVolumeClaim", "Pod"),
    "apps/v1": ("Deployment",),
    "networking.k8s.io/v1": ("NetworkPolicy",),
    "policy/v1": ("PodDisruptionBudget",),
}


def _plural(kind: str) -> str:
    name = kind.lower()
    return f"{name.removesuffix('y')}ies" if name.endswith("y") else f"{name}s"


def discovery() -> dict[str, dict[str, Any]]:
    """What a cluster says of its version and its kinds."""
    groups = [version for version in KINDS if "/" in version]
    found: dict[str, dict[str, Any]] = {
        "/version": {"major": "1", "minor": "37", "gitVersion": "v1.37.0"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {
            "kind": "APIGroupList",
            "apiVersion": "v1",
            "groups": [
                {
                    "name": version.partition("/")[0],
                    "versions": [{"groupVersion": version, "version": "v1"}],
                    "preferredVersion": {"groupVersion": version, "version": "v1"},
                }
                for version in groups
            ],
        },
    }
    for version, kinds in KINDS.items():
        found[f"/apis/{version}" if version in groups else "/api/v1"] = {
            "kind": "APIResourceList",
            "groupVersion": version,
            "resources": [
                {"name": _plural(kind), "namespaced": True, "kind": kind, "verbs": ["get"]}
                for kind in kinds
            ],
        }
    return found


DISCOVERY = discovery()
MISSING = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound"}
MINE = {"inner-key": "old", "inner-keys": "old", "drain-token": "t", "fence-secret": "f"}


class Cluster:
    """A cluster that has secrets and nothing else."""

    def __init__(self, folder: Path, address: str) -> None:
        self.secrets: dict[str, Mapping[str, str]] = {}
        self._kubeconfig = folder / "kubeconfig"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": address}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "c",
        }
        self._kubeconfig.write_text(json.dumps(config), "utf-8")

    def reply(self, path: str) -> dict[str, Any]:
        """The document at a path."""
        found = re.fullmatch(r"/api/v1/namespaces/ns/secrets/(.+)", path)
        if found and found[1] in self.secrets:
            data = {
                key: base64.b64encode(text.encode()).decode()
                for key, text in self.secrets[found[1]].items()
            }
            # Helm takes over no object that another release made.
            release = {"release-name": "t", "release-namespace": "ns"}
            metadata = {
                "name": found[1],
                "namespace": "ns",
                "labels": {"app.kubernetes.io/managed-by": "Helm"},
                "annotations": {f"meta.helm.sh/{key}": value for key, value in release.items()},
            }
            return {"kind": "Secret", "apiVersion": "v1", "metadata": metadata, "data": data}
        return DISCOVERY.get(path, MISSING)

    def rendered(self, *options: str, version: str = NEWEST) -> list[Document]:
        """The chart, as an upgrade in this cluster would render it."""
        made = run_helm(
            version,
            *("template", "t", str(CHART), "--namespace", "ns", "--dry-run=server"),
            *("--disable-openapi-validation", "--kubeconfig", str(self._kubeconfig)),
            *options,
        )
        assert made.returncode == 0, made.stderr
        return [document for document in yaml.load_all(made.stdout, yaml.CSafeLoader) if document]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster at an address of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            document = made.reply(self.path.partition("?")[0])
            body = json.dumps(document).encode()
            self.send_response(404 if document is MISSING else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made = Cluster(tmp_path, f"http://127.0.0.1:{server.server_address[1]}")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield made
        server.shutdown()


def checksums(documents: list[Document]) -> dict[str, str]:
    """Each role's annotation that rolls its pods."""
    return {
        d["metadata"]["name"]: d["spec"]["template"]["metadata"]["annotations"]["checksum/secrets"]
        for d in of_kind(documents, "Deployment")
    }


@pytest.mark.parametrize("version", HELMS)
def test_a_secret_that_changed_rolls_the_pods_that_read_it_at_their_start(
    cluster: Cluster, version: str
) -> None:
    """What an api sends rolls the api alone; what judge and embedder accept, they read again."""
    options = (
        *("--set", "inner.existingSecret=mine"),
        *("--set", "inner.acceptedKey=inner-keys"),
    )
    cluster.secrets["mine"] = MINE
    before = checksums(cluster.rendered(*options, version=version))
    cluster.secrets["mine"] = MINE | {"inner-key": "new"}
    sent = checksums(cluster.rendered(*options, version=version))
    cluster.secrets["mine"] = MINE | {"inner-keys": "new,old"}
    accepted = checksums(cluster.rendered(*options, version=version))

    changed = {name for name in before if before[name] != sent[name]}
    assert changed == {"t-medreward-api"}
    assert accepted == before


def test_every_secret_of_the_owner_counts(cluster: Cluster) -> None:
    """Those of servers elsewhere, and the certificates of Redis."""
    options = ("--values", str(CHART / "ci" / "external-engines.yaml"))
    redis = ("--values", str(CHART / "ci" / "redis-tls.yaml"))
    cluster.secrets |= {"models": {"key": "a"}, "redis-tls": {"tls.crt": "a"}}
    before = checksums(cluster.rendered(*options, *redis))
    cluster.secrets["models"] = {"key": "b"}
    other_key = checksums(cluster.rendered(*options, *redis))
    cluster.secrets |= {"models": {"key": "a"}, "redis-tls": {"tls.crt": "b"}}
    other_certificate = checksums(cluster.rendered(*options, *redis))

    assert len({str(before), str(other_key), str(other_certificate)}) == 3


@pytest.mark.parametrize("version", HELMS)
def test_an_upgrade_keeps_the_keys_that_were_made(cluster: Cluster, version: str) -> None:
    """Found in the cluster, and written again as they are; pods are not rolled by them."""
    first = cluster.rendered(version=version)
    made = {d["metadata"]["name"]: d["data"] for d in of_kind(first, "Secret")}
    cluster.secrets |= {
        name: {key: base64.b64decode(text).decode() for key, text in data.items()}
        for name, data in made.items()
    }

    again = cluster.rendered(version=version)

    assert {d["metadata"]["name"]: d["data"] for d in of_kind(again, "Secret")} == made
    assert checksums(again) == checksums(first)
