"""The loss of each token, and its reduction to one number. Pure functions.

B samples, T response tokens. `mask_BT` is 1 for tokens that count: those of a response whose sample
has a reward.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from medreward_trainer.config.config import KLControl, KLKind, LossAggregation

LOG_RATIO_BOUND = 20.0
"""e^20 fits a float32; a larger ratio of a single token would make the loss infinite."""
SEQUENCE_LOG_RATIO_BOUND = 10.0
KL_BOUND = 10.0
ADAPTIVE_ERROR_BOUND = 0.2


@dataclass(frozen=True, slots=True)
class Surrogate:
    """The loss of each token, and a mask of the clipped ones; both (B, T)."""

    loss_BT: Tensor
    clipped_BT: Tensor
    """True for counted tokens whose gradient `low` or `high` removes. The dual clip is not
    included, as in verl's pg_clipfrac."""


def clipped(
    new_BT: Tensor,
    old_BT: Tensor,
    advantages_B: Tensor,
    mask_BT: Tensor,
    *,
    low: float,
    high: float,
    c: float | None,
) -> Surrogate:
    """Compute PPO's clipped surrogate, a bound for each side (arXiv 1707.06347; DAPO, 2503.14476).

    `new_BT` and `old_BT` are log-probabilities. If the advantage is negative, the ratio counts as
    *c* at most (dual clip, arXiv 1912.09729).
    """
    log_ratio_BT = _log_ratio(new_BT, old_BT, mask_BT)
    ratio_BT = log_ratio_BT.clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND).exp()
    surrogate = _within(ratio_BT, advantages_B, mask_BT, low=low, high=high)
    if c is None:
        return surrogate
    advantages_B1 = advantages_B.unsqueeze(1)
    dual_BT = torch.minimum(surrogate.loss_BT, -advantages_B1 * c)
    loss_BT = torch.where(advantages_B1 < 0, dual_BT, surrogate.loss_BT)
    return Surrogate(loss_BT, surrogate.clipped_BT)


def gspo(
    new_BT: Tensor,
    old_BT: Tensor,
    advantages_B: Tensor,
    mask_BT: Tensor,
    *,
    low: float,
    high: float,
    c: float | None = None,  # noqa: ARG001 - the sequence's ratio has no dual clip
) -> Surrogate:
    """Clip the geometric mean of a sequence's ratios (GSPO-token, arXiv 2507.18071).

    Each token has the ratio of its sequence, and the gradient of its own log-probability.
    """
    tokens_B1 = mask_BT.sum(dim=1, keepdim=True).clamp(min=1)
    sequence_B1 = _log_ratio(new_BT, old_BT, mask_BT).sum(dim=1, keepdim=True) / tokens_B1
    own_BT = _log_ratio(new_BT, new_BT.detach(), mask_BT)
    ratio_BT = (own_BT + sequence_B1.detach()).clamp(max=SEQUENCE_LOG_RATIO_BOUND).exp()
    return _within(ratio_BT, advantages_B, mask_BT, low=low, high=high)


def _log_ratio(new_BT: Tensor, old_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Return the logarithm of new to old probability, 0 for tokens that do not count."""
    # Masked here and not at the end: the gradient of an infinite ratio is NaN, and 0 times NaN is
    # NaN as well.
    return (new_BT - old_BT).masked_fill(mask_BT == 0, 0.0)


def _within(
    ratio_BT: Tensor, advantages_B: Tensor, mask_BT: Tensor, *, low: float, high: float
) -> Surrogate:
    """Return the larger loss of the ratio and of the ratio clipped to the bounds."""
    advantages_B1 = advantages_B.unsqueeze(1)
    plain_BT = -advantages_B1 * ratio_BT
    bounded_BT = -advantages_B1 * ratio_BT.clamp(1 - low, 1 + high)
    return Surrogate(torch.maximum(plain_BT, bounded_BT), (bounded_BT > plain_BT) & (mask_BT > 0))


LOSSES: Mapping[str, Callable[..., Surrogate]] = {"vanilla": clipped, "gspo": gspo}
"""Losses by `actor.policy_loss.loss_mode`."""


def kl(new_BT: Tensor, reference_BT: Tensor, kind: KLKind) -> Tensor:
    """Estimate KL(new || reference) from the tokens drawn (Schulman, "Approximating KL divergence").

    Input and output have the same shape. k1 has no bias but much variance; k3 has little of either.
    """
    difference = new_BT - reference_BT
    match kind:
        case "kl" | "k1":
            return difference
        case "abs":
            return difference.abs()
        case "mse" | "k2":
            return 0.5 * difference.square()
        case "low_var_kl" | "k3":
            log_ratio = (-difference).clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND)
            return (log_ratio.exp() - log_ratio - 1).clamp(-KL_BOUND, KL_BOUND)


def aggregate(
    loss_BT: Tensor,
    mask_BT: Tensor,
    mode: LossAggregation,
    *,
    tokens: float,
    sequences: float,
    horizon: int,
) -> Tensor:
    """Reduce a micro-batch's losses to one number, its share of the loss of the optimiser step.

    `tokens` and `sequences` count the whole optimiser step, so that the shares of any micro-batches
    add up to the same loss. `horizon` is the longest response; seq-mean-token-sum-norm divides by
    it, and not by a sample's own length (Dr. GRPO, 2503.20783).
    """
    # A product with the mask would not do: 0 times an infinite loss is NaN.
    sums_B = loss_BT.masked_fill(mask_BT == 0, 0.0).sum(dim=1)
    match mode:
        case "token-mean":
            return sums_B.sum() / tokens
        case "seq-mean-token-sum":
            return sums_B.sum() / sequences
        case "seq-mean-token-mean":
            return (sums_B / mask_BT.sum(dim=1).clamp(min=1)).sum() / sequences
        case "seq-mean-token-sum-norm":
            return sums_B.sum() / sequences / horizon


def overlong_penalty(
    lengths: Tensor, *, max_response_length: int, buffer: int, factor: float
) -> Tensor:
    """Return a penalty that falls linearly to -*factor* over *buffer* tokens (arXiv 2503.14476).

    `lengths` are in tokens and of any shape; the result has the same shape, and is 0 or less.
    """
    over = lengths - (max_response_length - buffer)
    return (-over / buffer * factor).clamp(max=0.0)


def next_kl_coef(control: KLControl, coef: float, *, mean_kl: float, samples: int) -> float:
    """Return the next step's coefficient of KL in the reward (Ziegler et al., arXiv 1909.08593).

    A fixed one stays. An adaptive one changes until the mean KL of a token is `target_kl`.
    """
    if control.type == "fixed":
        return coef
    error = mean_kl / control.target_kl - 1
    bounded = max(-ADAPTIVE_ERROR_BOUND, min(ADAPTIVE_ERROR_BOUND, error))
    return coef * (1 + bounded * samples / control.horizon)
