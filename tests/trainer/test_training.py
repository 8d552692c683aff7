"""The loop: it learns, it can be killed, it waits, and it never steps on a made-up reward."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from medreward_trainer.config.config import Config
from medreward_trainer.config.files import dump_config, load_config
from medreward_trainer.errors import BadCheckpoint, BadConfig, BadData, NoRewards, OutOfMemory
from medreward_trainer.run.checkpoints import checkpoints, read
from medreward_trainer.run.reports import read_lines
from medreward_trainer.run.run import resumed_config
from medreward_trainer.run.timing import StageTimes
from medreward_trainer.tiny_models import load_model
from medreward_trainer.training import train
from tests.support.process import Service
from tests.trainer.conftest import Configure, write_rows
from tests.trainer.standing_in import StandIn, scored, unscored

WEIGHTS = "model/model.safetensors"
slow = pytest.mark.slow


def metrics(config: Config, kind: str = "train") -> list[dict[str, Any]]:
    """Return the logged lines of one kind."""
    return [one for one in read_lines(config.run_dir / "metrics.jsonl") if one["kind"] == kind]


def losses(config: Config) -> list[float]:
    """Return the logged loss of each step."""
    return [line["actor/loss"] for line in metrics(config)]


def is_a(sample: dict[str, Any]) -> dict[str, Any]:
    """Reward responses that begin with an a, which every group has some of."""
    return scored(float(sample["response"].startswith("a")))


@pytest.fixture
def service(service: StandIn) -> StandIn:
    """The stand-in service, with a rule that can be learnt."""
    service.rule = is_a
    return service


@pytest.fixture
def held_out(tmp_path: Path) -> Path:
    """A file for validation."""
    return write_rows(tmp_path / "val.jsonl", *5 * [{"problem": "a", "solution": "AA"}])


def launched(config: Config, **environment: str) -> subprocess.Popen[str]:
    """Start a run in a process of its own."""
    file = config.run_dir.with_suffix(".yaml")
    file.write_text(dump_config(config), encoding="utf-8")
    return subprocess.Popen(  # noqa: S603 - the command under test
        [sys.executable, "-m", "medreward_trainer", "run", str(file)],
        env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


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


def test_a_killed_run_goes_on_with_the_same_losses(toy: Configure, service: StandIn) -> None:
    """After SIGKILL and a restart, each step has the loss of an uninterrupted run."""
    keys = ("trainer.total_training_steps=9", "trainer.save_freq=2",
            "actor_rollout_ref.actor.ppo_mini_batch_size=8")  # fmt: skip
    whole, killed = toy(service.url, *keys, name="whole"), toy(service.url, *keys)
    train(whole)

    with launched(killed) as process:
        while process.poll() is None and len(metrics(killed)) < 5:
            time.sleep(0.01)
        process.kill()
    train(killed)

    assert [line["step"] for line in metrics(killed)] == list(range(1, 10))
    assert losses(killed) == pytest.approx(losses(whole), abs=1e-7)
    last = "global_step_9"
    assert (killed.run_dir / last / WEIGHTS).stat().st_size > 0
    assert read(killed.run_dir / last).progress.place == read(whole.run_dir / last).progress.place


def test_a_run_that_is_asked_to_stop_saves_and_ends(toy: Configure, service: StandIn) -> None:
    """SIGTERM ends it with exit code 130, and a checkpoint of its last whole step."""
    config = toy(service.url, "trainer.total_training_steps=500", "trainer.save_freq=-1")
    with launched(config) as process:
        while process.poll() is None and not metrics(config):
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=240)

    (checkpoint,) = checkpoints(config.run_dir)
    assert process.returncode == 130
    assert f"saved in {config.run_dir}" in said
    assert read(checkpoint).progress.step == metrics(config)[-1]["step"]


def run_together(config: Config, *, processes: int) -> list[int]:
    """Run in several processes, as `accelerate launch` does; return their exit codes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes),
              "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}  # fmt: skip
    with ExitStack() as stack:
        started = [
            stack.enter_context(launched(config, **shared, RANK=str(rank), LOCAL_RANK=str(rank)))
            for rank in range(processes)
        ]
        for process in started:
            process.communicate(timeout=240)
    return [process.returncode for process in started]


def test_several_processes_train_one_policy(toy: Configure, service: StandIn) -> None:
    """Each draws its share of the prompts, all learn from all groups, and one keeps the files."""
    config = toy(service.url, "trainer.total_training_steps=4", "trainer.save_freq=2",
                 "actor_rollout_ref.actor.ppo_mini_batch_size=8",
                 "algorithm.use_kl_in_reward=true", "trainer.max_actor_ckpt_to_keep=1")  # fmt: skip

    assert run_together(config, processes=2) == [0, 0]

    lines = metrics(config)
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert all(line["groups/generated"] == 16 for line in lines)
    (checkpoint,) = checkpoints(config.run_dir)
    first, second = read(checkpoint).random
    assert not torch.equal(first["cpu"], second["cpu"])


def test_when_one_process_has_no_rewards_all_stop(toy: Configure, service: StandIn) -> None:
    """No process is left waiting for the others, and the state is saved."""
    # Unshuffled, the letters take turns: the second process has the b's and the d's.
    service.rule = lambda one: (
        unscored("invalid_reference", retryable=False) if one["question"] in "bd" else is_a(one)
    )
    config = toy(service.url, "data.shuffle=false", "trainer.total_training_steps=2")

    assert run_together(config, processes=2) == [1, 1]

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


def test_an_outage_changes_nothing_but_the_time(toy: Configure, service: StandIn) -> None:
    """Requests turned away and samples unscored for a while lead to the same losses."""
    calm = toy(service.url, "trainer.total_training_steps=3", name="calm")
    train(calm)
    rough = toy(service.url, "trainer.total_training_steps=3")
    failures = iter(range(40))

    def failing(sample: dict[str, Any]) -> dict[str, Any]:
        if next(failures, None) is not None:
            return unscored("judge_timeout", retryable=True)
        return is_a(sample)

    service.rule, service.refusals = failing, [429, 503, 429]

    train(rough)

    assert losses(rough) == pytest.approx(losses(calm), abs=1e-7)


@slow  # An outage of the stand-in is shown to change nothing by the test above.
def test_a_service_that_is_killed_and_comes_back_leaves_no_trace(
    toy: Configure, toy_service: Service
) -> None:
    """A real one, gone for seconds in the middle of a run: the final weights are the same."""
    keys = ("trainer.total_training_steps=12", "actor_rollout_ref.actor.ppo_mini_batch_size=8")
    calm = toy(toy_service.url, *keys, name="calm")
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
    rows = []
    for number, color in enumerate(("red", "green", "blue", "white")):
        Image.new("RGB", (20 + number, 12), color).save(tmp_path / f"{color}.png")
        rows.append({"problem": "<image>a", "solution": "<X_RAY>A", "image": f"{color}.png"})
    data = write_rows(tmp_path / "seen.jsonl", *rows)
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

    with pytest.raises(BadConfig, match=r"filter_groups\.metric.*has reward, accuracy_llm"):
        train(config)

    assert service.samples == []


def test_a_run_that_stopped_for_want_of_rewards_goes_on_as_if_it_had_not(
    toy: Configure, service: StandIn
) -> None:
    """The state before the step is saved, and later steps have the losses of a calm run."""
    served = toy(service.url, "trainer.total_training_steps=4", name="served")
    train(served)
    stopped = toy(service.url, "reward.patience_s=1", "trainer.total_training_steps=4",
                  "trainer.save_freq=-1")  # fmt: skip
    answered = iter(range(2 * 16 * 8 + 50))
    service.rule = lambda one: (
        unscored("judge_unavailable", retryable=True) if next(answered, None) is None else is_a(one)
    )
    with pytest.raises(NoRewards, match="78 of 128 samples have no reward") as caught:
        train(stopped)
    (checkpoint,) = checkpoints(stopped.run_dir)
    assert read(checkpoint).progress.step == 2
    assert "goes on from there" in caught.value.__notes__[-1]
    service.rule = is_a

    train(stopped)

    assert losses(stopped) == pytest.approx(losses(served), abs=1e-7)


def test_a_step_without_variance_takes_no_optimiser_step(toy: Configure, service: StandIn) -> None:
    """If all groups have equal rewards the weights stay, and the metrics report it."""
    service.rule = lambda _: scored(1.0)
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
    config = toy(service.url, "trainer.total_training_steps=1", "trainer.log_rollouts=3")

    train(config)

    records = read_lines(config.run_dir / "rollouts.jsonl")
    assert len(records) == 3
    assert all(one["components"] == {"accuracy_llm": one["reward"]} for one in records)


def test_validation_goes_through_the_judge(
    toy: Configure, service: StandIn, held_out: Path
) -> None:
    """Held-out responses without an answer count as wrong, and are not sent."""
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
    row = {"problem": "b", "solution": "A", "response": "a"}
    written = write_rows(tmp_path / "written.jsonl", *4 * [row])
    config = toy(
        service.url, f"warm_up.files=[{written}]", "warm_up.steps=20", "warm_up.batch_size=4",
        "warm_up.lr=1e-2", "trainer.total_training_steps=1",
        "actor_rollout_ref.actor.use_kl_loss=true",
    )  # fmt: skip

    train(config)

    warm_up = [line["warm_up/loss"] for line in metrics(config, "warm_up")]
    (line,) = metrics(config)
    assert len(warm_up) == 20
    assert warm_up[-1] < 0.5 * warm_up[0]
    assert line["reward/mean"] > 0.5
    assert line["actor/kl_loss"] == pytest.approx(0.0, abs=1e-6)
    assert (config.run_dir / "reference" / "model.safetensors").is_file()


def test_written_responses_that_are_too_long_are_named(
    toy: Configure, service: StandIn, tmp_path: Path
) -> None:
    """The message names the row and the key to raise."""
    row = {"problem": "b", "solution": "A", "response": "abcdabcd"}
    written = write_rows(tmp_path / "written.jsonl", *4 * [row])
    config = toy(service.url, f"warm_up.files=[{written}]", "warm_up.steps=1",
                 "warm_up.batch_size=4")  # fmt: skip

    with pytest.raises(BadData, match=r"written\.jsonl:1 has 9 tokens.*max_response_length"):
        train(config)


def test_validation_does_not_change_what_is_learnt(
    toy: Configure, service: StandIn, held_out: Path
) -> None:
    """Not even if it samples at a temperature; `test_freq=-1` disables it."""
    keys = [f"data.val_files=[{held_out}]", "data.val_batch_size=2",
            "actor_rollout_ref.rollout.val_kwargs.temperature=1.0",
            "trainer.val_before_train=false", "trainer.total_training_steps=3"]  # fmt: skip
    without = toy(service.url, *keys, "trainer.test_freq=-1", name="without")
    validated = toy(service.url, *keys, "trainer.test_freq=1")

    train(without)
    train(validated)

    assert metrics(without, "val") == []
    assert [line["step"] for line in metrics(validated, "val")] == [1, 2, 3]
    assert losses(without) == pytest.approx(losses(validated), abs=1e-7)


def test_the_settings_of_the_environment_stay_out_of_a_run(
    toy: Configure, service: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API key is read from the environment, and is in no file of the run."""
    monkeypatch.setitem(os.environ, "MEDREWARD_API_KEY", "not-to-be-written")
    config = toy(service.url, "trainer.total_training_steps=1")

    train(config)

    written = [path.read_bytes() for path in config.run_dir.rglob("*") if path.is_file()]
    assert not any(b"not-to-be-written" in content for content in written)


def test_what_is_changed_at_a_resume_holds_from_then_on(toy: Configure, service: StandIn) -> None:
    """The optimiser's values are in its state, and would otherwise go on as they were."""
    optim = "actor_rollout_ref.actor.optim"
    train(toy(service.url, "trainer.total_training_steps=1"))
    changed = (f"{optim}.lr=1e-5", f"{optim}.betas=[0.5,0.6]", f"{optim}.weight_decay=0.2")
    config = toy(service.url, "trainer.total_training_steps=2", *changed)

    train(config)

    before, now = (line["actor/lr"] for line in metrics(config))
    assert (before, now) == (3e-3, 1e-5)
    (group,) = read(config.run_dir / "global_step_2").optimizer["param_groups"]
    assert (tuple(group["betas"]), group["weight_decay"]) == ((0.5, 0.6), 0.2)


def test_what_only_the_beginning_reads_goes_on_and_is_written_down(
    toy: Configure, service: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    """The weights are the checkpoint's, whatever model is named now."""
    train(toy(service.url, "trainer.total_training_steps=1"))
    config = toy(service.url, "trainer.total_training_steps=2", "trainer.logger=[console]",
                 "actor_rollout_ref.model.path=tiny-random", "trainer.seed=9")  # fmt: skip

    train(config)

    told = " ".join(capsys.readouterr().err.split())
    assert "the checkpoint's go on: actor_rollout_ref.model.path=tiny-random:abcd" in told
    held = yaml.safe_load((config.run_dir / "config.yaml").read_text(encoding="utf-8"))
    assert held["actor_rollout_ref"]["model"]["path"] == "tiny-random:abcd"
    assert held["trainer"]["seed"] != 9


def rewritten(config: Config, *letters: str) -> None:
    """Put other rows into the file of a run's data."""
    rows = [{"problem": one, "solution": 2 * one.upper()} for one in letters] * 4
    write_rows(Path(config.data.train_files[0]), *rows)


def test_other_prompts_in_the_file_of_the_first_are_refused(
    toy: Configure, service: StandIn
) -> None:
    """The same number of rows under the same name."""
    config = toy(service.url, "trainer.total_training_steps=1")
    train(config)
    rewritten(config, "b", "c", "d", "d")

    with pytest.raises(BadCheckpoint, match=r"toy\.jsonl has changed since"):
        train(toy(service.url, "trainer.total_training_steps=2"))


@pytest.mark.parametrize(("before", "now"), [(0, 4), (4, 0), (4, 8)])
def test_another_adapter_is_refused_at_a_resume(before: int, now: int) -> None:
    """The checkpoint's weights do not fit it; the message names the key and both values."""
    was, wanted = (
        load_config("smoke", [f"actor_rollout_ref.model.lora_rank={rank}"])
        for rank in (before, now)
    )

    with pytest.raises(BadCheckpoint, match=rf"lora_rank={before}, and it is {now} now"):
        resumed_config(wanted, was)


def test_no_prompt_that_fits_is_told_as_such(toy: Configure, service: StandIn) -> None:
    """The batch size is not to blame."""
    config = toy(service.url, "data.max_prompt_length=1")
    rewritten(config, "ab", "bc", "cd", "abc")

    told = r"all 16 prompts are over 1 tokens \(data.max_prompt_length\); the shortest has 2"
    with pytest.raises(BadData, match=told):
        train(config)
