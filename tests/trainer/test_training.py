"""The loop: it learns, it can be killed, it waits, and it never steps on a made-up reward."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from medreward_trainer.config.config import Config
from medreward_trainer.config.files import dump_config
from medreward_trainer.errors import (
    BadConfig,
    BadData,
    NoRewards,
    NothingToLearn,
    OutOfMemory,
    RewardsChanged,
)
from medreward_trainer.run.checkpoints import checkpoints, read
from medreward_trainer.run.reports import read_lines
from medreward_trainer.run.timing import StageTimes
from medreward_trainer.tiny_models import load_model
from medreward_trainer.training import train
from tests.support.process import Service
from tests.trainer.conftest import Configure
from tests.trainer.standing_in import Rule, StandIn, scored, unscored

WEIGHTS = "model/model.safetensors"
slow = pytest.mark.slow


def metrics(config: Config, kind: str = "train") -> list[dict[str, Any]]:
    """Return the logged lines of one kind."""
    return [one for one in read_lines(config.run_dir / "metrics.jsonl") if one["kind"] == kind]


def is_a(sample: dict[str, Any]) -> dict[str, Any]:
    """Reward responses that begin with an a, which every group has some of."""
    return scored(float(sample["response"].startswith("a")))


def is_a_until(samples: int) -> Rule:
    """Reward this many samples, and then fail as an unavailable judge."""
    answered = iter(range(samples))

    def rule(sample: dict[str, Any]) -> dict[str, Any]:
        if next(answered, None) is None:
            return unscored("judge_unavailable", retryable=True)
        return is_a(sample)

    return rule


@pytest.mark.parametrize("seed", [1, *(pytest.param(n, marks=slow) for n in (2, 3))])
def test_a_toy_task_is_learnt_from_a_real_service(
    toy: Configure, toy_service: Service, seed: int
) -> None:
    """The mean reward goes from under 0.2 to over 0.8."""
    config = toy(toy_service.url, f"trainer.seed={seed}", "trainer.total_training_steps=80")

    train(config)

    rewards = [line["reward/mean"] for line in metrics(config)]
    assert rewards[0] < 0.2
    assert sum(rewards[-5:]) / 5 > 0.8


# peft asks transformers for an attribute under its former name.
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
@pytest.mark.parametrize(
    "algorithm",
    [
        ["algorithm.adv_estimator=dr_grpo",
         "actor_rollout_ref.actor.loss_agg_mode=seq-mean-token-sum-norm"],
        pytest.param(
            ["algorithm.adv_estimator=rloo", "actor_rollout_ref.actor.ppo_mini_batch_size=8"],
            marks=slow),
        pytest.param(
            ["algorithm.adv_estimator=gdpo", "actor_rollout_ref.actor.ppo_epochs=2"], marks=slow),
        ["actor_rollout_ref.actor.policy_loss.loss_mode=gspo",
         "actor_rollout_ref.actor.clip_ratio_low=3e-4",
         "actor_rollout_ref.actor.clip_ratio_high=4e-4",
         "actor_rollout_ref.actor.loss_agg_mode=seq-mean-token-mean",
         "actor_rollout_ref.actor.ppo_mini_batch_size=8"],
        ["actor_rollout_ref.actor.use_kl_loss=true", "actor_rollout_ref.actor.kl_loss_coef=0.001"],
        pytest.param(
            ["algorithm.use_kl_in_reward=true", "algorithm.kl_ctrl.type=adaptive"], marks=slow),
        pytest.param(
            ["algorithm.filter_groups.enable=true", "data.gen_batch_size=8",
             "actor_rollout_ref.actor.clip_ratio_high=0.28"], marks=slow),
        pytest.param(
            ["actor_rollout_ref.model.lora_rank=8", "actor_rollout_ref.actor.optim.lr=3e-2",
             "trainer.total_training_steps=20"], marks=slow),
    ],
    ids=["dr_grpo", "rloo", "gdpo", "gspo", "kl_loss", "kl_reward", "dapo", "lora"],
)  # fmt: skip
def test_each_algorithm_learns(toy: Configure, service: StandIn, algorithm: list[str]) -> None:
    """With each estimator, loss and filter, rewarded responses become more frequent."""
    service.rule = is_a
    config = toy(
        service.url, "trainer.total_training_steps=10", "trainer.log_rollouts=16", *algorithm
    )

    train(config)

    # Not the mean reward: a filter keeps the groups of middling ones.
    lines = metrics(config)
    assert lines[-1]["actor/entropy"] < lines[0]["actor/entropy"]
    assert all(line["actor/grad_norm"] > 0 for line in lines if "actor/loss" in line)
    learnt = [
        one["response"].startswith("a") for one in read_lines(config.run_dir / "rollouts.jsonl")
    ]
    assert sum(learnt[-16:]) > sum(learnt[:16])


def test_a_killed_run_goes_on_with_the_same_losses(
    toy: Configure, service: StandIn, tmp_path: Path
) -> None:
    """After SIGKILL and a restart, each step has the loss of an uninterrupted run."""
    service.rule = is_a
    whole = toy(service.url, "trainer.total_training_steps=9", "trainer.save_freq=2",
                f"trainer.default_local_dir={tmp_path / 'whole'}",
                "actor_rollout_ref.actor.ppo_mini_batch_size=8")  # fmt: skip
    train(whole)
    killed = toy(service.url, "trainer.total_training_steps=9", "trainer.save_freq=2",
                 "actor_rollout_ref.actor.ppo_mini_batch_size=8")  # fmt: skip

    kill_at_step(killed, 5, tmp_path)
    train(killed)

    losses = [line["actor/loss"] for line in metrics(killed)]
    assert [line["step"] for line in metrics(killed)] == list(range(1, 10))
    assert losses == pytest.approx([line["actor/loss"] for line in metrics(whole)], abs=1e-7)
    last = "global_step_9"
    assert (killed.run_dir / last / WEIGHTS).stat().st_size > 0
    assert read(killed.run_dir / last).progress.place == read(whole.run_dir / last).progress.place


def kill_at_step(config: Config, step: int, folder: Path) -> None:
    """Run in a separate process, and kill it once it has logged a step."""
    file = folder / "config.yaml"
    file.write_text(dump_config(config), encoding="utf-8")
    with subprocess.Popen(  # noqa: S603 - the command under test
        [sys.executable, "-m", "medreward_trainer", "run", str(file)], stderr=subprocess.DEVNULL
    ) as process:
        ends_at = time.monotonic() + 120
        while time.monotonic() < ends_at and process.poll() is None:
            if any(line["step"] >= step for line in metrics(config)):
                break
            time.sleep(0.01)
        process.kill()


def test_a_run_that_is_asked_to_stop_saves_and_ends(
    toy: Configure, service: StandIn, tmp_path: Path
) -> None:
    """SIGTERM ends it with exit code 130, and a checkpoint of its last whole step."""
    service.rule = is_a
    config = toy(service.url, "trainer.total_training_steps=500", "trainer.save_freq=-1")
    file = tmp_path / "config.yaml"
    file.write_text(dump_config(config), encoding="utf-8")
    with subprocess.Popen(  # noqa: S603 - the command under test
        [sys.executable, "-m", "medreward_trainer", "run", str(file)],
        stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        while process.poll() is None and not metrics(config):
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=240)

    (checkpoint,) = checkpoints(config.run_dir)
    assert process.returncode == 130
    assert f"saved in {config.run_dir}" in said
    assert read(checkpoint).progress.step == metrics(config)[-1]["step"]


def run_together(config: Config, folder: Path, *, processes: int) -> list[int]:
    """Run in several processes, as `accelerate launch` does; return their exit codes."""
    file = folder / "config.yaml"
    file.write_text(dump_config(config), encoding="utf-8")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes),
              "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}  # fmt: skip
    started = [
        subprocess.Popen(  # noqa: S603 - the command under test
            [sys.executable, "-m", "medreward_trainer", "run", str(file)],
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.DEVNULL,
        )
        for rank in range(processes)
    ]
    return [process.wait(timeout=240) for process in started]


def test_several_processes_train_one_policy(
    toy: Configure, service: StandIn, tmp_path: Path
) -> None:
    """Each draws its share of the prompts, all learn from all groups, and one keeps the files."""
    service.rule = is_a
    config = toy(service.url, "trainer.total_training_steps=4", "trainer.save_freq=2",
                 "actor_rollout_ref.actor.ppo_mini_batch_size=8",
                 "algorithm.use_kl_in_reward=true", "trainer.max_actor_ckpt_to_keep=1")  # fmt: skip

    assert run_together(config, tmp_path, processes=2) == [0, 0]

    lines = metrics(config)
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert all(line["groups/generated"] == 16 for line in lines)
    (checkpoint,) = checkpoints(config.run_dir)
    first, second = read(checkpoint).random
    assert not torch.equal(first["cpu"], second["cpu"])


def test_when_one_process_has_no_rewards_all_stop(
    toy: Configure, service: StandIn, tmp_path: Path
) -> None:
    """No process is left waiting for the others, and the state is saved."""
    # Unshuffled, the letters take turns: the second process has the b's and the d's.
    service.rule = lambda one: (
        unscored("invalid_reference", retryable=False) if one["question"] in "bd" else is_a(one)
    )
    config = toy(service.url, "data.shuffle=false", "trainer.total_training_steps=2")

    assert run_together(config, tmp_path, processes=2) == [1, 1]

    assert len(checkpoints(config.run_dir)) == 1
    assert metrics(config) == []


def test_samples_without_a_reward_have_no_part(toy: Configure, service: StandIn) -> None:
    """They are counted by kind, and the mean is over the others."""
    service.rule = lambda one: (
        unscored("judge_abstained", retryable=False)
        if one["response"].startswith("b")
        else is_a(one)
    )
    config = toy(service.url, "trainer.total_training_steps=1")

    train(config)

    (line,) = metrics(config)
    assert line["unscored/judge_abstained"] > 0
    assert 0 < line["unscored/share"] < 1
    assert line["actor/optimizer_steps"] == 1


def test_a_service_that_comes_late_is_waited_for(
    toy: Configure, service: StandIn, capfd: pytest.CaptureFixture[str]
) -> None:
    """A run reports that the service is not ready, and begins once it is."""
    service.rule, service.looks_while_loading = is_a, 1
    config = toy(service.url, "trainer.total_training_steps=1", "trainer.logger=[console,file]")

    train(config)

    assert "not ready" in capfd.readouterr().err
    assert len(metrics(config)) == 1


def test_an_outage_changes_nothing_but_the_time(
    toy: Configure, service: StandIn, tmp_path: Path
) -> None:
    """Requests turned away and samples unscored for a while lead to the same losses."""
    service.rule = is_a
    calm = toy(service.url, "trainer.total_training_steps=3",
               f"trainer.default_local_dir={tmp_path / 'calm'}")  # fmt: skip
    train(calm)
    rough = toy(service.url, "trainer.total_training_steps=3")
    failures = iter(range(40))

    def failing(sample: dict[str, Any]) -> dict[str, Any]:
        if next(failures, None) is not None:
            return unscored("judge_timeout", retryable=True)
        return is_a(sample)

    service.rule, service.refusals = failing, [429, 503, 429]

    train(rough)

    assert [one["actor/loss"] for one in metrics(rough)] == pytest.approx(
        [one["actor/loss"] for one in metrics(calm)], abs=1e-7
    )


@slow  # An outage of the stand-in is shown to change nothing by the test above.
def test_a_service_that_is_killed_and_comes_back_leaves_no_trace(
    toy: Configure, toy_service: Service, tmp_path: Path
) -> None:
    """A real one, gone for seconds in the middle of a run: the final weights are the same."""
    keys = ("trainer.total_training_steps=12", "actor_rollout_ref.actor.ppo_mini_batch_size=8")
    calm = toy(toy_service.url, *keys, f"trainer.default_local_dir={tmp_path / 'calm'}")
    train(calm)
    rough = toy(toy_service.url, *keys)

    def kill_and_bring_back() -> None:
        while len(metrics(rough)) < 3:
            time.sleep(0.01)
        toy_service.kill()
        time.sleep(2)
        toy_service.start()

    killer = threading.Thread(target=kill_and_bring_back)
    killer.start()
    train(rough)
    killer.join()

    weights = [load_file(config.run_dir / "global_step_12" / WEIGHTS) for config in (calm, rough)]
    assert max(line["timing_s/reward_wait"] for line in metrics(rough)) > 1
    for name, weight in weights[0].items():
        assert torch.equal(weight, weights[1][name]), name


def test_a_policy_that_sees_is_trained_on_images(
    toy: Configure, service: StandIn, tmp_path: Path
) -> None:
    """A tiny vision-language model: pictures go through its processor, and their encoder learns."""
    service.rule = is_a
    data = tmp_path / "seen.jsonl"
    rows = []
    for number, color in enumerate(("red", "green", "blue", "white")):
        Image.new("RGB", (20 + number, 12), color).save(tmp_path / f"{color}.png")
        rows.append({"problem": "<image>a", "solution": "<X_RAY>A", "image": f"{color}.png"})
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    config = toy(
        service.url, f"data.train_files=[{data}]", "data.train_batch_size=4",
        "actor_rollout_ref.actor.ppo_mini_batch_size=4", "trainer.total_training_steps=2",
        "actor_rollout_ref.model.path=tiny-random-vl:abcd",
    )  # fmt: skip

    train(config)

    model = config.actor_rollout_ref.model
    before, _ = load_model(model, seed=config.trainer.seed)
    saved = model.model_copy(update={"path": str(config.run_dir / "global_step_2" / "model")})
    after, _ = load_model(saved, seed=0)
    moved = [
        name
        for (name, one), other in zip(before.named_parameters(), after.parameters(), strict=True)
        if "vision" in name and not torch.equal(one, other)
    ]
    assert moved
    assert {one["modality"] for one in service.samples} == {"X_RAY"}


def test_a_component_that_the_recipe_has_not_is_refused_before_the_first_rollout(
    toy: Configure, service: StandIn
) -> None:
    """The message names the key, and the recipe's components."""
    config = toy(service.url, "algorithm.filter_groups.enable=true",
                 "algorithm.filter_groups.metric=acuracy_llm")  # fmt: skip

    with pytest.raises(BadConfig, match=r"filter_groups\.metric.*has accuracy_llm"):
        train(config)

    assert service.samples == []


def test_a_run_without_rewards_stops_with_a_checkpoint(toy: Configure, service: StandIn) -> None:
    """After patience_s it ends with a message, and the state before the step is saved."""
    service.rule = is_a_until(2 * 16 * 8)
    config = toy(service.url, "reward.patience_s=1", "trainer.total_training_steps=5",
                 "trainer.save_freq=-1")  # fmt: skip

    with pytest.raises(NoRewards, match="128 of 128 samples have no reward") as caught:
        train(config)

    (checkpoint,) = checkpoints(config.run_dir)
    assert read(checkpoint).progress.step == 2
    assert "goes on from there" in caught.value.__notes__[-1]


def test_a_run_that_stopped_for_want_of_rewards_goes_on_as_if_it_had_not(
    toy: Configure, service: StandIn, tmp_path: Path
) -> None:
    """The later steps have the losses of an uninterrupted run."""
    service.rule = is_a
    served = toy(service.url, "trainer.total_training_steps=4",
                 f"trainer.default_local_dir={tmp_path / 'served'}")  # fmt: skip
    train(served)
    service.rule = is_a_until(2 * 16 * 8 + 50)
    stopped = toy(service.url, "reward.patience_s=1", "trainer.total_training_steps=4")
    with pytest.raises(NoRewards):
        train(stopped)
    service.rule = is_a

    train(stopped)

    assert [one["actor/loss"] for one in metrics(stopped)] == pytest.approx(
        [one["actor/loss"] for one in metrics(served)], abs=1e-7
    )


def test_a_service_that_scores_otherwise_ends_the_run(toy: Configure, service: StandIn) -> None:
    """The message names the changed recipe, and the setting that continues."""

    def turning(sample: dict[str, Any]) -> dict[str, Any]:
        if len(service.samples) > 16 * 8:
            service.origin = {"recipe": "another", "fingerprint": "sha256:2f"}
        return is_a(sample)

    service.rule = turning
    config = toy(service.url, "trainer.total_training_steps=5")

    with pytest.raises(RewardsChanged, match=r"recipe was medix-r1, is another.*reward.pinned"):
        train(config)


def test_groups_that_are_all_filtered_end_the_run_in_words(
    toy: Configure, service: StandIn
) -> None:
    """The message names the metric and the switch of the filter."""
    service.rule = lambda _: scored(0.145, accuracy_llm=0.0, format=1.0)
    config = toy(service.url, "algorithm.filter_groups.enable=true",
                 "algorithm.filter_groups.max_num_gen_batches=2")  # fmt: skip

    with pytest.raises(NothingToLearn, match=r"32 groups .*accuracy_llm.*filter_groups"):
        train(config)

    assert len(checkpoints(config.run_dir)) == 1


def test_groups_without_any_reward_end_the_run_in_words(toy: Configure, service: StandIn) -> None:
    """If no sample can be scored, the message has the first reason."""
    service.rule = lambda _: unscored("invalid_reference", retryable=False)
    config = toy(service.url)

    with pytest.raises(NoRewards, match=r"128 of 128 samples cannot be scored.*invalid_reference"):
        train(config)


def test_a_step_without_variance_takes_no_optimiser_step(toy: Configure, service: StandIn) -> None:
    """If all groups have equal rewards the weights stay, and the metrics report it."""
    config = toy(service.url, "trainer.total_training_steps=1")

    train(config)

    (line,) = metrics(config)
    assert line["actor/optimizer_steps"] == 0
    assert line["groups/zero_variance_share"] == 1


def test_what_does_not_fit_into_memory_names_the_key_to_lower() -> None:
    """An allocation failure becomes a message, by the stage that failed."""
    with pytest.raises(OutOfMemory, match="ppo_micro_batch_size_per_gpu"), \
            StageTimes().stage("update_actor"):  # fmt: skip
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 10 bytes")


def test_rollouts_are_logged_with_their_components(toy: Configure, service: StandIn) -> None:
    """A few rollouts of each step are in rollouts.jsonl, with their components."""
    service.rule = is_a
    config = toy(service.url, "trainer.total_training_steps=1", "trainer.log_rollouts=3")

    train(config)

    records = read_lines(config.run_dir / "rollouts.jsonl")
    assert len(records) == 3
    assert all(one["components"] == {"accuracy_llm": one["reward"]} for one in records)


def test_validation_goes_through_the_judge(
    toy: Configure, service: StandIn, tmp_path: Path
) -> None:
    """Held-out responses without an answer count as wrong, and are not sent."""
    service.rule = is_a
    held_out = tmp_path / "val.jsonl"
    held_out.write_text(json.dumps({"problem": "a", "solution": "AA"}) + "\n", encoding="utf-8")
    config = toy(service.url, f"data.val_files=[{held_out}]", "trainer.total_training_steps=1")

    train(config)

    before, after = metrics(config, "val")
    assert (before["step"], after["step"]) == (0, 1)
    assert before["val/accuracy"] == before["val/answered"] == 0
    assert not any("items" in body for body in service.asked)


def test_supervised_steps_come_first_and_are_kept(
    toy: Configure, service: StandIn, tmp_path: Path
) -> None:
    """They raise the written responses' probability, and KL is measured from their result."""
    service.rule = is_a
    written = tmp_path / "written.jsonl"
    row = {"problem": "b", "solution": "A", "response": "a"}
    written.write_text(4 * (json.dumps(row) + "\n"), encoding="utf-8")
    config = toy(
        service.url, f"warm_up.files=[{written}]", "warm_up.steps=20", "warm_up.batch_size=4",
        "warm_up.lr=1e-2", "trainer.total_training_steps=1",
        "actor_rollout_ref.actor.use_kl_loss=true",
    )  # fmt: skip

    train(config)

    losses = [line["warm_up/loss"] for line in metrics(config, "warm_up")]
    (line,) = metrics(config)
    assert len(losses) == 20
    assert losses[-1] < 0.5 * losses[0]
    assert line["reward/mean"] > 0.5
    assert line["actor/kl_loss"] == pytest.approx(0.0, abs=1e-6)
    assert (config.run_dir / "reference" / "model.safetensors").is_file()


def test_written_responses_that_are_too_long_are_named(
    toy: Configure, service: StandIn, tmp_path: Path
) -> None:
    """The message names the row and the key to raise."""
    written = tmp_path / "written.jsonl"
    row = {"problem": "b", "solution": "A", "response": "abcdabcd"}
    written.write_text(4 * (json.dumps(row) + "\n"), encoding="utf-8")
    config = toy(service.url, f"warm_up.files=[{written}]", "warm_up.steps=1",
                 "warm_up.batch_size=4")  # fmt: skip

    with pytest.raises(BadData, match=r"written\.jsonl:1 has 9 tokens.*max_response_length"):
        train(config)


def test_validation_does_not_change_what_is_learnt(
    toy: Configure, service: StandIn, tmp_path: Path
) -> None:
    """This is true even if validation samples at a temperature."""
    service.rule = is_a
    held_out = tmp_path / "val.jsonl"
    held_out.write_text('{"problem": "a", "solution": "AA"}\n', encoding="utf-8")
    keys = ["trainer.total_training_steps=3", "trainer.test_freq=1"]
    without = toy(service.url, *keys, f"trainer.default_local_dir={tmp_path / 'without'}")
    validated = toy(service.url, *keys, f"data.val_files=[{held_out}]",
                    "actor_rollout_ref.rollout.val_kwargs.temperature=1.0")  # fmt: skip

    train(without)
    train(validated)

    losses = [[line["actor/loss"] for line in metrics(one)] for one in (without, validated)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-7)


def test_validation_can_be_left_out(toy: Configure, service: StandIn, tmp_path: Path) -> None:
    """val_before_train=false and test_freq=-1 disable it."""
    service.rule = is_a
    held_out = tmp_path / "val.jsonl"
    held_out.write_text('{"problem": "a", "solution": "AA"}\n' * 5, encoding="utf-8")
    keys = [f"data.val_files=[{held_out}]", "data.val_batch_size=2",
            "trainer.total_training_steps=2"]  # fmt: skip
    never = toy(service.url, *keys, "trainer.val_before_train=false", "trainer.test_freq=-1")
    each = toy(service.url, *keys, "trainer.val_before_train=false", "trainer.test_freq=1",
               f"trainer.default_local_dir={tmp_path / 'each'}")  # fmt: skip

    train(never)
    train(each)

    assert metrics(never, "val") == []
    assert [line["step"] for line in metrics(each, "val")] == [1, 2]


def test_the_settings_of_the_environment_stay_out_of_a_run(
    toy: Configure, service: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API key is read from the environment, and is in no file of the run."""
    monkeypatch.setitem(os.environ, "MEDREWARD_API_KEY", "not-to-be-written")
    service.rule = is_a
    config = toy(service.url, "trainer.total_training_steps=1")

    train(config)

    written = [path.read_bytes() for path in config.run_dir.rglob("*") if path.is_file()]
    assert not any(b"not-to-be-written" in content for content in written)
