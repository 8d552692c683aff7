"""Rollouts, groups, and the protocol of a sampler."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from medreward_trainer.config.config import Sampling
from medreward_trainer.data.prompts import Prompt
from medreward_trainer.update.policy import Policy


@dataclass(frozen=True, slots=True)
class Rollout:
    """One response: its tokens including the end of sequence, and its text without it."""

    tokens: tuple[int, ...]
    text: str
    is_cut: bool
    """True if max_response_length was reached before an end of sequence."""


@dataclass(frozen=True, slots=True)
class Score:
    """The result of one sample: its reward, or the error that prevented one."""

    reward: float | None
    components: dict[str, float]
    error: str | None
    """Kind of the error; None if there is a reward."""
    unanswered: int | None = None
    """Criteria without a verdict; None if the recipe has no rubric."""


@dataclass(frozen=True, slots=True)
class Group:
    """The rollouts of one prompt, with a score of each once they are collected.

    Log-probabilities are (T) for each rollout, on the CPU.
    """

    prompt: Prompt
    rollouts: tuple[Rollout, ...]
    scores: tuple[Score, ...] = ()
    old: tuple[Tensor, ...] | None = None
    reference: tuple[Tensor, ...] | None = None

    @property
    def can_teach(self) -> bool:
        """Return true if two samples can be compared."""
        return sum(score.reward is not None for score in self.scores) > 1


class Sampler(Protocol):
    """Draws groups from the policy's current weights."""

    def groups(self, prompts: Sequence[Prompt], *, n: int, how: Sampling) -> Iterator[Group]:
        """Yield each prompt's group of *n* as soon as it is finished, in any order.

        A temperature of 0 takes the most likely token each time.
        """
        ...

    def take_weights(self) -> None:
        """Use the policy's weights of this moment for all later groups."""
        ...


def read_rollout(tokens: Sequence[int], policy: Policy) -> Rollout:
    """Make a rollout of the tokens up to their first end; without an end it is cut."""
    end = next((at for at, token in enumerate(tokens) if token in policy.end_ids), None)
    whole = tuple(tokens if end is None else tokens[: end + 1])
    # The tokenizer's other special tokens may be the tags that the reward is about.
    frame = policy.end_ids | {policy.tokenizer.pad_token_id, policy.tokenizer.bos_token_id}
    text = policy.tokenizer.decode(
        [token for token in whole if token not in frame], skip_special_tokens=False
    )
    return Rollout(whole, text, is_cut=end is None)
