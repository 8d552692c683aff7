"""The state of a run: built once, restored from its folder, and saved."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
import transformers
from accelerate import Accelerator
from accelerate.utils import gather_object

from medreward_trainer.config.config import Config, Optim
from medreward_trainer.config.files import changed_values, dump_config
from medreward_trainer.data.examples import digest_of, has_unknown_tag, read_examples
from medreward_trainer.data.prompt_order import PromptOrder
from medreward_trainer.data.prompts import Prompt
from medreward_trainer.errors import BadCheckpoint, BadConfig, Stopped, TrainerError
from medreward_trainer.rollouts.rollout import Group, Sampler
from medreward_trainer.rollouts.samplers import make_sampler
from medreward_trainer.run import checkpoints
from medreward_trainer.run.checkpoints import Progress, Saved, taken
from medreward_trainer.run.reports import RolloutRecord, RunLog
from medreward_trainer.run.retry import IsStopping
from medreward_trainer.run.timing import StageTimes
from medreward_trainer.scoring import RewardSource
from medreward_trainer.update.policy import Policy, make_schedule
from medreward_trainer.update.scored_groups import COMPOSITE
from medreward_trainer.update.updater import Updater

T = TypeVar("T")
REFERENCE = "reference"
"""Subfolder with the policy after the warm-up, if KL is measured from it."""


@dataclass
class Run:
    """The parts of a run; training.py has the loop."""

    config: Config
    accelerator: Accelerator
    log: RunLog
    rewards: RewardSource
    policy: Policy
    sampler: Sampler
    prompts: Sequence[Prompt]
    validation_prompts: Sequence[Prompt]
    order: PromptOrder
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    updater: Updater
    progress: Progress
    total_steps: int
    is_stopping: IsStopping
    is_new: bool = True
    """True if no checkpoint was restored."""
    reference: Any = None
    """A frozen copy of the policy before its training, if KL is on and there is no adapter."""
    random: Mapping[str, Any] = field(default_factory=checkpoints.random_state)
    """State of the random numbers at the beginning of the current step."""

    @property
    def has_steps_left(self) -> bool:
        """True until the last step is done."""
        return self.progress.step < self.total_steps

    def is_due(self, every: int) -> bool:
        """Return true every *every* steps, and after the last one."""
        step = self.progress.step
        return not self.has_steps_left or (every > 0 and step % every == 0)

    def check_stop(self) -> None:
        """Raise if the run was asked to stop; call it only inside `gather`.

        Raises:
            Stopped: it was.
        """
        if self.is_stopping():
            raise Stopped(f"asked to stop in step {self.progress.step + 1}")

    def check_stop_together(self) -> None:
        """Raise in all processes if one of them was asked to stop.

        Raises:
            Stopped: one was.
        """

        def check() -> list[None]:
            self.check_stop()
            return []

        self.gather(check)

    def gather(self, mine: Callable[[], list[T]]) -> list[T]:
        """Call *mine* in each process, and return the results of all to each.

        Raises:
            TrainerError: one process failed; all raise it, or the others would wait for that one forever.
        """
        if self.accelerator.num_processes == 1:
            return mine()
        outcome: tuple[list[T], TrainerError | None]
        try:
            outcome = (mine(), None)
        except TrainerError as exc:
            outcome = ([], exc)
        everyone = gather_object([outcome])
        for _, error in everyone:
            if error is not None:
                raise error
        return [one for results, _ in everyone for one in results]

    def advance(self, kl_coef: float) -> None:
        """Count a step whose update the weights contain."""
        self.progress = replace(
            self.progress,
            step=self.progress.step + 1,
            place=self.order.place,
            kl_coef=kl_coef,
            provenance=self.rewards.provenance,
            partial_update="",
        )
        self.random = checkpoints.random_state()

    def report(
        self, groups: Sequence[Group], figures: Mapping[str, float], times: StageTimes
    ) -> None:
        """Log a step, and a few of its rollouts."""
        spent = times.metrics()
        tokens = sum(g.prompt.length + len(r.tokens) for g in groups for r in g.rollouts)
        epoch = self.order.place.epoch + self.order.place.position / len(self.prompts)
        metrics = {
            **figures,
            **spent,
            "perf/tokens_per_s": tokens / spent["timing_s/step"],
            "progress/epoch": epoch,
        }
        records = [record for group in groups for record in records_of(group)]
        # Spread over the groups, so that not all belong to the first prompt.
        few = self.config.trainer.log_rollouts
        spread = records[:: max(1, len(records) // few)][:few] if few else []
        self.log.write("train", self.progress.step, metrics, spread)

    def save(self) -> None:
        """Write a checkpoint of the last whole step."""
        random = gather_object([self.random])
        if self.accelerator.is_main_process:
            saved = Saved(
                progress=self.progress,
                optimizer=self.optimizer.state_dict(),
                schedule=self.schedule.state_dict(),
                random=random,
                config=self.config.model_dump(mode="json"),
            )
            keep = self.config.trainer.max_actor_ckpt_to_keep
            checkpoints.save(self.config.run_dir, self.policy, saved, keep=keep)
        self.accelerator.wait_for_everyone()

    @contextmanager
    def saved_on_trouble(self) -> Iterator[None]:
        """Save the state before a step that fails, and add that to the error."""
        self.updater.taken = 0
        before = self.progress
        try:
            yield
        except TrainerError as trouble:
            if self.progress is before and self.updater.taken:
                part = f"{self.updater.taken} optimiser steps of step {before.step + 1}"
                self.progress = replace(before, partial_update=part)
                trouble.add_note(f"The weights hold {part} already.")
            self.save()
            trouble.add_note(
                f"The state after step {self.progress.step} is saved in {self.config.run_dir}; the "
                "same command goes on from there."
            )
            raise

    def reference_model(self) -> AbstractContextManager[Any]:
        """Yield the policy as it was before its training: a frozen copy, or without its adapter."""
        policy = self.policy
        return policy.as_it_began() if policy.has_adapter else nullcontext(self.reference)

    def freeze_reference(self) -> None:
        """Make the current policy the reference that KL is measured from."""
        if self.reference is not None:
            self.reference = frozen(self.policy)
            if self.accelerator.is_main_process:
                self.policy.save(self.config.run_dir / REFERENCE)


@contextmanager
def begin(config: Config, is_stopping: IsStopping) -> Iterator[Run]:
    """Lock a run's folder, and build the run anew or from its last checkpoint.

    Raises:
        TrainerError: the folder, service, model, data or checkpoint is unavailable or invalid.
    """
    accelerator = Accelerator(cpu=config.trainer.device == "cpu")
    is_main = accelerator.is_main_process
    with (
        taken(config.run_dir) if is_main else nullcontext(),
        assembled(config, accelerator, is_stopping) as run,
    ):
        yield run


@contextmanager
def assembled(config: Config, accelerator: Accelerator, is_stopping: IsStopping) -> Iterator[Run]:
    """Load the parts of a run, and wait for the service."""
    # The bars of transformers, one for each file, would push the run's own off the screen.
    transformers.utils.logging.disable_progress_bar()
    checkpoint = checkpoint_of(config)
    saved = checkpoints.read(checkpoint) if checkpoint else None
    asked = config
    if saved:
        config = resumed_config(config, Config.model_validate(saved.config))
    policy = Policy.load(config, accelerator, saved=checkpoint and checkpoint / "model")
    sampler = make_sampler(policy, config)
    # Rollouts differ between processes, but not between runs. Loading models and engines draws
    # random numbers or sets the seed, so the seed is set after that.
    torch.manual_seed(config.trainer.seed + accelerator.process_index)
    prompts, left_out = policy.prompter.prompts_of(
        read_examples(config.data, config.data.train_files, limit=config.data.train_max_samples)
    )
    held_out, _ = policy.prompter.prompts_of(
        read_examples(config.data, config.data.val_files, limit=config.data.val_max_samples)
    )
    progress = progress_of(config, prompts, saved)
    order, total_steps = order_of(config, prompts, progress, left_out=left_out)
    actor, optim = config.actor_rollout_ref.actor, config.actor_rollout_ref.actor.optim
    optimizer = torch.optim.AdamW(
        policy.trained, lr=optim.lr, betas=optim.betas, weight_decay=optim.weight_decay
    )
    schedule = make_schedule(optimizer, optim, steps=total_steps * config.optimizer_steps)
    if saved:
        optimizer.load_state_dict(dict(saved.optimizer))
        schedule.load_state_dict(dict(saved.schedule))
        put_in(optim, optimizer, schedule)
        if accelerator.process_index >= len(saved.random):
            raise BadCheckpoint(
                f"the run began with {len(saved.random)} processes; go on with as many"
            )
        checkpoints.set_random_state(saved.random[accelerator.process_index])
    loggers = config.trainer.logger if accelerator.is_main_process else ()
    with (
        RunLog(
            config.run_dir,
            loggers,
            total_steps=total_steps,
            resumed_step=progress.step if saved else None,
        ) as log,
        RewardSource(
            config.reward,
            run_id=config.trainer.experiment_name,
            say=log.say,
            is_stopping=is_stopping,
            began_with=progress.provenance,
        ) as rewards,
    ):
        if accelerator.is_main_process:
            log_start(config, log, saved, asked, prompts=len(prompts), left_out=left_out)
            tagged = sum(has_unknown_tag(prompt.example) for prompt in prompts)
            if tagged:
                log.caution(
                    f"{tagged} references begin with a tag that is none of the sixteen; it is a part "
                    "of the reference"
                )
        rewards.wait_until_ready(prompts[0].example)
        check_components(config, rewards)
        yield Run(
            config=config,
            accelerator=accelerator,
            log=log,
            rewards=rewards,
            policy=policy,
            sampler=sampler,
            prompts=prompts,
            validation_prompts=held_out,
            order=order,
            optimizer=optimizer,
            schedule=schedule,
            updater=Updater(
                policy, optimizer, schedule, actor, horizon=config.data.max_response_length
            ),
            progress=progress,
            total_steps=total_steps,
            is_stopping=is_stopping,
            is_new=saved is None,
            reference=reference_of(config, policy, accelerator, is_new=saved is None),
        )


def check_components(config: Config, rewards: RewardSource) -> None:
    """Check, before the first rollout, that the service's recipe has the configured components.

    Raises:
        BadConfig: it lacks one that the filter or gdpo names.
    """
    filters, known = config.algorithm.filter_groups, (COMPOSITE, *rewards.weights)
    asked = dict.fromkeys(config.algorithm.gdpo_reward_keys, "algorithm.gdpo_reward_keys")
    if filters.enable:
        asked[filters.metric] = "algorithm.filter_groups.metric"
    for name, key in asked.items():
        if name not in known:
            raise BadConfig(f"{key}: the service's recipe has no {name}; it has {', '.join(known)}")


def checkpoint_of(config: Config) -> Path | None:
    """Return the checkpoint to resume from; None for a new run.

    Raises:
        BadCheckpoint: checkpoints exist, but the configuration asks for a new run.
    """
    trainer, found = config.trainer, checkpoints.checkpoints(config.run_dir)
    if trainer.resume_mode == "resume_path":
        return trainer.resume_from_path
    if trainer.resume_mode == "disable" and found:
        raise BadCheckpoint(
            f"{config.run_dir} holds checkpoints already; name another run in "
            "trainer.experiment_name, or go on with trainer.resume_mode=auto"
        )
    return found[-1] if found else None


ADAPTER = ("lora_rank", "lora_alpha", "target_modules")


def resumed_config(config: Config, before: Config) -> Config:
    """Return the configuration that a resumed run has: the new values.

    Model, seed and warm-up are those of *before*: only the beginning of a run reads them.

    Raises:
        BadCheckpoint: the adapter differs, which the checkpoint's weights do not fit.
    """
    model, was = config.actor_rollout_ref.model, before.actor_rollout_ref.model
    if model.lora_rank or was.lora_rank:
        for name in ADAPTER:
            if getattr(model, name) != getattr(was, name):
                key = f"actor_rollout_ref.model.{name}"
                raise BadCheckpoint(
                    f"the run began with {key}={getattr(was, name)}, and it is "
                    f"{getattr(model, name)} now; give it as it was, or begin another run with "
                    "trainer.experiment_name"
                )
    # An adapter is saved without its base, which may have moved: that is read from the new path.
    path = model.path if model.lora_rank else was.path
    return config.model_copy(
        update={
            "actor_rollout_ref": config.actor_rollout_ref.model_copy(
                update={"model": model.model_copy(update={"path": path})}
            ),
            "trainer": config.trainer.model_copy(update={"seed": before.trainer.seed}),
            "warm_up": before.warm_up,
        }
    )


def progress_of(config: Config, prompts: Sequence[Prompt], saved: Saved | None) -> Progress:
    """Return where a run is: at its beginning, or at a checkpoint.

    Raises:
        BadCheckpoint: the data differs from that of the run's beginning.
    """
    control = config.algorithm.kl_ctrl
    digest = digest_of(prompt.example for prompt in prompts)
    if saved is None:
        return Progress(kl_coef=control.kl_coef, prompts=len(prompts), digest=digest)
    progress = replace(saved.progress, digest=saved.progress.digest or digest)
    if progress.prompts != len(prompts):
        raise BadCheckpoint(
            f"the run began with {progress.prompts} prompts, and there are {len(prompts)} now; "
            "give data.train_files as they were, or begin another run"
        )
    if progress.digest != digest:
        raise BadCheckpoint(
            f"the run began with other prompts: {', '.join(config.data.train_files)} has changed "
            "since; give data.train_files as they were, or begin another run with "
            "trainer.experiment_name"
        )
    # What an adaptive coefficient has become goes on, unless another first value is asked for.
    before = Config.model_validate(saved.config).algorithm.kl_ctrl
    is_new = control.type == "fixed" or control.kl_coef != before.kl_coef
    return replace(progress, kl_coef=control.kl_coef) if is_new else progress


def put_in(
    optim: Optim,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LambdaLR,
) -> None:
    """Put the configuration's values in the place of those that a checkpoint has restored."""
    schedule.base_lrs = [optim.lr for _ in schedule.base_lrs]
    rates = [
        rate * share(schedule.last_epoch)
        for rate, share in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)
    ]
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group |= {
            "lr": rate,
            "initial_lr": optim.lr,
            "betas": optim.betas,
            "weight_decay": optim.weight_decay,
        }
    schedule._last_lr = rates  # noqa: SLF001 - what get_last_lr reports until the next step


def order_of(
    config: Config, prompts: Sequence[Prompt], progress: Progress, *, left_out: int
) -> tuple[PromptOrder, int]:
    """Return the order of the prompts from the saved position, and the run's number of steps.

    Raises:
        BadData: there is less than a batch of them.
    """
    data, trainer = config.data, config.trainer
    order = PromptOrder(
        len(prompts),
        batch=data.gen_batch_size or data.train_batch_size,
        shuffle=data.shuffle,
        seed=data.seed,
        left_out=left_out,
    )
    order.place = progress.place
    steps = max(1, len(prompts) // data.train_batch_size) * trainer.total_epochs
    return order, trainer.total_training_steps or steps


def reference_of(config: Config, policy: Policy, accelerator: Accelerator, *, is_new: bool) -> Any:
    """Return a frozen copy of the policy before its training; None if it is not needed."""
    if not config.needs_reference or policy.has_adapter:
        return None
    if is_new:
        return frozen(policy)
    warmed_up = config.run_dir / REFERENCE
    began = Policy.load(config, accelerator, saved=warmed_up if warmed_up.is_dir() else None)
    return frozen(began)


def frozen(policy: Policy) -> Any:
    """Copy a model in the type of its computation, without gradients."""
    model = deepcopy(policy.bare_model).to(policy.dtype)
    return model.eval().requires_grad_(requires_grad=False)


def log_start(
    config: Config,
    log: RunLog,
    saved: Saved | None,
    asked: Config,
    *,
    prompts: int,
    left_out: int,
) -> None:
    """Log the state that the run begins with, and write its configuration to its folder.

    `asked` is the configuration before a checkpoint's values replaced some.
    """
    if left_out:
        longest = config.data.max_prompt_length
        log.caution(f"left out {left_out} of {left_out + prompts} prompts: over {longest} tokens")
    if saved is None:
        log.say(f"{prompts} prompts; logs and checkpoints in {config.run_dir}")
    else:
        log.say(f"going on after step {saved.progress.step} of {config.run_dir}")
        changed = changed_values(Config.model_validate(saved.config), config)
        if changed:
            log.caution(
                "the configuration differs from the checkpoint's, and holds from now on, in "
                f"{', '.join(changed)}"
            )
        kept = changed_values(asked, config)
        if kept:
            log.caution(
                "only the beginning of a run reads these keys, so the checkpoint's go on: "
                f"{', '.join(f'{key}={value}' for key, value in kept.items())}"
            )
        if saved.progress.partial_update:
            log.caution(f"the weights hold {saved.progress.partial_update} already")
    (config.run_dir / "config.yaml").write_text(dump_config(config), encoding="utf-8")


def records_of(group: Group) -> list[RolloutRecord]:
    """Make the lines of a group's rollouts in rollouts.jsonl."""
    example = group.prompt.example
    return [
        RolloutRecord(
            uid=example.uid,
            question=example.problem,
            response=rollout.text,
            reference=example.reference,
            modality=example.modality,
            **asdict(score),
        )
        for rollout, score in zip(group.rollouts, group.scores, strict=True)
    ]
