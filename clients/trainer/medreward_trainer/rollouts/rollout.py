"""What a sampler gives, and what a sampler is."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from medreward_trainer.config.config import Sampling
from medreward_trainer.data.prompts import Prompt
from medreward_trainer.update.policy import Policy


@dataclass(frozen=True, slots=True)
class Rollout:
    """One response: its tokens, the end of sequence among them, and its text without it."""

    tokens: tuple[int, ...]
    text: str
    is_cut: bool
    """True if it was still going on at max_response_length."""


@dataclass(frozen=True, slots=True)
class Group:
    """The rollouts of one prompt."""

    prompt: Prompt
    rollouts: tuple[Rollout, ...]


class Sampler(Protocol):
    """Draws groups from the policy as it is now."""

    def groups(self, prompts: Sequence[Prompt], *, n: int, how: Sampling) -> Iterator[Group]:
        """Give each prompt's group of *n* as soon as it is finished, in any order.

        A temperature of 0 takes the likeliest token each time.
        """
        ...

    def take_weights(self) -> None:
        """Draw from the policy's weights of this moment from now on."""
        ...


def read_rollout(tokens: Sequence[int], policy: Policy) -> Rollout:
    """Make a rollout of the tokens up to its end; without an end among them it was cut."""
    end = next((at for at, token in enumerate(tokens) if token in policy.end_ids), None)
    whole = tuple(tokens if end is None else tokens[: end + 1])
    return Rollout(whole, policy.text_of(whole), is_cut=end is None)
