"""AReaL's reward function: one response a call, in a pool of processes.

RLVRWorkflow(reward_fn="medreward_client.trainers.areal.reward", ...)
RLVRWorkflow(reward_fn=reward_with(reference="solution", recipe="medix-r1"), ...)
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Unpack

from medreward_client.scoring import Options, one_by_one, scorer
from medreward_client.trainers._rows import read_sample
from medreward_client.trainers._texts import without_end

DEADLINE_S = 12.0
LONGEST_DEADLINE_S = 13.0
"""AReaL cancels a call after 15 seconds, and counts the fourth failure as a 0; transit takes time."""
COLUMNS = ("answer", "question", "modality")
"""The reference, the question and the modality in a row of the data set."""


def reward(prompt: str, completions: str, /, *token_ids: Sequence[int], **row: Any) -> float:
    """Score one response by the row's `answer`, `question` and `modality`, with default options.

    AReaL decodes with special tokens, so those at the end of the response are cut off.

    Raises:
        NoReward: the sample is unscored; AReaL then leaves out the response's whole group.
    """
    return _score(*COLUMNS, {}, prompt, completions, *token_ids, **row)


def reward_with(
    *,
    reference: str = "answer",
    question: str = "question",
    modality: str = "modality",
    **options: Unpack[Options],
) -> Callable[..., float]:
    """Make a reward function with these options and columns; it can be pickled.

    Raises:
        ValueError: `deadline_s` is too near to AReaL's own 15 seconds.
    """
    if options.get("deadline_s", DEADLINE_S) > LONGEST_DEADLINE_S:
        raise ValueError(f"deadline_s: at most {LONGEST_DEADLINE_S:g}, since AReaL waits 15")
    # Passed by position, since a row may have a column of any name.
    return partial(_score, reference, question, modality, options)


def _score(
    reference: str,
    question: str,
    modality: str,
    options: Options,
    _prompt: str,
    completions: str,
    /,
    *_token_ids: Sequence[int],
    **row: Any,
) -> float:
    about = {"question": row.get(question), "modality": row.get(modality)}
    sample = read_sample(without_end(completions), row.get(reference), about)
    bounded: Options = {"deadline_s": DEADLINE_S, **options}
    (outcome,) = scorer(**bounded).score_blocking([sample], ungrouped=one_by_one("AReaL"))
    return outcome.number
