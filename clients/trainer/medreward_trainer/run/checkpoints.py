"""Checkpoints: written whole or not at all, the newest few kept, and read back exactly.

A checkpoint is a folder `global_step_N` with `model/` (weights and processor as Hugging Face
writes them) and `state.pt` (optimiser, schedule, random numbers, place in the data).
"""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel
from safetensors import SafetensorError

from medreward_client import JudgeExam, Provenance
from medreward_client.locks import locked
from medreward_trainer.config.config import Config, Model
from medreward_trainer.data.prompt_order import Place
from medreward_trainer.errors import BadCheckpoint, RunIsTaken
from medreward_trainer.tiny_models import load_model
from medreward_trainer.update.policy import Policy

PREFIX = "global_step_"
UNFINISHED = ".unfinished-"
NEWEST = "latest_checkpointed_iteration.txt"


@dataclass(frozen=True, slots=True)
class Progress:
    """The position of a run, and other state that is not in its weights."""

    step: int = 0
    place: Place = field(default_factory=Place)
    kl_coef: float = 0.0
    prompts: int = 0
    """Number of training prompts, by which changed data is noticed."""
    digest: str = ""
    """Digest of these prompts; empty in checkpoints of before."""
    provenance: Provenance | None = None
    """Recipe, judge and embedder of the rewards so far."""
    partial_update: str = ""
    """Part of the next step's update that the weights already contain, after it failed."""


@dataclass(frozen=True, slots=True)
class Saved:
    """Contents of a checkpoint except its model."""

    progress: Progress
    optimizer: Mapping[str, Any]
    schedule: Mapping[str, Any]
    random: Sequence[Mapping[str, Any]]
    """State of the random numbers, for each process."""
    config: Mapping[str, Any]


@contextmanager
def taken(run_dir: Path) -> Iterator[None]:
    """Lock a run's folder, and remove files that a killed process left incomplete.

    Raises:
        RunIsTaken: another process holds the lock.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        try:
            held.enter_context(locked(run_dir / ".lock"))
        except BlockingIOError:
            raise RunIsTaken(
                f"another process trains into {run_dir}; wait for it, or set "
                "trainer.experiment_name"
            ) from None
        for left in run_dir.glob(f"{UNFINISHED}*"):
            shutil.rmtree(left)
        yield


def save(run_dir: Path, policy: Policy, saved: Saved, *, keep: int) -> Path:
    """Write a checkpoint, and remove the oldest beyond *keep*.

    Raises:
        BadCheckpoint: it cannot be written; the one before is left as it is.
    """
    name = f"{PREFIX}{saved.progress.step}"
    unfinished, final = run_dir / f"{UNFINISHED}{name}", run_dir / name
    try:
        unfinished.mkdir()
        policy.save(unfinished / "model")
        # Types that torch reads back without running code.
        plain = {name: getattr(saved, name) for name in Saved.__dataclass_fields__}
        plain |= {"progress": asdict(saved.progress), "random": list(saved.random)}
        torch.save(plain, unfinished / "state.pt")
        for path in (*unfinished.rglob("*"), unfinished):
            _sync(path)
    except (OSError, RuntimeError, SafetensorError) as exc:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise BadCheckpoint(
            f"{final} cannot be written: {exc}; make room, and run the same command again: it goes "
            "on from the checkpoint before"
        ) from exc
    if final.exists():
        replaced = run_dir / f"{UNFINISHED}replaced-{name}"
        final.rename(replaced)
        unfinished.rename(final)
        shutil.rmtree(replaced)
    else:
        unfinished.rename(final)
    _sync(run_dir)
    # The file that verl's tools read.
    newest = run_dir / f"{NEWEST}.new"
    newest.write_text(str(saved.progress.step), encoding="utf-8")
    newest.replace(run_dir / NEWEST)
    for old in checkpoints(run_dir)[:-keep]:
        shutil.rmtree(old)
    return final


def checkpoints(run_dir: Path) -> list[Path]:
    """Return a run's checkpoints, oldest first."""
    found = [path for path in run_dir.glob(f"{PREFIX}*") if (path / "state.pt").is_file()]
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    """Return the step after which a checkpoint was written."""
    try:
        return int(checkpoint.name.removeprefix(PREFIX))
    except ValueError:
        raise BadCheckpoint(f"{checkpoint} is not named {PREFIX}<step>") from None


def read(checkpoint: Path) -> Saved:
    """Read a checkpoint's state.

    Raises:
        BadCheckpoint: the folder is not a checkpoint, or is damaged.
    """
    try:
        plain = torch.load(checkpoint / "state.pt", weights_only=True, map_location="cpu")
    except FileNotFoundError:
        raise BadCheckpoint(f"{checkpoint} holds no state.pt; name a {PREFIX}<step>") from None
    except Exception as exc:  # pickle, zip and torch each have errors of their own
        raise BadCheckpoint(f"{checkpoint}/state.pt cannot be read: {exc}") from exc
    progress = dict(plain["progress"])
    progress["place"] = Place(**progress["place"])
    if progress["provenance"] is not None:
        origin = dict(progress["provenance"])
        if origin.get("judge_exam") is not None:
            origin["judge_exam"] = JudgeExam(**origin["judge_exam"])
        progress["provenance"] = Provenance(**origin)
    return Saved(**{**plain, "progress": Progress(**progress)})


def export(checkpoint: Path, folder: Path, dtype: str = "bfloat16") -> None:
    """Write a checkpoint's model as a plain Hugging Face folder, an adapter merged into its base.

    Raises:
        BadCheckpoint: the checkpoint has no model, or *folder* exists already.
    """
    source = checkpoint / "model"
    if not source.is_dir():
        raise BadCheckpoint(f"{checkpoint} holds no model; name a {PREFIX}<step>")
    if folder.exists() and any(folder.iterdir()):
        raise BadCheckpoint(f"{folder} is there already, and not empty")
    is_adapter = (source / "adapter_config.json").is_file()
    path, seed = source, 0
    if is_adapter:
        # The tiny models, which peft knows no path of, are drawn from the run's seed.
        trained = Config.model_validate(read(checkpoint).config)
        base = PeftConfig.from_pretrained(source).base_model_name_or_path
        path = Path(base or trained.actor_rollout_ref.model.path)
        seed = trained.trainer.seed
    wanted = Model.model_validate({"path": str(path), "dtype": dtype})
    model, processor = load_model(wanted, seed=seed)
    if is_adapter:
        model = PeftModel.from_pretrained(model, source).merge_and_unload()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def random_state() -> dict[str, Any]:
    """Return the state of this process's random numbers."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def set_random_state(state: Mapping[str, Any]) -> None:
    """Restore the state of this process's random numbers."""
    torch.set_rng_state(state["cpu"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(list(state["cuda"]))


def _sync(path: Path) -> None:
    """Flush a file or folder to the disk, before a rename announces that it is complete."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
