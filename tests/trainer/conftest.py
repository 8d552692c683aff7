"""Fixtures of the trainer's tests: a stand-in service, a toy task, and a real service for it."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from medreward_trainer.config.config import Config
from medreward_trainer.config.files import load_config
from tests.support.process import Service, serving
from tests.trainer.standing_in import StandIn, standing_in

LETTERS = "abcd"
TOY_RECIPE = """
name = "toy"
version = 1
description = "Right or wrong, and nothing else."
template = "match"

[tags]
thinking = "thinking"
answer = "answer"
tighten = true
modalities = ["OTHER"]

[rules]
min_answer_characters = 1
rejected_substrings = []

[signals.accuracy_llm]
weight = 1.0
"""

Configure = Callable[..., Config]
"""Makes the configuration of a toy run of a few changed keys; `name` is that of its folder."""


def write_rows(path: Path, *rows: Mapping[str, Any]) -> Path:
    """Write rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(autouse=True, scope="package")
def _one_thread() -> Iterator[None]:
    """Compute in one thread, since more threads slow tiny models down on a busy machine.

    Processes that tests start get the same setting, so that sums have the same rounding.
    """
    import torch  # noqa: PLC0415 - takes seconds

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(os.environ, "OMP_NUM_THREADS", "1")
        yield
    torch.set_num_threads(before)


@pytest.fixture
def service() -> Iterator[StandIn]:
    """A stand-in service that replies by a given rule."""
    with standing_in() as told:
        yield told


@pytest.fixture(scope="session")
def toy_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A real service whose judge is scripted: the same letters in any case are YES."""
    folder = tmp_path_factory.mktemp("recipes")
    (folder / "toy.toml").write_text(TOY_RECIPE, encoding="utf-8")
    settings = {"judge": "scripted", "embedder": "hashed", "recipe": "toy", "recipes": folder}
    with serving(None, **settings) as real:
        yield real


@pytest.fixture
def toy(tmp_path: Path) -> Configure:
    """Configure a toy run: the right response to a letter is that letter twice.

    The references are in capitals, so that the judge is asked and not the rule of equality.
    """
    rows = [{"problem": letter, "solution": 2 * letter.upper()} for letter in LETTERS] * 4
    data = write_rows(tmp_path / "toy.jsonl", *rows)

    def configure(url: str, *overrides: str, name: str = "run") -> Config:
        return load_config(
            "smoke",
            [
                f"reward.base_url={url}",
                f"data.train_files=[{data}]",
                "data.val_files=[]",
                "data.max_response_length=2",
                "data.train_batch_size=16",
                "actor_rollout_ref.model.path=tiny-random:abcd",
                "actor_rollout_ref.actor.ppo_mini_batch_size=16",
                "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=64",
                "actor_rollout_ref.actor.optim.lr=3e-3",
                "actor_rollout_ref.rollout.n=8",
                f"trainer.default_local_dir={tmp_path / name}",
                "trainer.logger=[file]",
                *overrides,
            ],
        )

    return configure
