"""ms-swift itself, on the CPU, against a running service: a run, and what rewards it in one step."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from swift.rewards import orms
from swift.rl_core.data import GRPOSample
from swift.rl_core.grpo_algorithm import compute_rewards_per_func
from swift.utils.utils import import_external_file

from medreward_client import NoReward
from medreward_client.trainers import ms_swift
from tests.real_trainers.bandit import PROMPT, RANKED, REFERENCE, bandit
from tests.support.judge_server import Models, failing_for
from tests.support.process import Service, dies_once, serving

FUNCTIONS = ["medreward", "medreward_accuracy_llm", "medreward_format"]
ANSWERS = ["pneumonia", "Pneumonia", "pneumothorax", "effusion"]
EXPECTED = [[1.0, 1.0, 1.0], [0.6625, 1.0, 1.0], [0.145, 0.0, 1.0], [0.145, 0.0, 1.0]]


def plugged_in(folder: Path, options: str) -> list[Any]:
    """Write a plugin file, have ms-swift import it, and make the functions as its trainer does."""
    plugin = folder / "plugin.py"
    plugin.write_text(
        f"from medreward_client.trainers.ms_swift import register\nregister({options})\n"
    )
    import_external_file(str(plugin))
    return [orms[name](args=None) for name in FUNCTIONS]


def rewarded(functions: list[Any], step: int) -> torch.Tensor:
    """Compute rewards as ms-swift's trainer does: a row for each sample, NaN for None."""
    samples = [
        GRPOSample(
            messages=[
                {"role": "user", "content": "What is seen?"},
                {
                    "role": "assistant",
                    "content": f"<X_RAY><thinking>Seen.</thinking><answer>{answer}</answer>",
                },
            ],
            extra={"solution": "pneumonia", "modality": "X_RAY"},
        )
        for answer in ANSWERS
    ]
    rewards: torch.Tensor = compute_rewards_per_func(
        samples, functions, [None] * len(functions), torch.device("cpu"),
        trainer_state=SimpleNamespace(global_step=step),
    )  # fmt: skip
    return rewards


def test_each_step_is_rewarded_in_a_loop_of_its_own(service: Service, tmp_path: Path) -> None:
    """What `--external_plugins` registers works for step after step, and logs under its name."""
    functions = plugged_in(tmp_path, f"base_url={service.url!r}")

    for step in range(3):
        torch.testing.assert_close(rewarded(functions, step), torch.tensor(EXPECTED))
    assert [function.__name__ for function in functions] == FUNCTIONS


def test_the_module_is_a_plugin_itself(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named to ms-swift as a file it registers the functions, with options of the environment."""
    monkeypatch.setenv("MEDREWARD_URL", service.url)
    for name in FUNCTIONS:
        orms.pop(name, None)

    import_external_file(ms_swift.__file__)

    functions = [orms[name](args=None) for name in FUNCTIONS]
    torch.testing.assert_close(rewarded(functions, 0), torch.tensor(EXPECTED))


def test_a_sample_without_a_reward_ends_the_step(
    models: Models, service: Service, tmp_path: Path
) -> None:
    """ms-swift would add a None up as 0, so the step ends, with the reason and no text."""
    models.rule = failing_for("effusion")
    functions = plugged_in(tmp_path, f"base_url={service.url!r}")

    with pytest.raises(NoReward, match="1 of 4 samples have no reward") as caught:
        rewarded(functions, 0)

    assert "effusion" not in str(caught.value)


def test_a_reward_may_be_imputed(models: Models, service: Service, tmp_path: Path) -> None:
    """Asked for, the mean of its group stands in for a reward that is missing."""
    models.rule = failing_for("effusion")
    functions = plugged_in(tmp_path, f"base_url={service.url!r}, on_unscored='impute'")

    rewards = rewarded(functions[:1], 0)[:, 0].tolist()

    assert rewards[:3] == pytest.approx([row[0] for row in EXPECTED[:3]])
    assert rewards[3] == pytest.approx(math.fsum(rewards[:3]) / 3)


def test_each_group_is_compared_by_itself(models: Models, tmp_path: Path) -> None:
    """The samples of a prompt come in a row, so with their number groups are declared."""
    models.rule = lambda first, second: "YES" if first < second else "NO"
    (tmp_path / "ranked.toml").write_text(RANKED)
    with serving(models, recipes=tmp_path / "ranked.toml", recipe="ranked") as service:
        functions = plugged_in(tmp_path, f"base_url={service.url!r}, num_generations=2")
        rewards = rewarded(functions[:1], 0)[:, 0].tolist()

    # The first two are one answer, but for its case.
    assert rewards == [0.5, 0.5, 0.0, 1.0]


def test_a_service_that_is_killed_in_a_step_costs_no_reward(
    models: Models, service: Service, tmp_path: Path
) -> None:
    """It dies while it scores, comes back at its address, and the step ends with every reward."""
    deaths: list[str] = []
    models.rule = dies_once(service, ANSWERS, deaths)
    functions = plugged_in(tmp_path, f"base_url={service.url!r}")

    torch.testing.assert_close(rewarded(functions, 0), torch.tensor(EXPECTED))
    assert deaths


def test_a_run_is_rewarded(models: Models, service: Service, tmp_path: Path) -> None:
    """Two steps by the command and the plugin file of docs/trainers/ms_swift.md, to the end."""
    models.rule = failing_for("effusion")
    model, tokenizer = bandit()
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    row = {
        "messages": [{"role": "user", "content": PROMPT}],
        "solution": REFERENCE,
        "modality": "X_RAY",
    }
    (tmp_path / "data.jsonl").write_text(f"{json.dumps(row)}\n" * 16)
    (tmp_path / "medreward_plugin.py").write_text(plugin_of_the_page())
    command = """
        rlhf --rlhf_type grpo --model model --model_type qwen3 --template qwen3 --tuner_type full
        --torch_dtype float32 --dataset data.jsonl --split_dataset_ratio 0 --max_steps 2
        --per_device_train_batch_size 16 --num_generations 16 --max_completion_length 1
        --report_to none --save_strategy no --logging_steps 1 --output_dir out --add_version false
        --external_plugins medreward_plugin.py
        --reward_funcs medreward medreward_accuracy_llm medreward_format
        --reward_weights 1 0 0
    """

    subprocess.run(  # noqa: S603 - the trainer's own command
        [Path(sys.executable).with_name("swift"), *command.split()],
        check=True,
        cwd=tmp_path,
        env=os.environ | {"MEDREWARD_URL": service.url, "USE_HF": "1", "HF_HUB_OFFLINE": "1"},
    )

    lines = map(json.loads, (tmp_path / "out" / "logging.jsonl").read_text().splitlines())
    steps = [line for line in lines if "reward" in line]
    assert len(steps) == 2
    for step in steps:
        assert float(step["rewards/medreward/mean"]) == float(step["reward"]) > 0.0
        assert 0.0 < float(step["rewards/medreward_format/mean"]) < 1.0
        assert "rewards/medreward_accuracy_llm/mean" in step


def plugin_of_the_page() -> str:
    """Read the plugin file off the page that users read."""
    page = Path(__file__).parents[2] / "docs" / "trainers" / "ms_swift.md"
    return page.read_text("utf-8").split("```python\n")[1].split("```")[0]
