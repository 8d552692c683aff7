"""Everything a run is told, typed; the keys are verl's wherever verl has one.

What verl has no key for is marked *ours*. docs/trainer/config.md maps each key to verl's and to
EasyR1's.
"""

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
    """Take a text for a list of one, as verl and EasyR1 do with files."""
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
"""Above it a clip was meant for the ratios of tokens."""


class Section(BaseModel):
    """A part of the configuration: closed, so that a misspelt key is an error, and frozen."""

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
    """Where prompts come from and how long they may be; lengths in tokens."""

    train_files: Texts = ()
    """JSONL or Parquet files, or data sets of the hub as name@split."""
    val_files: Texts = ()
    """The same for validation; none is no validation."""
    prompt_key: str = "problem"
    """The column of the question."""
    answer_key: str = "solution"
    """The column of the reference, with or without its `<TAG>`; EasyR1's key."""
    image_key: str = "image"
    """The column of a picture or several; rows may be without."""
    image_dir: Path | None = None
    """What relative image paths are relative to, if not the file they stand in; EasyR1's key."""
    format_prompt: str = "medix"
    """medix, brief, plain, or a Jinja file that wraps `content`; EasyR1's key."""
    train_batch_size: PositiveInt = 512
    """Prompts a step."""
    gen_batch_size: PositiveInt | None = None
    """Prompts generated at a time while groups are filtered; None is train_batch_size."""
    val_batch_size: PositiveInt = 512
    """Prompts of a validation that are generated at a time."""
    train_max_samples: PositiveInt | None = None
    """Rows that are read of train_files, from the first; None is all."""
    val_max_samples: PositiveInt | None = None
    """The same of val_files."""
    max_prompt_length: PositiveInt = 4352
    """The template and an image's tokens among them."""
    max_response_length: PositiveInt = 4096
    """What is longer is cut, and scored as it then is."""
    filter_overlong_prompts: bool = True
    """Leave out what is longer, and say how many; otherwise it is an error."""
    shuffle: bool = True
    """In another order each epoch."""
    seed: int = 1
    """Of that order."""
    min_pixels: PositiveInt | None = 262_144
    """Smaller images are scaled up to so many pixels; None leaves them. EasyR1's key."""
    max_pixels: PositiveInt | None = 4_194_304
    """Larger ones are scaled down; EasyR1's key."""

    def _contradictions(self) -> Iterator[str]:
        if self.min_pixels and self.max_pixels and self.min_pixels > self.max_pixels:
            yield (
                f"data.min_pixels={self.min_pixels} is over data.max_pixels={self.max_pixels}; "
                "lower it, or make it null"
            )


class Model(Section):
    """Which policy is trained, and how it is held."""

    path: str = "Qwen/Qwen3-VL-2B-Instruct"
    """A folder, an id of the hub, or tiny-random and tiny-random-vl, which need neither; with
    `:abc` behind them they know no other signs."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Of the arithmetic; trained weights are held in float32. On a CPU float32 is the faster."""
    lora_rank: Annotated[int, Field(ge=0)] = 0
    """0 trains all weights."""
    lora_alpha: PositiveInt = 16
    """The adapter counts lora_alpha / lora_rank times."""
    target_modules: str | tuple[str, ...] = "all-linear"
    """Which layers get an adapter, as peft takes them."""
    enable_gradient_checkpointing: bool = True
    """Compute again in the backward pass what would fill the memory."""
    trust_remote_code: bool = False
    """Run Python that comes with a model of the hub."""


class Optim(Section):
    """AdamW."""

    lr: PositiveFloat = 1e-6
    """The learning rate at its highest."""
    lr_warmup_steps: Annotated[int, Field(ge=-1)] = -1
    """Optimiser steps until it is reached; -1 leaves it to the ratio."""
    lr_warmup_steps_ratio: Share = 0.0
    """Of all optimiser steps."""
    lr_scheduler_type: Literal["constant", "cosine"] = "constant"
    """What becomes of it then."""
    min_lr_ratio: Share = 0.0
    """What cosine leaves of it at the end."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """AdamW's."""
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    """AdamW's."""


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
    """How often a step's rollouts are learnt from."""
    clip_ratio_low: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """The ratio counts no further down than 1 minus this."""
    clip_ratio_high: PositiveFloat = 0.2
    """And no further up than 1 plus this; DAPO's is higher (arXiv 2503.14476)."""
    clip_ratio_c: Annotated[float, Field(gt=1)] | None = 3.0
    """Bound on the ratio where the advantage is negative (arXiv 1912.09729); None is none."""
    policy_loss: PolicyLoss = PolicyLoss()
    loss_agg_mode: LossAggregation = "token-mean"
    """How the losses of tokens become one."""
    use_kl_loss: bool = False
    """Add KL from the policy before its training to the loss."""
    kl_loss_coef: Annotated[float, Field(ge=0)] = 0.001
    """How much of it."""
    kl_loss_type: KLKind = "low_var_kl"
    """How it is estimated."""
    entropy_coeff: Annotated[float, Field(ge=0)] = 0.0
    """How much entropy is taken off the loss; more than 0 costs memory."""
    freeze_vision_tower: bool = False
    """Leave the weights that read pictures as they are."""
    grad_clip: PositiveFloat = 1.0
    """The longest a gradient may be."""
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
    """How a response is drawn."""

    temperature: Annotated[float, Field(ge=0)] = 1.0
    """What logits are divided by."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Draw from the likeliest tokens that have this much probability together; 1 is all."""
    top_k: Annotated[int, Field(ge=-1)] = -1
    """Draw from so many of the likeliest; -1 is all of the vocabulary."""


class ValSampling(Sampling):
    """Of validation: greedy unless told otherwise."""

    temperature: Annotated[float, Field(ge=0)] = 0.0
    """0 takes the likeliest token each time."""


class Rollout(Sampling):
    """How groups are generated."""

    temperature: PositiveFloat = 1.0
    """What logits are divided by; at 0 a group's samples would all be the same."""
    name: Literal["hf", "vllm"] = "hf"
    """hf calls `generate` of the policy itself; vllm an engine that takes over its weights."""
    n: Annotated[int, Field(ge=2)] = 5
    """Samples a prompt: the group."""
    micro_batch_size: PositiveInt = 8
    """Prompts that `generate` takes at once (hf)."""
    log_prob_micro_batch_size_per_gpu: PositiveInt = 4
    """Samples whose log-probabilities are computed at once."""
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.4
    """What vllm may take of the device; the policy needs the rest."""
    tensor_model_parallel_size: PositiveInt = 1
    """Devices of one engine (vllm)."""
    enforce_eager: bool = False
    """Begin sooner and generate slower (vllm)."""
    max_num_batched_tokens: PositiveInt = 8448
    """Tokens of a pass (vllm)."""
    val_kwargs: ValSampling = ValSampling()


class ActorRolloutRef(Section):
    """The policy: its model, its update, its rollouts."""

    model: Model = Model()
    actor: Actor = Actor()
    rollout: Rollout = Rollout()


class KLControl(Section):
    """The coefficient of KL in the reward."""

    type: Literal["fixed", "adaptive"] = "fixed"
    """adaptive changes the coefficient towards the target (arXiv 1909.08593)."""
    kl_coef: Annotated[float, Field(ge=0)] = 0.001
    """The coefficient, or the first one."""
    horizon: PositiveFloat = 10_000
    """Samples within which an adaptive coefficient changes by its own size."""
    target_kl: PositiveFloat = 0.1
    """A token, on average."""


class FilterGroups(Section):
    """Which groups are learnt from: those neither all right nor all wrong."""

    enable: bool = False
    """Draw further groups for those that are dropped (DAPO, arXiv 2503.14476)."""
    metric: str = "accuracy_llm"
    """A component, or `reward` for the composite. The composite keeps an all-wrong group whose
    samples differ in nothing but format."""
    low: float = 0.01
    """A group is kept if low < its mean < high; EasyR1's filter_low and filter_high."""
    high: float = 0.99
    """The upper bound."""
    max_num_gen_batches: Annotated[int, Field(ge=0)] = 20
    """Batches generated before a step gives up filling itself; 0 is no bound."""

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
    """From rewards to advantages."""

    adv_estimator: Estimator = "grpo"
    """How a reward is compared with those of its group; docs of advantages.py."""
    use_kl_in_reward: bool = False
    """Take KL from the policy before its training off the reward."""
    kl_penalty: KLKind = "kl"
    """Of KL in the reward."""
    kl_ctrl: KLControl = KLControl()
    filter_groups: FilterGroups = FilterGroups()
    gdpo_reward_keys: Texts = ()
    """Components that gdpo normalises one by one; none are all that the recipe pays for."""
    gdpo_reward_weights: tuple[float, ...] = ()
    """One a key; none are the recipe's own."""

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
    """Whether there is one."""
    len: PositiveInt = 512
    """Tokens before max_response_length, over which it grows."""
    penalty_factor: PositiveFloat = 1.0
    """What it grows to."""


class RewardKwargs(Section):
    """What is added to the service's reward."""

    overlong_buffer_cfg: Overlong = Overlong()


class Reward(Section):
    """The service, and how long it is waited for. Its key is read from MEDREWARD_API_KEY. Ours."""

    base_url: str = "http://127.0.0.1:8080"
    """Where it listens, with http:// or https://."""
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

    def _contradictions(self) -> Iterator[str]:
        if not self.base_url.startswith(("http://", "https://")):
            yield (
                f"reward.base_url={self.base_url} must begin with http:// or https://; did you "
                f"mean http://{self.base_url.rpartition('//')[2]}?"
            )


class WarmUp(Section):
    """Supervised steps before the first rollout, for a model that never hits the format. Ours."""

    files: Texts = ()
    """JSONL with the data's columns and a `response`."""
    steps: Annotated[int, Field(ge=0)] = 0
    """Optimiser steps; 0 is none."""
    batch_size: PositiveInt = 8
    """Rows a step."""
    lr: PositiveFloat = 1e-5
    """The learning rate of these steps."""

    def _contradictions(self) -> Iterator[str]:
        if self.steps and not self.files:
            yield (f"warm_up.steps={self.steps} and no warm_up.files; name them, or give steps=0")


class Trainer(Section):
    """How long, how often, and where to."""

    total_epochs: PositiveInt = 2
    """How often each prompt has its turn."""
    total_training_steps: PositiveInt | None = None
    """If given, the epochs do not count."""
    project_name: Annotated[str, Field(min_length=1)] = "medreward"
    """A folder under checkpoints."""
    experiment_name: Annotated[str, Field(min_length=1)] = "run"
    """A folder under that, and the service's name for the run."""
    logger: Annotated[
        tuple[Literal["console", "file", "tensorboard"], ...], BeforeValidator(listed)
    ] = ("console", "file", "tensorboard")
    """Where metrics go; file is metrics.jsonl and rollouts.jsonl."""
    log_rollouts: Annotated[int, Field(ge=0)] = 4
    """Ours. Rollouts a step that are written to rollouts.jsonl with their components."""
    log_val_generations: Annotated[int, Field(ge=0)] = 8
    """Responses of a validation that are written there."""
    save_freq: Annotated[int, Field(ge=-1)] = 20
    """Steps; -1 saves at the end alone."""
    test_freq: Annotated[int, Field(ge=-1)] = 20
    """Steps; -1 never validates."""
    val_before_train: bool = True
    """Validate the policy as it begins."""
    max_actor_ckpt_to_keep: PositiveInt = 3
    """The last ones."""
    default_local_dir: Path | None = None
    """None is checkpoints/<project_name>/<experiment_name>."""
    resume_mode: Literal["auto", "disable", "resume_path"] = "auto"
    """auto goes on from the folder's last checkpoint; disable begins, in a folder without one."""
    resume_from_path: Path | None = None
    """The checkpoint of resume_path: a folder global_step_N."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto is CUDA if there is one."""
    seed: int = 1
    """Ours. Of weights that are drawn and of rollouts; the order of the data has its own."""

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

    def _contradictions(self) -> Iterator[str]:
        yield from _batch_contradictions(self)
        yield from _kl_contradictions(self)
        yield from _length_contradictions(self)
        yield from _schedule_contradictions(self)


def _batch_contradictions(config: Config) -> Iterator[str]:
    data, mini = config.data, config.actor_rollout_ref.actor.ppo_mini_batch_size
    filters, prompts = config.algorithm.filter_groups, data.train_batch_size
    drawn = data.gen_batch_size or prompts
    if prompts % mini:
        fitting = min(_divisors(prompts), key=lambda one: abs(one - mini))
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


def _kl_contradictions(config: Config) -> Iterator[str]:
    algorithm, actor = config.algorithm, config.actor_rollout_ref.actor
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


def _length_contradictions(config: Config) -> Iterator[str]:
    overlong, longest = config.reward.reward_kwargs.overlong_buffer_cfg, config.data
    if not overlong.enable:
        return
    if overlong.len >= longest.max_response_length:
        yield (
            f"reward.reward_kwargs.overlong_buffer_cfg.len={overlong.len} must be less than "
            f"data.max_response_length={longest.max_response_length}, or every response is punished"
        )
    if config.algorithm.adv_estimator == "gdpo":
        yield (
            "reward.reward_kwargs.overlong_buffer_cfg has no effect with "
            "algorithm.adv_estimator=gdpo, which looks at components; say enable=false"
        )


def _schedule_contradictions(config: Config) -> Iterator[str]:
    actor, steps = config.actor_rollout_ref.actor, config.trainer.total_training_steps
    if steps is None:
        return
    a_step = actor.ppo_epochs * -(-config.data.train_batch_size // actor.ppo_mini_batch_size)
    if actor.optim.lr_warmup_steps >= steps * a_step:
        yield (
            f"{ACTOR}.optim.lr_warmup_steps={actor.optim.lr_warmup_steps} takes all of the run's "
            f"{steps * a_step} optimiser steps ({a_step} a step); give fewer"
        )


def _divisors(number: int) -> Iterator[int]:
    return (one for one in range(1, number + 1) if number % one == 0)
