"""`docker compose --profile cpu up`, by podman: real models answer, with and without Redis.

They are those of `embedded-small`: the language model is a gigabyte to download at each build.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import medreward
from tests.deploy.images.containers import (
    BASE,
    MARKS,
    ROOT,
    attempt,
    build,
    has_image,
    make_base,
    run,
    wait_for,
)

pytestmark = MARKS

IMAGE = f"medreward-embedded:{medreward.__version__}"
PORT = "28081"
PROFILE = "embedded-small"
PODMAN_COMPOSE = str(Path(sys.executable).with_name("podman-compose"))
SAID = "<X_RAY><thinking>hm</thinking><answer>{}</answer>"
CACHE_STAND_IN = f"""\
FROM {BASE}
RUN apt-get update -qq \\
    && apt-get install -y -qq --no-install-recommends redis-server \\
    && ln -s /usr/bin/redis-server /usr/local/bin/valkey-server \\
    && ln -s /usr/bin/redis-cli /usr/local/bin/valkey-cli
"""
"""Valkey's image cannot be had without a registry; Debian's Redis does the same here."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compose file as this podman can read it, with secrets, and the images that it names."""
    make_base()
    build(
        "deploy/embedded.Dockerfile",
        IMAGE,
        # From wherever this machine's pip has it.
        *("--build-arg", "TORCH_INDEX=", "--build-arg", f"PROFILE={PROFILE}"),
    )
    folder = tmp_path_factory.mktemp("compose")
    text = (ROOT / "docker-compose.yml").read_text("utf-8")
    # Debian 12's podman knows no interval for the start.
    (folder / "docker-compose.yml").write_text(re.sub(r".*start_interval.*\n", "", text), "utf-8")
    (folder / "deploy").mkdir()
    script = (ROOT / "deploy" / "make_secrets.sh").read_text("utf-8")
    (folder / "deploy" / "make_secrets.sh").write_text(script, "utf-8")
    run("sh", str(folder / "deploy" / "make_secrets.sh"))
    (cache,) = re.findall(r"REDIS_IMAGE:-([^}]+)", text)
    if not has_image(cache):
        (folder / "cache.Dockerfile").write_text(CACHE_STAND_IN, "utf-8")
        build(str(folder / "cache.Dockerfile"), f"docker.io/{cache}")
    return folder


def compose(folder: Path, *command: str) -> str:
    """Run podman-compose there."""
    file = str(folder / "docker-compose.yml")
    variables = {"MEDREWARD_HTTP_PORT": PORT, "CPU_PROFILE": PROFILE}
    return run(PODMAN_COMPOSE, "-f", file, *command, **variables, timeout_s=300)


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    """The service, once its models are loaded."""
    compose(folder, "--profile", "cpu", "up", "--detach", "--no-build")
    try:
        url = f"http://127.0.0.1:{PORT}"
        wait_for(lambda: httpx.get(f"{url}/readyz").status_code == 200, 300)
        yield url
    finally:
        attempt(
            PODMAN_COMPOSE, "-f", str(folder / "docker-compose.yml"), "--profile", "cpu", "down"
        )


def scored(url: str, folder: Path, answers: dict[str, str]) -> list[dict[str, object]]:
    """Score answers against references with the key that was made; all of them have to be."""
    key = (folder / "secrets" / "medreward_api_keys").read_text()
    samples = [
        {"response": SAID.format(answer), "reference": reference, "modality": "X_RAY"}
        for answer, reference in answers.items()
    ]
    reply = httpx.post(
        f"{url}/reward",
        json={"samples": samples},
        headers={"Authorization": f"Bearer {key}"},
        timeout=60,
    )
    results: list[dict[str, object]] = reply.json()["results"]
    assert {result["status"] for result in results} == {"scored"}
    return results


def test_real_models_tell_left_from_right(url: str, folder: Path) -> None:
    """With the key that the script made, and not without."""
    right, wrong = scored(
        url, folder, {"Lower left lobe": "left lower lobe", "right lower lobe": "left lower lobe"}
    )

    assert float(str(right["reward"])) > 0.9
    assert float(str(wrong["reward"])) < 0.3
    assert httpx.post(f"{url}/reward", json={"samples": []}).status_code == 401


def test_redis_may_go_and_come_back(url: str, folder: Path) -> None:
    """No sample is lost meanwhile, and readiness stays."""
    container = "medreward_redis_1"
    for number, command in enumerate(("stop", "start")):
        run("podman", command, container)
        for n in range(5):
            scored(url, folder, {f"nodule of {number}{n} mm": "nodule"})
        assert httpx.get(f"{url}/readyz").status_code == 200
    wait_for(lambda: "Redis: answering" in httpx.get(f"{url}/readyz").json()["cache"])


def test_health_checks_say_so(url: str, folder: Path) -> None:
    """Of the service and of its cache, asked by hand."""
    del url, folder
    for container in ("medreward_cpu_1", "medreward_redis_1"):
        run("podman", "healthcheck", "run", container)
