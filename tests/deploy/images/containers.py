"""buildah and podman, as far as they go in a container without systemd."""

import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.programs import PACKAGES_FOR_IMAGES

MARKS = [
    pytest.mark.images,
    pytest.mark.needs("podman", *PACKAGES_FOR_IMAGES),
    pytest.mark.skipif(os.getuid() != 0, reason="buildah and podman need root here"),
]
ROOT = Path(__file__).parents[3]
BASE = "docker.io/library/python:3.11-slim-bookworm"
BUILD_TIMEOUT_S = 1500
CONFIGURATION = """\
[containers]
default_ulimits=["nofile=20000:20000","nproc=20000:20000"]
[engine]
runtime="runc"
cgroup_manager="cgroupfs"
events_logger="file"
[network]
network_backend="netavark"
"""
"""crun needs another kind of cgroups, and the default network gives no names."""


def environment() -> dict[str, str]:
    """What podman and buildah need to know."""
    file = Path(tempfile.gettempdir()) / "medreward-containers.conf"
    file.write_text(CONFIGURATION, "utf-8")
    return {**os.environ, "CONTAINERS_CONF": str(file)}


def attempt(
    *command: str, timeout_s: float = 120, **variables: str
) -> "subprocess.CompletedProcess[str]":
    """Run one command, which may fail."""
    return subprocess.run(  # noqa: S603 - tools of the system
        command,
        cwd=ROOT,
        env=environment() | variables,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def run(*command: str, timeout_s: float = 120, **variables: str) -> str:
    """Run one command; gives what it printed.

    Raises:
        AssertionError: it failed.
    """
    ran = attempt(*command, timeout_s=timeout_s, **variables)
    assert ran.returncode == 0, ran.stdout + ran.stderr[-3000:]
    return ran.stdout.strip()


def has_image(name: str) -> bool:
    """Whether an image is here."""
    return run("podman", "images", "--quiet", name) != ""


def make_base() -> None:
    """Make a stand-in for the base, under its name: the same Debian and Python, from Debian alone."""
    if has_image(BASE):
        return
    with tempfile.TemporaryDirectory() as folder:
        tar = f"{folder}/base.tar"
        packages = "ca-certificates,python3-minimal,python3-pip,python3-venv"
        run(
            *("mmdebstrap", "--quiet", "--variant=minbase", f"--include={packages}"),
            *("bookworm", tar),
            timeout_s=600,
        )
        container = run("buildah", "from", "scratch")
        run("buildah", "add", "--quiet", container, tar, "/")
        run("buildah", "commit", "--quiet", container, BASE, timeout_s=300)
        run("buildah", "rm", container)


def build(dockerfile: str, image: str, *options: str) -> None:
    """Build an image by its real Dockerfile."""
    # Where this machine's pip looks for wheels, such as the CPU build of torch, the image's does too.
    wheels = os.environ.get("PIP_FIND_LINKS", "")
    mounts = ["-v", f"{wheels}:{wheels}:ro"] if wheels and Path(wheels).is_dir() else []
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as pip:
        pip.write(f"[global]\nfind-links = {wheels}\n" if mounts else "[global]\n")
        pip.flush()
        os.chmod(pip.name, 0o644)  # noqa: PTH101 - read in a container
        run(
            *("buildah", "bud", "--format", "docker", "--layers", "--pull-never"),
            *("--isolation", "chroot", "--network", "host"),
            *("-v", "/etc/ssl/certs:/etc/ssl/certs:ro", "-v", f"{pip.name}:/etc/pip.conf:ro"),
            *mounts,
            *options,
            *("-f", dockerfile, "-t", image, "."),
            timeout_s=BUILD_TIMEOUT_S,
        )


def wait_for(is_so: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until something is so."""
    give_up_s = time.monotonic() + seconds
    while True:
        try:
            if is_so():
                return
        except httpx.HTTPError:
            pass
        assert time.monotonic() < give_up_s
        time.sleep(0.2)
