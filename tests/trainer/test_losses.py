"""The loss of each token, and its reduction to one number."""

from collections.abc import Sequence
from math import exp, inf, log, nan
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from medreward_trainer.config.config import KLControl, KLKind, LossAggregation, PolicyLoss
from medreward_trainer.update.losses import (
    LOSSES,
    Surrogate,
    aggregate,
    clipped,
    gspo,
    kl,
    next_kl_coef,
    overlong_penalty,
)

MODES: tuple[LossAggregation, ...] = get_args(LossAggregation)
BOUNDS = {"low": 0.2, "high": 0.28}

log_ratios = st.floats(-3, 3)
advantages = st.floats(-3, 3).filter(lambda advantage: abs(advantage) > 1e-3)


def doubles(*rows: Sequence[float]) -> Tensor:
    """Make a float64 tensor of rows."""
    return torch.tensor(rows, dtype=torch.float64)


def of_ratios(ratios: Sequence[float], advantage: float, *, c: float | None = 3.0) -> Surrogate:
    """Compute the clipped loss of one sample whose tokens have these ratios."""
    new_BT = doubles(ratios).log()
    old_BT, mask_BT = torch.zeros_like(new_BT), torch.ones_like(new_BT)
    return clipped(new_BT, old_BT, doubles([advantage])[0], mask_BT, **BOUNDS, c=c)


def surrogate_of(
    loss_mode: str, new_BT: Tensor, old_BT: Tensor, advantages: list[float]
) -> Surrogate:
    """Compute a loss of samples without padding."""
    advantages_B = doubles(advantages)[0]
    return LOSSES[loss_mode](new_BT, old_BT, advantages_B, torch.ones_like(new_BT), **BOUNDS, c=3.0)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "is_clipped"),
    [
        (1.0, 1.0, -1.0, False),
        (1.1, 2.0, -2.2, False),
        (1.5, 1.0, -1.28, True),  # more likely by far already
        (0.5, 1.0, -0.5, False),  # less likely: there is much to learn
        (0.5, -1.0, 0.8, True),  # less likely by far already
        (1.5, -1.0, 1.5, False),
        (5.0, -1.0, 3.0, False),  # the dual clip, which is counted by itself
        (1.5, 0.0, 0.0, False),
    ],
)
def test_a_ratio_counts_until_its_bound(
    ratio: float, advantage: float, loss: float, is_clipped: bool
) -> None:
    """The bounds are 1 - 0.2 and 1 + 0.28, and 3 if the advantage is negative."""
    surrogate = of_ratios([ratio], advantage)

    assert surrogate.loss_BT.item() == pytest.approx(loss)
    assert surrogate.clipped_BT.item() is is_clipped


def test_without_a_dual_clip_a_bad_token_may_cost_any_amount() -> None:
    """Only the bound e^20 remains, which keeps the loss finite."""
    assert of_ratios([5.0], -1.0, c=None).loss_BT.item() == pytest.approx(5.0)
    assert of_ratios([exp(100)], -1.0, c=None).loss_BT.item() == pytest.approx(exp(20))


@given(
    st.lists(log_ratios, min_size=1, max_size=5), advantages, st.sampled_from(["vanilla", "gspo"])
)
def test_the_loss_pulls_towards_praise_and_away_from_blame(
    values: list[float], advantage: float, loss_mode: str
) -> None:
    """A token's gradient has the opposite sign of its advantage, or is 0 if clipped."""
    new_BT = doubles(values).requires_grad_()
    surrogate = surrogate_of(loss_mode, new_BT, torch.zeros_like(new_BT), [advantage])
    (gradient_BT,) = torch.autograd.grad(surrogate.loss_BT.sum(), new_BT)

    assert (gradient_BT * advantage <= 0).all()
    assert not gradient_BT[surrogate.clipped_BT].any()


@pytest.mark.parametrize("loss_mode", LOSSES)
def test_the_first_step_is_plain_policy_gradient(loss_mode: str) -> None:
    """If new and old are equal, a token's gradient is minus its advantage."""
    new_BT = doubles([-1, -2, -3], [-1, -2, -3]).requires_grad_()
    surrogate = surrogate_of(loss_mode, new_BT, new_BT.detach(), [0.5, -2.0])
    (gradient_BT,) = torch.autograd.grad(surrogate.loss_BT.sum(), new_BT)

    assert gradient_BT.tolist() == [[-0.5] * 3, [2.0] * 3]
    assert not surrogate.clipped_BT.any()


@pytest.mark.parametrize("padding", [0.0, 50.0, -inf, nan])
@pytest.mark.parametrize("loss_mode", LOSSES)
def test_padding_has_no_part(loss_mode: str, padding: float) -> None:
    """Whatever padding contains, it is not clipped, and loss and gradient stay the same."""
    mask_BT = doubles([1, 1, 0], [0, 0, 0])

    def loss_and_gradient(padding: float) -> tuple[Tensor, Tensor]:
        new_BT = doubles([-0.5, -1.5, padding], [padding] * 3).requires_grad_()
        surrogate = LOSSES[loss_mode](
            new_BT, doubles([-1, -1, -1], [-1, -1, -1]), doubles([-1, 1])[0], mask_BT,
            **BOUNDS, c=3.0,
        )  # fmt: skip
        assert not surrogate.clipped_BT[mask_BT == 0].any()
        loss = aggregate(surrogate.loss_BT, mask_BT, "token-mean", tokens=2, sequences=1, horizon=3)
        return loss.detach(), torch.autograd.grad(loss, new_BT)[0]

    loss, gradient_BT = loss_and_gradient(padding)
    clean_loss, clean_gradient_BT = loss_and_gradient(-1.0)

    assert torch.equal(loss, clean_loss)
    assert torch.equal(gradient_BT, clean_gradient_BT)
    assert not gradient_BT[mask_BT == 0].any()


def test_gspo_clips_a_sequence_by_the_geometric_mean_of_its_ratios() -> None:
    """Tokens at e^0.1 and e^0.5 are both at e^0.3, which is beyond 1.28; at e^0.2 they are not."""
    old_BT = torch.zeros(2, 2, dtype=torch.float64)
    new_BT = doubles([0.1, 0.5], [0.0, 0.4])
    surrogate = gspo(new_BT, old_BT, doubles([1, 1])[0], torch.ones_like(new_BT), **BOUNDS)

    assert surrogate.loss_BT.flatten().tolist() == pytest.approx(
        [-1.28, -1.28, -exp(0.2), -exp(0.2)]
    )
    assert surrogate.clipped_BT.tolist() == [[True, True], [False, False]]


@given(log_ratios, advantages)
def test_gspo_of_one_token_is_the_plain_clip(value: float, advantage: float) -> None:
    """A sequence of one token has that token's ratio."""
    new_BT, advantages_B = doubles([value]), doubles([advantage])[0]
    old_BT, mask_BT = torch.zeros_like(new_BT), torch.ones_like(new_BT)

    of_sequence = gspo(new_BT, old_BT, advantages_B, mask_BT, **BOUNDS)
    of_token = clipped(new_BT, old_BT, advantages_B, mask_BT, **BOUNDS, c=None)
    assert torch.allclose(of_sequence.loss_BT, of_token.loss_BT)


def test_the_configuration_names_the_loss() -> None:
    """Each name of the key has its function."""
    names = get_args(PolicyLoss.model_fields["loss_mode"].annotation)

    assert list(LOSSES) == list(names) == ["vanilla", "gspo"]


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (["kl", "k1", "abs"], 0.5),
        (["mse", "k2"], 0.125),
        (["low_var_kl", "k3"], exp(-0.5) + 0.5 - 1),
    ],
)
def test_kl_of_a_token_half_a_nat_more_likely(kinds: list[KLKind], expected: float) -> None:
    """The new policy has -1, the reference -1.5; equal probabilities give 0."""
    for kind in kinds:
        assert kl(doubles([-1]), doubles([-1.5]), kind).item() == pytest.approx(expected)
        assert kl(doubles([-1]), doubles([-1]), kind).item() == 0


@given(
    st.lists(st.floats(0.1, 1), min_size=4, max_size=4),
    st.lists(st.floats(0.1, 1), min_size=4, max_size=4),
)
def test_k1_and_k3_are_the_divergence_on_average(new: list[float], reference: list[float]) -> None:
    """The mean is over the new policy's draws from a vocabulary of four; k3 is never negative."""
    new_V = doubles(new)[0] / sum(new)
    reference_V = doubles(reference)[0] / sum(reference)
    divergence = sum(
        p * log(p / q) for p, q in zip(new_V.tolist(), reference_V.tolist(), strict=True)
    )

    for kind in ("k1", "k3"):
        estimates_V = kl(new_V.log(), reference_V.log(), kind)
        assert (new_V * estimates_V).sum().item() == pytest.approx(divergence, abs=1e-9)
    assert (kl(new_V.log(), reference_V.log(), "k3") >= -1e-15).all()


def test_a_token_that_the_new_policy_has_forgotten_costs_10_at_most() -> None:
    """Without the bound on k3, one token would dominate the loss."""
    assert kl(doubles([-90]), doubles([-1]), "k3").item() == 10


TWO_SAMPLES = doubles([1, 2, 9], [3, 9, 9])
TWO_LENGTHS = doubles([1, 1, 0], [1, 0, 0])


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("token-mean", (1 + 2 + 3) / 3),
        ("seq-mean-token-sum", ((1 + 2) + 3) / 2),
        ("seq-mean-token-mean", ((1 + 2) / 2 + 3) / 2),
        ("seq-mean-token-sum-norm", ((1 + 2) + 3) / 2 / 3),
    ],
)
def test_tokens_become_one_number(mode: LossAggregation, expected: float) -> None:
    """Two samples have two tokens and one; the longest response has three."""
    loss = aggregate(TWO_SAMPLES, TWO_LENGTHS, mode, tokens=3, sequences=2, horizon=3)

    assert loss.item() == pytest.approx(expected)


@st.composite
def split_batches(draw: st.DrawFn) -> tuple[Tensor, Tensor, list[int]]:
    """Draw losses (B, T) with samples of 0 to 4 tokens, and sizes of micro-batches."""
    sizes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    samples, horizon = sum(sizes), 4
    values = st.lists(st.floats(-5, 5), min_size=horizon, max_size=horizon)
    lengths = draw(st.lists(st.integers(0, horizon), min_size=samples, max_size=samples))
    lengths[0] = max(1, lengths[0])
    mask_BT = doubles(*([1] * length + [0] * (horizon - length) for length in lengths))
    return doubles(*(draw(values) for _ in range(samples))), mask_BT, sizes


@pytest.mark.parametrize("mode", MODES)
@given(split_batches())
def test_micro_batches_add_up_to_the_whole(
    mode: LossAggregation, batch: tuple[Tensor, Tensor, list[int]]
) -> None:
    """Loss and gradient of an optimiser step are the same for every split."""
    losses_BT, mask_BT, sizes = batch
    lengths_B = mask_BT.sum(dim=1)

    def loss_and_gradient(sizes: list[int]) -> tuple[float, Tensor]:
        leaf_BT = losses_BT.clone().requires_grad_()
        parts = zip(torch.split(leaf_BT, sizes), torch.split(mask_BT, sizes), strict=True)
        shares = [
            aggregate(
                rows_BT, part_BT, mode,
                tokens=int(lengths_B.sum()), sequences=int((lengths_B > 0).sum()), horizon=4,
            )
            for rows_BT, part_BT in parts
        ]  # fmt: skip
        loss = torch.stack(shares).sum()
        return loss.item(), torch.autograd.grad(loss, leaf_BT)[0]

    whole, whole_gradient_BT = loss_and_gradient([len(losses_BT)])
    split, split_gradient_BT = loss_and_gradient(sizes)

    assert split == pytest.approx(whole, abs=1e-12)
    assert torch.allclose(split_gradient_BT, whole_gradient_BT)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("padding", [nan, inf, -7.0])
def test_the_loss_of_padding_is_not_added(mode: LossAggregation, padding: float) -> None:
    """A row of padding only adds nothing either."""
    padded_BT = torch.cat([TWO_SAMPLES, TWO_SAMPLES[:1]])
    mask_BT = torch.cat([TWO_LENGTHS, torch.zeros(1, 3)])
    padded_BT = padded_BT.masked_fill(mask_BT == 0, padding)
    totals = {"tokens": 3, "sequences": 2, "horizon": 3}

    assert torch.equal(
        aggregate(padded_BT, mask_BT, mode, **totals),
        aggregate(TWO_SAMPLES, TWO_LENGTHS, mode, **totals),
    )


def test_an_overlong_response_pays_by_the_token() -> None:
    """The penalty is 0 up to 80 of 100 tokens, half of the factor at 90, all of it at 100."""
    lengths = torch.tensor([[1.0, 80.0], [90.0, 100.0]])
    penalty = overlong_penalty(lengths, max_response_length=100, buffer=20, factor=0.5)

    assert penalty.tolist() == [[0.0, 0.0], [-0.25, -0.5]]


@pytest.mark.parametrize(
    ("mean_kl", "expected"),
    [
        (0.1, 0.02),  # on target
        (0.11, 0.02 * (1 + 0.1 * 0.5)),
        (0.5, 0.02 * (1 + 0.2 * 0.5)),  # far above: no more than 0.2
        (0.0, 0.02 * (1 - 0.2 * 0.5)),
    ],
)
def test_an_adaptive_coefficient_moves_towards_its_target(mean_kl: float, expected: float) -> None:
    """The change is the relative error, within 0.2, times samples over horizon; a fixed one stays."""
    control = KLControl(type="adaptive", target_kl=0.1, horizon=100)

    assert next_kl_coef(control, 0.02, mean_kl=mean_kl, samples=50) == pytest.approx(expected)
    assert next_kl_coef(KLControl(type="fixed"), 0.02, mean_kl=mean_kl, samples=50) == 0.02
