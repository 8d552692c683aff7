"""What our keys are called in verl and in EasyR1, and what to use where there is no such key.

docs/trainer/config.md is made of it.
"""

from collections.abc import Mapping
from typing import NamedTuple


class Names(NamedTuple):
    """A key's names elsewhere; None where there is no such key."""

    verl: str | None
    """Of verl 0.9.1; a plus before it where verl's own configuration has it not, but reads it."""
    easyr1: str | None


ACTOR, MODEL, ROLLOUT = (f"actor_rollout_ref.{part}." for part in ("actor", "model", "rollout"))
OVERLONG = "reward.reward_kwargs.overlong_buffer_cfg."

OTHER_NAMES: Mapping[str, Names] = {
    "data.train_files": Names("data.train_files", "data.train_files"),
    "data.val_files": Names("data.val_files", "data.val_files"),
    "data.prompt_key": Names("data.prompt_key", "data.prompt_key"),
    "data.answer_key": Names(None, "data.answer_key"),
    "data.image_key": Names("data.image_key", "data.image_key"),
    "data.image_dir": Names(None, "data.image_dir"),
    "data.format_prompt": Names(None, "data.format_prompt"),
    "data.train_batch_size": Names("data.train_batch_size", "data.rollout_batch_size"),
    "data.gen_batch_size": Names("data.gen_batch_size", "data.mini_rollout_batch_size"),
    "data.val_batch_size": Names("data.val_batch_size", "data.val_batch_size"),
    "data.train_max_samples": Names("data.train_max_samples", None),
    "data.val_max_samples": Names("data.val_max_samples", None),
    "data.max_prompt_length": Names("data.max_prompt_length", "data.max_prompt_length"),
    "data.max_response_length": Names("data.max_response_length", "data.max_response_length"),
    "data.filter_overlong_prompts":
        Names("data.filter_overlong_prompts", "data.filter_overlong_prompts"),
    "data.shuffle": Names("data.shuffle", "data.shuffle"),
    "data.seed": Names("data.seed", "data.seed"),
    "data.min_pixels": Names(None, "data.min_pixels"),
    "data.max_pixels": Names(None, "data.max_pixels"),
    f"{MODEL}path": Names(f"{MODEL}path", "worker.actor.model.model_path"),
    f"{MODEL}dtype": Names(f"{ACTOR}fsdp_config.dtype", "worker.actor.fsdp.mp_param_dtype"),
    f"{MODEL}lora_rank": Names(f"{MODEL}lora_rank", "worker.actor.model.lora.rank"),
    f"{MODEL}lora_alpha": Names(f"{MODEL}lora_alpha", "worker.actor.model.lora.alpha"),
    f"{MODEL}target_modules":
        Names(f"{MODEL}target_modules", "worker.actor.model.lora.target_modules"),
    f"{MODEL}enable_gradient_checkpointing":
        Names(f"{MODEL}enable_gradient_checkpointing",
              "worker.actor.model.enable_gradient_checkpointing"),
    f"{MODEL}trust_remote_code":
        Names(f"{MODEL}trust_remote_code", "worker.actor.model.trust_remote_code"),
    f"{ACTOR}ppo_mini_batch_size":
        Names(f"{ACTOR}ppo_mini_batch_size", "worker.actor.global_batch_size"),
    f"{ACTOR}ppo_micro_batch_size_per_gpu":
        Names(f"{ACTOR}ppo_micro_batch_size_per_gpu",
              "worker.actor.micro_batch_size_per_device_for_update"),
    f"{ACTOR}ppo_epochs": Names(f"{ACTOR}ppo_epochs", "worker.actor.ppo_epochs"),
    f"{ACTOR}clip_ratio_low": Names(f"{ACTOR}clip_ratio_low", "worker.actor.clip_ratio_low"),
    f"{ACTOR}clip_ratio_high": Names(f"{ACTOR}clip_ratio_high", "worker.actor.clip_ratio_high"),
    f"{ACTOR}clip_ratio_c": Names(f"{ACTOR}clip_ratio_c", "worker.actor.clip_ratio_dual"),
    f"{ACTOR}policy_loss.loss_mode":
        Names(f"{ACTOR}policy_loss.loss_mode", "worker.actor.loss_type"),
    f"{ACTOR}loss_agg_mode": Names(f"{ACTOR}loss_agg_mode", "worker.actor.loss_avg_mode"),
    f"{ACTOR}use_kl_loss": Names(f"{ACTOR}use_kl_loss", "algorithm.use_kl_loss"),
    f"{ACTOR}kl_loss_coef": Names(f"{ACTOR}kl_loss_coef", "algorithm.kl_coef"),
    f"{ACTOR}kl_loss_type": Names(f"{ACTOR}kl_loss_type", "algorithm.kl_penalty"),
    f"{ACTOR}entropy_coeff": Names(f"{ACTOR}entropy_coeff", None),
    f"{ACTOR}freeze_vision_tower":
        Names(f"{ACTOR}freeze_vision_tower", "worker.actor.model.freeze_vision_tower"),
    f"{ACTOR}grad_clip": Names(f"{ACTOR}optim.clip_grad", "worker.actor.max_grad_norm"),
    f"{ACTOR}optim.lr": Names(f"{ACTOR}optim.lr", "worker.actor.optim.lr"),
    f"{ACTOR}optim.lr_warmup_steps":
        Names(f"{ACTOR}optim.lr_warmup_steps", "worker.actor.optim.lr_warmup_steps"),
    f"{ACTOR}optim.lr_warmup_steps_ratio":
        Names(f"{ACTOR}optim.lr_warmup_steps_ratio", "worker.actor.optim.lr_warmup_ratio"),
    f"{ACTOR}optim.lr_scheduler_type":
        Names(f"{ACTOR}optim.lr_scheduler_type", "worker.actor.optim.lr_scheduler_type"),
    f"{ACTOR}optim.min_lr_ratio":
        Names(f"{ACTOR}optim.min_lr_ratio", "worker.actor.optim.min_lr_ratio"),
    f"{ACTOR}optim.weight_decay":
        Names(f"{ACTOR}optim.weight_decay", "worker.actor.optim.weight_decay"),
    f"{ACTOR}optim.betas": Names(f"{ACTOR}optim.betas", "worker.actor.optim.betas"),
    f"{ROLLOUT}temperature": Names(f"{ROLLOUT}temperature", "worker.rollout.temperature"),
    f"{ROLLOUT}top_p": Names(f"{ROLLOUT}top_p", "worker.rollout.top_p"),
    f"{ROLLOUT}top_k": Names(f"{ROLLOUT}top_k", "worker.rollout.top_k"),
    f"{ROLLOUT}name": Names(f"{ROLLOUT}name", "worker.rollout.name"),
    f"{ROLLOUT}n": Names(f"{ROLLOUT}n", "worker.rollout.n"),
    f"{ROLLOUT}micro_batch_size": Names(None, None),
    f"{ROLLOUT}log_prob_micro_batch_size_per_gpu":
        Names(f"{ROLLOUT}log_prob_micro_batch_size_per_gpu",
              "worker.actor.micro_batch_size_per_device_for_experience"),
    f"{ROLLOUT}gpu_memory_utilization":
        Names(f"{ROLLOUT}gpu_memory_utilization", "worker.rollout.gpu_memory_utilization"),
    f"{ROLLOUT}tensor_model_parallel_size":
        Names(f"{ROLLOUT}tensor_model_parallel_size", "worker.rollout.tensor_parallel_size"),
    f"{ROLLOUT}enforce_eager": Names(f"{ROLLOUT}enforce_eager", "worker.rollout.enforce_eager"),
    f"{ROLLOUT}max_num_batched_tokens":
        Names(f"{ROLLOUT}max_num_batched_tokens", "worker.rollout.max_num_batched_tokens"),
    f"{ROLLOUT}val_kwargs.temperature":
        Names(f"{ROLLOUT}val_kwargs.temperature", "worker.rollout.val_override_config.temperature"),
    f"{ROLLOUT}val_kwargs.top_p":
        Names(f"{ROLLOUT}val_kwargs.top_p", "worker.rollout.val_override_config.top_p"),
    f"{ROLLOUT}val_kwargs.top_k":
        Names(f"{ROLLOUT}val_kwargs.top_k", "worker.rollout.val_override_config.top_k"),
    "algorithm.adv_estimator": Names("algorithm.adv_estimator", "algorithm.adv_estimator"),
    "algorithm.use_kl_in_reward": Names("algorithm.use_kl_in_reward", None),
    "algorithm.kl_penalty": Names("algorithm.kl_penalty", "algorithm.kl_penalty"),
    "algorithm.kl_ctrl.type": Names("algorithm.kl_ctrl.type", "algorithm.kl_type"),
    "algorithm.kl_ctrl.kl_coef": Names("algorithm.kl_ctrl.kl_coef", "algorithm.kl_coef"),
    "algorithm.kl_ctrl.horizon": Names("algorithm.kl_ctrl.horizon", "algorithm.kl_horizon"),
    "algorithm.kl_ctrl.target_kl": Names("algorithm.kl_ctrl.target_kl", "algorithm.kl_target"),
    "algorithm.filter_groups.enable":
        Names("algorithm.filter_groups.enable", "algorithm.online_filtering"),
    "algorithm.filter_groups.metric":
        Names("algorithm.filter_groups.metric", "algorithm.filter_key"),
    "algorithm.filter_groups.low": Names(None, "algorithm.filter_low"),
    "algorithm.filter_groups.high": Names(None, "algorithm.filter_high"),
    "algorithm.filter_groups.max_num_gen_batches":
        Names("algorithm.filter_groups.max_num_gen_batches", "trainer.max_try_make_batch"),
    "algorithm.gdpo_reward_keys": Names("+algorithm.gdpo_reward_keys", None),
    "algorithm.gdpo_reward_weights": Names("+algorithm.gdpo_reward_weights", None),
    "reward.base_url": Names("+reward.custom_reward_function.reward_kwargs.base_url", None),
    "reward.recipe": Names("+reward.custom_reward_function.reward_kwargs.recipe", None),
    "reward.deadline_s": Names("+reward.custom_reward_function.reward_kwargs.deadline_s", None),
    "reward.patience_s": Names(None, None),
    "reward.max_unscored_share":
        Names("+reward.custom_reward_function.reward_kwargs.max_unscored_share", None),
    "reward.pinned": Names(None, None),
    f"{OVERLONG}enable": Names(f"+{OVERLONG}enable", None),
    f"{OVERLONG}len": Names(f"+{OVERLONG}len", None),
    f"{OVERLONG}penalty_factor": Names(f"+{OVERLONG}penalty_factor", None),
    "warm_up.files": Names(None, None),
    "warm_up.steps": Names(None, None),
    "warm_up.batch_size": Names(None, None),
    "warm_up.lr": Names(None, None),
    "trainer.total_epochs": Names("trainer.total_epochs", "trainer.total_epochs"),
    "trainer.total_training_steps": Names("trainer.total_training_steps", "trainer.max_steps"),
    "trainer.project_name": Names("trainer.project_name", "trainer.project_name"),
    "trainer.experiment_name": Names("trainer.experiment_name", "trainer.experiment_name"),
    "trainer.logger": Names("trainer.logger", "trainer.logger"),
    "trainer.log_rollouts": Names(None, None),
    "trainer.log_val_generations":
        Names("trainer.log_val_generations", "trainer.val_generations_to_log"),
    "trainer.save_freq": Names("trainer.save_freq", "trainer.save_freq"),
    "trainer.test_freq": Names("trainer.test_freq", "trainer.val_freq"),
    "trainer.val_before_train": Names("trainer.val_before_train", "trainer.val_before_train"),
    "trainer.max_actor_ckpt_to_keep":
        Names("trainer.max_actor_ckpt_to_keep", "trainer.save_limit"),
    "trainer.default_local_dir":
        Names("trainer.default_local_dir", "trainer.save_checkpoint_path"),
    "trainer.resume_mode": Names("trainer.resume_mode", "trainer.find_last_checkpoint"),
    "trainer.resume_from_path": Names("trainer.resume_from_path", "trainer.load_checkpoint_path"),
    "trainer.device": Names("trainer.device", None),
    "trainer.seed": Names(None, None),
}  # fmt: skip
"""By our key."""

SERVICE = "rewards come from the service at reward.base_url"
PROCESSES = "say it to `accelerate launch --num_processes`"
WHOLE = "each process holds the whole model"
NO_CRITIC = "groups need no critic"

INSTEAD: Mapping[str, str] = {
    "actor_rollout_ref.actor.clip_ratio":
        f"give {ACTOR}clip_ratio_low and {ACTOR}clip_ratio_high",
    "actor_rollout_ref.actor.fsdp_config": WHOLE,
    "actor_rollout_ref.actor.strategy": WHOLE,
    "actor_rollout_ref.ref": "the reference is the policy before its training",
    "algorithm.disable_kl": f"give {ACTOR}use_kl_loss=false",
    "algorithm.norm_adv_by_std_in_grpo": "give algorithm.adv_estimator=dr_grpo for False",
    "critic": NO_CRITIC,
    "custom_reward_function": SERVICE,
    "data.override_chat_template": "the model's own is used",
    "reward.custom_reward_function": SERVICE,
    "reward.reward_manager": SERVICE,
    "reward.reward_model": SERVICE,
    "reward_model": SERVICE,
    "trainer.n_gpus_per_node": PROCESSES,
    "trainer.nnodes": PROCESSES,
    "worker.actor.fsdp": WHOLE,
    "worker.actor.offload": WHOLE,
    "worker.critic": NO_CRITIC,
    "worker.ref": "the reference is the policy before its training",
    "worker.reward": SERVICE,
}  # fmt: skip
"""Keys of verl's and EasyR1's, or what they begin with, that there are none of here; and why."""

VALUES: Mapping[str, Mapping[str, str]] = {
    "algorithm.filter_groups.metric": {
        "overall": "reward",
        "score": "reward",
        "seq_reward": "reward",
    },
    f"{ACTOR}loss_agg_mode": {"token": "token-mean", "seq": "seq-mean-token-mean"},
    f"{ACTOR}policy_loss.loss_mode": {
        "default": "vanilla",
        # Their gradients are the same: gspo_token is for advantages that differ within a response.
        "gspo_token": "gspo",
    },
    f"{MODEL}dtype": {"bf16": "bfloat16", "fp32": "float32"},
}
"""By our key: verl's and EasyR1's values that are called something else here."""


def ours_of(key: str) -> list[str]:
    """Our keys for one of EasyR1's, or of verl's where it is another than ours."""
    return [
        ours
        for ours, names in OTHER_NAMES.items()
        if key != ours and key in {names.easyr1, (names.verl or "").removeprefix("+")}
    ]


def instead_of(key: str) -> str | None:
    """What to use in place of a key of theirs that there is none of here."""
    parts = key.split(".")
    for length in range(len(parts), 0, -1):
        if advice := INSTEAD.get(".".join(parts[:length])):
            return advice
    return None
