"""Group-based RL on rewards from a service: the loop, from prompts to new weights."""

from collections.abc import Sequence

from medreward_trainer.config.config import Config
from medreward_trainer.config.files import check_runnable
from medreward_trainer.errors import NothingToLearn
from medreward_trainer.run.figures import describe
from medreward_trainer.run.run import Run, begin
from medreward_trainer.run.signals import stoppable
from medreward_trainer.run.timing import StageTimes
from medreward_trainer.run.validation import validate
from medreward_trainer.sft import warm_up
from medreward_trainer.update.advantages import advantages_of
from medreward_trainer.update.losses import next_kl_coef
from medreward_trainer.update.scored_groups import (
    ScoredGroup,
    is_kept,
    kl_in_reward,
    rows_of,
    with_rewards,
)


def train(config: Config) -> None:
    """Train a policy as the configuration says, from where its folder was left.

    A step draws a group of responses to each prompt, has the service score each group while the
    next is drawn, compares the scored samples of a group with each other, and takes a few
    optimiser steps. Left out on purpose: a critic, and steps on rollouts of an older policy.

    Raises:
        TrainerError: what a person has to mend; the run's state is saved first.
    """
    check_runnable(config)
    with stoppable() as is_stopping, begin(config, is_stopping) as run:
        if run.is_new:
            warm_up(run)
            if config.trainer.val_before_train:
                validate(run)
        while run.has_steps_left:
            with run.saved_on_trouble():
                times = StageTimes()
                groups, drawn = fill_step(run, times)
                kl_PG = kl_in_reward(groups, config)
                shaped = with_rewards(groups, config, kl_PG=kl_PG, kl_coef=run.progress.kl_coef)
                advantages_PG = advantages_of(shaped, config.algorithm, run.rewards.weights)
                with times.stage("update_actor"):
                    updated = run.update(rows_of(groups, advantages_PG))
                    run.sampler.take_weights()
                run.advance(
                    next_kl_coef(
                        config.algorithm.kl_ctrl,
                        run.progress.kl_coef,
                        mean_kl=float((kl_PG / shaped.lengths_PG).mean()),
                        samples=shaped.rewards_PG.numel(),
                    )
                )
                run.report(groups, {**describe(groups, shaped, drawn=drawn), **updated}, times)
            if config.trainer.test_freq > 0 and run.is_due(config.trainer.test_freq):
                validate(run)
            if run.is_due(config.trainer.save_freq):
                run.save()


def fill_step(run: Run, times: StageTimes) -> tuple[list[ScoredGroup], int]:
    """Draw and score groups until there are enough to learn from; also how many were drawn.

    Raises:
        NothingToLearn: no group is left, or none has two samples to compare.
    """
    wanted, filters = run.config.data.train_batch_size, run.config.algorithm.filter_groups
    if not filters.enable:
        groups = draw_batch(run, times)
        check_teaching(groups, "has two scored samples", drawn=len(groups))
        return groups, len(groups)
    kept: list[ScoredGroup] = []
    drawn = batches = 0
    while len(kept) < wanted and not (batches and batches == filters.max_num_gen_batches):
        groups = draw_batch(run, times)
        drawn, batches = drawn + len(groups), batches + 1
        kept += [group for group in groups if is_kept(group, filters)]
        run.log.stage("groups kept", min(len(kept), wanted), wanted)
    why = f"is neither all right nor all wrong by {filters.metric} (algorithm.filter_groups)"
    kept = kept[:wanted]
    check_teaching(kept, why, drawn=drawn)
    if len(kept) < wanted:
        run.log.caution(
            f"learning from {len(kept)} groups, not {wanted}: of {drawn}, no other {why}"
        )
    return run.add_log_probs(kept, times), drawn


def draw_batch(run: Run, times: StageTimes) -> list[ScoredGroup]:
    """Draw groups for the next prompts and have them scored; gives those of all processes."""
    return run.gather(lambda: draw_share(run, times))


def draw_share(run: Run, times: StageTimes) -> list[ScoredGroup]:
    """Draw and score this process's groups of the next prompts."""
    rollout, prompts = run.config.actor_rollout_ref.rollout, run.next_prompts()
    groups, pending = [], []
    with times.stage("gen"):
        for group in run.sampler.groups(prompts, n=rollout.n, how=rollout):
            groups.append(ScoredGroup(group))
            pending.append(run.rewards.submit(group, step=run.progress.step + 1))
            run.log.stage("rollouts", len(groups), len(prompts))
            run.check_stop()
    if not run.config.algorithm.filter_groups.enable:
        # While the service is at the last groups; behind a filter, only for what is kept.
        groups = run.with_own_log_probs(groups, times)
    with times.stage("reward_wait"):
        scores = run.rewards.collect(pending)
    return [group.scored(row) for group, row in zip(groups, scores, strict=True)]


def check_teaching(groups: Sequence[ScoredGroup], what: str, *, drawn: int) -> None:
    """Refuse to learn from groups none of which can teach.

    Raises:
        NothingToLearn: as it says; *what* is what none of them has.
    """
    if not any(group.can_teach for group in groups):
        raise NothingToLearn(f"none of the {drawn} groups of this step {what}")
