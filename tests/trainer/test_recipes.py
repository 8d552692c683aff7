"""The packaged recipes, and their equivalents for verl and EasyR1."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from medreward_trainer.config.config import Config
from medreward_trainer.config.files import (
    RECIPES,
    check_runnable,
    dump_config,
    load_config,
    recipe_names,
    recipe_purpose,
)
from medreward_trainer.config.key_aliases import flat, key_aliases

PUBLISHED = {
    # name: (model, clip low, clip high, loss, KL in the loss, filtered, generated at a time)
    "medix_2b_dapo": ("Qwen/Qwen3-VL-2B-Instruct", 0.2, 0.28, "vanilla", False, True, 128),
    "medix_8b_grpo": ("Qwen/Qwen3-VL-8B-Instruct", 0.2, 0.3, "vanilla", True, False, None),
    "medix_8b_dapo": ("Qwen/Qwen3-VL-8B-Instruct", 0.2, 0.28, "vanilla", False, True, 128),
    "medix_7b_gspo": ("Qwen/Qwen2.5-VL-7B-Instruct", 3e-4, 4e-4, "gspo", False, False, None),
    "medix_30b_dapo": ("Qwen/Qwen3-VL-30B-A3B-Thinking", 0.2, 0.28, "vanilla", False, True, 128),
}
MEDIX = sorted(PUBLISHED)
# Where the trainers are not the same: the engine's room and how many devices it spans, the files'
# form and columns, where logs go, and verl's filter, which has no bounds.
MAY_DIFFER = {
    "actor_rollout_ref.model.dtype",
    "actor_rollout_ref.rollout.gpu_memory_utilization",
    "actor_rollout_ref.rollout.tensor_model_parallel_size",
    "data.format_prompt", "data.train_files", "data.val_files", "data.prompt_key",
    "data.image_key", "data.gen_batch_size", "data.val_batch_size",
    "trainer.logger", "trainer.default_local_dir",
    "algorithm.filter_groups.max_num_gen_batches",
    "algorithm.kl_penalty", "algorithm.kl_ctrl.kl_coef",
}  # fmt: skip


def written(name: str) -> dict[str, Any]:
    """Return the keys and values in a recipe's file."""
    return flat(yaml.safe_load((RECIPES / f"{name}.yaml").read_text("utf-8")))


def in_our_words(key: str, value: object) -> object:
    """Translate a value of verl or EasyR1 to ours."""
    return key_aliases().values.get(key, {}).get(str(value), value)


def test_the_recipes_are_these() -> None:
    """A new recipe has to be added to this list."""
    assert recipe_names() == sorted([*MEDIX, "smoke", "smollm2_format"])


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_can_be_run(name: str) -> None:
    """It loads, has data, reads back equal, and has a purpose in its first sentence."""
    config = load_config(name)

    check_runnable(config)
    assert Config.model_validate(yaml.safe_load(dump_config(config))) == config
    assert config.trainer.experiment_name == name
    assert 5 < len(recipe_purpose(name)) < 100


@pytest.mark.parametrize("name", ["smoke", "smollm2_format"])
def test_the_small_recipes_need_no_gpu(name: str) -> None:
    """They run on a CPU, on the examples of the repository."""
    config = load_config(name)
    root = Path(__file__).parents[2]

    assert config.trainer.device == "cpu"
    assert config.actor_rollout_ref.model.dtype == "float32"
    files = (*config.data.train_files, *config.data.val_files, *config.warm_up.files)
    assert all((root / file).is_file() for file in files)


@pytest.mark.parametrize("name", MEDIX)
def test_what_tells_the_medix_recipes_apart_is_as_published(name: str) -> None:
    """The source is the five scripts of https://github.com/mbzuai-oryx/MediX-R1."""
    config = load_config(name)
    actor, filters = config.actor_rollout_ref.actor, config.algorithm.filter_groups

    assert (
        config.actor_rollout_ref.model.path,
        actor.clip_ratio_low,
        actor.clip_ratio_high,
        actor.policy_loss.loss_mode,
        actor.use_kl_loss,
        filters.enable,
        config.data.gen_batch_size,
    ) == PUBLISHED[name]
    mode = "seq-mean-token-mean" if name.endswith("_gspo") else "token-mean"
    assert actor.loss_agg_mode == mode
    if actor.use_kl_loss:
        assert (actor.kl_loss_coef, actor.kl_loss_type) == (0.01, "low_var_kl")
    if filters.enable:
        assert (filters.metric, filters.low, filters.high) == ("reward", 0.01, 0.99)
        assert filters.max_num_gen_batches == 20


@pytest.mark.parametrize("name", MEDIX)
def test_what_the_medix_recipes_share_is_as_published(name: str) -> None:
    """The source is examples/config.yaml there, the scripts, and EasyR1's defaults."""
    config = load_config(name)
    data, policy, trainer = config.data, config.actor_rollout_ref, config.trainer

    assert data.train_files == ("MBZUAI/medix-rl-data@train",)
    assert data.val_files == ("MBZUAI/medix-rl-data@test",)
    assert (data.prompt_key, data.answer_key, data.image_key) == ("problem", "solution", "image")
    assert (data.train_batch_size, policy.actor.ppo_mini_batch_size) == (512, 128)
    assert (data.max_prompt_length, data.max_response_length) == (4352, 4096)
    assert (data.min_pixels, data.max_pixels) == (512 * 512, 2048 * 2048)
    assert (data.seed, data.shuffle, data.filter_overlong_prompts) == (1, True, True)
    assert policy.actor.optim.model_dump() == {
        "lr": 1e-6, "lr_warmup_steps": -1, "lr_warmup_steps_ratio": 0.0,
        "lr_scheduler_type": "constant", "min_lr_ratio": 0.0, "weight_decay": 0.01,
        "betas": (0.9, 0.999),
    }  # fmt: skip
    assert (policy.actor.clip_ratio_c, policy.actor.grad_clip, policy.actor.ppo_epochs) == (3, 1, 1)
    assert (policy.actor.freeze_vision_tower, policy.actor.entropy_coeff) == (False, 0)
    assert (policy.rollout.n, policy.rollout.temperature, policy.rollout.top_p) == (5, 1, 1)
    validation = policy.rollout.val_kwargs
    assert (validation.temperature, validation.top_p, validation.top_k) == (0.6, 0.95, -1)
    assert (config.algorithm.adv_estimator, config.algorithm.use_kl_in_reward) == ("grpo", False)
    assert config.reward.recipe == "medix-r1"
    assert not config.reward.reward_kwargs.overlong_buffer_cfg.enable
    assert (trainer.total_epochs, trainer.total_training_steps) == (2, None)
    assert (trainer.save_freq, trainer.test_freq, trainer.max_actor_ckpt_to_keep) == (5, 5, 3)


@pytest.mark.parametrize("trainer", ["verl", "easyr1"])
@pytest.mark.parametrize("name", MEDIX)
def test_the_recipe_for_another_trainer_says_the_same(name: str, trainer: str) -> None:
    """Every key that both files have is equal, by the table of names."""
    ours, theirs = written(name), written(f"{trainer}/{name}")
    # EasyR1's files always have KL's keys, and disable KL by a switch.
    use_kl = "actor_rollout_ref.actor.use_kl_loss"
    compared = ours.keys() - MAY_DIFFER - ({use_kl} if trainer == "easyr1" else set())
    shared = {}
    for key, names in key_aliases().names.items():
        other = (getattr(names, trainer) or "").removeprefix("+")
        if key in compared and other in theirs:
            shared[key] = in_our_words(key, theirs[other])

    assert len(shared) > 25
    assert shared == {key: ours[key] for key in shared}
    if trainer == "easyr1":
        assert theirs["algorithm.disable_kl"] is not ours[use_kl]
