"""Rollouts by `generate` of the trained model itself: slow, but without a second copy."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from medreward_trainer.config.config import Config, Sampling
from medreward_trainer.data.prompts import Prompt
from medreward_trainer.rollouts.rollout import Group, Rollout, read_rollout
from medreward_trainer.update.batches import prompt_batch
from medreward_trainer.update.policy import Policy


class GeneratingSampler:
    """Draws groups for a few prompts at a time; each such batch is finished before the next."""

    def __init__(self, policy: Policy, config: Config) -> None:
        self._policy, self._longest = policy, config.data.max_response_length
        self._micro_batch = config.actor_rollout_ref.rollout.micro_batch_size

    def take_weights(self) -> None:
        """Do nothing: the sampler uses the policy's own weights."""

    @torch.no_grad()
    def groups(self, prompts: Sequence[Prompt], *, n: int, how: Sampling) -> Iterator[Group]:
        """Yield the groups in the order of their prompts."""
        for start in range(0, len(prompts), self._micro_batch):
            batch = prompts[start : start + self._micro_batch]
            rollouts = self._generate(batch, n=n, how=how)
            for position, prompt in enumerate(batch):
                yield Group(prompt, tuple(rollouts[position * n : (position + 1) * n]))

    def _generate(self, prompts: Sequence[Prompt], *, n: int, how: Sampling) -> list[Rollout]:
        policy = self._policy
        inputs = policy.placed(prompt_batch(prompts, policy.prompter))
        is_greedy = how.temperature == 0
        drawn = (
            {"do_sample": False}
            if is_greedy
            else {
                "do_sample": True,
                "temperature": how.temperature,
                "top_p": how.top_p,
                "top_k": max(0, how.top_k),
                "num_return_sequences": n,
            }
        )
        model = policy.bare_model
        model.eval()
        with policy.autocast():
            sequences: Tensor = model.generate(
                **inputs,
                **drawn,
                max_new_tokens=self._longest,
                pad_token_id=policy.tokenizer.pad_token_id,
                eos_token_id=sorted(policy.end_ids),
                suppress_tokens=sorted(policy.picture_ids) or None,
            )
        responses = sequences[:, inputs["input_ids"].shape[1] :].tolist()
        # A greedy response is the same each time, so it is computed once and repeated.
        times = n if is_greedy else 1
        return [read_rollout(tokens, policy) for tokens in responses for _ in range(times)]
