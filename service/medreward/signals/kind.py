"""The type of a signal: what it is told, what it may return, and the function that computes it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel

Need = Literal["judge", "embedder", "tags", "reference", "criteria", "groups"]
"""What a signal needs: an engine of the service, the recipe's tags, a field of each sample, or whole
groups of samples in one request."""


class UnusableError(ValueError):
    """Inputs that cannot be used under a recipe's options.

    The text begins with the key of `extra`, says what to mend, and quotes nothing of the sample.
    """


class Rollout(NamedTuple):
    """What a signal may read of a sample."""

    response: str
    """The policy's whole response."""
    thinking: str
    """What stands inside the thinking tags; empty without them."""
    answer: str
    """What stands inside the answer tags; the whole response without them."""
    references: tuple[str, ...]
    question: str | None


@dataclass(frozen=True, slots=True)
class SignalKind:
    """A kind of signal, built in or a user's own."""

    options: type[BaseModel]
    """The keys of its table in a recipe, besides `weight`."""
    inputs: type[BaseModel]
    """The keys that it reads from a sample's `extra`; other keys are ignored."""
    value: Callable[[Rollout, Any, Any], float]
    """Compute the value from the rollout, its inputs and its options. It is pure, and linear in time."""
    range: Callable[[Any], tuple[float, float]] = lambda _: (0.0, 1.0)
    """The least and the greatest value under given options."""
    version: int = 1
    """To be raised if the same inputs would give another value; part of a recipe's fingerprint."""
    needs: tuple[Need, ...] = ()
    """What it needs beside the keys of `extra`; no engine, since it is told texts alone."""
