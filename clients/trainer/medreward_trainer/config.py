"""Everything a run is told, typed; the keys are verl's wherever verl has one.

What verl has no key for is marked *ours*. docs/trainer/config.md maps each key to verl's and to
EasyR1's.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

Share = Annotated[float, Field(ge=0, le=1)]
Estimator = Literal["grpo", "dr_grpo", "rloo", "gdpo"]
KLKind = Literal["kl", "k1", "abs", "mse", "k2", "low_var_kl", "k3"]
LossAggregation = Literal[
    "token-mean", "seq-mean-token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm"
]


class Section(BaseModel):
    """A part of the configuration: closed, so that a misspelt key is an error, and frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Data(Section):
    """Where prompts come from and how long they may be; lengths in tokens."""

    train_files: tuple[str, ...] = ()
    """JSONL or Parquet files, or data sets of the hub as name@split."""
    val_files: tuple[str, ...] = ()
    prompt_key: str = "problem"
    answer_key: str = "solution"
    """Of the reference, with or without its <TAG>; EasyR1's key."""
    image_key: str = "image"
    image_dir: Path | None = None
    """What relative image paths are relative to, if not the file they stand in; EasyR1's key."""
    format_prompt: str = "medix"
    """medix, plain, or a Jinja file that wraps `content`; EasyR1's key."""
    train_batch_size: PositiveInt = 512
    """Prompts a step."""
    gen_batch_size: PositiveInt | None = None
    """Prompts generated at a time while groups are filtered; None is train_batch_size."""
    val_batch_size: PositiveInt = 512
    train_max_samples: PositiveInt | None = None
    val_max_samples: PositiveInt | None = None
    max_prompt_length: PositiveInt = 4352
    max_response_length: PositiveInt = 4096
    filter_overlong_prompts: bool = True
    """Leave out what is longer, and say how many; otherwise it is an error."""
    shuffle: bool = True
    seed: int = 1
    min_pixels: PositiveInt | None = 262_144
    max_pixels: PositiveInt | None = 4_194_304


class Model(Section):
    """Which policy is trained, and how it is held."""

    path: str = "Qwen/Qwen3-VL-2B-Instruct"
    """A folder, an id of the hub, or tiny-random and tiny-random-vl, which need neither; with
    `:abc` behind them they know no other signs."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Ours. Of weights and optimiser states; on a CPU float32 is the faster."""
    lora_rank: Annotated[int, Field(ge=0)] = 0
    """0 trains all weights."""
    lora_alpha: PositiveInt = 16
    target_modules: str | tuple[str, ...] = "all-linear"
    enable_gradient_checkpointing: bool = True
    trust_remote_code: bool = False


class Optim(Section):
    """AdamW."""

    lr: PositiveFloat = 1e-6
    lr_warmup_steps: int = -1
    """Optimiser steps; -1 leaves it to the ratio."""
    lr_warmup_steps_ratio: Share = 0.0
    lr_scheduler_type: Literal["constant", "cosine"] = "constant"
    min_lr_ratio: Share = 0.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    betas: tuple[Share, Share] = (0.9, 0.999)


class PolicyLoss(Section):
    """How the ratio of new to old probabilities is taken."""

    loss_mode: Literal["vanilla", "gspo"] = "vanilla"
    """vanilla clips each token's ratio; gspo the sequence's (arXiv 2507.18071)."""


class Actor(Section):
    """The update."""

    ppo_mini_batch_size: PositiveInt = 128
    """Prompts an optimiser step."""
    ppo_micro_batch_size_per_gpu: PositiveInt = 2
    """Samples a backward pass."""
    ppo_epochs: PositiveInt = 1
    clip_ratio_low: Annotated[float, Field(gt=0, lt=1)] = 0.2
    clip_ratio_high: PositiveFloat = 0.2
    clip_ratio_c: Annotated[float, Field(gt=1)] | None = 3.0
    """Bound on the ratio where the advantage is negative (arXiv 1912.09729); None is none."""
    policy_loss: PolicyLoss = PolicyLoss()
    loss_agg_mode: LossAggregation = "token-mean"
    use_kl_loss: bool = False
    kl_loss_coef: Annotated[float, Field(ge=0)] = 0.001
    kl_loss_type: KLKind = "low_var_kl"
    entropy_coeff: Annotated[float, Field(ge=0)] = 0.0
    freeze_vision_tower: bool = False
    grad_clip: PositiveFloat = 1.0
    optim: Optim = Optim()


class Sampling(Section):
    """How a response is drawn."""

    temperature: Annotated[float, Field(ge=0)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: int = -1
    """-1 is all of the vocabulary."""


class ValSampling(Sampling):
    """Of validation: greedy unless told otherwise."""

    temperature: Annotated[float, Field(ge=0)] = 0.0


class Rollout(Sampling):
    """How groups are generated."""

    name: Literal["hf", "vllm"] = "hf"
    """hf calls `generate` of the policy itself; vllm an engine that takes over its weights."""
    n: Annotated[int, Field(ge=2)] = 5
    """Samples a prompt: the group."""
    micro_batch_size: PositiveInt = 8
    """Prompts that `generate` takes at once (hf)."""
    log_prob_micro_batch_size_per_gpu: PositiveInt = 4
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.4
    tensor_model_parallel_size: PositiveInt = 1
    enforce_eager: bool = False
    max_num_batched_tokens: PositiveInt = 8448
    val_kwargs: ValSampling = ValSampling()


class ActorRolloutRef(Section):
    """The policy: its model, its update, its rollouts."""

    model: Model = Model()
    actor: Actor = Actor()
    rollout: Rollout = Rollout()


class KLControl(Section):
    """The coefficient of KL in the reward."""

    type: Literal["fixed", "adaptive"] = "fixed"
    kl_coef: Annotated[float, Field(ge=0)] = 0.001
    horizon: PositiveFloat = 10_000
    """Samples within which an adaptive coefficient changes by its own size."""
    target_kl: PositiveFloat = 0.1


class FilterGroups(Section):
    """Which groups are learnt from: those neither all right nor all wrong."""

    enable: bool = False
    metric: str = "accuracy_llm"
    """A component, or `reward` for the composite. The composite keeps an all-wrong group whose
    samples differ in nothing but format."""
    low: float = 0.01
    """A group is kept if low < its mean < high; EasyR1's filter_low and filter_high."""
    high: float = 0.99
    max_num_gen_batches: Annotated[int, Field(ge=0)] = 20
    """Batches generated before a step gives up filling itself; 0 is no bound."""


class Algorithm(Section):
    """From rewards to advantages."""

    adv_estimator: Estimator = "grpo"
    use_kl_in_reward: bool = False
    kl_penalty: KLKind = "kl"
    """Of KL in the reward."""
    kl_ctrl: KLControl = KLControl()
    filter_groups: FilterGroups = FilterGroups()
    gdpo_reward_keys: tuple[str, ...] = ()
    """Components that gdpo normalises one by one; none are all that the recipe pays for."""
    gdpo_reward_weights: tuple[float, ...] = ()
    """One a key; none are the recipe's own."""


class Overlong(Section):
    """A penalty that grows over the last `len` tokens (DAPO, arXiv 2503.14476)."""

    enable: bool = False
    len: PositiveInt = 512
    penalty_factor: PositiveFloat = 1.0


class RewardKwargs(Section):
    """What is added to the service's reward."""

    overlong_buffer_cfg: Overlong = Overlong()


class Reward(Section):
    """The service, and how long it is waited for. Its key is read from MEDREWARD_API_KEY. Ours."""

    base_url: str = "http://127.0.0.1:8080"
    recipe: str | None = None
    """None is the service's default."""
    deadline_s: PositiveFloat = 120.0
    """Of one request, retries included."""
    patience_s: PositiveFloat = 1800.0
    """How long a step waits for its rewards before the run stops, with a checkpoint."""
    max_unscored_share: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Of a step's samples that may stay without a reward; while more do, the step waits."""
    pinned: bool = True
    """Stop when the service begins to score by another recipe, judge or embedder."""
    reward_kwargs: RewardKwargs = RewardKwargs()


class WarmUp(Section):
    """Supervised steps before the first rollout, for a model that never hits the format. Ours."""

    files: tuple[str, ...] = ()
    """JSONL with the data's columns and a `response`."""
    steps: Annotated[int, Field(ge=0)] = 0
    batch_size: PositiveInt = 8
    lr: PositiveFloat = 1e-5


class Trainer(Section):
    """How long, how often, and where to."""

    total_epochs: PositiveInt = 2
    total_training_steps: PositiveInt | None = None
    """If given, the epochs do not count."""
    project_name: str = "medreward"
    experiment_name: str = "run"
    logger: tuple[Literal["console", "file", "tensorboard"], ...] = (
        "console", "file", "tensorboard",
    )  # fmt: skip
    log_rollouts: Annotated[int, Field(ge=0)] = 4
    """Ours. Rollouts a step that are written to rollouts.jsonl with their components."""
    log_val_generations: Annotated[int, Field(ge=0)] = 8
    save_freq: Annotated[int, Field(ge=-1)] = 20
    """Steps; -1 saves at the end alone."""
    test_freq: Annotated[int, Field(ge=-1)] = 20
    """Steps; -1 never validates."""
    val_before_train: bool = True
    max_actor_ckpt_to_keep: PositiveInt = 3
    default_local_dir: Path | None = None
    """None is checkpoints/<project_name>/<experiment_name>."""
    resume_mode: Literal["auto", "disable", "resume_path"] = "auto"
    resume_from_path: Path | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    seed: int = 1
    """Ours. Of weights that are drawn and of rollouts; the order of the data has its own."""


class Config(Section):
    """A whole run."""

    data: Data = Data()
    actor_rollout_ref: ActorRolloutRef = ActorRolloutRef()
    algorithm: Algorithm = Algorithm()
    reward: Reward = Reward()
    warm_up: WarmUp = WarmUp()
    trainer: Trainer = Trainer()

    @property
    def run_dir(self) -> Path:
        """Where the run keeps its checkpoints and logs."""
        trainer = self.trainer
        return trainer.default_local_dir or Path(
            "checkpoints", trainer.project_name, trainer.experiment_name
        )

    @property
    def needs_reference(self) -> bool:
        """True if a frozen copy of the policy is asked for its log-probabilities."""
        return self.actor_rollout_ref.actor.use_kl_loss or self.algorithm.use_kl_in_reward

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        return self
