"""What a cluster refuses, or takes and then fails at, and no schema finds."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from medreward.cli.environment import NO_SETTINGS
from medreward.engines.models import CATALOGUE, SplitModel
from medreward.http.routes.probes import PROBES
from medreward.settings import Settings
from tests.deploy.helm.conftest import (
    CHART,
    EVERY_VALUES,
    NEWEST,
    NEWEST_KUBERNETES,
    Document,
    of_kind,
    pod_specs,
    rendered,
    run_helm,
)

pytestmark = pytest.mark.xdist_group("helm")

LOST_ENGINE_S = Settings.model_fields["lost_engine_s"].default

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
        for container in spec["containers"]:
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
        for container in containers(spec):
            paths = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
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
        # OpenShift chooses it, where the values leave it out.
        assert spec["securityContext"].get("runAsUser", UID) == UID
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
    """The settings in a container's environment, where objects are JSON."""
    return {
        name.removeprefix("MEDREWARD_").lower(): json.loads(value) if value[:1] == "{" else value
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
        assert container["name"] in {"medreward", "valkey"}
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


def role_of(document: Document) -> str:
    """The role that a deployment is of."""
    return str(document["metadata"]["labels"]["app.kubernetes.io/component"])


def test_a_rollout_may_take_as_long_as_the_slowest_pod_that_it_waits_for(
    documents: list[Document],
) -> None:
    """A download included; the role that clients reach is ready when its engines are."""
    longest = {}
    for document, spec, container in services(documents):
        probe = container["startupProbe"]
        start_s = probe["periodSeconds"] * probe["failureThreshold"]
        downloads = any(c["name"] == "download" for c in spec.get("initContainers", []))
        longest[role_of(document)] = start_s * (2 if downloads else 1)
    for document, _, _ in services(documents):
        waits_for = longest if role_of(document) == "api" else {role_of(document): 0}
        needed_s = max(longest[role] for role in waits_for)
        assert document["spec"]["progressDeadlineSeconds"] > needed_s + 60


def test_an_engine_that_is_still_starting_is_not_lost(documents: list[Document]) -> None:
    """A pod may take its time to start before the service takes its engine for lost."""
    for document, _, container in services(documents):
        lost_s = float(variables(container).get("MEDREWARD_LOST_ENGINE_S", LOST_ENGINE_S))
        probe = container["startupProbe"]
        is_api = document["metadata"]["labels"]["app.kubernetes.io/component"] == "api"

        assert is_api or probe["periodSeconds"] * probe["failureThreshold"] <= lost_s


def test_the_hubs_token_is_where_it_is_looked_for(documents: list[Document]) -> None:
    """In every pod whose model comes from the hub, and in no other."""
    for document, spec, container in services(documents):
        (volume,) = [v for v in spec["volumes"] if v["name"] == "secrets"]
        held = {
            item["path"]
            for source in volume["projected"]["sources"]
            for item in source["secret"]["items"]
        }
        told = variables(container).get("HF_TOKEN_PATH")
        assert (told is not None) == ("hub-token" in held), document["metadata"]["name"]
        assert told in {None, "/run/secrets/medreward/hub-token"}


def test_a_gated_model_gets_its_token_in_one_pod_too() -> None:
    """The service and the download before it."""
    ((_, spec, container),) = services(rendered("gated-single.yaml"))
    (download,) = spec["initContainers"]

    assert variables(container)["HF_TOKEN_PATH"] == "/run/secrets/medreward/hub-token"
    (mount,) = [m for m in download["volumeMounts"] if m["name"] == "secrets"]
    assert mount["mountPath"] == variables(download)["HF_TOKEN_PATH"]
    assert mount["subPath"] == "hub-token"


def test_a_model_is_downloaded_before_the_service_by_its_own_pod() -> None:
    """On the same node and claim, through the same proxy, with the same restrictions; there are no jobs."""
    documents = rendered("gated-single.yaml")
    ((_, spec, container),) = services(documents)
    (download,) = spec["initContainers"]
    hub = {m["mountPath"]: m["name"] for m in download["volumeMounts"]}

    assert of_kind(documents, "Job") == []
    assert download["image"] == container["image"]
    assert download["command"][:3] == ["hf", "download", "google/medgemma-27b-text-it"]
    assert hub["/cache"] == "cache"
    assert variables(download)["HF_HOME"] == variables(container)["HF_HOME"]
    assert variables(download)["HTTPS_PROXY"] == variables(container)["HTTPS_PROXY"]
    assert spec["nodeSelector"] == {"accelerator": "h100"}


IMMUTABLE = {
    "Deployment": ("selector",),
    "Job": ("template", "selector"),
    "PersistentVolumeClaim": ("accessModes", "storageClassName", "resources"),
    "Service": ("clusterIP",),
}
"""Fields of a specification that a cluster refuses to change."""


@pytest.mark.parametrize("values", EVERY_VALUES)
def test_the_next_version_of_the_chart_changes_nothing_that_cannot_be_changed(
    values: str, tmp_path: Path
) -> None:
    """Else an upgrade fails with `field is immutable`."""
    newer = tmp_path / "medreward"
    shutil.copytree(CHART, newer)
    text = (newer / "Chart.yaml").read_text("utf-8")
    (newer / "Chart.yaml").write_text(text.replace("ersion: 0.1.0", "ersion: 9.9.9"), "utf-8")
    files = ["--values", str(CHART / "ci" / values)] if values else []
    made = run_helm(NEWEST, "template", "t", str(newer), "--namespace", "ns", *files)
    after = {
        (d["kind"], d["metadata"]["name"]): d
        for d in yaml.load_all(made.stdout, yaml.CSafeLoader)
        if d
    }

    assert "9.9.9" in made.stdout
    for document in rendered(values):
        key = (document["kind"], document["metadata"]["name"])
        for field in IMMUTABLE.get(document["kind"], ()):
            assert after[key]["spec"].get(field) == document["spec"].get(field), key


@pytest.mark.parametrize("values", ["ingress.yaml", "gateway.yaml", "openshift.yaml"])
def test_requests_from_outside_pass_the_policies(values: str) -> None:
    """The controller's namespace or the clients' addresses are let in; pods of other namespaces are not."""
    (policy,) = [
        d
        for d in of_kind(rendered(values), "NetworkPolicy")
        if d["metadata"]["name"].endswith("-api")
    ]
    peers = policy["spec"]["ingress"][0]["from"]

    assert any(peer.get("namespaceSelector") or "ipBlock" in peer for peer in peers)
    assert all(peer.get("namespaceSelector") != {} for peer in peers)


def test_names_are_resolved_wherever_dns_runs(documents: list[Document]) -> None:
    """In pods (on OpenShift at 5353), and on the node's own address."""
    for policy in of_kind(documents, "NetworkPolicy"):
        rules = policy["spec"].get("egress", [])
        dns = [rule for rule in rules if {"port": 53, "protocol": "UDP"} in rule["ports"]]
        if rules:
            (rule,) = dns
            assert {"port": 5353, "protocol": "UDP"} in rule["ports"]
            assert {"namespaceSelector": {}} in rule["to"]
            assert {"ipBlock": {"cidr": "169.254.20.10/32"}} in rule["to"]


def test_no_id_is_asked_for_where_the_platform_chooses_it() -> None:
    """As OpenShift's restricted-v2 wants it, and still not as root."""
    for name, _, spec in pod_specs(rendered("openshift.yaml")):
        for context in [spec["securityContext"], *(c["securityContext"] for c in containers(spec))]:
            assert not {"runAsUser", "runAsGroup", "fsGroup"} & context.keys(), name
            assert context["runAsNonRoot"] is True


def test_a_cluster_without_ipv4_is_served() -> None:
    """Every service asks for IPv6, and every pod listens on it; else on IPv4 alone."""
    documents = rendered("ipv6.yaml")

    for service in of_kind(documents, "Service"):
        assert service["spec"]["ipFamilies"] == ["IPv6"]
        assert service["spec"]["ipFamilyPolicy"] == "SingleStack"
    assert {variables(c)["MEDREWARD_HOST"] for _, _, c in services(documents)} == {"::"}
    assert {variables(c)["MEDREWARD_HOST"] for _, _, c in services(rendered(""))} == {"0.0.0.0"}  # noqa: S104 - inside a pod


@pytest.mark.parametrize("policy", ["PreferDualStack", "RequireDualStack"])
def test_with_both_families_a_pod_listens_on_both(policy: str) -> None:
    """The address of IPv6 takes both."""
    documents = rendered("", NEWEST, NEWEST_KUBERNETES, "--set", f"service.ipFamilyPolicy={policy}")

    assert {variables(c)["MEDREWARD_HOST"] for _, _, c in services(documents)} == {"::"}


def test_a_redis_may_have_an_address_of_ipv6() -> None:
    """In brackets, as in a URL; the policy opens its port."""
    given = (
        *("--set", "redis.enabled=true,redis.mode=sentinel,redis.port=26379"),
        *("--set", "redis.host=[fd00::1],redis.hosts={[fd00::2]:26380}"),
    )
    documents = rendered("", NEWEST, NEWEST_KUBERNETES, *given)
    (api,) = [c for d, _, c in services(documents) if role_of(d) == "api"]
    (policy,) = [
        d for d in of_kind(documents, "NetworkPolicy") if d["metadata"]["name"].endswith("-api")
    ]
    opened = {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}

    assert variables(api)["MEDREWARD_REDIS_URL"] == "redis://[fd00::1]:26379/0"
    assert variables(api)["MEDREWARD_REDIS_HOSTS"] == "[fd00::2]:26380"
    assert {26379, 26380} <= opened


def test_what_is_compiled_is_kept_beside_the_model(documents: list[Document]) -> None:
    """In a volume as large as the model's; in the home only if that one is missing or read-only."""
    for _, spec, container in services(documents):
        told = variables(container)
        mounts = {m["mountPath"]: m["name"] for m in container["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        writable = "/cache" in mounts and not (
            volumes["cache"].get("persistentVolumeClaim", {}).get("readOnly", False)
        )
        for name in (
            *("VLLM_CACHE_ROOT", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"),
            *("XDG_CACHE_HOME", "FLASHINFER_WORKSPACE_BASE", "CUDA_CACHE_PATH"),
        ):
            assert told[name].startswith("/cache/" if writable else "/home/medreward/"), name


def scaled(documents: list[Document], role: str) -> Document:
    """What KEDA is told of a role."""
    (scaling,) = [
        d for d in of_kind(documents, "ScaledObject") if d["metadata"]["name"].endswith(f"-{role}")
    ]
    return scaling


def test_keda_asks_a_prometheus_that_wants_to_know_who_asks() -> None:
    """By a TriggerAuthentication and further metadata, in both triggers."""
    triggers = scaled(rendered("openshift.yaml"), "judge")["spec"]["triggers"]

    assert len(triggers) == 2
    for trigger in triggers:
        assert trigger["authenticationRef"] == {"name": "thanos"}
        assert trigger["metadata"]["authModes"] == "bearer"
        assert trigger["metadata"]["serverAddress"].startswith("https://")


def test_keda_has_the_triggers_that_it_is_given() -> None:
    """Instead of ours; a fallback only if one of them could use it."""
    given = "roles.judge.autoscaling"
    spec = scaled(rendered("extras.yaml"), "embed")["spec"]
    by_cpu = scaled(
        rendered(
            "",
            NEWEST,
            NEWEST_KUBERNETES,
            *("--set", f"{given}.type=keda,{given}.triggers[0].type=cpu"),
            *("--set", f"{given}.triggers[0].metadata.value=60"),
        ),
        "judge",
    )["spec"]

    assert [trigger["type"] for trigger in spec["triggers"]] == ["cron"]
    assert "fallback" in spec
    assert [trigger["type"] for trigger in by_cpu["triggers"]] == ["cpu"]
    assert "fallback" not in by_cpu


def test_containers_hooks_and_objects_of_ones_own_are_added() -> None:
    """Before and beside the service, in its lifecycle, and beside the chart's objects."""
    documents = rendered("extras.yaml")
    (api,) = [d for d, _, _ in services(documents) if role_of(d) == "api"]
    spec = api["spec"]["template"]["spec"]
    (extra,) = [d for d in of_kind(documents, "ConfigMap") if d["metadata"]["name"] == "t-extra"]

    assert [c["name"] for c in spec["initContainers"]] == ["wait"]
    assert [c["name"] for c in spec["containers"]] == ["medreward", "mesh"]
    assert spec["containers"][0]["lifecycle"]["preStop"]["exec"]
    assert spec["containers"][0]["readinessProbe"]["periodSeconds"] == 2
    assert spec["schedulerName"] == "volcano"
    assert api["metadata"]["annotations"] == {"reloader.stakater.com/auto": "true"}
    assert extra["data"] == {"namespace": "ns"}


def test_the_inner_key_is_sent_and_accepted_by_names_of_their_own() -> None:
    """So that a new key can be accepted before it is sent."""
    items = {}
    for document, spec, _ in services(rendered("extras.yaml")):
        (volume,) = [v for v in spec["volumes"] if v["name"] == "secrets"]
        items[role_of(document)] = {
            item["path"]: item["key"]
            for source in volume["projected"]["sources"]
            for item in source["secret"]["items"]
        }

    assert items["api"]["medreward_judge_api_key"] == "inner-key"
    assert items["api"]["medreward_embedder_api_key"] == "inner-key"
    assert items["judge"]["medreward_api_keys"] == "inner-keys"
    assert items["embed"]["medreward_api_keys"] == "inner-keys"


def test_an_api_may_stay_ready_without_its_engines() -> None:
    """Only if that is asked for, and only the api."""
    asked = "api.readyWhenDegraded=true"
    by_role = {
        role_of(d): variables(c).get("MEDREWARD_READY_WHEN_DEGRADED")
        for d, _, c in services(rendered("", NEWEST, NEWEST_KUBERNETES, "--set", asked))
    }

    assert by_role == {"api": "true", "judge": None, "embed": None}


def test_arguments_of_vllm_reach_its_settings() -> None:
    """As the service reads them."""
    (judge,) = [c for d, _, c in services(rendered("production.yaml")) if role_of(d) == "judge"]
    arguments = json.loads(variables(judge)["MEDREWARD_VLLM_ARGUMENTS"])

    assert arguments == {"quantization": "fp8", "max_num_seqs": 256}
    assert Settings(vllm_arguments=arguments).vllm_arguments == arguments
