"""The optimiser steps of a training step: a clipped surrogate, with KL and entropy if wanted.

B samples, T response tokens.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import astuple, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from medreward_trainer.config.config import Actor
from medreward_trainer.data.prompts import Prompt
from medreward_trainer.errors import NotFinite
from medreward_trainer.update.batches import SequenceBatch, sequence_batch
from medreward_trainer.update.losses import LOSSES, aggregate, kl
from medreward_trainer.update.policy import Policy


@dataclass(frozen=True, slots=True)
class Row:
    """One rollout as input of the update; log-probabilities are those of its tokens, shape (T)."""

    prompt: Prompt
    tokens: tuple[int, ...]
    advantage: float
    is_scored: bool
    old_T: Tensor | None
    """From the policy that drew it; None if the update is one step and begins with that policy."""
    reference_T: Tensor | None
    """From the policy before its training; None if the loss has no KL."""


@dataclass(frozen=True, slots=True)
class Stats:
    """Sums over the tokens of any number of micro-batches; metrics divide them by `tokens`."""

    loss: float = 0.0
    clipped: float = 0.0
    ppo_kl: float = 0.0
    kl: float = 0.0
    entropy: float = 0.0
    tokens: float = 0.0

    def __add__(self, other: "Stats") -> "Stats":
        """Add each sum of another part of the update."""
        return Stats(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


def log_probs_of_rows(
    policy: Policy,
    rows: Sequence[tuple[Prompt, tuple[int, ...]]],
    *,
    micro_batch: int,
    model: Any,
) -> list[Tensor]:
    """Compute the log-probabilities (T) of each row's tokens, on the CPU, without gradients.

    Rows of similar length share a micro-batch, which keeps the padding small.
    """
    order = sorted(range(len(rows)), key=lambda i: rows[i][0].length + len(rows[i][1]))
    found: dict[int, Tensor] = {}
    model.eval()
    for start in range(0, len(order), micro_batch):
        numbers = order[start : start + micro_batch]
        batch = sequence_batch(
            [rows[i][0] for i in numbers], [rows[i][1] for i in numbers], policy.prompter
        )
        with torch.no_grad():
            chosen_BT = policy.chosen_log_probs(batch, model).cpu()
        for i, log_probs_T in zip(numbers, chosen_BT, strict=True):
            found[i] = log_probs_T[: len(rows[i][1])].clone()
    return [found[i] for i in range(len(rows))]


class Updater:
    """Takes the optimiser steps of a training step.

    An unscored row counts neither in the loss nor in its divisor. A row with a zero advantage
    counts in the divisor; unless the loss has KL or entropy its gradient is zero, and the row is
    not computed at all.
    """

    def __init__(
        self,
        policy: Policy,
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        actor: Actor,
        *,
        horizon: int,
    ) -> None:
        self._policy, self._optimizer, self._schedule = policy, optimizer, schedule
        self._actor, self._horizon = actor, horizon
        self.taken = 0
        """Optimiser steps of the current update that are in the weights, also if it fails later."""

    def update(self, rows: Sequence[Row], *, samples_a_step: int) -> dict[str, float]:
        """Update the policy on all rows, `samples_a_step` of them an optimiser step.

        Raises:
            NotFinite: a gradient is infinite or not a number; that optimiser step was not taken.
        """
        self.taken = 0
        stats, norms = Stats(), []
        self._policy.model.train()
        for _ in range(self._actor.ppo_epochs):
            for start in range(0, len(rows), samples_a_step):
                step = self._step(rows[start : start + samples_a_step])
                if step is not None:
                    norms.append(step[0])
                    stats += step[1]
        self._policy.model.eval()
        return self._metrics(stats, norms)

    def _step(self, rows: Sequence[Row]) -> tuple[float, Stats] | None:
        """Take one optimiser step; return the gradient's norm, or None if no row has a gradient."""
        scored = [row for row in rows if row.is_scored]
        always_learns = self._actor.use_kl_loss or self._actor.entropy_coeff > 0
        learnt = [row for row in scored if row.advantage != 0 or always_learns]
        if not learnt:
            return None
        stats, tokens = Stats(), sum(len(row.tokens) for row in scored)
        self._optimizer.zero_grad(set_to_none=True)
        model = self._policy.model
        for batch, is_last in self._micro_batches(learnt):
            # Gradients are averaged over processes once an optimiser step, in the last micro-batch.
            is_averaged = is_last or not hasattr(model, "no_sync")
            with nullcontext() if is_averaged else model.no_sync():
                loss, part = self._loss(batch, tokens=tokens, sequences=len(scored))
                # Gradients are averaged over processes, but the loss is a sum over all of them.
                scaled = loss * self._policy.accelerator.num_processes
                scaled.backward()
            stats += part
        norm = float(torch.nn.utils.clip_grad_norm_(self._policy.trained, self._actor.grad_clip))
        if not math.isfinite(norm):
            self._optimizer.zero_grad(set_to_none=True)
            raise NotFinite(
                f"the gradient's norm is {norm}; lower actor_rollout_ref.actor.optim.lr, or look "
                "at rollouts.jsonl for what the policy has begun to write"
            )
        self._optimizer.step()
        self._schedule.step()
        self.taken += 1
        return norm, stats

    def _micro_batches(self, rows: Sequence[Row]) -> Iterator[tuple[list[Row], bool]]:
        """Yield this process's rows by length, in micro-batches, the last one marked True."""
        longest_first = sorted(rows, key=lambda row: -(row.prompt.length + len(row.tokens)))
        # Averaging waits for every process, so one without rows takes part with an unscored row.
        unscored = replace(longest_first[-1], advantage=0.0, is_scored=False)
        mine = [*self._policy.share(longest_first)] or [unscored]
        size = self._actor.ppo_micro_batch_size_per_gpu
        for start in range(0, len(mine), size):
            yield mine[start : start + size], start + size >= len(mine)

    def _loss(self, rows: Sequence[Row], *, tokens: int, sequences: int) -> tuple[Tensor, Stats]:
        """Compute a micro-batch's share of the loss of its optimiser step.

        `tokens` and `sequences` are those of the whole step, by which the share is divided.
        """
        policy, actor = self._policy, self._actor
        batch = sequence_batch(
            [row.prompt for row in rows], [row.tokens for row in rows], policy.prompter
        )
        device = policy.accelerator.device
        is_scored_B = torch.tensor([row.is_scored for row in rows], device=device)
        mask_BT = batch.mask_BT.to(device) * is_scored_B.unsqueeze(1)
        advantages_B = torch.tensor(
            [row.advantage for row in rows], dtype=torch.float32, device=device
        )
        old_BT = _padded([row.old_T for row in rows], batch, policy)
        reference_BT = _padded([row.reference_T for row in rows], batch, policy)

        chosen_BT, entropy_BT = policy.log_probs(batch, entropy_learns=actor.entropy_coeff > 0)
        new_BT = chosen_BT.detach()
        if old_BT is None:
            # The policy itself drew the rows: the ratio is 1, and only its gradient counts.
            old_BT = new_BT
        surrogate = LOSSES[actor.policy_loss.loss_mode](
            chosen_BT, old_BT, advantages_B, mask_BT,
            low=actor.clip_ratio_low, high=actor.clip_ratio_high, c=actor.clip_ratio_c,
        )  # fmt: skip
        loss_BT, kl_BT = surrogate.loss_BT, torch.zeros_like(mask_BT)
        if actor.entropy_coeff > 0:
            loss_BT = loss_BT - actor.entropy_coeff * entropy_BT
        if actor.use_kl_loss and reference_BT is not None:
            kl_BT = kl(chosen_BT, reference_BT, actor.kl_loss_type)
            loss_BT = loss_BT + actor.kl_loss_coef * kl_BT
        loss = aggregate(
            loss_BT, mask_BT, actor.loss_agg_mode,
            tokens=tokens, sequences=sequences, horizon=self._horizon,
        )  # fmt: skip
        return loss, Stats(
            loss=float(loss.detach()),
            clipped=float(surrogate.clipped_BT.sum()),
            ppo_kl=float(((old_BT - new_BT) * mask_BT).sum()),
            kl=float((kl_BT.detach() * mask_BT).sum()),
            entropy=float((entropy_BT.detach() * mask_BT).sum()),
            tokens=float(mask_BT.sum()),
        )

    def _metrics(self, own: Stats, norms: Sequence[float]) -> dict[str, float]:
        accelerator = self._policy.accelerator
        sums = torch.tensor(astuple(own), dtype=torch.float64).to(accelerator.device)
        stats = Stats(*accelerator.reduce(sums).tolist())
        metrics = {
            "actor/optimizer_steps": float(len(norms)),
            "actor/lr": float(self._schedule.get_last_lr()[0]),
        }
        if not norms:
            return metrics
        metrics["actor/loss"] = stats.loss / len(norms)
        metrics["actor/grad_norm"] = sum(norms) / len(norms)
        metrics["actor/pg_clipfrac"] = stats.clipped / max(1.0, stats.tokens)
        metrics["actor/ppo_kl"] = stats.ppo_kl / max(1.0, stats.tokens)
        metrics["actor/entropy"] = stats.entropy / max(1.0, stats.tokens)
        if self._actor.use_kl_loss:
            metrics["actor/kl_loss"] = stats.kl / max(1.0, stats.tokens)
        return metrics


def _padded(parts: Sequence[Tensor | None], batch: SequenceBatch, policy: Policy) -> Tensor | None:
    """Stack rows of log-probabilities to the batch's width; None if the rows have none."""
    given = [part for part in parts if part is not None]
    if len(given) < len(parts):
        return None
    stacked_BT = torch.zeros(batch.responses_BT.shape)
    for row_T, part in zip(stacked_BT, given, strict=True):
        row_T[: len(part)] = part
    return stacked_BT.to(policy.accelerator.device)
