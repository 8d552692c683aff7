"""A reward for verifiers and prime-rl, which raises if a trace has none.

To verifiers, an error in a reward means that the trace was not scored: the error is recorded, the
reward stays None, and prime-rl leaves the trace out.
"""

from collections.abc import Sequence
from typing import Any, Unpack

from medreward_client.scoring import Options, one_by_one, scorer
from medreward_client.trainers._rows import read_sample


async def medreward(task: Any, trace: Any) -> float:
    """Reward a trace without code in the task: list this in the configuration's `rewards`.

    The reference is the field `reference` of the task's data, or else `answer`; `modality` is an
    optional field. Options come from the environment alone: MEDREWARD_URL, MEDREWARD_API_KEY.

    Raises:
        NoReward: the trace is unscored.
        MedrewardError: the service refuses the request itself.
    """
    reference = getattr(task, "reference", None) or task.answer
    return await reward_of(trace, reference, modality=getattr(task, "modality", None))


async def reward_of(
    trace: Any,
    reference: str | Sequence[str],
    *,
    question: str | None = None,
    modality: str | None = None,
    **options: Unpack[Options],
) -> float:
    """Reward a trace's last reply, in a method that is marked `@vf.reward`.

    The components are recorded as metrics, `medreward/` and their name. The question defaults to
    the task's prompt.

    Raises:
        NoReward: the trace is unscored.
        MedrewardError: the service refuses the request itself.
    """
    about = {"question": question or trace.task.data.prompt_text, "modality": modality}
    sample = read_sample(trace.last_reply, reference, about, group=trace.task.key)
    (outcome,) = await scorer(**options).score([sample], ungrouped=one_by_one("verifiers"))
    trace.record_metrics({f"medreward/{name}": v for name, v in outcome.components.items()})
    return outcome.number
