"""The typed configuration of a run; a key has verl's name if verl has such a key.

Keys that verl lacks are marked *ours*. docs/trainer/config.md maps each key to verl's and to
EasyR1's.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from medreward_trainer.config.key_aliases import key_aliases


def listed(value: object) -> object:
    """Convert a text to a tuple of one, as verl and EasyR1 do for files."""
    return (value,) if isinstance(value, str) else value


Texts = Annotated[tuple[str, ...], BeforeValidator(listed)]
Share = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Estimator = Literal["grpo", "dr_grpo", "rloo", "gdpo"]
KLKind = Literal["kl", "k1", "abs", "mse", "k2", "low_var_kl", "k3"]
LossAggregation = Literal[
    "token-mean", "seq-mean-token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm"
]


ACTOR = "actor_rollout_ref.actor"
WIDEST_GSPO_CLIP = 0.05
"""Upper bound of a clip ratio for gspo; larger values are meant for ratios of tokens."""


class Section(BaseModel):
    """A frozen part of the configuration; unknown keys are errors, since they may be misspelt."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    @model_validator(mode="before")
    @classmethod
    def _nothing_is_the_default(cls, given: Any) -> Any:
        """Take the defaults for a section that YAML leaves empty."""
        return {} if given is None else given

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if problems := list(self._contradictions()):
            raise ValueError("\n".join(problems))
        return self

    def _contradictions(self) -> Iterator[str]:
        """Yield each combination of values that cannot work, with its keys and the way out."""
        yield from ()


class Data(Section):
    """Sources of the prompts, and their lengths in tokens."""

    train_files: Texts = ()
    """JSONL or Parquet files, or data sets of the hub as name@split."""
    val_files: Texts = ()
    """Files for validation, in the same forms; without any, no validation takes place."""
    prompt_key: str = "problem"
    """The column of the question."""
    answer_key: str = "solution"
    """The column of the reference, or of a list of accepted ones, with or without a `<TAG>`; EasyR1's key."""
    image_key: str = "image"
    """The column of one image or several; rows without images are allowed."""
    image_dir: Path | None = None
    """The folder of relative image paths; the data file's folder by default. EasyR1's key."""
    format_prompt: str = "medix"
    """Template: medix, brief, plain, or a Jinja file that wraps `content`; EasyR1's key."""
    train_batch_size: PositiveInt = 512
    """Prompts in a step."""
    gen_batch_size: PositiveInt | None = None
    """Prompts generated at a time while groups are filtered; train_batch_size by default."""
    val_batch_size: PositiveInt = 512
    """Prompts generated at a time during validation."""
    train_max_samples: PositiveInt | None = None
    """Rows read from train_files, from the first; all by default."""
    val_max_samples: PositiveInt | None = None
    """Rows read from val_files, from the first; all by default."""
    max_prompt_length: PositiveInt = 4352
    """Longest prompt in tokens, including its template and images."""
    max_response_length: PositiveInt = 4096
    """Longest response in tokens; a longer one is cut, and scored as cut."""
    filter_overlong_prompts: bool = True
    """Leave out prompts that are too long, and report their number; otherwise they are an error."""
    shuffle: bool = True
    """Draw the prompts in another order each epoch."""
    seed: int = 1
    """Seed of that order."""
    min_pixels: PositiveInt | None = 262_144
    """Smaller images are scaled up to this many pixels; null leaves them. EasyR1's key."""
    max_pixels: PositiveInt | None = 4_194_304
    """Larger images are scaled down to this many pixels; null leaves them. EasyR1's key."""

    def _contradictions(self) -> Iterator[str]:
        if self.min_pixels and self.max_pixels and self.min_pixels > self.max_pixels:
            yield (
                f"data.min_pixels={self.min_pixels} is over data.max_pixels={self.max_pixels}; "
                "lower it, or make it null"
            )


class Model(Section):
    """The model that is trained, and its representation in memory."""

    path: str = "Qwen/Qwen3-VL-2B-Instruct"
    """A folder, an id of the hub, or tiny-random or tiny-random-vl, which need no download; with a
    suffix `:abc` their tokens are these characters only."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Type of the computation; trained weights stay float32. On a CPU float32 is faster."""
    lora_rank: Annotated[int, Field(ge=0)] = 0
    """Rank of the adapter; 0 trains all weights."""
    lora_alpha: PositiveInt = 16
    """Scale of the adapter, which is multiplied by lora_alpha / lora_rank."""
    target_modules: str | tuple[str, ...] = "all-linear"
    """Layers that get an adapter, in the notation of peft."""
    enable_gradient_checkpointing: bool = True
    """Recompute activations in the backward pass to save memory."""
    trust_remote_code: bool = False
    """Run Python code that a model of the hub contains."""


class Optim(Section):
    """The optimiser, AdamW, and the schedule of its learning rate."""

    lr: PositiveFloat = 1e-6
    """Highest learning rate."""
    lr_warmup_steps: Annotated[int, Field(ge=-1)] = -1
    """Optimiser steps until lr is reached; -1 uses the ratio."""
    lr_warmup_steps_ratio: Share = 0.0
    """Share of all optimiser steps until lr is reached."""
    lr_scheduler_type: Literal["constant", "cosine"] = "constant"
    """Course of the learning rate after that."""
    min_lr_ratio: Share = 0.0
    """Share of lr that remains at the end of cosine."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Weight decay of AdamW."""
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    """Decay rates of AdamW's two moments."""


class PolicyLoss(Section):
    """The ratio of new to old probabilities that is clipped."""

    loss_mode: Literal["vanilla", "gspo"] = "vanilla"
    """vanilla clips the ratio of each token, gspo that of the sequence (arXiv 2507.18071)."""


class Actor(Section):
    """The update of the policy."""

    ppo_mini_batch_size: PositiveInt = 128
    """Prompts in an optimiser step."""
    ppo_micro_batch_size_per_gpu: PositiveInt = 2
    """Samples in a backward pass."""
    ppo_epochs: PositiveInt = 1
    """Passes over the rollouts of a step."""
    clip_ratio_low: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """The ratio is clipped below at 1 minus this value."""
    clip_ratio_high: PositiveFloat = 0.2
    """The ratio is clipped above at 1 plus this value; DAPO's is higher (arXiv 2503.14476)."""
    clip_ratio_c: Annotated[float, Field(gt=1)] | None = 3.0
    """Bound on the ratio if the advantage is negative (arXiv 1912.09729); null disables it."""
    policy_loss: PolicyLoss = PolicyLoss()
    loss_agg_mode: LossAggregation = "token-mean"
    """Average that reduces the losses of tokens to one number."""
    use_kl_loss: bool = False
    """Add KL from the policy before its training to the loss."""
    kl_loss_coef: Annotated[float, Field(ge=0)] = 0.001
    """Coefficient of that KL."""
    kl_loss_type: KLKind = "low_var_kl"
    """Estimator of that KL."""
    entropy_coeff: Annotated[float, Field(ge=0)] = 0.0
    """Coefficient of the entropy, which is subtracted from the loss; more than 0 costs memory."""
    freeze_vision_tower: bool = False
    """Do not train the image encoder."""
    grad_clip: PositiveFloat = 1.0
    """Largest norm of a gradient."""
    optim: Optim = Optim()

    def _contradictions(self) -> Iterator[str]:
        if self.use_kl_loss and self.kl_loss_coef == 0:
            yield (
                f"{ACTOR}.use_kl_loss=true with {ACTOR}.kl_loss_coef=0 costs a pass of the "
                "reference and changes nothing; give the coefficient (0.001), or use no KL"
            )
        highest = max(self.clip_ratio_low, self.clip_ratio_high)
        if self.policy_loss.loss_mode == "gspo" and highest > WIDEST_GSPO_CLIP:
            yield (
                f"{ACTOR}: a clip ratio of {highest:g} never clips under gspo, where the ratio "
                "is a sequence's mean and moves by thousandths; give clip_ratio_low=3e-4 and "
                "clip_ratio_high=4e-4 (arXiv 2507.18071)"
            )


class Sampling(Section):
    """Sampling settings of a response."""

    temperature: Annotated[float, Field(ge=0)] = 1.0
    """Divisor of the logits."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Draw from the most likely tokens that together have this probability; 1 is all."""
    top_k: Annotated[int, Field(ge=-1)] = -1
    """Draw from this many of the most likely tokens; -1 is the whole vocabulary."""


class ValSampling(Sampling):
    """Sampling settings for validation; greedy by default."""

    temperature: Annotated[float, Field(ge=0)] = 0.0
    """Divisor of the logits; 0 takes the most likely token each time."""


class Rollout(Sampling):
    """Generation of the groups."""

    temperature: PositiveFloat = 1.0
    """Divisor of the logits; at 0 all samples of a group would be the same."""
    name: Literal["hf", "vllm"] = "hf"
    """Engine: hf calls `generate` of the policy itself, vllm a copy that takes over its weights."""
    n: Annotated[int, Field(ge=2)] = 5
    """Samples for a prompt, which form its group."""
    micro_batch_size: PositiveInt = 8
    """Prompts in one call of `generate` (hf)."""
    log_prob_micro_batch_size_per_gpu: PositiveInt = 4
    """Samples whose log-probabilities are computed at once."""
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.4
    """Share of the device's memory for vllm; the policy needs the rest."""
    tensor_model_parallel_size: PositiveInt = 1
    """Devices for one engine (vllm)."""
    enforce_eager: bool = False
    """Start sooner but generate more slowly (vllm)."""
    max_num_batched_tokens: PositiveInt = 8448
    """Tokens in a pass (vllm)."""
    val_kwargs: ValSampling = ValSampling()


class ActorRolloutRef(Section):
    """The policy: its model, its update, its rollouts."""

    model: Model = Model()
    actor: Actor = Actor()
    rollout: Rollout = Rollout()


class KLControl(Section):
    """The coefficient of KL in the reward."""

    type: Literal["fixed", "adaptive"] = "fixed"
    """adaptive moves the coefficient towards the target (arXiv 1909.08593)."""
    kl_coef: Annotated[float, Field(ge=0)] = 0.001
    """The coefficient; if adaptive, its first value."""
    horizon: PositiveFloat = 10_000
    """Samples within which an adaptive coefficient changes by its own size."""
    target_kl: PositiveFloat = 0.1
    """Target of an adaptive coefficient: mean KL of a token."""


class FilterGroups(Section):
    """Selection of the groups that are neither all right nor all wrong."""

    enable: bool = False
    """Replace dropped groups by further ones (DAPO, arXiv 2503.14476)."""
    metric: str = "accuracy_llm"
    """A component, or `reward` for the composite. The composite keeps an all-wrong group whose
    samples differ only in format."""
    low: float = 0.01
    """A group is kept if low < its mean < high and its values differ; EasyR1's filter_low and
    filter_high. The composite is first mapped from the recipe's range to 0..1."""
    high: float = 0.99
    """The upper bound."""
    max_num_gen_batches: Annotated[int, Field(ge=0)] = 20
    """Batches after which a step learns from the groups that it has; 0 is unlimited."""

    def _contradictions(self) -> Iterator[str]:
        if ours := key_aliases().values["algorithm.filter_groups.metric"].get(self.metric):
            yield (
                f"algorithm.filter_groups.metric={self.metric} is called {ours} here; "
                "accuracy_llm drops what is all wrong, too"
            )
        if self.low >= self.high:
            yield (
                f"algorithm.filter_groups.low={self.low:g} is not under high={self.high:g}: no "
                "group would be kept; published are 0.01 and 0.99"
            )


class Algorithm(Section):
    """The advantages, computed from the rewards."""

    adv_estimator: Estimator = "grpo"
    """Comparison of a reward with those of its group; formulas in advantages.py."""
    use_kl_in_reward: bool = False
    """Subtract KL from the policy before its training from the reward."""
    kl_penalty: KLKind = "kl"
    """Estimator of KL in the reward."""
    kl_ctrl: KLControl = KLControl()
    filter_groups: FilterGroups = FilterGroups()
    gdpo_reward_keys: Texts = ()
    """Components that gdpo normalises one by one; by default all with a weight in the recipe."""
    gdpo_reward_weights: tuple[float, ...] = ()
    """A weight for each of these keys; the recipe's weights by default."""

    def _contradictions(self) -> Iterator[str]:
        keys, weights = self.gdpo_reward_keys, self.gdpo_reward_weights
        if (keys or weights) and self.adv_estimator != "gdpo":
            yield (
                "algorithm.gdpo_reward_keys and gdpo_reward_weights are for "
                f"algorithm.adv_estimator=gdpo, which is {self.adv_estimator}"
            )
        if len(set(keys)) < len(keys):
            yield f"algorithm.gdpo_reward_keys: one stands twice in {', '.join(keys)}"
        if weights and len(weights) != len(keys):
            yield (
                f"algorithm.gdpo_reward_weights has {len(weights)} for {len(keys)} of "
                "algorithm.gdpo_reward_keys; give one each"
            )
        if self.use_kl_in_reward and self.kl_ctrl.kl_coef == 0:
            yield (
                "algorithm.use_kl_in_reward=true with algorithm.kl_ctrl.kl_coef=0 costs a pass of "
                "the reference and changes nothing; give the coefficient (0.001), or use no KL"
            )
        if self.kl_ctrl.type == "adaptive" and not self.use_kl_in_reward:
            yield (
                "algorithm.kl_ctrl.type=adaptive is of KL in the reward; say "
                "algorithm.use_kl_in_reward=true too"
            )


class Overlong(Section):
    """A penalty that grows over the last `len` tokens (DAPO, arXiv 2503.14476)."""

    enable: bool = False
    """Subtract the penalty."""
    len: PositiveInt = 512
    """Tokens before max_response_length over which the penalty grows."""
    penalty_factor: PositiveFloat = 1.0
    """Largest penalty."""


class RewardKwargs(Section):
    """Changes to the service's reward."""

    overlong_buffer_cfg: Overlong = Overlong()


class Reward(Section):
    """The service and its timeouts. Its API key is read from MEDREWARD_API_KEY. Ours."""

    base_url: str = "http://127.0.0.1:8080"
    """Address of the service, with http:// or https://."""
    recipe: str | None = None
    """Recipe of the service; the service's own default if null."""
    deadline_s: PositiveFloat = 600.0
    """Timeout of one call, including retries and, with a slow judge, all its requests."""
    patience_s: PositiveFloat = 1800.0
    """Longest wait of a step for its rewards, after which the run stops with a checkpoint."""
    max_unscored_share: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Largest share of a step's samples without a reward; above it the step waits."""
    pinned: bool = True
    """Stop if the service changes its recipe, judge or embedder."""
    reward_kwargs: RewardKwargs = RewardKwargs()

    def _contradictions(self) -> Iterator[str]:
        if not self.base_url.startswith(("http://", "https://")):
            yield (
                f"reward.base_url={self.base_url} must begin with http:// or https://; did you "
                f"mean http://{self.base_url.rpartition('//')[2]}?"
            )


class WarmUp(Section):
    """Supervised steps before the first rollout, for a model that never uses the format. Ours."""

    files: Texts = ()
    """JSONL files with the columns of the data and a `response`."""
    steps: Annotated[int, Field(ge=0)] = 0
    """Optimiser steps; 0 skips the warm-up."""
    batch_size: PositiveInt = 8
    """Rows in a step."""
    lr: PositiveFloat = 1e-5
    """Learning rate of these steps."""

    def _contradictions(self) -> Iterator[str]:
        if self.steps and not self.files:
            yield (f"warm_up.steps={self.steps} and no warm_up.files; name them, or give steps=0")


class Trainer(Section):
    """Length of the run, its schedule, and its files."""

    total_epochs: PositiveInt = 2
    """Passes over the prompts."""
    total_training_steps: PositiveInt | None = None
    """Steps of the run, in place of total_epochs."""
    project_name: Annotated[str, Field(min_length=1)] = "medreward"
    """A folder under checkpoints."""
    experiment_name: Annotated[str, Field(min_length=1)] = "run"
    """A folder below that, and the run's name in the service."""
    logger: Annotated[
        tuple[Literal["console", "file", "tensorboard"], ...], BeforeValidator(listed)
    ] = ("console", "file", "tensorboard")
    """Destinations of metrics; file is metrics.jsonl and rollouts.jsonl."""
    log_rollouts: Annotated[int, Field(ge=0)] = 4
    """Ours. Rollouts of a step that are written to rollouts.jsonl with their components."""
    log_val_generations: Annotated[int, Field(ge=0)] = 8
    """Responses of a validation that are written to rollouts.jsonl."""
    save_freq: Annotated[int, Field(ge=-1)] = 20
    """Steps between checkpoints; -1 saves only at the end."""
    test_freq: Annotated[int, Field(ge=-1)] = 20
    """Steps between validations; -1 never validates."""
    val_before_train: bool = True
    """Validate the policy before the first step."""
    max_actor_ckpt_to_keep: PositiveInt = 3
    """Number of newest checkpoints that are kept."""
    default_local_dir: Path | None = None
    """Folder of the run; checkpoints/<project_name>/<experiment_name> by default."""
    resume_mode: Literal["auto", "disable", "resume_path"] = "auto"
    """auto resumes from the folder's last checkpoint; disable starts a run in a folder without
    one."""
    resume_from_path: Path | None = None
    """Checkpoint for resume_path: a folder global_step_N."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of the policy; auto is CUDA if present."""
    seed: int = 1
    """Ours. Seed of random weights and of rollouts; the order of the data has its own."""

    def _contradictions(self) -> Iterator[str]:
        is_path = self.resume_mode == "resume_path"
        if is_path and self.resume_from_path is None:
            yield (
                "trainer.resume_mode=resume_path needs trainer.resume_from_path; auto goes on "
                "from the last checkpoint of the run"
            )
        if self.resume_from_path is not None and not is_path:
            yield (
                f"trainer.resume_from_path is read only with trainer.resume_mode=resume_path, "
                f"which is {self.resume_mode}"
            )


class Config(Section):
    """The configuration of a whole run."""

    data: Data = Data()
    actor_rollout_ref: ActorRolloutRef = ActorRolloutRef()
    algorithm: Algorithm = Algorithm()
    reward: Reward = Reward()
    warm_up: WarmUp = WarmUp()
    trainer: Trainer = Trainer()

    @property
    def run_dir(self) -> Path:
        """Return the folder of the run's checkpoints and logs."""
        trainer = self.trainer
        return trainer.default_local_dir or Path(
            "checkpoints", trainer.project_name, trainer.experiment_name
        )

    @property
    def optimizer_steps(self) -> int:
        """Return the number of optimiser steps in one step of the run."""
        actor = self.actor_rollout_ref.actor
        return actor.ppo_epochs * math.ceil(self.data.train_batch_size / actor.ppo_mini_batch_size)

    @property
    def needs_reference(self) -> bool:
        """Return true if log-probabilities of the policy before its training are needed."""
        return self.actor_rollout_ref.actor.use_kl_loss or self.algorithm.use_kl_in_reward

    def _contradictions(self) -> Iterator[str]:
        yield from _step_contradictions(self)
        yield from _penalty_contradictions(self)


def _step_contradictions(config: Config) -> Iterator[str]:
    data, actor = config.data, config.actor_rollout_ref.actor
    mini, steps = actor.ppo_mini_batch_size, config.trainer.total_training_steps
    filters, prompts = config.algorithm.filter_groups, data.train_batch_size
    drawn = data.gen_batch_size or prompts
    if prompts % mini:
        divisors = (one for one in range(1, prompts + 1) if prompts % one == 0)
        fitting = min(divisors, key=lambda one: abs(one - mini))
        yield (
            f"data.train_batch_size={prompts} is no multiple of {ACTOR}.ppo_mini_batch_size={mini}; "
            f"the nearest that fits is {ACTOR}.ppo_mini_batch_size={fitting}"
        )
    if drawn != prompts and not filters.enable:
        yield (
            f"data.gen_batch_size={drawn} is for algorithm.filter_groups.enable=true; without it "
            f"a step draws data.train_batch_size={prompts}, so leave it null"
        )
    most = filters.max_num_gen_batches * drawn
    if filters.enable and 0 < most < prompts:
        yield (
            f"algorithm.filter_groups.max_num_gen_batches={filters.max_num_gen_batches} of "
            f"data.gen_batch_size={drawn} never fill data.train_batch_size={prompts}; the least "
            f"is {-(-prompts // drawn)}, and that only if nothing is dropped"
        )
    a_step = config.optimizer_steps
    if steps is not None and actor.optim.lr_warmup_steps >= steps * a_step:
        yield (
            f"{ACTOR}.optim.lr_warmup_steps={actor.optim.lr_warmup_steps} takes all of the run's "
            f"{steps * a_step} optimiser steps ({a_step} a step); give fewer"
        )


def _penalty_contradictions(config: Config) -> Iterator[str]:
    algorithm, actor = config.algorithm, config.actor_rollout_ref.actor
    overlong = config.reward.reward_kwargs.overlong_buffer_cfg
    longest = config.data.max_response_length
    if actor.use_kl_loss and algorithm.use_kl_in_reward:
        yield (
            f"{ACTOR}.use_kl_loss and algorithm.use_kl_in_reward are both true, and KL would "
            "count twice; choose one (GRPO has it in the loss, DAPO has none)"
        )
    if algorithm.adv_estimator == "gdpo" and algorithm.use_kl_in_reward:
        yield (
            "algorithm.use_kl_in_reward has no effect with algorithm.adv_estimator=gdpo, which "
            f"looks at components; say {ACTOR}.use_kl_loss=true"
        )
    if overlong.enable and overlong.len >= longest:
        yield (
            f"reward.reward_kwargs.overlong_buffer_cfg.len={overlong.len} must be less than "
            f"data.max_response_length={longest}, or every response is punished"
        )
    if overlong.enable and algorithm.adv_estimator == "gdpo":
        yield (
            "reward.reward_kwargs.overlong_buffer_cfg has no effect with "
            "algorithm.adv_estimator=gdpo, which looks at components; say enable=false"
        )
