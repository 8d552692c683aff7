"""The Dockerfiles: what a linter says, who runs in them, and what they are pinned to."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import medreward
from medreward.settings import Settings

ROOT = Path(__file__).parents[3]
DOCKERFILES = sorted((ROOT / "deploy").glob("*.Dockerfile"))


@pytest.fixture(params=DOCKERFILES, ids=lambda path: path.stem)
def dockerfile(request: pytest.FixtureRequest) -> Path:
    """Each of them."""
    path: Path = request.param
    return path


def test_hadolint_has_nothing_to_say(dockerfile: Path) -> None:
    """Without exceptions."""
    hadolint = Path(sys.executable).with_name("hadolint")
    linted = subprocess.run(  # noqa: S603 - a tool of the development environment
        [str(hadolint), str(dockerfile)], capture_output=True, text=True, timeout=60, check=False
    )

    assert linted.returncode == 0, linted.stdout


def test_it_runs_as_a_user_and_a_process(dockerfile: Path) -> None:
    """Kubernetes can tell from the number that it is not root; no shell holds back a signal."""
    text = dockerfile.read_text("utf-8")

    assert "useradd --uid 10001 --gid 10001" in text
    assert re.findall(r"^USER (.+)$", text, re.MULTILINE) == ["10001:10001"]
    assert text.endswith('ENTRYPOINT ["medreward"]\nCMD ["serve"]\n')
    assert "STOPSIGNAL SIGTERM" in text
    assert re.search(r"HEALTHCHECK .*\\\n\s+CMD \[", text)


def test_it_says_what_it_is_and_what_it_is_made_of(dockerfile: Path) -> None:
    """One argument names the base, with a tag; labels hold name, licence and version."""
    text = dockerfile.read_text("utf-8")
    (base,) = re.findall(r"^ARG BASE=(.+)$", text, re.MULTILINE)

    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) == {"${BASE}"}
    assert ":" in base
    assert not base.endswith(":latest")
    for label in ("title", "description", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{label}=" in text
    assert f"ARG VERSION={medreward.__version__}\n" in text


def test_its_variables_are_settings(dockerfile: Path) -> None:
    """And it listens beyond itself, with probes on their port."""
    text = dockerfile.read_text("utf-8")
    arguments = dict(re.findall(r"^ARG ([A-Z_]+)=(\S+)", text, re.MULTILINE))
    variables = dict(re.findall(r"(MEDREWARD_[A-Z_]+)=(\S+)", text))
    values: dict[str, Any] = {
        name.removeprefix("MEDREWARD_").lower(): re.sub(
            r'"?\$\{(\w+)\}"?', lambda found: arguments[found[1]], value
        )
        for name, value in variables.items()
    }
    # Ones in its header's examples are settings too.
    settings = Settings(**values, api_keys="k")

    assert settings.host == "0.0.0.0"  # noqa: S104 - inside a container
    assert settings.admin_port == 9464


@pytest.mark.parametrize(("file", "extra"), [("service.txt", None), ("embedded.txt", "embedded")])
def test_what_it_installs_is_pinned(file: str, extra: str | None) -> None:
    """Everything that pyproject.toml asks for has an exact version, but for torch and our own."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = [*project["dependencies"]]
    if extra is not None:
        wanted += project["optional-dependencies"][extra]
    names = {re.split(r"[\[>=;<]", requirement)[0].lower() for requirement in wanted}
    text = (ROOT / "deploy" / "requirements" / file).read_text("utf-8")
    pinned = set(re.findall(r"^([A-Za-z0-9._-]+)==", text, re.MULTILINE))

    assert names - pinned <= {"torch", "medreward-verifier"}
    if extra is None:
        lines = [line for line in text.splitlines() if line and not line.startswith(" ")]
        assert all("==" in line for line in lines)
        assert text.count("--hash=sha256:") >= len(lines)


def test_compose_builds_each_of_them() -> None:
    """Under the name that it runs them by."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]
    built = {service["build"]["dockerfile"] for service in services.values() if "build" in service}

    assert built == {f"deploy/{path.name}" for path in DOCKERFILES}
