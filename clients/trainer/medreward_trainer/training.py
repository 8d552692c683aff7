"""Group-based RL on rewards from a service: roll out, score, compare within the group, update.

Names of tensors end in their dimensions: P prompts, G samples of a prompt, T tokens.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from medreward_trainer.config.config import Config
from medreward_trainer.config.files import check_runnable
from medreward_trainer.errors import NothingToLearn
from medreward_trainer.rollouts.rollout import Group
from medreward_trainer.run.figures import describe
from medreward_trainer.run.run import Run, begin
from medreward_trainer.run.signals import stoppable
from medreward_trainer.run.timing import StageTimes
from medreward_trainer.run.validation import validate
from medreward_trainer.sft import warm_up
from medreward_trainer.update.advantages import advantages_of
from medreward_trainer.update.losses import next_kl_coef
from medreward_trainer.update.scored_groups import (
    is_kept,
    kl_in_reward,
    rows_of,
    with_rewards,
)
from medreward_trainer.update.updater import log_probs_of_rows

REMINDER_BATCHES = 5
"""Batches of a step after which a log that is no terminal has a line on its filter."""


def train(config: Config) -> None:
    """Train a policy from the last checkpoint of its folder, or from its beginning.

    Raises:
        TrainerError: a person has to correct something; the run's state is saved first.
    """
    check_runnable(config)
    with stoppable() as is_stopping, begin(config, is_stopping) as run:
        if run.is_new:
            warm_up(run)
            if config.trainer.val_before_train:
                validate(run)
        while run.has_steps_left:
            with run.saved_on_trouble():
                train_step(run)
            if config.trainer.test_freq > 0 and run.is_due(config.trainer.test_freq):
                validate(run)
            if run.is_due(config.trainer.save_freq):
                run.save()


def train_step(run: Run) -> None:
    """Learn from one batch of prompts; a critic, and rollouts of older policies, are left out."""
    config, times = run.config, StageTimes()
    actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    groups, drawn = collect_groups(run, times)
    kl_PG = kl_in_reward(groups, config)
    shaped = with_rewards(groups, config, kl_PG=kl_PG, kl_coef=run.progress.kl_coef)
    advantages_PG = advantages_of(shaped, config.algorithm, run.rewards.weights)
    with times.stage("update_actor"):
        updated = run.updater.update(
            rows_of(groups, advantages_PG), samples_a_step=actor.ppo_mini_batch_size * rollout.n
        )
        run.sampler.take_weights()
    kl_coef = next_kl_coef(
        config.algorithm.kl_ctrl,
        run.progress.kl_coef,
        mean_kl=float((kl_PG / shaped.lengths_PG).mean()),
        samples=shaped.rewards_PG.numel(),
    )
    # Counted only now: if anything above fails, the same command takes this step again.
    run.advance(kl_coef)
    figures = describe(groups, shaped, drawn=drawn, signals=run.rewards.weights)
    run.report(groups, {**figures, **updated}, times)


def collect_groups(run: Run, times: StageTimes) -> tuple[list[Group], int]:
    """Roll out and score until the step has its groups; return them, and how many were drawn.

    Raises:
        NothingToLearn: no group is left, or none has two samples to compare.
    """
    wanted, filters = run.config.data.train_batch_size, run.config.algorithm.filter_groups
    if not filters.enable:
        groups = run.gather(lambda: roll_out_and_score(run, times))
        check_teaching(groups, "has two scored samples", drawn=len(groups))
        return groups, len(groups)
    kept: list[Group] = []
    drawn = batches = 0
    while len(kept) < wanted and not (batches and batches == filters.max_num_gen_batches):
        groups = run.gather(lambda: roll_out_and_score(run, times))
        drawn, batches = drawn + len(groups), batches + 1
        kept += [group for group in groups if is_kept(group, filters, run.rewards.range)]
        run.log.stage("groups kept", min(len(kept), wanted), wanted)
        if batches % REMINDER_BATCHES == 0 and len(kept) < wanted:
            run.log.say(
                f"{drawn} groups drawn in {batches} batches, {len(kept)} of {wanted} kept by "
                f"{filters.metric} (algorithm.filter_groups)"
            )
    why = f"is neither all right nor all wrong by {filters.metric} (algorithm.filter_groups)"
    kept = kept[:wanted]
    check_teaching(kept, why, drawn=drawn)
    if len(kept) < wanted:
        run.log.caution(
            f"learning from {len(kept)} groups, not {wanted}: of {drawn}, no other {why}"
        )
    # Every process holds all kept groups, but computes log-probabilities for its share only.
    numbers = run.policy.share(range(len(kept)))
    mine = with_log_probs(run, [kept[number] for number in numbers], times)
    pairs = run.gather(lambda: list(zip(numbers, mine, strict=True)))
    return [group for _, group in sorted(pairs, key=lambda pair: pair[0])], drawn


def roll_out_and_score(run: Run, times: StageTimes) -> list[Group]:
    """Draw a group for each prompt of this process's share of a batch, and collect its scores.

    The service scores a group while the next one is drawn.
    """
    rollout = run.config.actor_rollout_ref.rollout
    prompts = [run.prompts[number] for number in run.policy.share(run.order.take())]
    groups, pending = [], []
    with times.stage("gen"):
        for group in run.sampler.groups(prompts, n=rollout.n, how=rollout):
            groups.append(group)
            pending.append(run.rewards.submit(group, step=run.progress.step + 1))
            run.log.stage("rollouts", len(groups), len(prompts))
            run.check_stop()
    if not run.config.algorithm.filter_groups.enable:
        # Before `collect`, while the service scores the last groups. With a filter, later: only
        # groups that are kept are worth the passes.
        groups = with_log_probs(run, groups, times)
    with times.stage("reward_wait"):
        scores = run.rewards.collect(pending)
    return [replace(group, scores=tuple(row)) for group, row in zip(groups, scores, strict=True)]


def with_log_probs(run: Run, groups: list[Group], times: StageTimes) -> list[Group]:
    """Return groups of this process with the log-probabilities that the update needs."""
    config = run.config
    # A single optimiser step starts from the policy that drew, whose ratio to itself is 1.
    if config.optimizer_steps > 1 or config.algorithm.use_kl_in_reward:
        with times.stage("old_log_prob"):
            found = log_probs_of_groups(run, groups, run.policy.bare_model)
        groups = [replace(g, old=old) for g, old in zip(groups, found, strict=True)]
    if config.needs_reference:
        with times.stage("ref"), run.reference_model() as model:
            found = log_probs_of_groups(run, groups, model)
        groups = [replace(g, reference=ref) for g, ref in zip(groups, found, strict=True)]
    return groups


def log_probs_of_groups(run: Run, groups: Sequence[Group], model: Any) -> list[tuple[Tensor, ...]]:
    """Compute a model's log-probabilities (T) of each sample of each group."""
    rollout = run.config.actor_rollout_ref.rollout
    flat = log_probs_of_rows(
        run.policy,
        [(g.prompt, r.tokens) for g in groups for r in g.rollouts],
        micro_batch=rollout.log_prob_micro_batch_size_per_gpu,
        model=model,
    )
    return [tuple(flat[i : i + rollout.n]) for i in range(0, len(flat), rollout.n)]


def check_teaching(groups: Sequence[Group], what: str, *, drawn: int) -> None:
    """Require a group that has two samples to compare.

    Raises:
        NothingToLearn: there is none; *what* completes the message.
    """
    if not any(group.can_teach for group in groups):
        raise NothingToLearn(f"none of the {drawn} groups of this step {what}")
