"""What a cluster refuses, or takes and then fails at, and no schema finds."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medreward.cli.environment import NO_SETTINGS
from medreward.engines.models import CATALOGUE, SplitModel
from medreward.http.routes.probes import PROBES
from medreward.settings import Settings
from tests.deploy.helm.conftest import (
    CHART,
    NEWEST,
    NEWEST_KUBERNETES,
    Document,
    of_kind,
    pod_specs,
    rendered,
)

pytestmark = pytest.mark.xdist_group("helm")

UID = 10001
DNS_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?")
UNITS = {
    "": 1.0, "m": 1e-3, "k": 1e3, "Ki": 2**10, "M": 1e6, "Mi": 2**20, "G": 1e9, "Gi": 2**30, "Ti": 2**40,
}  # fmt: skip
DECLARED = {
    "ConfigMap": set(),
    "Secret": {"medreward-keys", "medreward-inner", "hub", "redis", "redis-tls", "models", "pull"},
    "PersistentVolumeClaim": {"models"},
}
"""What the example values say that somebody else made."""


def amount(quantity: str | float) -> float:
    """A quantity as a number."""
    found = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", str(quantity))
    assert found, quantity
    return float(found[1]) * UNITS[found[2]]


def containers(spec: Document) -> list[Document]:
    """All of a pod's."""
    return [*spec.get("initContainers", []), *spec["containers"]]


def all_containers(documents: list[Document]) -> Iterator[tuple[str, Document]]:
    """Those of every pod, each with the pod's name."""
    for name, _, spec in pod_specs(documents):
        for container in containers(spec):
            yield name, container


def services(documents: list[Document]) -> Iterator[tuple[Document, Document, Document]]:
    """The deployments of the service itself: each with its pod's specification and container."""
    for document in of_kind(documents, "Deployment"):
        spec = document["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        if container["name"] == "medreward":
            yield document, spec, container


def sources(spec: Document) -> list[Document]:
    """The volumes of a pod, and what is projected into them."""
    volumes: list[Document] = spec.get("volumes", [])
    return volumes + [s for v in volumes for s in v.get("projected", {}).get("sources", [])]


def variables(container: Document) -> dict[str, str]:
    """The environment of a container, secrets apart."""
    return {one["name"]: one.get("value", "") for one in container.get("env", [])}


def has_gpu(container: Document) -> bool:
    """Whether a container asks for a GPU."""
    return any("gpu" in resource for resource in container["resources"]["limits"])


def test_names_are_those_that_dns_takes_and_each_is_one_resources(
    documents: list[Document],
) -> None:
    """At most 63 characters long; a second resource of a name would replace the first."""
    names = [(d["apiVersion"], d["kind"], d["metadata"]["name"]) for d in documents]

    assert len(names) == len(set(names))
    assert [name for _, _, name in names if not DNS_NAME.fullmatch(name)] == []


def test_selectors_find_their_pods(documents: list[Document]) -> None:
    """Those of deployments their own alone, and those of services and budgets some."""
    pods = [metadata["labels"] for _, metadata, _ in pod_specs(documents)]
    for document in of_kind(documents, "Deployment"):
        wanted = document["spec"]["selector"]["matchLabels"]
        own = document["spec"]["template"]["metadata"]["labels"]
        found = [labels for labels in pods if wanted.items() <= labels.items()]
        assert found == [own]
    for document in of_kind(documents, "Service", "PodDisruptionBudget"):
        selector = document["spec"]["selector"]
        wanted = selector.get("matchLabels", selector)
        assert any(wanted.items() <= labels.items() for labels in pods), document["metadata"]


def test_services_lead_to_ports_that_there_are(documents: list[Document]) -> None:
    """By their names, at most 15 characters long; none but the private ones to the admin port."""
    for service in of_kind(documents, "Service"):
        leads = {port["targetPort"] for port in service["spec"]["ports"]}
        is_private = service["metadata"]["name"].endswith("-metrics")
        assert ("admin" in leads) == is_private
        assert not is_private or service["spec"]["type"] == "ClusterIP"
        wanted = service["spec"]["selector"]
        for _, metadata, spec in pod_specs(documents):
            if wanted.items() <= metadata["labels"].items():
                names = {p["name"] for c in containers(spec) for p in c.get("ports", [])}
                assert all(PORT_NAME.fullmatch(name) for name in names)
                assert leads <= names


def test_mounts_have_volumes_and_volumes_are_mounted(documents: list[Document]) -> None:
    """A mount of nothing is refused, and a volume of nobody is a mistake."""
    for name, _, spec in pod_specs(documents):
        volumes = {volume["name"] for volume in spec.get("volumes", [])}
        mounted = [m for c in containers(spec) for m in c.get("volumeMounts", [])]
        assert {mount["name"] for mount in mounted} == volumes, name
        paths = [mount["mountPath"] for mount in mounted]
        assert len(paths) == len(set(paths)), name


def references(spec: Document) -> Iterator[tuple[str, str]]:
    """What a pod names: kind and name."""
    for secret in spec.get("imagePullSecrets", []):
        yield "Secret", secret["name"]
    for source in sources(spec):
        if "secret" in source:
            yield "Secret", source["secret"].get("secretName") or source["secret"]["name"]
        if "configMap" in source:
            yield "ConfigMap", source["configMap"]["name"]
        if "persistentVolumeClaim" in source:
            yield "PersistentVolumeClaim", source["persistentVolumeClaim"]["claimName"]


def test_what_pods_name_is_there_or_declared(documents: list[Document]) -> None:
    """Secrets, config maps and claims: made by the chart, or said to be somebody's own."""
    made = {(d["kind"], d["metadata"]["name"]) for d in documents}
    for name, _, spec in pod_specs(documents):
        for kind, referred in references(spec):
            assert (kind, referred) in made or referred in DECLARED[kind], (name, kind, referred)
        account = spec["serviceAccountName"]
        assert account == "default" or ("ServiceAccount", account) in made


def test_secrets_that_are_mounted_have_their_keys(documents: list[Document]) -> None:
    """A key that a secret lacks keeps the pod from starting."""
    data = {d["metadata"]["name"]: set(d["data"]) for d in of_kind(documents, "Secret")}
    for name, _, spec in pod_specs(documents):
        for source in sources(spec):
            secret = source.get("secret", {})
            held = data.get(secret.get("secretName") or secret.get("name", ""))
            if held is not None:
                assert {item["key"] for item in secret["items"]} <= held, name


def test_variables_are_settings_and_no_secrets(documents: list[Document]) -> None:
    """A misspelt one would stop the service; secrets are files, which no listing of a pod shows."""
    known = {f"MEDREWARD_{name.upper()}" for name in Settings.model_fields} | NO_SETTINGS
    for _, container in all_containers(documents):
        assert {name for name in variables(container) if name.startswith("MEDREWARD_")} <= known
        for variable in container.get("env", []):
            assert "valueFrom" not in variable
            assert "@" not in variable["value"] or re.search(r"//\w+@", variable["value"])
            assert not re.search(r"_(KEYS?|TOKEN|PASSWORD|SECRET)$", variable["name"])
        assert "envFrom" not in container


def test_images_are_pinned_and_limits_not_below_requests(documents: list[Document]) -> None:
    """A tag or digest; memory has a limit everywhere; GPUs are asked for and limited alike."""
    for name, container in all_containers(documents):
        image, _, tag = container["image"].rpartition(":")
        assert image, name
        assert tag not in {"", "latest"}, name
        requests, limits = container["resources"]["requests"], container["resources"]["limits"]
        assert "memory" in limits, name
        for resource, limit in limits.items():
            assert amount(requests.get(resource, 0)) <= amount(limit), (name, resource)
        extended = {resource for resource in requests.keys() | limits.keys() if "/" in resource}
        assert all(requests[resource] == limits[resource] for resource in extended)


def test_pods_are_restricted(documents: list[Document]) -> None:
    """As the Pod Security Standard of that name asks, hooks too."""
    for name, _, spec in pod_specs(documents):
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["runAsUser"] == UID
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        for volume in spec["volumes"]:
            assert "hostPath" not in volume
        for container in containers(spec):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context["runAsNonRoot"] is True
            assert context["privileged"] is False
            # The runtime of some clusters has to write to a root beside a GPU; nothing else does.
            assert context["readOnlyRootFilesystem"] or has_gpu(container)
            assert not any("hostPort" in port for port in container.get("ports", []))


def test_what_a_pod_writes_has_a_place(documents: list[Document]) -> None:
    """Home, temporary files and caches lie on volumes with an end."""
    for _, _, spec in pod_specs(documents):
        for container in containers(spec):
            mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
            for name, value in variables(container).items():
                if name == "HOME" or name.endswith(("_HOME", "_ROOT", "_CACHE_DIR")):
                    assert any(value.startswith(mount) for mount in mounts)
        for volume in spec["volumes"]:
            if "emptyDir" in volume:
                assert "sizeLimit" in volume["emptyDir"]


def test_probes_ask_what_the_service_answers(documents: list[Document]) -> None:
    """On the admin port, with time-outs of their own, and an end to the start."""
    for document, _, container in services(documents):
        probes = {name: container[f"{name}Probe"] for name in ("startup", "readiness", "liveness")}
        for probe in probes.values():
            assert probe["httpGet"]["port"] == "admin"
            assert probe["httpGet"]["path"] in PROBES
            assert probe["timeoutSeconds"] > 1
        patience = {n: p["periodSeconds"] * p["failureThreshold"] for n, p in probes.items()}
        assert patience["liveness"] > patience["readiness"]
        assert document["spec"]["progressDeadlineSeconds"] > patience["startup"] + 60


def test_pods_have_the_time_to_drain(documents: list[Document]) -> None:
    """What the service is told fits into what Kubernetes gives."""
    for _, spec, container in services(documents):
        environment = variables(container)
        delay_s = float(environment["MEDREWARD_DRAIN_DELAY_S"])
        needed_s = float(environment["MEDREWARD_DRAIN_S"]) + delay_s
        assert spec["terminationGracePeriodSeconds"] >= needed_s + 10
        # While it leaves, its probes turn it out before it closes.
        assert delay_s >= 5


def given_settings(container: Document) -> dict[str, Any]:
    """The settings in a container's environment."""
    return {
        name.removeprefix("MEDREWARD_").lower(): value
        for name, value in variables(container).items()
        if name.startswith("MEDREWARD_")
    }


def test_a_pod_has_the_memory_that_its_profiles_language_model_needs(
    documents: list[Document],
) -> None:
    """A request of as much too, or the node could run out of it."""
    for _, _, container in services(documents):
        values = given_settings(container) | {"secrets_dir": None, "api_keys": "k"}
        llm = Settings(**{"profile": "embedded", **values}).llm_choice
        model = CATALOGUE.get(llm.model) if llm else None
        if isinstance(model, SplitModel):
            for told in ("requests", "limits"):
                assert amount(container["resources"][told]["memory"]) > model.process_size


def test_the_service_takes_the_settings_that_it_is_given(
    documents: list[Document], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Environment and mounted secrets together make sound settings in every pod."""
    for document, spec, container in services(documents):
        folder = tmp_path / document["metadata"]["name"]
        folder.mkdir()
        (secrets,) = [v for v in spec["volumes"] if v["name"] == "secrets"]
        for source in secrets["projected"]["sources"]:
            for item in source["secret"]["items"]:
                (folder / item["path"]).write_text("x" * 40)
        values = given_settings(container)
        monkeypatch.setenv("MEDREWARD_SECRETS_DIR", str(folder))
        settings = Settings(**values | {"secrets_dir": str(folder)})
        assert settings.admin_port == 9464
        assert settings.drain_token is not None
        assert settings.api_keys or settings.allow_unauthenticated


def test_every_pod_is_behind_a_network_policy(documents: list[Document]) -> None:
    """Closed in both directions, and then opened to what it needs: by port, and inwards by name."""
    policies = of_kind(documents, "NetworkPolicy")
    for policy in policies:
        assert all(rule["from"] and rule["ports"] for rule in policy["spec"].get("ingress", []))
        assert all(rule["ports"] for rule in policy["spec"].get("egress", []))
    if not policies:
        return
    (closing,) = [p for p in policies if p["metadata"]["name"].endswith("-deny")]
    assert closing["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert not {"ingress", "egress"} & closing["spec"].keys()
    for name, metadata, _ in pod_specs(documents):
        of_pod = [
            policy
            for policy in policies
            if policy["spec"]["podSelector"]["matchLabels"].items() <= metadata["labels"].items()
        ]
        assert closing in of_pod, name
        assert len(of_pod) > 1, name


def test_offline_means_that_nothing_outside_is_reached() -> None:
    """Neither by policy nor by setting."""
    documents = rendered("air-gapped.yaml")
    for policy in of_kind(documents, "NetworkPolicy"):
        for rule in policy["spec"].get("egress", []):
            assert rule["to"], policy["metadata"]["name"]
    for _, _, container in services(documents):
        told = variables(container)
        assert told["HF_HUB_OFFLINE"] == told["TRANSFORMERS_OFFLINE"] == "1"


def test_what_scales_is_scaled_by_one_thing(documents: list[Document]) -> None:
    """Its target exists and has no number of its own, which each rollout would put back."""
    deployments = {d["metadata"]["name"]: d for d in of_kind(documents, "Deployment")}
    targets = [
        d["spec"]["scaleTargetRef"]["name"]
        for d in of_kind(documents, "HorizontalPodAutoscaler", "ScaledObject")
    ]
    assert len(targets) == len(set(targets))
    for name, deployment in deployments.items():
        assert ("replicas" in deployment["spec"]) == (name not in targets)
    assert set(targets) <= deployments.keys()


def test_budgets_let_a_node_be_drained(documents: list[Document]) -> None:
    """One of the two numbers, and never more pods than there are."""
    for budget in of_kind(documents, "PodDisruptionBudget"):
        assert len({"minAvailable", "maxUnavailable"} & budget["spec"].keys()) == 1
        assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_a_gpu_is_never_asked_for_twice_in_a_rollout(documents: list[Document]) -> None:
    """The old pod goes before the new one comes, or there would be no GPU for it."""
    for document in of_kind(documents, "Deployment"):
        container = document["spec"]["template"]["spec"]["containers"][0]
        strategy = document["spec"]["strategy"]
        if has_gpu(container) and strategy["type"] == "RollingUpdate":
            assert strategy["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}


def test_another_judge_has_the_api_begin_anew() -> None:
    """It keeps to the engines that it has met; a rollout of it goes with a change of theirs."""

    def checksum(*options: str) -> str:
        (api,) = [
            d
            for d in of_kind(rendered("", NEWEST, NEWEST_KUBERNETES, *options), "Deployment")
            if d["metadata"]["name"].endswith("-api")
        ]
        return str(api["spec"]["template"]["metadata"]["annotations"]["checksum/models"])

    other = "roles.judge.model.revision=" + "a" * 40
    assert checksum() == checksum()
    assert checksum() != checksum("--set", other)


def test_hooks_run_what_is_in_the_chart() -> None:
    """Three tests, as scripts that are valid Python."""
    pods = of_kind(rendered(""), "Pod")

    assert sorted(pod["metadata"]["name"].rpartition("-")[2] for pod in pods) == [
        "metrics",
        "ready",
        "verdict",
    ]
    for pod in pods:
        compile(pod["spec"]["containers"][0]["args"][0], "hook", "exec")
        assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"


def test_the_versions_agree() -> None:
    """The chart's with the service's."""
    import medreward  # noqa: PLC0415 - only here

    chart = (CHART / "Chart.yaml").read_text("utf-8")
    assert f"appVersion: {medreward.__version__}" in chart
