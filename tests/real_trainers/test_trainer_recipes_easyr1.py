"""The recipes for EasyR1, read by EasyR1's own dataclasses, or by those of MediX-R1's copy.

As test_easyr1_real.py: nothing here runs without its tree on the path.
"""

import sys
import warnings
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

other_keys = pytest.importorskip(
    "medreward_trainer.config.key_aliases", reason="needs the trainer's files"
)

# Its package is called `verl` too, but verl itself has no such module.
with warnings.catch_warnings(action="ignore"):
    reward = pytest.importorskip("verl.workers.reward.function", reason="EASYR1 is not set")

    from omegaconf import OmegaConf
    from omegaconf.errors import InterpolationResolutionError

    # The package beside its configuration imports the engine, which is built for CUDA: it is left
    # out, and the configuration is EasyR1's own.
    rollout = ModuleType("verl.workers.rollout")
    rollout.__path__ = [str(Path(reward.__file__).parents[1] / "rollout")]
    sys.modules[rollout.__name__] = rollout
    rollout.__dict__["RolloutConfig"] = import_module("verl.workers.rollout.config").RolloutConfig
    from verl.trainer.config import PPOConfig

from medreward_client.trainers import easyr1  # noqa: E402 - where EasyR1 is not, nothing is read

pytestmark = [
    pytest.mark.trainers,
    pytest.mark.filterwarnings("ignore", "error:::medreward_client"),
]

RECIPES = Path(other_keys.__file__).parents[1] / "recipes" / "easyr1"
TEMPLATE = RECIPES.parents[1] / "templates" / "medix.jinja"
NAMES = sorted(path.stem for path in RECIPES.glob("*.yaml"))
ASKED_FOR = {
    "REWARD_FUNCTION": f"{easyr1.__file__}:compute_score",
    "FORMAT_PROMPT": str(TEMPLATE),
}


def read(path: Path, *arguments: str) -> Any:
    """Read a configuration as EasyR1's main does."""
    whole = OmegaConf.merge(
        OmegaConf.structured(PPOConfig()), OmegaConf.load(path), OmegaConf.from_cli(list(arguments))
    )
    config = OmegaConf.to_object(whole)
    config.deep_post_init()
    return config


@pytest.fixture
def _exported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Say what the recipes ask for."""
    for name, value in ASKED_FOR.items():
        monkeypatch.setenv(name, value)


def test_there_are_five() -> None:
    """One for each script of MediX-R1."""
    assert NAMES == [
        "medix_2b_dapo", "medix_30b_dapo", "medix_7b_gspo", "medix_8b_dapo", "medix_8b_grpo",
    ]  # fmt: skip


@pytest.mark.usefixtures("_exported")
@pytest.mark.parametrize("name", NAMES)
def test_easyr1_takes_the_recipe(name: str) -> None:
    """Every key is one of its own, and the two paths are there."""
    config = read(RECIPES / f"{name}.yaml")

    assert config.trainer.experiment_name == name
    assert config.worker.reward.reward_function == easyr1.__file__
    assert config.worker.reward.reward_function_name == "compute_score"
    assert config.data.format_prompt == str(TEMPLATE)
    filtered = config.worker.reward.reward_function_kwargs.get("online_filtering", False)
    assert filtered == config.algorithm.online_filtering == name.endswith("_dapo")


@pytest.mark.usefixtures("_exported")
@pytest.mark.parametrize("forgotten", ASKED_FOR)
def test_a_forgotten_path_is_an_error(monkeypatch: pytest.MonkeyPatch, forgotten: str) -> None:
    """EasyR1 itself would go on without."""
    monkeypatch.delenv(forgotten)

    with pytest.raises(InterpolationResolutionError, match=forgotten):
        read(RECIPES / "medix_8b_grpo.yaml")


@pytest.mark.usefixtures("_exported")
@pytest.mark.parametrize("name", NAMES)
def test_the_values_are_those_of_medix_r1(name: str) -> None:
    """What its configuration and script say, read from its tree where that is the one given."""
    examples = Path(reward.__file__).parents[3] / "examples"
    script = examples / f"{name.replace('medix', 'medix-r1').replace('7b_gspo', '7b_grpo')}.sh"
    if not script.is_file():
        pytest.skip("the tree is EasyR1's own")

    published = read(examples / "config.yaml", *arguments_of(script.read_text("utf-8")))
    ours = read(RECIPES / f"{name}.yaml")

    pairs = pairs_of(published, ours)
    assert {key for key, (theirs, own) in pairs.items() if theirs != own} <= MAY_DIFFER


def arguments_of(script: str) -> list[str]:
    """What a script of MediX-R1 overrides."""
    model = script.partition("MODEL_PATH=")[2].split()[0]
    lines = [line.strip(" \\") for line in script.splitlines() if line.startswith("    ")]
    return [
        line.replace("${MODEL_PATH}", model) for line in lines if not line.startswith("config=")
    ]


MAY_DIFFER = {
    "data.format_prompt", "worker.reward.reward_function", "worker.reward.reward_function_name",
    "worker.reward.reward_function_kwargs",
    "trainer.project_name", "trainer.experiment_name", "trainer.logger",
    "trainer.save_checkpoint_path",
}  # fmt: skip


def pairs_of(theirs: Any, ours: Any, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Both values of every key."""
    found: dict[str, tuple[Any, Any]] = {}
    for one in fields(theirs):
        pair = getattr(theirs, one.name), getattr(ours, one.name)
        if is_dataclass(pair[0]):
            found |= pairs_of(*pair, prefix=f"{prefix}{one.name}.")
        else:
            found[f"{prefix}{one.name}"] = pair
    return found


def test_easyr1_has_the_keys_that_are_said_to_be_its() -> None:
    """Those of the table; MediX-R1's copy is older, and has no `lora`."""
    config = OmegaConf.create(OmegaConf.to_container(OmegaConf.structured(PPOConfig())))
    keys = {names.easyr1 for names in other_keys.key_aliases().names.values() if names.easyr1}
    open_ended = {key for key in keys if "val_override_config" in key or ".lora." in key}

    for key in keys - open_ended:
        section, _, last = key.rpartition(".")
        assert last in OmegaConf.select(config, section), key
