"""verl's custom reward function: one response a call, all calls of a step at once.

    reward.custom_reward_function.path=pkg://medreward_client.trainers.verl
    '+reward.custom_reward_function.reward_kwargs.base_url=http://localhost:8080'

The options are those of `medreward_client.scoring.Options`, given as `reward_kwargs`.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from logging import getLogger
from typing import Any, cast

from medreward_client.scoring import Options, one_by_one, scorer
from medreward_client.trainers._rows import read_sample
from medreward_client.trainers._signals import COMPONENTS

VERLS_OWN = frozenset({"reward_router_address", "reward_model_tokenizer"})
"""Arguments that verl 0.9 adds for its own reward models."""


async def compute_score(
    data_source: str,  # noqa: ARG001 - verl passes it by name
    solution_str: str,
    ground_truth: object,
    extra_info: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> dict[str, float | None]:
    """Score one response; `question` and `modality` are read from its `extra_info`.

    The keys are the same for every sample, since verl reads those of the first alone: `score`,
    `scored` (1.0 if the reward is the service's, 0.0 if it was imputed) and the COMPONENTS. A
    component that a sample lacks is None, which verl's validation leaves out of its means; NaN
    would spoil them, and 0.0 would count as a verdict. `acc` is left out, since verl fills it
    with zeros for responses without a reward.

    Raises:
        NoReward: the sample is unscored; verl leaves such a response out of its group.
    """
    sample = read_sample(solution_str, ground_truth, extra_info or {})
    service = scorer(**_read_options(kwargs))
    (outcome,) = await service.score([sample], ungrouped=one_by_one("verl"))
    components: dict[str, float | None] = {
        name: outcome.components.get(name) for name in COMPONENTS
    }
    return {"score": outcome.number, "scored": float(outcome.scored), **components}


def _read_options(given: Mapping[str, Any]) -> Options:
    _check_names(frozenset(given))
    return cast("Options", {k: v for k, v in given.items() if k in Options.__annotations__})


@cache  # Once for the names of a run, not once a sample: the warning is for people.
def _check_names(given: frozenset[str]) -> None:
    """Raise TypeError for a misspelt option; log other unknown names, which a newer verl may add."""
    for name in sorted(given - Options.__annotations__.keys() - VERLS_OWN):
        meant = get_close_matches(name, Options.__annotations__, n=1)
        if meant:
            raise TypeError(f"{name} is no option; did you mean {meant[0]}?")
        getLogger(__name__).warning("%s is no option of medreward's, and is ignored", name)
