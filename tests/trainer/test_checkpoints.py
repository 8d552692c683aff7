"""Checkpoints: complete or absent, the newest few, and read back unchanged."""

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from medreward_client import JudgeExam, Provenance
from medreward_trainer.config.config import Config, Model
from medreward_trainer.config.files import load_config
from medreward_trainer.data.prompt_order import Place
from medreward_trainer.errors import BadCheckpoint, RunIsTaken
from medreward_trainer.run.checkpoints import (
    Progress,
    Saved,
    checkpoints,
    export,
    random_state,
    read,
    save,
    set_random_state,
    step_of,
    taken,
)
from medreward_trainer.tiny_models import load_model
from medreward_trainer.update.policy import Policy

EXAM = JudgeExam("passed", "answers", 0.9)
PROVENANCE = Provenance("medix-r1", "sha256:1f", "Qwen3-4B", "MedEmbed", "0.1.0", judge_exam=EXAM)


@pytest.fixture
def config() -> Config:
    """A configuration of the tiny model."""
    return load_config("smoke")


@pytest.fixture
def policy(config: Config) -> Policy:
    """The tiny model."""
    return Policy.load(config, Accelerator(cpu=True), saved=None)


def saved_at(step: int, policy: Policy, config: Config) -> Saved:
    """Make a checkpoint's state after a step."""
    optimizer = torch.optim.AdamW(policy.trained)
    progress = Progress(
        step=step, place=Place(1, 4), kl_coef=0.1, prompts=16, provenance=PROVENANCE
    )
    return Saved(
        progress=progress,
        optimizer=optimizer.state_dict(),
        schedule={"last_epoch": step},
        random=[random_state()],
        config=config.model_dump(mode="json"),
    )


def test_a_checkpoint_reads_back_as_it_was(policy: Policy, config: Config, tmp_path: Path) -> None:
    """Progress, provenance, configuration and random numbers, without running any code."""
    state = saved_at(7, policy, config)

    found = read(save(tmp_path, policy, state, keep=3))

    assert found.progress == state.progress
    assert Config.model_validate(found.config) == config
    assert torch.equal(found.random[0]["cpu"], state.random[0]["cpu"])


def test_random_numbers_go_on_where_they_were() -> None:
    """After a state is restored, the same numbers are drawn again."""
    state = random_state()
    drawn = torch.rand(3)

    set_random_state(state)

    assert torch.equal(torch.rand(3), drawn)


def test_only_the_newest_are_kept(policy: Policy, config: Config, tmp_path: Path) -> None:
    """By step, not by name: 10 is newer than 9; a second of one step replaces the first."""
    for step in (8, 9, 10, 10):
        save(tmp_path, policy, saved_at(step, policy, config), keep=2)

    folders = {path for path in tmp_path.iterdir() if path.is_dir()}
    assert [step_of(path) for path in checkpoints(tmp_path)] == [9, 10]
    assert folders == set(checkpoints(tmp_path))
    assert (tmp_path / "latest_checkpointed_iteration.txt").read_text() == "10"


def test_what_a_killed_process_left_half_written_is_no_checkpoint(tmp_path: Path) -> None:
    """An incomplete folder is not listed, and the next run removes it."""
    half = tmp_path / ".unfinished-global_step_4"
    (half / "model").mkdir(parents=True)

    assert checkpoints(tmp_path) == []
    with taken(tmp_path):
        assert not half.exists()


def test_a_folder_that_is_in_use_is_refused(tmp_path: Path) -> None:
    """Two runs would write into each other's logs."""
    with taken(tmp_path), pytest.raises(RunIsTaken, match="experiment_name"), taken(tmp_path):
        pass


def test_what_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    """The message has the defect, or says which folder to give instead."""
    with pytest.raises(BadCheckpoint, match="global_step_<step>"):
        read(tmp_path)
    with pytest.raises(BadCheckpoint, match="global_step_<step>"):
        export(tmp_path, tmp_path / "out")
    (tmp_path / "state.pt").write_bytes(b"half a file")
    with pytest.raises(BadCheckpoint, match="cannot be read"):
        read(tmp_path)


# peft asks transformers for an attribute under its former name.
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
@pytest.mark.parametrize("rank", [0, 4])
def test_an_exported_model_says_what_the_policy_says(tmp_path: Path, rank: int) -> None:
    """The plain folder gives the same logits, with all weights trained or an adapter."""
    base, tokenizer = load_model(Model(path="tiny-random", dtype="float32"), seed=1)
    base.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    config = load_config("smoke", [f"actor_rollout_ref.model.path={tmp_path / 'base'}",
                                   f"actor_rollout_ref.model.lora_rank={rank}"])  # fmt: skip
    policy = Policy.load(config, Accelerator(cpu=True), saved=None)
    with torch.no_grad():
        for weight in policy.trained:
            weight.add_(0.01)
    checkpoint = save(tmp_path, policy, saved_at(1, policy, config), keep=1)

    export(checkpoint, tmp_path / "out", "float32")

    exported, _ = load_model(Model(path=str(tmp_path / "out"), dtype="float32"), seed=0)
    tokens = torch.tensor([[5, 6, 7]])
    assert torch.allclose(exported(tokens).logits, policy.bare_model(tokens).logits, atol=1e-5)
    assert not (tmp_path / "out" / "adapter_config.json").exists()


# peft asks transformers for an attribute under its former name.
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
def test_an_adapter_of_a_tiny_model_is_exported(tmp_path: Path) -> None:
    """The library knows no path of such a base, and the run's configuration does."""
    config = load_config("smoke", ["actor_rollout_ref.model.lora_rank=4", "trainer.seed=7"])
    policy = Policy.load(config, Accelerator(cpu=True), saved=None)
    checkpoint = save(tmp_path, policy, saved_at(1, policy, config), keep=1)

    export(checkpoint, tmp_path / "out", "float32")

    exported, _ = load_model(Model(path=str(tmp_path / "out"), dtype="float32"), seed=0)
    tokens = torch.tensor([[5, 6, 7]])
    assert torch.allclose(exported(tokens).logits, policy.bare_model(tokens).logits, atol=1e-5)


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(
    policy: Policy, config: Config, tmp_path: Path
) -> None:
    """The message says where, and what to do."""
    save(tmp_path, policy, saved_at(1, policy, config), keep=1)
    (tmp_path / ".unfinished-global_step_2").touch()

    with pytest.raises(BadCheckpoint, match=r"global_step_2 cannot be written.*make room"):
        save(tmp_path, policy, saved_at(2, policy, config), keep=1)
    assert [step_of(path) for path in checkpoints(tmp_path)] == [1]


def test_an_export_does_not_write_into_what_is_there(tmp_path: Path) -> None:
    """A folder with content is refused."""
    (tmp_path / "global_step_1" / "model").mkdir(parents=True)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()

    with pytest.raises(BadCheckpoint, match="not empty"):
        export(tmp_path / "global_step_1", tmp_path / "out")
