"""The names of the signals that recipes combine, and the figures that trainers log."""

from typing import Literal, get_args

from medreward_client.scoring import Outcome

Component = Literal["accuracy_llm", "accuracy_embed", "modality", "format"]
COMPONENTS: tuple[Component, ...] = get_args(Component)
"""Every signal that a recipe can have."""


def figures_of(outcome: Outcome) -> dict[str, float]:
    """Return the known components, and `scored`: 1 if the reward is the service's own."""
    return {**outcome.components, "scored": float(outcome.scored)}
