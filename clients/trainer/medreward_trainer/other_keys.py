"""What our keys are called in EasyR1 and in verl; docs/trainer/config.md is made of it."""

from collections.abc import Mapping

EASYR1: Mapping[str, str] = {
    "data.rollout_batch_size": "data.train_batch_size",
    "data.mini_rollout_batch_size": "data.gen_batch_size",
    "data.train_files": "data.train_files",
    "data.val_files": "data.val_files",
    "data.prompt_key": "data.prompt_key",
    "data.answer_key": "data.answer_key",
    "data.image_key": "data.image_key",
    "data.image_dir": "data.image_dir",
    "data.format_prompt": "data.format_prompt",
    "data.val_batch_size": "data.val_batch_size",
    "data.max_prompt_length": "data.max_prompt_length",
    "data.max_response_length": "data.max_response_length",
    "data.filter_overlong_prompts": "data.filter_overlong_prompts",
    "data.shuffle": "data.shuffle",
    "data.seed": "data.seed",
    "data.min_pixels": "data.min_pixels",
    "data.max_pixels": "data.max_pixels",
    "worker.actor.model.model_path": "actor_rollout_ref.model.path",
    "worker.actor.model.trust_remote_code": "actor_rollout_ref.model.trust_remote_code",
    "worker.actor.model.enable_gradient_checkpointing":
        "actor_rollout_ref.model.enable_gradient_checkpointing",
    "worker.actor.model.freeze_vision_tower": "actor_rollout_ref.actor.freeze_vision_tower",
    "worker.actor.model.lora.rank": "actor_rollout_ref.model.lora_rank",
    "worker.actor.model.lora.alpha": "actor_rollout_ref.model.lora_alpha",
    "worker.actor.fsdp.torch_dtype": "actor_rollout_ref.model.dtype",
    "worker.actor.global_batch_size": "actor_rollout_ref.actor.ppo_mini_batch_size",
    "worker.actor.micro_batch_size_per_device_for_update":
        "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu",
    "worker.actor.micro_batch_size_per_device_for_experience":
        "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu",
    "worker.actor.ppo_epochs": "actor_rollout_ref.actor.ppo_epochs",
    "worker.actor.clip_ratio_low": "actor_rollout_ref.actor.clip_ratio_low",
    "worker.actor.clip_ratio_high": "actor_rollout_ref.actor.clip_ratio_high",
    "worker.actor.clip_ratio_dual": "actor_rollout_ref.actor.clip_ratio_c",
    "worker.actor.loss_type": "actor_rollout_ref.actor.policy_loss.loss_mode",
    "worker.actor.loss_avg_mode": "actor_rollout_ref.actor.loss_agg_mode",
    "worker.actor.max_grad_norm": "actor_rollout_ref.actor.grad_clip",
    "worker.actor.optim.lr": "actor_rollout_ref.actor.optim.lr",
    "worker.actor.optim.betas": "actor_rollout_ref.actor.optim.betas",
    "worker.actor.optim.weight_decay": "actor_rollout_ref.actor.optim.weight_decay",
    "worker.actor.optim.lr_warmup_ratio": "actor_rollout_ref.actor.optim.lr_warmup_steps_ratio",
    "worker.actor.optim.lr_warmup_steps": "actor_rollout_ref.actor.optim.lr_warmup_steps",
    "worker.actor.optim.lr_scheduler_type": "actor_rollout_ref.actor.optim.lr_scheduler_type",
    "worker.actor.optim.min_lr_ratio": "actor_rollout_ref.actor.optim.min_lr_ratio",
    "worker.rollout.name": "actor_rollout_ref.rollout.name",
    "worker.rollout.n": "actor_rollout_ref.rollout.n",
    "worker.rollout.temperature": "actor_rollout_ref.rollout.temperature",
    "worker.rollout.top_p": "actor_rollout_ref.rollout.top_p",
    "worker.rollout.top_k": "actor_rollout_ref.rollout.top_k",
    "worker.rollout.gpu_memory_utilization": "actor_rollout_ref.rollout.gpu_memory_utilization",
    "worker.rollout.tensor_parallel_size":
        "actor_rollout_ref.rollout.tensor_model_parallel_size",
    "worker.rollout.enforce_eager": "actor_rollout_ref.rollout.enforce_eager",
    "worker.rollout.max_num_batched_tokens": "actor_rollout_ref.rollout.max_num_batched_tokens",
    "worker.rollout.val_override_config.temperature":
        "actor_rollout_ref.rollout.val_kwargs.temperature",
    "worker.rollout.val_override_config.top_p": "actor_rollout_ref.rollout.val_kwargs.top_p",
    "worker.rollout.val_override_config.top_k": "actor_rollout_ref.rollout.val_kwargs.top_k",
    "algorithm.adv_estimator": "algorithm.adv_estimator",
    "algorithm.use_kl_loss": "actor_rollout_ref.actor.use_kl_loss",
    "algorithm.kl_penalty":
        "actor_rollout_ref.actor.kl_loss_type, or algorithm.kl_penalty of KL in the reward",
    "algorithm.kl_coef":
        "actor_rollout_ref.actor.kl_loss_coef, or algorithm.kl_ctrl.kl_coef of KL in the reward",
    "algorithm.kl_type": "algorithm.kl_ctrl.type",
    "algorithm.kl_horizon": "algorithm.kl_ctrl.horizon",
    "algorithm.kl_target": "algorithm.kl_ctrl.target_kl",
    "algorithm.disable_kl": "actor_rollout_ref.actor.use_kl_loss=false",
    "algorithm.online_filtering": "algorithm.filter_groups.enable",
    "algorithm.filter_key": "algorithm.filter_groups.metric",
    "algorithm.filter_low": "algorithm.filter_groups.low",
    "algorithm.filter_high": "algorithm.filter_groups.high",
    "trainer.max_try_make_batch": "algorithm.filter_groups.max_num_gen_batches",
    "trainer.total_epochs": "trainer.total_epochs",
    "trainer.max_steps": "trainer.total_training_steps",
    "trainer.project_name": "trainer.project_name",
    "trainer.experiment_name": "trainer.experiment_name",
    "trainer.logger": "trainer.logger",
    "trainer.val_freq": "trainer.test_freq",
    "trainer.val_before_train": "trainer.val_before_train",
    "trainer.val_generations_to_log": "trainer.log_val_generations",
    "trainer.save_freq": "trainer.save_freq",
    "trainer.save_limit": "trainer.max_actor_ckpt_to_keep",
    "trainer.save_checkpoint_path": "trainer.default_local_dir",
    "trainer.load_checkpoint_path": "trainer.resume_from_path",
}  # fmt: skip
"""EasyR1's key, and ours."""

OURS_ALONE = frozenset({
    "data.answer_key", "data.image_dir", "data.format_prompt", "data.min_pixels", "data.max_pixels",
    "actor_rollout_ref.model.dtype", "actor_rollout_ref.rollout.micro_batch_size",
    "actor_rollout_ref.rollout.enforce_eager",
    "algorithm.filter_groups.low", "algorithm.filter_groups.high",
    "trainer.log_rollouts", "trainer.seed",
    "reward.base_url", "reward.recipe", "reward.deadline_s", "reward.patience_s",
    "reward.max_unscored_share", "reward.pinned",
    "warm_up.files", "warm_up.steps", "warm_up.batch_size", "warm_up.lr",
})  # fmt: skip
"""Keys that verl has not."""

VERL_ELSEWHERE: Mapping[str, str] = {
    "actor_rollout_ref.actor.optim.lr_scheduler_type": "…optim.lr_scheduler_type (FSDP)",
    "actor_rollout_ref.actor.grad_clip": "…actor.optim.clip_grad (FSDP)",
    "reward.reward_kwargs.overlong_buffer_cfg.enable":
        "+reward.reward_kwargs.overlong_buffer_cfg.enable, with the manager dapo",
    "reward.reward_kwargs.overlong_buffer_cfg.len": "+reward.reward_kwargs.overlong_buffer_cfg.len",
    "reward.reward_kwargs.overlong_buffer_cfg.penalty_factor":
        "+reward.reward_kwargs.overlong_buffer_cfg.penalty_factor",
}  # fmt: skip
"""Keys that verl has under another name, or only with a plus before them."""
