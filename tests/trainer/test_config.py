"""A configuration is read from a file and overrides, or refused with a message that helps."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from medreward_trainer.config.config import Config
from medreward_trainer.config.files import (
    changed_values,
    check_runnable,
    dump_config,
    key_fields,
    load_config,
)
from medreward_trainer.config.key_aliases import flat, key_aliases
from medreward_trainer.errors import BadConfig

ROOT = Path(__file__).parents[2]
ACTOR = "actor_rollout_ref.actor"
OVERLONG = "reward.reward_kwargs.overlong_buffer_cfg"


@pytest.fixture
def empty(tmp_path: Path) -> str:
    """A file that leaves everything at its default."""
    path = tmp_path / "empty.yaml"
    path.write_text("")
    return str(path)


def refusal(source: str, *overrides: str) -> str:
    """Return the message of a configuration that is refused."""
    with pytest.raises(BadConfig) as caught:
        load_config(source, overrides)
    return str(caught.value)


def test_an_empty_file_is_the_defaults(empty: str) -> None:
    """Keys that a file omits have their defaults."""
    assert load_config(empty) == Config()


@pytest.mark.parametrize(
    ("override", "value"),
    [
        (f"{ACTOR}.optim.lr=1e-6", 1e-6),  # a text for YAML 1.1, which wants 1.0e-6
        ("++trainer.total_training_steps=7", 7),
        ("trainer.total_training_steps=null", None),
        ("data.train_files=[a.jsonl, b.parquet]", ("a.jsonl", "b.parquet")),
        ("data.train_files=a.jsonl", ("a.jsonl",)),
        ("trainer.logger=file", ("file",)),
        ("data.shuffle=false", False),
        ("trainer.experiment_name=1e-6", "1e-6"),
        ("trainer.experiment_name='7'", "7"),
        ("trainer.default_local_dir=/tmp/a=b", Path("/tmp/a=b")),  # noqa: S108 - only a value
    ],
)
def test_an_override_is_read_as_yaml(empty: str, override: str, value: object) -> None:
    """The value is YAML, and a number if the key takes a number."""
    key = override.partition("=")[0].lstrip("+")

    assert flat(load_config(empty, [override]).model_dump())[key] == value


def test_an_override_of_a_section_leaves_its_neighbours(tmp_path: Path) -> None:
    """Keys that it does not name keep the file's values; the last override of a key counts."""
    path = tmp_path / "mine.yaml"
    path.write_text("algorithm: {filter_groups: {metric: reward, low: 0.2}}\nwarm_up:\n")

    overrides = ["algorithm.filter_groups={enable: true, low: 0.1}", "warm_up.lr=2", "warm_up.lr=1"]
    config = load_config(str(path), overrides)

    filters = config.algorithm.filter_groups
    assert (filters.metric, filters.enable, filters.low) == ("reward", True, 0.1)
    assert config.warm_up.lr == 1


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("trainer.total_epoch", "did you mean trainer.total_epochs?"),
        ("actor.clip_ratio_low", f"did you mean {ACTOR}.clip_ratio_low?"),
        ("kl_loss_coeff", f"did you mean {ACTOR}.kl_loss_coef?"),
        ("worker.actor.clip_ratio_low", f"called {ACTOR}.clip_ratio_low here"),
        ("data.rollout_batch_size", "called data.train_batch_size here"),
        ("algorithm.kl_coef", f"{ACTOR}.kl_loss_coef or algorithm.kl_ctrl.kl_coef here"),
        (f"{ACTOR}.optim.clip_grad", f"called {ACTOR}.grad_clip here"),
        (f"{ACTOR}.clip_ratio", f"give {ACTOR}.clip_ratio_low and"),
        ("reward.custom_reward_function.path", "come from the service at reward.base_url"),
        ("weather", "see docs/trainer/config.md"),
    ],
)
def test_an_unknown_key_is_refused_with_the_one_that_was_meant(
    empty: str, wrong: str, meant: str
) -> None:
    """Misspelt keys and those of EasyR1 and verl lead to ours, or to advice."""
    said = refusal(empty, f"{wrong}=1")

    assert said.startswith(f"{wrong}=1: ")
    assert "is no key; " in said
    assert meant in said


def test_what_is_wrong_is_said_with_the_place_it_stands_in(tmp_path: Path) -> None:
    """One message lists all errors, each with its file or override."""
    path = tmp_path / "mine.yaml"
    path.write_text("trainer: {total_epoch: 3, save_freq: -2}\n")

    lines = refusal(str(path), "data.seed=no", "worker={rollout: {n: 5}, actor: {ppo_epochs: 1}}")

    starts = [line.partition(": ")[0] for line in lines.splitlines()]
    assert starts.count(str(path)) == 2
    assert "data.seed=no: data.seed must be a number or a text, not False" in lines
    assert f"worker.actor.ppo_epochs is no key; it is called {ACTOR}.ppo_epochs here" in lines
    assert "worker.rollout.n is no key; it is called actor_rollout_ref.rollout.n here" in lines


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("algorithm.adv_estimator=gropo", "'gdpo', not 'gropo'; did you mean grpo?"),
        (f"{ACTOR}.loss_agg_mode=token", "did you mean token-mean?"),
        ("trainer.logger=[file, wandb]", "must be 'console', 'file' or 'tensorboard', not 'wandb'"),
        ("actor_rollout_ref.rollout.n=1", "must be greater than or equal to 2, not 1"),
        ("actor_rollout_ref.rollout.n=yes", "must be a number or a text, not True"),
        (f"{ACTOR}.optim.lr=.nan", "must be a finite number"),
        (f"{ACTOR}.optim.betas=[0.9]", "has too few values"),
        ("trainer.experiment_name=7", "must be a text"),
        ("data.train_files=7", "must be a list, not 7"),
        ("data=7", "must hold keys and values, not 7"),
        ("trainer.save_freq.x=1", "must be a valid integer"),
        ("actor_rollout_ref.model.target_modules=7", "target_modules must be a list"),
        ("reward.base_url=ftp://rewards", "did you mean http://rewards?"),
    ],
)
def test_an_impossible_value_is_refused_with_what_would_do(
    empty: str, override: str, said: str
) -> None:
    """The message names key, value, valid values, and the nearest choice."""
    words = refusal(empty, override)

    assert override.partition("=")[0].removesuffix(".x") in words
    assert said in words


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["data.train_batch_size=96", f"{ACTOR}.ppo_mini_batch_size=40"],
         f"the nearest that fits is {ACTOR}.ppo_mini_batch_size=32"),
        (["data.gen_batch_size=128"], "is for algorithm.filter_groups.enable=true"),
        (["data.gen_batch_size=16", "algorithm.filter_groups.enable=true"], "the least is 32"),
        ([f"{ACTOR}.use_kl_loss=true", "algorithm.use_kl_in_reward=true"], "choose one"),
        ([f"{ACTOR}.use_kl_loss=true", f"{ACTOR}.kl_loss_coef=0"], "changes nothing"),
        (["algorithm.use_kl_in_reward=true", "algorithm.kl_ctrl.kl_coef=0"], "changes nothing"),
        (["algorithm.kl_ctrl.type=adaptive"], "algorithm.use_kl_in_reward=true too"),
        (["algorithm.use_kl_in_reward=true", "algorithm.adv_estimator=gdpo"],
         f"say {ACTOR}.use_kl_loss=true"),
        ([f"{OVERLONG}.enable=true", "algorithm.adv_estimator=gdpo"], "say enable=false"),
        ([f"{OVERLONG}.enable=true", f"{OVERLONG}.len=4096"], "less than data.max_response_length"),
        (["algorithm.gdpo_reward_keys=format"], "are for algorithm.adv_estimator=gdpo"),
        (["algorithm.adv_estimator=gdpo", "algorithm.gdpo_reward_keys=[a, a]"], "stands twice"),
        (["algorithm.adv_estimator=gdpo", "algorithm.gdpo_reward_keys=[a, b]",
          "algorithm.gdpo_reward_weights=[1]"], "has 1 for 2 of algorithm.gdpo_reward_keys"),
        ([f"{ACTOR}.policy_loss.loss_mode=gspo"], "clip_ratio_low=3e-4 and clip_ratio_high=4e-4"),
        (["algorithm.filter_groups.low=0.9", "algorithm.filter_groups.high=0.5"], "is not under"),
        (["algorithm.filter_groups.metric=overall"], "is called reward here"),
        (["trainer.resume_mode=resume_path"], "needs trainer.resume_from_path"),
        (["trainer.resume_from_path=a"], "trainer.resume_mode=resume_path"),
        (["warm_up.steps=2"], "no warm_up.files"),
        (["data.min_pixels=9", "data.max_pixels=4"], "data.min_pixels=9 is over"),
        (["trainer.total_training_steps=2", f"{ACTOR}.optim.lr_warmup_steps=8"], "all of the run's 8"),
    ],
)  # fmt: skip
def test_what_cannot_be_together_is_refused(empty: str, overrides: list[str], said: str) -> None:
    """The message names the keys and the change to make."""
    assert said in refusal(empty, *overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        ["data.gen_batch_size=512"],
        ["data.gen_batch_size=128", "algorithm.filter_groups.enable=true"],
        ["data.gen_batch_size=16", "algorithm.filter_groups.enable=true",
         "algorithm.filter_groups.max_num_gen_batches=0"],
        [f"{ACTOR}.policy_loss.loss_mode=gspo", f"{ACTOR}.clip_ratio_low=3e-4",
         f"{ACTOR}.clip_ratio_high=4e-4"],
        ["trainer.resume_mode=resume_path", "trainer.resume_from_path=a"],
        ["trainer.total_training_steps=2", f"{ACTOR}.optim.lr_warmup_steps=7"],
        ["data.min_pixels=null", "data.max_pixels=4"],
        [f"{OVERLONG}.enable=true", f"{OVERLONG}.len=4095"],
    ],
)  # fmt: skip
def test_what_can_be_together_is_taken(empty: str, overrides: list[str]) -> None:
    """Values on the valid side of each bound are accepted."""
    load_config(empty, overrides)


def test_a_file_holds_keys_and_values(tmp_path: Path) -> None:
    """Any other YAML is refused."""
    path = tmp_path / "list.yaml"
    path.write_text("- a\n- b\n")

    assert refusal(str(path)) == f"{path} must hold keys and values"


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    """YAML itself would silently keep the last one."""
    path = tmp_path / "twice.yaml"
    path.write_text("data:\n  seed: 1\n  shuffle: true\n  seed: 2\n")

    said = refusal(str(path))

    assert "the key seed stands twice" in said
    assert "line 4" in said


@pytest.mark.parametrize("text", ["a: [", "a: 2026-99-99"])
def test_what_is_not_yaml_is_refused_with_its_place(tmp_path: Path, text: str) -> None:
    """The message names the file or the override."""
    path = tmp_path / "torn.yaml"
    path.write_text(text)

    assert refusal(str(path)).startswith(f"{path} is not YAML: ")
    assert refusal("smoke", f"data.seed={text}").startswith(f"data.seed={text} is not YAML: ")


@pytest.mark.parametrize("override", ["data.seed", "=3", "data..seed=3"])
def test_what_is_no_override_is_refused_with_one_that_is(empty: str, override: str) -> None:
    """An override needs a key, an equals sign and a value."""
    assert "write it as trainer.total_epochs=2" in refusal(empty, override)


def test_a_key_below_a_value_is_refused(tmp_path: Path) -> None:
    """The file's value has no keys below it."""
    path = tmp_path / "mine.yaml"
    path.write_text("data: {seed: 1}\n")

    assert refusal(str(path), "data.seed.of=2") == (
        "data.seed.of: seed holds a value, and no further keys"
    )


def test_a_missing_file_is_refused_with_the_recipe_that_was_meant() -> None:
    """The message lists all recipes if no name is similar."""
    assert refusal("smoek") == "smoek is no file, and no recipe; did you mean smoke?"
    assert "no recipe: medix_2b_dapo, " in refusal("/there/is/nothing.yaml")


def test_a_run_needs_data() -> None:
    """A configuration without data can be shown but not run."""
    with pytest.raises(BadConfig, match=r"data\.train_files"):
        check_runnable(Config())
    check_runnable(load_config("smoke"))


names = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=12
)


@given(
    experiment=names | st.sampled_from(["1e-6", "null", "~", "yes", "0x1F", "2026-11-25", "a: b"]),
    files=st.lists(names, max_size=3),
    lr=st.floats(min_value=1e-12, max_value=1e3),
    folder=st.none() | st.just(Path("/data/runs")),
)
def test_what_is_written_reads_back_equal(
    tmp_path_factory: pytest.TempPathFactory,
    experiment: str,
    files: list[str],
    lr: float,
    folder: Path | None,
) -> None:
    """Texts survive, even those that YAML would read as another type."""
    config = Config.model_validate(
        {
            "data": {"train_files": files},
            "actor_rollout_ref": {"actor": {"optim": {"lr": lr}}},
            "trainer": {"experiment_name": experiment, "default_local_dir": folder},
        }
    )
    path = tmp_path_factory.getbasetemp() / "written.yaml"
    path.write_text(dump_config(config), encoding="utf-8")

    assert load_config(str(path)) == config


def test_every_key_is_written() -> None:
    """A run's config.yaml is complete, so later changes of defaults do not matter."""
    written = yaml.safe_load(dump_config(Config()))

    assert flat(written).keys() == key_fields().keys()


def test_changed_values_are_those_that_differ(empty: str) -> None:
    """They have the order of the configuration, and the later values."""
    after = load_config(empty, ["trainer.save_freq=3", f"{ACTOR}.optim.lr=1e-5"])

    changed = changed_values(Config(), after)
    assert list(changed.items()) == [(f"{ACTOR}.optim.lr", 1e-5), ("trainer.save_freq", 3)]


def test_a_run_has_a_folder_of_its_name(empty: str) -> None:
    """The folder follows the run's names unless the configuration sets it."""
    named = load_config(empty, ["trainer.experiment_name=b", "trainer.project_name=a"])
    told = load_config(empty, ["trainer.default_local_dir=/c"])

    assert (named.run_dir, told.run_dir) == (Path("checkpoints/a/b"), Path("/c"))


def test_a_reference_is_needed_for_kl_alone(empty: str) -> None:
    """Without KL no second model is loaded."""
    assert not load_config(empty).needs_reference
    for key in (f"{ACTOR}.use_kl_loss", "algorithm.use_kl_in_reward"):
        assert load_config(empty, [f"{key}=true"]).needs_reference


def test_the_table_of_other_names_is_of_every_key() -> None:
    """The table lists exactly our keys, and gives advice for foreign keys only."""
    keys, aliases = key_fields(), key_aliases()

    assert list(aliases.names) == list(keys)
    assert set(aliases.values) <= set(keys)
    assert not set(aliases.instead) & set(keys)
    assert not [key for key in aliases.instead if aliases.ours(key)]


def test_every_key_says_what_it_is() -> None:
    """Each field has a docstring."""
    assert [key for key, field in key_fields().items() if not field.description] == []


def test_the_page_of_the_configuration_lists_it() -> None:
    """docs/trainer/config.md is the output of `make docs`, and has every key."""
    script = ROOT / "docs" / "make_trainer_config.py"
    written = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, script], check=True, capture_output=True, text=True
    )

    page = (ROOT / "docs" / "trainer" / "config.md").read_text("utf-8")
    assert written.stdout == page
    assert all(f"| `{key}` |" in page for key in key_fields())
