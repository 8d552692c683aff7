"""The image of the service: small, not root, with a root that cannot be written to, and it drains."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

import medreward
from tests.deploy.helm.conftest import of_kind, rendered
from tests.deploy.images.containers import BASE, MARKS, attempt, build, make_base, run, wait_for

pytestmark = MARKS

IMAGE = f"medreward:{medreward.__version__}"
LOCAL = f"localhost/{IMAGE}"
NAME = "medreward-image-test"
KEY = {"Authorization": "Bearer k"}
SAMPLE = {"response": "<answer>Lower left lobe</answer>", "reference": "left lower lobe"}
MIB = 1024**2


@pytest.fixture(scope="module", autouse=True)
def image() -> None:
    """The image, built by the real Dockerfile on a stand-in for its base."""
    make_base()
    build("deploy/service.Dockerfile", IMAGE)


@pytest.fixture
def container() -> Iterator[str]:
    """A container as hardened as Compose and the chart make it; gives where it listens."""
    run("podman", "rm", "--force", "--ignore", NAME)
    run(
        *("podman", "run", "--detach", "--name", NAME, "--read-only", "--cap-drop=ALL"),
        *("--security-opt", "no-new-privileges", "--tmpfs", "/tmp", "--memory", "512m"),  # noqa: S108 - in a container
        *("-p", "127.0.0.1:28080:8080", "-p", "127.0.0.1:29464:9464"),
        *("-e", "MEDREWARD_JUDGE=scripted", "-e", "MEDREWARD_EMBEDDER=hashed"),
        *("-e", "MEDREWARD_API_KEYS=k", LOCAL),
    )
    wait_for(lambda: httpx.get("http://127.0.0.1:29464/readyz").status_code == 200)
    yield "http://127.0.0.1:28080"
    run("podman", "rm", "--force", "--ignore", NAME)


def test_it_is_small() -> None:
    """What it adds to its base is 130 MiB at the most: no torch, no compiler, no pip."""
    sizes = {
        name: json.loads(run("podman", "image", "inspect", name))[0]["Size"]
        for name in (LOCAL, BASE)
    }
    there = run(
        "podman", "run", "--rm", "--network=none", "--entrypoint=ls", LOCAL, "/opt/medreward/bin"
    )

    assert (sizes[LOCAL] - sizes[BASE]) / MIB < 130
    assert "medreward" in there
    assert "torch" not in there


def test_what_is_in_it_can_be_listed() -> None:
    """Every Python package with its version, for whoever keeps track of them."""
    code = "import importlib.metadata as m; print(*sorted(d.name for d in m.distributions()))"
    listed = run(
        "podman", "run", "--rm", "--network=none", "--entrypoint=python", LOCAL, "-c", code
    )

    assert {"medreward", "fastapi", "redis", "numpy"} <= set(listed.split())


def test_it_scores_without_root_and_without_writing(container: str) -> None:
    """Uid 10001 with a name, no capability, and a root that refuses."""
    reply = httpx.post(f"{container}/reward", json={"samples": [SAMPLE]}, headers=KEY)
    who = run("podman", "exec", NAME, "id")
    capabilities = run("podman", "exec", NAME, "grep", "CapEff", "/proc/self/status")
    wrote = attempt("podman", "exec", NAME, "touch", "/x")

    assert reply.json()["results"][0]["status"] == "scored"
    assert httpx.post(f"{container}/reward", json={"samples": [SAMPLE]}).status_code == 401
    assert httpx.get(f"{container}/metrics", headers=KEY).status_code == 404
    assert "uid=10001(medreward)" in who
    assert capabilities.split()[1].strip("0") == ""
    assert wrote.returncode != 0


@pytest.mark.usefixtures("container")
def test_its_health_check_is_that_of_its_dockerfile() -> None:
    """Asked by hand, since nothing runs its clock here."""
    run("podman", "healthcheck", "run", NAME)


@pytest.mark.usefixtures("container")
def test_it_drains_and_ends_in_order() -> None:
    """SIGTERM reaches the service itself, which ends with 0."""
    began = time.monotonic()
    run("podman", "stop", "--time", "30", NAME)
    took_s = time.monotonic() - began
    log = attempt("podman", "logs", NAME).stderr
    state = json.loads(run("podman", "inspect", NAME))[0]["State"]

    assert state["ExitCode"] == 0
    assert took_s < 15
    assert '"drained"' in log


def test_a_service_open_to_all_does_not_start() -> None:
    """Without a key it says what to set."""
    ran = attempt(
        "podman", "run", "--rm", "--network=none", "-e", "MEDREWARD_JUDGE=scripted", LOCAL
    )

    assert ran.returncode != 0
    assert "MEDREWARD_API_KEYS" in ran.stdout + ran.stderr


def test_the_charts_api_pod_runs(tmp_path: Path) -> None:
    """As the chart renders it, with its probes, volumes and restrictions; secrets as a folder here."""
    (pod,) = [
        d for d in of_kind(rendered(""), "Deployment") if d["metadata"]["name"].endswith("-api")
    ]
    pod = yaml.safe_load(yaml.safe_dump(pod))
    spec = pod["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    secrets = tmp_path / "secrets"
    secrets.mkdir(mode=0o755)
    for name in ("medreward_api_keys", "medreward_drain_token", "medreward_secret"):
        (secrets / name).write_text("k")
    tmp_path.chmod(0o755)
    # podman knows neither projected volumes nor engines that are elsewhere.
    for volume in spec["volumes"]:
        if "projected" in volume:
            del volume["projected"]
            volume["hostPath"] = {"path": str(secrets), "type": "Directory"}
    container["image"] = LOCAL
    container["imagePullPolicy"] = "Never"
    container["ports"] = [
        {**port, "hostPort": 20000 + port["containerPort"]} for port in container["ports"]
    ]
    stand_ins = {"JUDGE": "scripted", "EMBEDDER": "hashed"}
    container["env"] += [{"name": f"MEDREWARD_{k}", "value": v} for k, v in stand_ins.items()]
    pod["spec"]["replicas"] = 1
    for key in ("topologySpreadConstraints", "serviceAccountName"):
        spec.pop(key)
    file = tmp_path / "pod.yaml"
    file.write_text(yaml.safe_dump(pod), "utf-8")
    for folder in list(tmp_path.parents)[:3]:
        folder.chmod(0o755)

    run("podman", "play", "kube", "--replace", str(file))
    try:
        wait_for(lambda: httpx.get("http://127.0.0.1:29464/readyz").status_code == 200)
        reply = httpx.post("http://127.0.0.1:28080/reward", json={"samples": [SAMPLE]}, headers=KEY)
        drained = httpx.post("http://127.0.0.1:29464/drain", headers=KEY, timeout=60)
    finally:
        attempt("podman", "play", "kube", "--down", str(file))

    assert reply.json()["results"][0]["status"] == "scored"
    assert drained.json() == {"status": "drained", "in_flight": 0}
