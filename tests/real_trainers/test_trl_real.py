"""TRL's own GRPOTrainer, on the CPU, against a running service."""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from medreward_client import NoReward, RewardClient, Sample
from medreward_client.trainers.trl import make_reward_funcs
from tests.real_trainers.bandit import ANSWERS, PROMPT, RANKED, REFERENCE, RESPONSES, bandit
from tests.support.judge_server import Models, failing_for
from tests.support.process import Service, dies_once, serving

UNJUDGED = RESPONSES[2::3]
"""A third of them: those for which the judge fails."""
GENERATIONS = 8
STEPS = 2
fails_for_a_third = failing_for(*ANSWERS[2::3])


class Recorder(GRPOTrainer):  # type: ignore[misc]
    """TRL's trainer, which keeps what it trained on."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.advantages: list[list[float]] = []
        self.rewards: list[list[list[float]]] = []
        self.responses: list[list[str]] = []

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, ids: Any) -> Any:
        rewards = super()._calculate_rewards(inputs, prompts, completions, ids)
        said = [c if isinstance(c, str) else c[0]["content"] for c in completions]
        self.rewards.append(rewards.tolist())
        self.responses.append(said)
        return rewards

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        output = super()._generate_and_score_completions(inputs)
        self.advantages.append(output["advantages"].tolist())
        return output


def trained(
    funcs: Sequence[Callable[..., Any]], folder: Path, *, chat: bool = False, **config: Any
) -> Recorder:
    """Train for two steps on two prompts, each answered eight times."""
    model, tokenizer = bandit()
    prompt = [{"role": "user", "content": PROMPT}] if chat else PROMPT
    rows = [{"prompt": prompt, "solution": REFERENCE, "modality": "X_RAY"} for _ in range(8)]
    arguments = GRPOConfig(
        output_dir=str(folder), max_steps=STEPS, per_device_train_batch_size=2 * GENERATIONS,
        num_generations=GENERATIONS, max_completion_length=1, use_cpu=True, report_to=[],
        save_strategy="no", logging_steps=1, disable_tqdm=True, temperature=1.0, **config,
    )  # fmt: skip
    trainer = Recorder(
        model, reward_funcs=list(funcs), args=arguments, train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )  # fmt: skip
    trainer.train()
    assert trainer.state.global_step == STEPS
    return trainer


def funcs_of(service: Service, components: Sequence[Any] = (), **options: Any) -> list[Any]:
    """The reward functions of a service, for the rows that are trained on."""
    return make_reward_funcs(
        components, reference_column="solution", base_url=service.url, **options
    )


def logged(trainer: Recorder, name: str) -> list[float]:
    """Give a metric of each step."""
    return [entry[name] for entry in trainer.state.log_history if name in entry]


def rewards_of(service: Service) -> dict[str, float | None]:
    """Ask the service itself what each response is worth."""
    samples = [Sample(response, REFERENCE, modality="X_RAY") for response in RESPONSES]
    with RewardClient(service.url) as client:
        return dict(zip(RESPONSES, client.reward(samples).rewards, strict=True))


def steps_of(trainer: Recorder) -> Iterator[tuple[list[str], list[float | None], list[float]]]:
    """Go through the groups of each step: responses, rewards (None where NaN) and advantages."""
    steps = zip(trainer.responses, trainer.rewards, trainer.advantages, strict=True)
    for responses, rewards, advantages in steps:
        for start in range(0, len(responses), GENERATIONS):
            group = slice(start, start + GENERATIONS)
            told = [None if math.isnan(row[0]) else row[0] for row in rewards[group]]
            yield responses[group], told, advantages[group]


def expected_advantages(rewards: Sequence[float | None]) -> list[float]:
    """Work out a group's advantages by hand: from its scored samples alone, 0 for the others."""
    scored = [reward for reward in rewards if reward is not None]
    mean, deviation = fmean(scored), stdev(scored)
    return [0.0 if r is None else (r - mean) / (deviation + 1e-4) for r in rewards]


@pytest.mark.parametrize("chat", [False, True], ids=["plain", "conversational"])
def test_a_run_trains_on_the_rewards_of_the_service(
    service: Service, tmp_path: Path, chat: bool
) -> None:
    """Each response, plain or in a conversation, gets the service's reward; its parts are logged."""
    funcs = funcs_of(service)

    trainer = trained(funcs, tmp_path, chat=chat)

    told = rewards_of(service)
    for responses, rewards, _ in steps_of(trainer):
        assert rewards == pytest.approx([told[response] for response in responses])
    assert len(set(told.values())) > 2
    assert logged(trainer, "medreward/unscored") == [0.0] * STEPS
    assert len(logged(trainer, "medreward/accuracy_llm")) == STEPS
    assert len(logged(trainer, "rewards/medreward/mean")) == STEPS


def test_samples_that_the_judge_fails_for_move_nobody(
    models: Models, service: Service, tmp_path: Path
) -> None:
    """Their advantage is 0, and the others' are what they would be without them."""
    models.rule = fails_for_a_third
    funcs = funcs_of(service, max_unscored_share=0.5)

    trainer = trained(funcs, tmp_path)

    unscored = 0
    for responses, rewards, advantages in steps_of(trainer):
        assert [reward is None for reward in rewards] == [r in UNJUDGED for r in responses]
        assert advantages == pytest.approx(expected_advantages(rewards), abs=1e-5)
        unscored += rewards.count(None)
    assert 0 < unscored < STEPS * 2 * GENERATIONS
    assert sum(logged(trainer, "medreward/unscored")) == unscored / (2 * GENERATIONS)


def test_components_are_rewards_of_their_own(
    models: Models, service: Service, tmp_path: Path
) -> None:
    """Normalised each by itself, with weights; a sample without a reward has none in any."""
    models.rule = fails_for_a_third
    components = ["accuracy_llm", "accuracy_embed", "format"]
    funcs = funcs_of(service, components, max_unscored_share=0.5)

    trainer = trained(
        funcs,
        tmp_path,
        multi_objective_aggregation="normalize_then_sum",
        reward_weights=[0.6, 0.3, 0.1],
    )

    for step in range(STEPS):
        rows = zip(
            trainer.responses[step], trainer.rewards[step], trainer.advantages[step], strict=True
        )
        for response, rewards, advantage in rows:
            assert [math.isnan(reward) for reward in rewards] == [response in UNJUDGED] * 3
            assert response not in UNJUDGED or advantage == 0.0
    for name in components:
        assert len(logged(trainer, f"rewards/medreward_{name}/mean")) == STEPS


def shortness(completions: Sequence[str], **_: Any) -> list[float]:
    """Reward short responses, as a user's own function might."""
    return [-len(completion) / 100 for completion in completions]


def test_a_function_beside_ours_scores_nothing_that_we_did_not(
    models: Models, service: Service, tmp_path: Path
) -> None:
    """Were it to, TRL would take the sum of the rest for the reward, and our failure for a 0."""
    models.rule = fails_for_a_third
    funcs = funcs_of(service, beside=[shortness], max_unscored_share=0.5)

    trainer = trained(funcs, tmp_path)

    for step in range(STEPS):
        for response, rewards in zip(trainer.responses[step], trainer.rewards[step], strict=True):
            assert [math.isnan(reward) for reward in rewards] == [response in UNJUDGED] * 2
    assert len(logged(trainer, "rewards/shortness/mean")) == STEPS


def test_a_service_that_is_killed_in_a_step_costs_no_reward(
    models: Models, service: Service, tmp_path: Path
) -> None:
    """It dies while it scores, comes back at its address, and the step ends with every reward."""
    deaths: list[str] = []
    models.rule = dies_once(service, ANSWERS, deaths)
    funcs = funcs_of(service)

    trainer = trained(funcs, tmp_path)

    told = rewards_of(service)
    assert deaths
    for responses, rewards, _ in steps_of(trainer):
        assert rewards == pytest.approx([told[response] for response in responses])


def test_trl_can_be_kept_from_logging_samples(
    models: Models,
    service: Service,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It logs what has no reward, text and all, unless its logger is told not to, as our page says."""
    models.rule = fails_for_a_third
    funcs = funcs_of(service, max_unscored_share=0.5)

    trained(funcs, tmp_path)
    assert any(response in caplog.text for response in UNJUDGED)

    caplog.clear()
    with caplog.at_level(logging.ERROR, logger="trl.trainer.grpo_trainer"):
        trained(funcs, tmp_path)
    assert not any(response in caplog.text for response in RESPONSES)


@pytest.mark.models
def test_real_models_reward_a_run(tmp_path: Path) -> None:
    """The two models of the profile `embedded-small` score every response, and a right one best."""
    with serving(None) as service:
        funcs = funcs_of(service)
        trainer = trained(funcs, tmp_path)

    for responses, rewards, _ in steps_of(trainer):
        assert None not in rewards
        scored = zip(responses, rewards, strict=True)
        assert {reward for response, reward in scored if response == RESPONSES[0]} <= {1.0}


def test_each_group_is_compared_by_itself(models: Models, tmp_path: Path) -> None:
    """TRL passes the samples of a prompt in a row; two groups of one prompt are not mixed."""
    models.rule = lambda first, second: "YES" if first.casefold() < second.casefold() else "NO"
    (tmp_path / "ranked.toml").write_text(RANKED)
    with serving(models, recipes=tmp_path / "ranked.toml", recipe="ranked") as service:
        trainer = trained(funcs_of(service, num_generations=GENERATIONS), tmp_path)
        with pytest.raises(NoReward, match="pass `num_generations`"):
            trained(funcs_of(service), tmp_path)

    for responses, rewards, _ in steps_of(trainer):
        answers = [r.split("<answer>")[1].split("<")[0].strip(".").casefold() for r in responses]
        beaten = [sum((a < b) + (a == b) / 2 for b in answers) - 1 / 2 for a in answers]
        assert rewards == pytest.approx([won / (GENERATIONS - 1) for won in beaten])
