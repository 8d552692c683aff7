"""Rewards by rubrics, of either sign: they are learnt, and failures of the judge pay nothing."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch

from medreward_client import Criterion
from medreward_trainer.config.config import Algorithm, Config, Estimator, Reward
from medreward_trainer.data.examples import Example
from medreward_trainer.data.prompts import Prompt
from medreward_trainer.rollouts.rollout import Group, Rollout
from medreward_trainer.scoring import RewardSource
from medreward_trainer.training import train
from medreward_trainer.update.advantages import advantages_of
from medreward_trainer.update.scored_groups import with_rewards
from tests.support.judge_server import Rule, Say
from tests.support.process import Service, serving
from tests.support.rubric_judge import RubricModels
from tests.trainer.conftest import Configure, write_rows
from tests.trainer.test_training import metrics

slow = pytest.mark.slow
OTHER = {"a": "b", "b": "c", "c": "a"}
"""The letter that a response must not mention, for each letter that it should begin and end with."""
CLAIM = re.compile(r'(Begins|Ends|Mentions) with "(.)"')


def says(answer: str, criterion: str) -> Say:
    """Judge by the letters of an answer; what is no criterion of the toy is a NO."""
    claim = CLAIM.match(criterion)
    if claim is None:
        return "NO"
    letter = claim[2]
    is_met = {
        "Begins": answer.startswith(letter),
        "Ends": answer.endswith(letter),
        "Mentions": letter in answer,
    }[claim[1]]
    return "YES" if is_met else "NO"


def failing(where: str) -> Rule:
    """Fail for answers that begin with a letter, and judge the others."""
    return lambda answer, criterion: "400" if answer.startswith(where) else says(answer, criterion)


def rubric_of(letter: str) -> tuple[Criterion, ...]:
    """Points for a letter at both ends, and fewer for another one anywhere."""
    return (
        Criterion(f'Begins with "{letter}".', 3),
        Criterion(f'Ends with "{letter}".', 2),
        Criterion(f'Mentions with "{OTHER[letter]}".', -4),
    )


@pytest.fixture
def models() -> Iterator[RubricModels]:
    """A judge at the wire whose verdicts are those of the rule; it may be replaced."""
    with RubricModels(says) as models:
        yield models


@pytest.fixture
def rubric_service(models: RubricModels) -> Iterator[Service]:
    """A real service with the recipe `rubric` and that judge."""
    with serving(models, recipe="rubric") as real:
        yield real


@pytest.fixture
def rubric_toy(toy: Configure, rubric_service: Service, tmp_path: Path) -> Configure:
    """Configure a toy run whose rows have a rubric and no reference."""
    rows = [
        {"problem": letter, "criteria": [{"text": c.text, "points": c.points} for c in rubric]}
        for letter, rubric in ((letter, rubric_of(letter)) for letter in OTHER)
    ]
    data = write_rows(tmp_path / "rubrics.jsonl", *rows * 4)

    def configure(*overrides: str) -> Config:
        sizes = ("data.train_batch_size=12", "actor_rollout_ref.actor.ppo_mini_batch_size=12")
        return toy(rubric_service.url, f"data.train_files=[{data}]", *sizes, *overrides)

    return configure


@pytest.mark.parametrize("seed", [1, *(pytest.param(n, marks=slow) for n in (2, 3))])
def test_points_of_either_sign_are_learnt(rubric_toy: Configure, seed: int) -> None:
    """The mean reward goes from under 0.1 to over 0.9, of a greatest reward of 1."""
    config = rubric_toy(f"trainer.seed={seed}", "trainer.total_training_steps=80")

    train(config)

    lines = metrics(config)
    rewards = [line["reward/mean"] for line in lines]
    print(f"seed {seed}: from {rewards[0]:.3f} to {sum(rewards[-5:]) / 5:.3f}")  # noqa: T201 - docs/trainer/README.md
    assert rewards[0] < 0.1
    assert sum(rewards[-5:]) / 5 > 0.9
    assert lines[0]["reward/rubric/mean"] == pytest.approx(rewards[0])
    assert lines[0]["criteria/unanswered"] == lines[0]["reward/rubric/unscored_share"] == 0


PARTIAL = (
    Criterion('Begins with "a".', 5),
    Criterion('Ends with "a".', 4),
    Criterion('Mentions with "b".', -2),
)
"""A rubric of which each line but the last is needed for a reward."""
RESPONSES = ("aa", "ab", "da", "b", "d", "ba", "ac", "dd", "bb")
"""A third of them begin with a d."""


def group(criteria: tuple[Criterion, ...], *responses: str) -> Group:
    """Make a group of one prompt, without scores."""
    example = Example("rubrics.jsonl:1", "a", "", None, criteria=criteria)
    rollouts = (Rollout((1,) * len(text), text, is_cut=False) for text in responses)
    return Group(Prompt(example, "a", (1,)), tuple(rollouts))


def scored(service: Service, *groups: Group) -> list[Group]:
    """Score groups by a service, with the recipe that it has."""
    config = Reward(base_url=service.url, patience_s=60)
    with RewardSource(config, run_id="toy", say=lambda _: None) as source:
        rows = source.collect([source.submit(one, step=1) for one in groups])
    return [replace(one, scores=tuple(row)) for one, row in zip(groups, rows, strict=True)]


def advantages(one: Group, estimator: Estimator) -> torch.Tensor:
    """Compute the advantages of a group, as a step of the trainer does."""
    config = Config(algorithm=Algorithm(adv_estimator=estimator))
    shaped = with_rewards([one], config, kl_PG=torch.zeros(1, len(one.scores)), kl_coef=0.0)
    return advantages_of(shaped, config.algorithm, {"rubric": 1.0})[0]


def test_failed_samples_change_no_advantage_of_the_others(
    models: RubricModels, rubric_service: Service
) -> None:
    """The judge fails for a third: the others' advantages are those of a group without them."""
    models.rule = failing("d")
    judged = [text for text in RESPONSES if not text.startswith("d")]

    whole, without = scored(rubric_service, group(PARTIAL, *RESPONSES), group(PARTIAL, *judged))

    is_scored = torch.tensor([score.reward is not None for score in whole.scores])
    assert [text for text, kept in zip(RESPONSES, is_scored, strict=True) if kept] == judged
    assert {score.error for score in whole.scores} == {None, "judge_refused"}
    for estimator in get_args(Estimator):
        found, expected = advantages(whole, estimator), advantages(without, estimator).tolist()
        # gdpo takes means over all samples at once, which rounds zeros in between differently.
        tolerance = 1e-6 if estimator == "gdpo" else 0.0
        assert found[is_scored].tolist() == pytest.approx(expected, rel=0, abs=tolerance)
        assert found[~is_scored].tolist() == [0.0] * 3
        assert found.abs().max() > 0.1


def test_failed_criteria_are_left_out_with_their_points(
    models: RubricModels, rubric_service: Service
) -> None:
    """The judge fails for a third of the criteria: rewards are those of the rubric of the others."""
    models.rule = lambda answer, criterion: (
        "400" if criterion.startswith("Mentions") else says(answer, criterion)
    )
    judged = ("aa", "ab", "b", "ba")

    whole, without = scored(rubric_service, group(PARTIAL, *judged), group(PARTIAL[:2], *judged))

    rewards = [score.reward for score in whole.scores]
    assert rewards == [score.reward for score in without.scores] == [1.0, 5 / 9, 0.0, 4 / 9]
    assert [score.unanswered for score in whole.scores] == [1] * 4
    found, expected = (advantages(one, "grpo").tolist() for one in (whole, without))
    assert found == expected


def test_provoking_the_judge_is_not_paid(models: RubricModels, rubric_toy: Configure) -> None:
    """A policy that can make the judge fail learns to be judged, and the failures become rare."""
    models.rule = failing("d")
    config = rubric_toy("trainer.total_training_steps=50")

    train(config)

    lines = metrics(config)
    shares = [line["unscored/share"] for line in lines]
    assert lines[0]["unscored/judge_refused"] == round(shares[0] * 12 * 8) > 5
    assert lines[0]["reward/rubric/unscored_share"] == shares[0]
    assert lines[0]["reward/rubric/unscored/judge_refused"] == lines[0]["unscored/judge_refused"]
    assert sum(shares[-5:]) / 5 < 0.1 * shares[0]
    assert sum(line["reward/mean"] for line in lines[-5:]) / 5 > 0.8
