"""The command `medreward-train`: its output and its exit codes."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from medreward_trainer.cli import app
from medreward_trainer.config.config import Config
from medreward_trainer.config.files import dump_config, load_config, recipe_names
from medreward_trainer.run.checkpoints import checkpoints
from medreward_trainer.run.reports import RunLog
from tests.support.misfortunes import with_streams
from tests.trainer.conftest import Configure
from tests.trainer.standing_in import StandIn, scored

COMMANDS = ("run", "plot", "export", "recipes", "show")


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep lines whole, and colours out."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")


def written(config: Config, folder: Path) -> Path:
    """Write a configuration to a file for `run`."""
    file = folder / "config.yaml"
    file.write_text(dump_config(config), encoding="utf-8")
    return file


def medreward_train(*arguments: str | Path) -> Result:
    """Run the command in this process; unhandled exceptions are raised."""
    words = [str(one) for one in arguments]
    return CliRunner().invoke(app, words, catch_exceptions=False, prog_name="medreward-train")


def examples_of(command: str) -> list[list[str]]:
    """Return the command lines in a command's help, without the program's name."""
    shown = medreward_train(command, "--help").output
    lines = re.findall(r"^\W*medreward-train (.*?)\s*$", shown, re.MULTILINE)
    return [shlex.split(line.partition(" > ")[0]) for line in lines]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_shows_examples(command: str) -> None:
    """Each example is of the command whose help shows it."""
    examples = examples_of(command)

    assert examples
    assert all(words[0] == command for words in examples)


@pytest.mark.parametrize("command", ["run", "show"])
def test_the_configurations_of_examples_can_be_had(command: str) -> None:
    """The help's recipes and keys exist; `show` reads the same as `run`."""
    for _, *words in examples_of(command):
        assert medreward_train("show", *words).exit_code == 0


def test_help_is_quick() -> None:
    """Modules that take seconds to import are imported only by the commands that need them."""
    program = "import sys, medreward_trainer.cli; print(*sys.modules)"

    loaded = subprocess.run(  # noqa: S603 - this interpreter
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.split()

    assert not {"torch", "transformers", "matplotlib", "pyarrow"} & set(loaded)


def test_recipes_are_listed_with_what_they_are_for() -> None:
    """Each has its line, with its model's name uncut, for copying."""
    listed = medreward_train("recipes").output

    first_words = [line.split()[0] for line in listed.splitlines()]
    assert [word for word in first_words if word in recipe_names()] == recipe_names()
    for name in recipe_names():
        assert load_config(name).actor_rollout_ref.model.path in listed


def test_show_gives_a_configuration_that_reads_back_equal(tmp_path: Path) -> None:
    """Its output is a file for `run`."""
    shown = medreward_train("show", "smoke", "trainer.total_training_steps=7")
    (tmp_path / "mine.yaml").write_text(shown.output, encoding="utf-8")

    config = load_config(str(tmp_path / "mine.yaml"))
    assert config == load_config("smoke", ["trainer.total_training_steps=7"])
    assert yaml.safe_load(shown.output).keys() == Config.model_fields.keys()


def test_show_can_leave_the_defaults_out() -> None:
    """Only keys that differ are shown, as the overrides that make them so."""
    shown = medreward_train("show", "smoke", "algorithm.adv_estimator=rloo", "--changed").output

    assert "algorithm.adv_estimator=rloo" in shown.splitlines()
    assert "kl_ctrl" not in shown


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (["run", "smok"], "did you mean smoke?"),
        (["show", "smoke", "trainer.total_step=2"], "did you mean"),
        (["run", "smoke", "trainer.total_epochs"], "trainer.total_epochs"),
        (["show", "smoke", "algorithm.adv_estimator=grop"], "did you mean grpo?"),
        (["export", "run", "model", "--dtype", "float17"], "bfloat16"),
    ],
)
def test_what_cannot_be_is_wrong_use(words: list[str], advice: str) -> None:
    """The exit code is 2, and the message suggests the right name, key or value."""
    outcome = medreward_train(*words)

    assert outcome.exit_code == 2
    assert outcome.stdout == ""
    assert advice in outcome.stderr


def test_a_run_that_ends_well_ends_with_0(toy: Configure, service: StandIn, tmp_path: Path) -> None:
    """Steps go to standard error; its checkpoint can be exported as model and tokenizer."""
    service.rule = lambda one: scored(float(one["response"].startswith("a")))
    config = toy(service.url, "trainer.total_training_steps=1", "trainer.logger=[console]")

    outcome = medreward_train("run", written(config, tmp_path))

    assert outcome.exit_code == 0
    assert outcome.stdout == ""
    assert "step 1/1" in outcome.stderr
    model = tmp_path / "model"
    exported = medreward_train("export", config.run_dir / "global_step_1", model)
    assert exported.exit_code == 0
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {
        one.name for one in model.iterdir()
    }


def test_a_run_that_trouble_stops_ends_with_1(
    toy: Configure, service: StandIn, tmp_path: Path
) -> None:
    """The message names metric and switch of the filter, and the saved state."""
    config = toy(service.url, "algorithm.filter_groups.enable=true",
                 "algorithm.filter_groups.max_num_gen_batches=2")  # fmt: skip

    outcome = medreward_train("run", written(config, tmp_path))

    assert outcome.exit_code == 1
    assert "none of the 32 groups" in outcome.stderr
    assert "by accuracy_llm (algorithm.filter_groups)" in outcome.stderr
    assert len(checkpoints(config.run_dir)) == 1
    assert f"saved in {config.run_dir}" in outcome.stderr.replace("\n", " ")


def test_a_filter_that_keeps_nothing_says_so_while_it_draws(
    toy: Configure, service: StandIn, tmp_path: Path
) -> None:
    """A log that is no terminal shows no bar, and a step without a bound would draw for ever."""
    config = toy(service.url, "algorithm.filter_groups.enable=true", "trainer.logger=[console]",
                 "algorithm.filter_groups.max_num_gen_batches=5")  # fmt: skip

    outcome = medreward_train("run", written(config, tmp_path))

    told = "80 groups drawn in 5 batches, 0 of 16 kept by accuracy_llm"
    assert told in " ".join(outcome.stderr.split())


def test_plot_says_what_it_wrote(tmp_path: Path) -> None:
    """The folder of the picture is created if necessary."""
    with RunLog(tmp_path / "run", ["file"], total_steps=1) as log:
        log.write("train", 1, {"reward/mean": 0.5})
    picture = tmp_path / "pictures" / "run.png"

    outcome = medreward_train("plot", tmp_path / "run", "--out", picture)

    assert outcome.exit_code == 0
    assert outcome.stdout == f"wrote {picture}\n"
    assert picture.is_file()


def test_a_folder_that_cannot_be_made_is_named(toy: Configure, tmp_path: Path) -> None:
    """A file stands in its place; there is no traceback."""
    (tmp_path / "run").touch()

    outcome = medreward_train("run", written(toy("http://127.0.0.1:9"), tmp_path))

    assert outcome.exit_code == 1
    assert f"{tmp_path / 'run'}" in outcome.stderr


@pytest.mark.parametrize("words", [["plot"], ["export", "model"]], ids=lambda words: words[0])
def test_a_folder_that_is_of_no_run_is_said(words: list[str], tmp_path: Path) -> None:
    """The exit code is 1, and the message says which folder to give."""
    command, *more = words

    outcome = medreward_train(command, tmp_path / "nowhere", *more)

    assert outcome.exit_code == 1
    assert "nowhere holds no" in outcome.stderr


@pytest.mark.parametrize("asked", ["recipes", "--help"])
@pytest.mark.parametrize(
    ("stdout", "words"),
    [
        ("closed", ["medreward-train: standard output cannot be written: Bad file descriptor"]),
        ("full", ["medreward-train: standard output cannot be written: No space left on device"]),
        ("unread", []),
    ],
)
def test_a_result_that_nobody_can_have_is_told(asked: str, stdout: str, words: list[str]) -> None:
    """And makes the command fail; a reader that has had enough needs no words."""
    done = with_streams([sys.executable, "-m", "medreward_trainer", asked], stdout=stdout)

    assert done.returncode == 1
    assert done.stderr.splitlines() == words
