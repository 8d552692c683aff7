"""The bundled trainer's arithmetic against the functions of verl 0.9.1, on random rollouts.

Equal to 1e-6, in float64; where verl computes in float32 whatever it is given, to 1e-5.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("medreward_trainer", reason="needs clients/trainer on the path")
core_algos = pytest.importorskip("verl.trainer.ppo.core_algos", reason="needs verl")
ray_trainer = pytest.importorskip("verl.trainer.ppo.ray_trainer", reason="needs verl's trainer")
dapo = pytest.importorskip("verl.experimental.reward_loop.reward_manager.dapo")
workers = pytest.importorskip("verl.workers.config")
DataProto = pytest.importorskip("verl").DataProto

from medreward_trainer.config.config import Algorithm, KLControl, KLKind, LossAggregation  # noqa: E402 - as above
from medreward_trainer.update.advantages import Groups, advantages_of, dr_grpo, grpo, rloo  # noqa: E402 - where verl is not, nothing here is read
from medreward_trainer.update.losses import LOSSES, aggregate, kl, next_kl_coef, overlong_penalty  # noqa: E402 - as above

pytestmark = [
    pytest.mark.trainers,
    pytest.mark.filterwarnings("ignore", "error:::medreward_trainer"),
]

# Ten in one test: verl loops over samples, and most of the time goes to starting a test.
DRAWS = pytest.mark.parametrize("seeds", [range(start, start + 10) for start in range(0, 50, 10)])
close = partial(torch.testing.assert_close, atol=1e-6, rtol=1e-6)
nearly = partial(torch.testing.assert_close, atol=1e-5, rtol=1e-5)


@dataclass(frozen=True)
class Rollouts:
    """Groups of which some samples are unscored; none has fewer than two that are not."""

    groups: Groups
    mask_BT: Tensor

    @property
    def scored_B(self) -> Tensor:  # noqa: N802 - B samples
        """Which samples verl is shown: it knows none without a reward."""
        return self.groups.scored_PG.flatten()

    @property
    def index(self) -> Any:
        """The group of each sample that verl is shown."""
        prompts, samples = self.groups.scored_PG.shape
        return np.repeat(np.arange(prompts), samples)[self.scored_B.numpy()]

    def at_last_token(self) -> Tensor:
        """Rewards where verl has them, at the end of each response."""
        mask_BT = self.mask_BT[self.scored_B]
        last_B = mask_BT.sum(dim=1).long() - 1
        rewards_B = self.groups.rewards_PG.flatten()[self.scored_B]
        return torch.zeros_like(mask_BT).scatter(1, last_B.unsqueeze(1), rewards_B.unsqueeze(1))

    def of_samples(self, advantages_BT: Tensor) -> Tensor:
        """One advantage a sample, (P, G), of verl's, which it has at each token."""
        advantages_B = torch.zeros(self.scored_B.shape, dtype=advantages_BT.dtype)
        advantages_B[self.scored_B] = advantages_BT[:, 0]
        return advantages_B.reshape(self.groups.scored_PG.shape)


def lengths_to_mask(lengths_B: Tensor, width: int) -> Tensor:
    """1 at each token of a response."""
    return (torch.arange(width) < lengths_B.unsqueeze(1)).double()


def roll_out(seed: int) -> Rollouts:
    """Draw rewards in thousandths, components that are float32 numbers, lengths from 1 to 9."""
    random = torch.Generator().manual_seed(seed)
    prompts, samples = (int(torch.randint(2, 7, (), generator=random)) for _ in range(2))
    shape = (prompts, samples)
    scored_PG = torch.rand(shape, generator=random) < 0.7
    scored_PG[:, :2] = True
    lengths_PG = torch.randint(1, 10, shape, generator=random).double()
    rewards_PG = torch.randint(0, 1001, shape, generator=random).double() / 1000
    components = {
        "accuracy_llm": torch.randint(0, 2, shape, generator=random).double(),
        "accuracy_embed": torch.rand(shape, generator=random).double(),
        "format": torch.randint(0, 2, shape, generator=random).double(),
    }
    groups = Groups(
        rewards_PG.masked_fill(~scored_PG, float("nan")), components, scored_PG, lengths_PG
    )
    return Rollouts(groups, lengths_to_mask(lengths_PG.flatten(), 9))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (grpo, core_algos.compute_grpo_outcome_advantage),
        (
            dr_grpo,
            partial(core_algos.compute_grpo_outcome_advantage, norm_adv_by_std_in_grpo=False),
        ),
        (rloo, core_algos.compute_rloo_outcome_advantage),
        (rloo, core_algos.compute_rloo_vectorized_outcome_advantage),
    ],
    ids=["grpo", "dr_grpo", "rloo", "rloo_vectorized"],
)
@DRAWS
def test_advantages_are_those_of_verl_over_the_scored(
    ours: Callable[[Tensor, Tensor], Tensor], theirs: Callable[..., Any], seeds: range
) -> None:
    """The batch that verl is shown is without the unscored samples."""
    for rollouts in map(roll_out, seeds):
        groups, mask_BT = rollouts.groups, rollouts.mask_BT[rollouts.scored_B]
        expected_BT, _ = theirs(rollouts.at_last_token(), mask_BT, rollouts.index)

        close(ours(groups.rewards_PG, groups.scored_PG), rollouts.of_samples(expected_BT))


@DRAWS
def test_gdpo_is_that_of_verl(seeds: range) -> None:
    """Keys and weights are verl's too; it computes in float32."""
    keys, weights = ("accuracy_llm", "accuracy_embed", "format"), (0.75, 0.1, 0.15)
    algorithm = Algorithm(adv_estimator="gdpo", gdpo_reward_keys=keys, gdpo_reward_weights=weights)
    for rollouts in map(roll_out, seeds):
        groups, scored_B = rollouts.groups, rollouts.scored_B
        mask_BT = rollouts.mask_BT[scored_B].float()
        expected_BT, _ = core_algos.compute_gdpo_outcome_advantage(
            rollouts.at_last_token(),
            mask_BT,
            rollouts.index,
            config={"gdpo_reward_keys": keys, "gdpo_reward_weights": weights},
            non_tensor_batch={
                key: groups.components[key].flatten()[scored_B].numpy() for key in keys
            },
            batch={"prompts": torch.zeros(len(mask_BT), 0), "attention_mask": mask_BT.long()},
        )

        advantages_PG = advantages_of(groups, algorithm, {})
        nearly(advantages_PG.float(), rollouts.of_samples(expected_BT))


def test_a_lone_sample_is_where_we_depart_from_verl() -> None:
    """Its advantage is its whole reward there, and 0 here."""
    rewards_PG, scored_PG = torch.tensor([[0.9, 0.0]]), torch.tensor([[True, False]])
    lone = torch.tensor([[0.9]]), torch.ones(1, 1), np.array([0])

    assert core_algos.compute_grpo_outcome_advantage(*lone)[0].item() == pytest.approx(0.9)
    assert not grpo(rewards_PG, scored_PG).any()


def test_equal_rewards_are_where_we_depart_from_verl() -> None:
    """In float32 a mean is rounded, which leaves advantages of some hundredths there, and 0 here."""
    rewards = torch.full((1, 7), 0.3)
    verl_BT, _ = core_algos.compute_grpo_outcome_advantage(
        rewards.T.clone(), torch.ones(7, 1), np.zeros(7)
    )

    assert verl_BT.abs().max() > 0.01
    assert not grpo(rewards, torch.ones_like(rewards, dtype=torch.bool)).any()


@dataclass(frozen=True)
class Tokens:
    """What a loss is told."""

    new_BT: Tensor
    old_BT: Tensor
    advantages_B: Tensor
    mask_BT: Tensor

    @property
    def totals(self) -> dict[str, int]:
        """Of tokens and sequences that count; the longest response."""
        lengths_B = self.mask_BT.sum(dim=1)
        return {
            "tokens": int(lengths_B.sum()),
            "sequences": int((lengths_B > 0).sum()),
            "horizon": self.mask_BT.shape[1],
        }


def draw_tokens(seed: int) -> Tokens:
    """Draw log-probabilities of which some pairs are far apart; the last sample has no token."""
    random = torch.Generator().manual_seed(seed)
    samples, width = (int(torch.randint(2, 9, (), generator=random)) for _ in range(2))

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random, dtype=torch.float64)

    # Sizes at which no token, some tokens and most tokens meet a bound of the logarithm.
    size_B1 = torch.tensor([0.1, 1.0, 15.0])[
        torch.randint(0, 3, (samples, 1), generator=random)
    ].double()
    new_BT = normal(samples, width) - 5
    lengths_B = torch.randint(1, width + 1, (samples,), generator=random)
    lengths_B[-1] = 0
    return Tokens(
        new_BT,
        new_BT + size_B1 * normal(samples, width),
        normal(samples),
        lengths_to_mask(lengths_B, width),
    )


def actor(**global_batch_info: int) -> Any:
    """The actor's configuration, with the bounds that our side is given here."""
    return workers.ActorConfig(
        strategy="fsdp",
        rollout_n=4,
        ppo_micro_batch_size_per_gpu=1,
        clip_ratio_low=0.2,
        clip_ratio_high=0.28,
        clip_ratio_c=3.0,
        global_batch_info=global_batch_info,
    )


def with_gradient(loss_of: Callable[[Tensor], Tensor], new_BT: Tensor) -> tuple[Tensor, Tensor]:
    """A loss, and its gradient by the new log-probabilities."""
    leaf_BT = new_BT.clone().requires_grad_()
    loss = loss_of(leaf_BT)
    (gradient_BT,) = torch.autograd.grad(loss, leaf_BT)
    return loss.detach(), gradient_BT


def our_loss(
    tokens: Tokens, loss_mode: str, mode: LossAggregation, totals: Mapping[str, int]
) -> tuple[Tensor, Tensor, float]:
    """Our loss, its gradient, and the share of tokens that are clipped."""
    share = 0.0

    def loss_of(new_BT: Tensor) -> Tensor:
        nonlocal share
        surrogate = LOSSES[loss_mode](
            new_BT, tokens.old_BT, tokens.advantages_B, tokens.mask_BT, low=0.2, high=0.28, c=3.0
        )
        share = surrogate.clipped_BT.sum().item() / tokens.mask_BT.sum().item()
        return aggregate(
            surrogate.loss_BT, tokens.mask_BT, mode,
            tokens=totals["tokens"], sequences=totals["sequences"], horizon=totals["horizon"],
        )  # fmt: skip

    return *with_gradient(loss_of, tokens.new_BT), share


def verl_loss(
    tokens: Tokens, loss_mode: str, mode: LossAggregation, config: Any
) -> tuple[Tensor, Tensor, float]:
    """The loss of verl, its gradient, and its pg_clipfrac."""
    share = 0.0

    def loss_of(new_BT: Tensor) -> Tensor:
        nonlocal share
        loss, metrics = core_algos.get_policy_loss_fn(loss_mode)(
            old_log_prob=tokens.old_BT,
            log_prob=new_BT,
            advantages=tokens.advantages_B.unsqueeze(1).expand_as(new_BT),
            response_mask=tokens.mask_BT,
            loss_agg_mode=mode,
            config=config,
        )
        share = metrics["actor/pg_clipfrac"]
        return loss  # type: ignore[no-any-return]  # verl is untyped

    return *with_gradient(loss_of, tokens.new_BT), share


@pytest.mark.parametrize("mode", get_args(LossAggregation))
@pytest.mark.parametrize("loss_mode", LOSSES)
@DRAWS
def test_loss_gradient_and_share_of_clipped_tokens_are_those_of_verl(
    loss_mode: str, mode: LossAggregation, seeds: range
) -> None:
    """Of a whole mini-batch, whose totals verl finds by itself."""
    for tokens in map(draw_tokens, seeds):
        loss, gradient_BT, share = our_loss(tokens, loss_mode, mode, tokens.totals)
        expected, expected_gradient_BT, expected_share = verl_loss(tokens, loss_mode, mode, actor())

        close(loss, expected)
        close(gradient_BT, expected_gradient_BT)
        assert share == pytest.approx(expected_share, abs=1e-6)


@pytest.mark.parametrize("mode", get_args(LossAggregation))
@DRAWS
def test_a_micro_batch_has_the_share_that_verl_gives_it(
    mode: LossAggregation, seeds: range
) -> None:
    """Divided by the totals of its mini-batch, which verl is told."""
    totals = {"tokens": 101, "sequences": 17, "horizon": 64}
    config = actor(batch_num_tokens=101, global_batch_size=17, loss_scale_factor=64)
    for tokens in map(draw_tokens, seeds):
        ours = our_loss(tokens, "vanilla", mode, totals)
        theirs = verl_loss(tokens, "vanilla", mode, config)

        close(ours[0], theirs[0])
        close(ours[1], theirs[1])


@pytest.mark.parametrize("kind", get_args(KLKind))
@DRAWS
def test_kl_and_its_gradient_are_those_of_verl(kind: KLKind, seeds: range) -> None:
    """Token by token, near and far from the reference."""
    for tokens in map(draw_tokens, seeds):

        def total(
            estimate: Callable[..., Tensor], new_BT: Tensor, tokens: Tokens = tokens
        ) -> Tensor:
            return estimate(new_BT, tokens.old_BT, kind).sum()

        close(
            kl(tokens.new_BT, tokens.old_BT, kind),
            core_algos.kl_penalty_forward(tokens.new_BT, tokens.old_BT, kind),
        )
        _, gradient_BT = with_gradient(partial(total, kl), tokens.new_BT)
        _, expected_BT = with_gradient(partial(total, core_algos.kl_penalty), tokens.new_BT)
        close(gradient_BT, expected_BT)


@pytest.mark.parametrize("type_", ["fixed", "adaptive"])
@DRAWS
def test_kl_in_the_reward_and_its_next_coefficient_are_those_of_verl(
    type_: str, seeds: range
) -> None:
    """A reward less the coefficient times a response's KL is the sum of verl's token rewards."""
    control = KLControl.model_validate({"type": type_, "kl_coef": 0.05, "horizon": 50.0})
    for tokens in map(draw_tokens, seeds):
        # Without the sample that has no token.
        new_BT, reference_BT, mask_BT = (
            x[:-1] for x in (tokens.new_BT, tokens.old_BT, tokens.mask_BT)
        )
        scores_BT = torch.zeros_like(mask_BT)
        scores_BT[:, 0] = tokens.advantages_B[:-1]
        controller = core_algos.get_kl_controller(control)
        shaped, metrics = ray_trainer.apply_kl_penalty(
            DataProto.from_dict(
                tensors={
                    "response_mask": mask_BT,
                    "token_level_scores": scores_BT,
                    "old_log_probs": new_BT,
                    "ref_log_prob": reference_BT,
                }
            ),
            controller,
        )
        sums_B = (kl(new_BT, reference_BT, "kl") * mask_BT).sum(dim=1)
        mean_kl = (sums_B / mask_BT.sum(dim=1)).mean().item()

        close(
            scores_BT[:, 0] - control.kl_coef * sums_B,
            shaped.batch["token_level_rewards"].sum(dim=1),
        )
        assert mean_kl == pytest.approx(metrics["actor/reward_kl_penalty"], abs=1e-6)
        assert next_kl_coef(
            control, control.kl_coef, mean_kl=mean_kl, samples=len(mask_BT)
        ) == pytest.approx(controller.value, abs=1e-6)


def test_the_overlong_penalty_is_that_of_verl() -> None:
    """Of a response of any length, by verl's DAPO reward manager, to which every answer is 0."""

    async def penalties(longest: int, buffer: int, factor: float) -> list[float]:
        overlong = SimpleNamespace(enable=True, len=buffer, penalty_factor=factor, log=False)
        kwargs = {"overlong_buffer_cfg": overlong, "max_resp_len": longest}
        manager = dapo.DAPORewardManager(
            config=SimpleNamespace(reward={"reward_kwargs": kwargs}),
            tokenizer=SimpleNamespace(decode=lambda _ids, skip_special_tokens: ""),
            compute_score=lambda **_: 0.0,
        )
        columns = {
            "data_source": np.array(["slake"], dtype=object),
            "reward_model": np.array([{"ground_truth": ""}], dtype=object),
        }
        found = []
        for length in range(1, longest + 1):
            mask_BT = lengths_to_mask(torch.tensor([length]), longest).long()
            data = DataProto.from_dict(
                tensors={"responses": torch.zeros_like(mask_BT), "attention_mask": mask_BT},
                non_tensors=columns,
            )
            found.append(float((await manager.run_single(data))["reward_score"]))
        return found

    for longest, buffer, factor in [(20, 5, 1.0), (17, 17, 0.3), (32, 12, 2.5)]:
        ours = overlong_penalty(
            torch.arange(1, longest + 1).double(),
            max_response_length=longest,
            buffer=buffer,
            factor=factor,
        )
        assert ours.tolist() == pytest.approx(
            asyncio.run(penalties(longest, buffer, factor)), abs=1e-6
        )
