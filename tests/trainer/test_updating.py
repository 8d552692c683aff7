"""The update: the rows that count, and the divisor of the loss."""

from collections.abc import Sequence

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from medreward_trainer.config.config import Actor
from medreward_trainer.config.files import load_config
from medreward_trainer.data.examples import Example
from medreward_trainer.data.prompts import Prompt
from medreward_trainer.errors import NotFinite
from medreward_trainer.update.policy import Policy
from medreward_trainer.update.updater import Row, Updater

PROMPT = Prompt(Example("a:1", "ab", "b", None), "ab", (5, 6))


def row(tokens: tuple[int, ...], advantage: float, *, is_scored: bool = True) -> Row:
    """Make a row to one prompt, from the policy that drew it."""
    return Row(PROMPT, tokens, advantage, is_scored=is_scored, old_T=None, reference_T=None)


ROWS = [row((7, 8, 9), 1.0), row((8, 9), -0.5), row((10, 11, 12, 13), 0.25)]


def updater_of(lr: float, **changed: object) -> tuple[Policy, Updater]:
    """Make an updater that takes plain gradient steps, and its policy."""
    policy = Policy.load(load_config("smoke"), Accelerator(cpu=True), saved=None)
    optimizer = torch.optim.SGD(policy.trained, lr=lr)
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)
    return policy, Updater(policy, optimizer, schedule, Actor.model_validate(changed), horizon=8)


def weights_of(policy: Policy) -> Tensor:
    """Copy a policy's weights."""
    return torch.cat([weight.detach().flatten().clone() for weight in policy.trained])


def step_of(rows: Sequence[Row], **changed: object) -> tuple[Tensor, dict[str, float]]:
    """Take one plain gradient step; return each weight's change, and the metrics."""
    changed = {"ppo_micro_batch_size_per_gpu": 8, "grad_clip": 1e9, **changed}
    policy, updater = updater_of(1.0, **changed)
    before = weights_of(policy)

    metrics = updater.update(rows, samples_a_step=len(rows))

    return weights_of(policy) - before, metrics


@pytest.mark.parametrize(
    "mode",
    ["token-mean", "seq-mean-token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm"],
)
def test_micro_batches_make_the_step_of_the_whole(mode: str) -> None:
    """The gradient is the same for one row at a time and for all together."""
    whole, _ = step_of(ROWS, loss_agg_mode=mode)
    split, _ = step_of(ROWS, loss_agg_mode=mode, ppo_micro_batch_size_per_gpu=1)

    assert torch.allclose(whole, split, atol=1e-6)
    assert whole.abs().max() > 1e-4


def test_an_unscored_row_might_as_well_not_be_there() -> None:
    """It moves no weight, and does not count in the divisor of the loss."""
    without, _ = step_of(ROWS)
    with_it, _ = step_of([*ROWS, row((9, 9, 9, 9), 0.0, is_scored=False)])

    assert torch.equal(without, with_it)


def test_a_row_without_an_advantage_is_divided_by() -> None:
    """Three more tokens turn the mean of nine into a mean of twelve."""
    without, _ = step_of(ROWS)
    with_it, _ = step_of([*ROWS, row((9, 9, 9), 0.0)])

    assert torch.allclose(with_it, without * 9 / 12, atol=1e-6)


def test_rows_without_any_advantage_take_no_step() -> None:
    """Weight decay and momentum do not act either."""
    moved, metrics = step_of([row((7, 8), 0.0), row((8, 9), 0.0)])

    assert not moved.any()
    assert metrics["actor/optimizer_steps"] == 0


def test_praised_tokens_become_likelier() -> None:
    """Tokens with a negative advantage become less likely."""
    policy, updater = updater_of(0.1)

    def log_probability(token: int) -> float:
        with torch.no_grad():
            logits = policy.bare_model(torch.tensor([[*PROMPT.token_ids]])).logits[0, -1]
        return float(logits.log_softmax(-1)[token])

    praised, blamed = log_probability(7), log_probability(8)
    updater.update([row((7,), 1.0), row((8,), -1.0)], samples_a_step=2)

    assert log_probability(7) > praised
    assert log_probability(8) < blamed


def test_a_gradient_that_is_no_number_is_not_stepped_on() -> None:
    """The weights stay, and the message names the key to lower."""
    policy, updater = updater_of(1.0)
    before = weights_of(policy)

    with pytest.raises(NotFinite, match=r"optim\.lr"):
        updater.update([row((7, 8), float("inf"))], samples_a_step=1)

    assert updater.taken == 0
    assert torch.equal(weights_of(policy), before)


def test_several_epochs_take_several_steps() -> None:
    """Two epochs of two steps are four."""
    _, updater = updater_of(0.1, ppo_epochs=2)

    metrics = updater.update(ROWS[:2], samples_a_step=1)

    assert metrics["actor/optimizer_steps"] == 4
