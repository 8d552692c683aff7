"""What `.ci/pins` asks of the package indexes, and how it reads their answers."""

import re

from tests.deploy.pins import (
    DISTRIBUTIONS,
    INVENTED,
    ROOT,
    Question,
    dockerfiles,
    images,
    questions,
)

PUBLIC = {"download.pytorch.org", "pypi.org", "files.pythonhosted.org", "huggingface.co"}
"""The only package indexes and hubs that a file may name."""


def test_every_dockerfile_and_every_distribution_is_asked_about() -> None:
    """Locked requirements, torch from its own index, and vLLM of a base."""
    asked = questions()
    names = {question.name.partition(":")[0] for question in asked}
    locked = {file for question in asked for file in question.files}

    assert {path.name for path in dockerfiles()} <= names
    assert {f"{folder}/pyproject.toml" for folder in DISTRIBUTIONS} <= names
    assert {f"deploy/requirements/{p.name}" for p in ROOT.glob("deploy/requirements/*")} <= locked
    assert all(q.index for q in asked if q.name.endswith(": torch"))
    assert any(q.requirements.startswith("vllm==") for q in asked)
    assert len(images()) >= 5


def test_the_distributions_are_all_there_are() -> None:
    """Each folder with a pyproject.toml that git keeps."""
    found = {
        str(path.parent.relative_to(ROOT))
        for pattern in ("pyproject.toml", "service/*/pyproject.toml", "clients/*/pyproject.toml")
        for path in ROOT.glob(pattern)
    }

    assert found == set(DISTRIBUTIONS)


def test_a_version_that_nobody_has_is_refused() -> None:
    """By an index that is a folder without it."""
    question = Question("invented", INVENTED, options=("--no-index", "--no-deps"))

    answer, why = question.ask()

    assert answer == "refused"
    assert "orjson" in why


def test_a_line_that_is_no_requirement_is_refused() -> None:
    """It would have been said to be resolved, or to be the network's fault."""
    assert Question("broken", "orjson==", options=("--no-index",)).ask()[0] == "refused"


def test_an_index_that_is_not_reached_is_no_answer() -> None:
    """Neither yes nor no, with its address."""
    question = Question("away", INVENTED, options=("--no-deps",), index="http://127.0.0.1:9/simple")

    answer, why = question.ask()

    assert answer == "not asked"
    assert "127.0.0.1:9" in why


def test_no_index_but_the_public_ones_is_named() -> None:
    """Which mirror a machine uses is its own configuration's matter."""
    files = [
        *(".ci/run", ".ci/pins", "Makefile", "docker-compose.yml"),
        *(f"{folder}/pyproject.toml" for folder in DISTRIBUTIONS),
        *(f"deploy/{path.name}" for path in dockerfiles()),
        *(f"deploy/requirements/{path.name}" for path in ROOT.glob("deploy/requirements/*")),
    ]
    text = "\n".join((ROOT / file).read_text("utf-8") for file in files)
    lines = [line for line in text.splitlines() if re.search(r"index|simple|whl", line)]

    assert set(re.findall(r"https?://([^/\s\"']+)", "\n".join(lines))) <= PUBLIC
