"""docker-compose.yml: sound by its schema and by a second reader, hardened, and true to the service."""

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from medreward.engines.accelerator import GIB
from medreward.engines.models import CATALOGUE, SplitModel
from medreward.http.routes.probes import PROBES
from medreward.settings import Settings
from tests.programs import path_of

ROOT = Path(__file__).parents[3]
BIN = Path(sys.executable).parent
COMPOSE = ROOT / "docker-compose.yml"
FILE: dict[str, Any] = yaml.safe_load(COMPOSE.read_text("utf-8"))
"""The file, as YAML reads it: anchors resolved, variables not."""
SERVICES: dict[str, dict[str, Any]] = FILE["services"]
OURS = ("cpu", "api", "judge", "embed")
WITH_GPU = ("judge", "embed")
PROFILES = {
    "cpu": {"cpu", "redis"},
    "gpu": {"api", "judge", "embed", "redis", "prometheus", "grafana"},
    "monitoring": {"prometheus", "grafana"},
}


def run(*command: str, **more: Any) -> "subprocess.CompletedProcess[str]":
    """Run a tool of this environment in the root of the repository."""
    return subprocess.run(  # noqa: S603 - tools of the development environment
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False, **more
    )


def test_it_is_a_compose_file() -> None:
    """By the schema of the Compose specification."""
    checked = run(
        f"{BIN}/check-jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE)
    )

    assert checked.returncode == 0, checked.stdout


@pytest.mark.needs("podman")
@pytest.mark.parametrize("profile", PROFILES)
def test_a_second_reader_finds_the_services_of_a_profile(profile: str) -> None:
    """With nothing set, since every variable has a default; podman-compose asks podman for its version."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MEDREWARD", "HF_"))}
    read = run(f"{BIN}/podman-compose", "--profile", profile, "config", env=clean)

    assert read.returncode == 0, read.stderr
    started = {n for n, s in SERVICES.items() if profile in s["profiles"]}
    assert started == PROFILES[profile]
    assert "${" not in read.stdout


def test_a_linter_for_security_has_nothing_to_say() -> None:
    """But for what `.compose-lint.yml` tells it, with reasons."""
    linted = run(f"{BIN}/compose-lint", "docker-compose.yml")

    assert linted.returncode == 0, linted.stdout
    assert "0 issues" in linted.stdout


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_is_hardened(name: str) -> None:
    """No capability, no new privilege, no root, limits, logs with an end, a health check, a tag."""
    service = SERVICES[name]

    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["user"].split(":")[0] != "0"
    assert service["read_only"] is (name not in WITH_GPU)
    assert {"cpus", "memory", "pids"} <= service["deploy"]["resources"]["limits"].keys()
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}
    assert service["healthcheck"]["test"][0] == "CMD"
    assert "privileged" not in service
    assert not any("docker.sock" in str(volume) for volume in service.get("volumes", []))
    # Ports are of this machine alone, unless somebody says otherwise in one place.
    ports = service.get("ports", [])
    bind = "MONITORING_BIND" if name in {"prometheus", "grafana"} else "MEDREWARD_BIND"
    assert all(port.startswith(f"${{{bind}:-127.0.0.1}}:") for port in ports)
    assert not ports or name not in {"judge", "embed", "redis"}
    # A tag that is not the latest; .env may give a digest.
    image = re.fullmatch(r"\$\{[A-Z]+_IMAGE:-(.+):([^:]+)\}", service["image"])
    assert image
    assert image[2] != "latest"


@pytest.mark.parametrize("name", OURS)
def test_variables_and_secrets_are_settings(name: str) -> None:
    """A misspelt one would stop the service at its start."""
    known = set(Settings.model_fields)
    service = SERVICES[name]
    variables = [v for v in service["environment"] if v.startswith("MEDREWARD_")]
    files = [s if isinstance(s, str) else s["target"] for s in service["secrets"]]

    assert {v.removeprefix("MEDREWARD_").lower() for v in variables} <= known
    assert {f.removeprefix("medreward_") for f in files if f.startswith("medreward_")} <= known
    assert "medreward_drain_token" in files
    assert "medreward_api_keys" in files
    assert not any(re.search(r"_(KEYS?|TOKEN|PASSWORD)$", v) for v in service["environment"])


def settings_of(name: str) -> Settings:
    """The settings of a service with nothing set in .env."""
    given = {
        variable.removeprefix("MEDREWARD_").lower(): re.sub(r"\$\{\w+:-(.*?)\}", r"\1", value)
        for variable, value in SERVICES[name]["environment"].items()
        if variable.startswith("MEDREWARD_") and variable != "MEDREWARD_SECRETS_DIR"
    }
    chosen: dict[str, Any] = {setting: value for setting, value in given.items() if value}
    return Settings(allow_unauthenticated=True, **chosen)


def test_the_profile_gpu_is_that_of_one_process() -> None:
    """The same engines, models and device as `medreward serve --profile gpu`, on the same terms."""
    alone, judge, embed = Settings(profile="gpu"), settings_of("judge"), settings_of("embed")
    engines = {name for name in Settings.model_fields if name.startswith(("vllm_", "judge", "llm"))}
    # Named in full, and pinned to a commit.
    named = {"judge_model", "judge_revision"}

    assert (settings_of("api").role, judge.role, embed.role) == ("api", "judge", "embed")
    assert judge.judge_choice == alone.judge_choice
    assert judge.llm_choice == alone.llm_choice
    assert embed.embedder_choice == alone.embedder_choice
    assert judge.torch_device == embed.torch_device == alone.torch_device
    assert judge.model_dump(include=engines - named) == alone.model_dump(include=engines - named)


def test_the_profile_cpu_has_the_memory_that_its_language_model_needs() -> None:
    """With nothing set in .env it is `embedded`; image and container agree on the profile."""
    service, llm = SERVICES["cpu"], settings_of("cpu").llm_choice
    model = CATALOGUE[llm.model if llm else ""]
    limit = service["deploy"]["resources"]["limits"]["memory"]

    assert settings_of("cpu").profile == "embedded"
    assert isinstance(model, SplitModel)
    assert int(limit.removesuffix("g")) * GIB > model.process_size
    assert service["build"]["args"]["PROFILE"] == service["environment"]["MEDREWARD_PROFILE"]


def test_the_embedder_is_loaded_before_the_judge_measures_the_gpu() -> None:
    """In two containers as in one process: the judge takes a share of what is left."""
    assert SERVICES["judge"]["depends_on"] == {"embed": {"condition": "service_healthy"}}


@pytest.mark.parametrize("name", OURS)
def test_a_container_has_the_time_to_drain(name: str) -> None:
    """Ten seconds more than the service is told to take."""
    service = SERVICES[name]
    told = service["environment"]
    needed = float(told["MEDREWARD_DRAIN_S"]) + float(told["MEDREWARD_DRAIN_DELAY_S"])

    assert int(service["stop_grace_period"].removesuffix("s")) >= needed + 10
    asked = service["healthcheck"]["test"][-1]
    assert told["MEDREWARD_ADMIN_PORT"] in asked
    assert "/readyz" in asked


def test_the_example_environment_lists_every_variable_with_its_default() -> None:
    """What stands in .env.example is what is without it."""
    text = COMPOSE.read_text("utf-8")
    used = dict(re.findall(r"\$\{([A-Z0-9_]+):-([^}]*)\}", text))
    example = dict(
        line.split("=", 1)
        for line in (ROOT / ".env.example").read_text("utf-8").splitlines()
        if line and not line.startswith("#")
    )

    assert example == used
    assert "${" not in re.sub(r"\$\{[A-Z0-9_]+:-[^}]*\}", "", text)


@pytest.mark.parametrize("name", OURS)
def test_containers_reach_each_other_and_themselves_without_a_proxy(name: str) -> None:
    """Docker's client may have one injected; requests to neighbours, and health checks, would go there."""
    service = SERVICES[name]
    direct = service["environment"]["NO_PROXY"]

    assert {"localhost", "127.0.0.1", "judge", "embed", "redis"} <= set(direct.split(","))
    assert direct.endswith("${NO_PROXY:-}")
    assert service["environment"]["no_proxy"] == direct
    assert "http.client" in service["healthcheck"]["test"][-1]


def test_no_container_asks_for_more_files_than_its_host_gives() -> None:
    """It would not start under a rootless engine; the service raises its own limit as far as it may."""
    assert not any("ulimits" in service for service in SERVICES.values())


def test_folders_of_the_repository_are_labelled_for_containers() -> None:
    """Or a host with SELinux refuses them; `z`, since several containers read them."""
    for name, service in SERVICES.items():
        for volume in service.get("volumes", []):
            assert not volume.startswith("./") or volume.endswith(":ro,z"), name


def test_secrets_are_made_once_and_kept(tmp_path: Path) -> None:
    """Long, different from each other, and the same after a second time."""
    (tmp_path / "deploy").mkdir()
    script = shutil.copy(ROOT / "deploy" / "make_secrets.sh", tmp_path / "deploy")
    made = []
    for _ in range(2):
        ran = run("/bin/sh", str(script), env={"PATH": os.defpath})
        assert ran.returncode == 0, ran.stderr
        made.append({f.name: f.read_text() for f in (tmp_path / "secrets").iterdir()})
    wanted = {Path(secret["file"]).name for secret in FILE["secrets"].values()}

    assert made[0] == made[1]
    assert made[0].keys() == wanted
    long = [text for name, text in made[0].items() if name != "hf_token"]
    assert all(len(text) >= 32 for text in long)
    assert len(set(long)) == len(long)
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    assert not any(text in ran.stdout for text in long)


def test_secrets_stay_out_of_git_and_of_images() -> None:
    """Neither is asked to remember them."""
    assert "secrets/" in (ROOT / ".gitignore").read_text("utf-8").splitlines()
    assert (ROOT / ".dockerignore").read_text("utf-8").splitlines()[0] == "*"


def test_haproxy_asks_whether_a_replica_is_ready_and_alive() -> None:
    """One that is stuck may still call itself ready."""
    config = (ROOT / "deploy" / "haproxy" / "haproxy.cfg").read_text("utf-8")
    asked = re.findall(
        r"http-check send meth GET uri (\S+)\n\s+http-check expect status 200", config
    )

    assert asked == ["/readyz", "/livez"]
    assert set(asked) <= set(PROBES)


@pytest.mark.needs("haproxy")
def test_haproxy_takes_its_configuration() -> None:
    """By its own check."""
    checked = run(path_of("haproxy"), "-c", "-f", "deploy/haproxy/haproxy.cfg")

    assert checked.returncode == 0, checked.stderr


@pytest.mark.needs("promtool")
def test_prometheus_takes_its_configuration() -> None:
    """With the rules that it names, and the ports that the services have."""
    config = (ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text("utf-8")
    checked = run(
        *(path_of("promtool"), "check", "config", "--syntax-only"),
        "deploy/prometheus/prometheus.yml",
    )

    assert checked.returncode == 0, checked.stderr
    (job,) = yaml.safe_load(config)["scrape_configs"]
    assert set(job["dns_sd_configs"][0]["names"]) == set(OURS)
    assert job["dns_sd_configs"][0]["port"] == 9464
    mounted = SERVICES["prometheus"]["volumes"][0]
    assert mounted == "./deploy/prometheus:/etc/prometheus:ro,z"
    assert (ROOT / "deploy" / "prometheus" / "alerts.yml").exists()
