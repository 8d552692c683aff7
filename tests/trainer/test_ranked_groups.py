"""Rewards that compare the answers of a group: the trainer sends whole groups, and learns by them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from medreward_trainer.training import train
from tests.support.judge_server import Models, Say
from tests.support.process import Service, serving
from tests.trainer.conftest import Configure
from tests.trainer.test_training import metrics

RANKED = """
name = "ranked"
version = 1
description = "The better answers of a group."
template = "match"
tags = "none"

[signals.group_rank]
weight = 1.0
"""


def has_more(first: str, second: str) -> Say:
    """Prefer the answer that says a more often."""
    return "YES" if first.count("a") > second.count("a") else "NO"


@pytest.fixture
def ranking(tmp_path: Path) -> Iterator[Service]:
    """A real service whose judge compares answers at the wire."""
    (tmp_path / "ranked.toml").write_text(RANKED, encoding="utf-8")
    with Models(has_more) as models, serving(models, recipe="ranked", recipes=tmp_path) as real:
        yield real


def test_the_better_answers_of_a_group_become_more_frequent(
    toy: Configure, ranking: Service
) -> None:
    """The weight of the signal is known before the first rollout, and no group is divided."""
    config = toy(
        ranking.url, "trainer.total_training_steps=15", "trainer.log_rollouts=32",
        "algorithm.adv_estimator=gdpo", "algorithm.gdpo_reward_keys=[group_rank]",
    )  # fmt: skip

    train(config)

    lines = metrics(config)
    assert all(line["reward/group_rank/unscored_share"] == 0 for line in lines)
    rollouts = (config.run_dir / "rollouts.jsonl").read_text("utf-8").splitlines()
    said = [line.partition('"response": "')[2].partition('"')[0].count("a") for line in rollouts]
    assert sum(said[-32:]) > 2 * sum(said[:32]) > 0
