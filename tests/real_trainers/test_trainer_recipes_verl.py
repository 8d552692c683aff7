"""The recipes for verl, composed and checked by verl 0.9.1 itself."""

import inspect
from pathlib import Path
from typing import Any

import pytest

other_keys = pytest.importorskip(
    "medreward_trainer.config.key_aliases", reason="needs the trainer's files"
)
config_of_verl = pytest.importorskip("verl.utils.config", reason="needs verl")

import datasets  # noqa: E402 - as above
from hydra import compose, initialize_config_dir, initialize_config_module  # noqa: E402 - as above
from omegaconf import DictConfig, OmegaConf  # noqa: E402 - as above
from PIL import Image  # noqa: E402 - as above
from verl.trainer.ppo.reward import get_custom_reward_fn  # noqa: E402 - as above
from verl.trainer.ppo.utils import need_critic, need_reference_policy  # noqa: E402 - as above
from verl.utils.dataset.rl_dataset import RLHFDataset  # noqa: E402 - as above

from medreward_trainer.config.config import Data  # noqa: E402 - as above
from medreward_trainer.data.examples import Example  # noqa: E402 - as above
from medreward_trainer.data.verl_data import write_verl_rows  # noqa: E402 - as above

RECIPES = Path(other_keys.__file__).parents[1] / "recipes" / "verl"
NAMES = sorted(path.stem for path in RECIPES.glob("*.yaml"))


def composed(name: str) -> DictConfig:
    """Compose a recipe as `--config-path --config-name` do."""
    with initialize_config_dir(str(RECIPES), version_base=None):
        return compose(name)


def at(config: Any, key: str) -> Any:
    """Look a key up; a key that there is not is an error."""
    for part in key.split("."):
        config = config[part]
    return config


def test_there_are_five() -> None:
    """One for each script of MediX-R1."""
    assert NAMES == [
        "medix_2b_dapo", "medix_30b_dapo", "medix_7b_gspo", "medix_8b_dapo", "medix_8b_grpo",
    ]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_verl_takes_the_recipe(name: str) -> None:
    """Its configuration resolves, and passes verl's own checks."""
    config = composed(name)

    OmegaConf.resolve(config)
    config_of_verl.validate_config(
        config,
        use_reference_policy=need_reference_policy(config),
        use_critic=need_critic(config),
    )

    assert not need_critic(config)
    assert need_reference_policy(config) == name.endswith("_grpo")
    for section in (config.algorithm, config.actor_rollout_ref.rollout):
        config_of_verl.omega_conf_to_dataclass(section)


@pytest.mark.parametrize("name", NAMES)
def test_no_key_of_the_recipe_is_unknown_to_verl(name: str) -> None:
    """Hydra adds a misspelt key of a file in silence; only the adapter's options are added here."""
    with initialize_config_module("verl.trainer.config", version_base=None):
        known = compose("ppo_trainer")
    given = OmegaConf.load(RECIPES / f"{name}.yaml")
    del given["defaults"], given["hydra"]
    del given.reward.custom_reward_function["reward_kwargs"]
    OmegaConf.set_struct(known, value=True)

    OmegaConf.merge(known, given)


@pytest.mark.parametrize("name", NAMES)
def test_verl_finds_the_reward_function(name: str) -> None:
    """It is medreward's adapter, with the published recipe."""
    config = composed(name)

    function = get_custom_reward_fn(config)

    assert inspect.iscoroutinefunction(function.func)
    assert function.args[0].__module__.endswith("verl")
    assert function.args[1] == {"recipe": "medix-r1", "run_id": name}


def test_verl_has_the_keys_that_are_said_to_be_its() -> None:
    """Those of the table; the ones with a plus are not in verl's configuration."""
    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose("ppo_trainer", ["actor_rollout_ref.rollout.name=vllm"])

    for names in other_keys.key_aliases().names.values():
        if names.verl and not names.verl.startswith("+"):
            at(config, names.verl)
        elif names.verl:
            with pytest.raises(Exception, match=r"not in struct|NoneType"):
                at(config, names.verl.removeprefix("+"))


def test_verl_reads_the_rows_that_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its data set puts the pictures into the chat, and hands over what the adapter reads."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    Image.new("RGB", (4, 4)).save(tmp_path / "x.png")
    examples = [
        Example("a.jsonl:1", "Which lobe?", "left lower lobe", "X_RAY", (tmp_path / "x.png",)),
        Example("a.jsonl:2", "Which organ?", "liver", None),
    ]
    path = tmp_path / "rows.parquet"
    write_verl_rows(examples, path, Data(format_prompt="plain"))

    rows = RLHFDataset(
        str(path),
        tokenizer=None,
        config=OmegaConf.create({"filter_overlong_prompts": False}),
        processor=object(),
    )

    image, text = rows[0]["raw_prompt"][0]["content"]
    assert image["image"].size == (4, 4)
    assert (image["min_pixels"], image["max_pixels"]) == (262_144, 4_194_304)
    assert text == {"type": "text", "text": "Which lobe?"}
    assert rows[0]["reward_model"]["ground_truth"] == "left lower lobe"
    assert rows[0]["extra_info"]["modality"] == "X_RAY"
    assert rows[1]["raw_prompt"] == [{"role": "user", "content": "Which organ?"}]
    assert rows[1]["extra_info"]["modality"] is None
