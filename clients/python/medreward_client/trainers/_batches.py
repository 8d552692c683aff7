"""Batches of trainers that pass a data set's columns: read and scored once.

Such trainers call each of their reward functions with the same batch; concurrent calls share one
request.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from statistics import fmean
from typing import Any, cast

from medreward_client import Sample
from medreward_client.scoring import Options, Outcome, scorer
from medreward_client.trainers._rows import read_sample, read_text
from medreward_client.trainers._signals import Component

UNGROUPED = "pass `num_generations`, which the trainer has too, to the reward functions"

Turns = str | Sequence[Mapping[str, Any]]
"""Plain text, or messages."""


@dataclass(frozen=True, slots=True)
class Binding:
    """The columns and options that a reward function was made with."""

    reference_column: str
    question_column: str
    modality_column: str
    # Not in the repr: trainers may print a function, and the options may hold a key.
    options: tuple[tuple[str, Any], ...] = field(repr=False)
    num_generations: int | None = None
    """Size of each group, for recipes that compare groups; None declares none."""

    def __post_init__(self) -> None:
        """Check the size: a batch cannot be cut into groups of none."""
        if self.num_generations is not None and self.num_generations < 1:
            raise ValueError(
                f"num_generations={self.num_generations}: give the trainer's number of samples a prompt"
            )


_in_flight: list[tuple[object, asyncio.Task[list[Outcome]]]] = []


async def outcomes_of(
    bound: Binding, samples: Sequence[Sample], *, step: int | None, says_none: bool
) -> tuple[list[Outcome], bool]:
    """Score a batch; also return True if this call sent the request, False if it shares another's."""
    batch = (asyncio.get_running_loop(), bound, step, samples)
    task = next((task for other, task in tuple(_in_flight) if other == batch), None)
    if task is not None:
        # Shielded: cancelling one function must not cancel the request of the others.
        return await asyncio.shield(task), False
    service = scorer(**cast("Options", dict(bound.options)))
    task = asyncio.create_task(
        service.score(samples, step=step, says_none=says_none, ungrouped=UNGROUPED)
    )
    entry = (batch, task)
    # Appended without an await since the look-up: no second call can have sent the same batch.
    _in_flight.append(entry)
    task.add_done_callback(lambda _: _in_flight.remove(entry))
    return await asyncio.shield(task), True


def values_of(
    component: Component | None,
    outcomes: Sequence[Outcome],
    samples: Sequence[Sample],
    bound: Binding,
) -> list[float | None]:
    """Return the rewards, or one component; `on_unscored` applies to both.

    Under `native` a sample without a reward has no component either. Under `impute` it keeps
    those it has, and gets its group's mean of the others, or the batch's if the group has none.
    """
    if component is None:
        return [outcome.reward for outcome in outcomes]
    known = [outcome.components.get(component) for outcome in outcomes]
    on_unscored = dict(bound.options).get("on_unscored")
    if on_unscored == "impute":
        return _imputed(known, outcomes, samples)
    missing = 0.0 if on_unscored == "zero" else None
    pairs = zip(outcomes, known, strict=True)
    return [value if outcome.scored else missing for outcome, value in pairs]


def _imputed(
    known: Sequence[float | None], outcomes: Sequence[Outcome], samples: Sequence[Sample]
) -> list[float | None]:
    groups: dict[str | None, list[float]] = {}
    everyone: list[float] = []
    for value, outcome, sample in zip(known, outcomes, samples, strict=True):
        if outcome.scored and value is not None:
            groups.setdefault(sample.group, []).append(value)
            everyone.append(value)
    values = list(known)
    for number, (outcome, sample) in enumerate(zip(outcomes, samples, strict=True)):
        others = groups.get(sample.group, everyone)
        if not outcome.scored and values[number] is None and others:
            values[number] = fmean(others)
    return values


def samples_of(
    bound: Binding,
    prompts: Sequence[Turns],
    completions: Sequence[Turns],
    columns: Mapping[str, Any],
) -> list[Sample]:
    """Convert a batch to samples; a row without a question gets the user's last message.

    Raises:
        ValueError: the data set lacks the column of the reference, or groups of the declared size
            are not whole.
        TypeError: a reference is neither a text nor a list of texts; only its type is named.
    """
    if bound.reference_column not in columns:
        raise ValueError(
            f"the data set has no column {bound.reference_column!r} for the reference: "
            "name yours with reference_column"
        )
    nothing = [None] * len(prompts)
    rows = zip(
        prompts,
        completions,
        columns[bound.reference_column],
        columns.get(bound.question_column, nothing),
        columns.get(bound.modality_column, nothing),
        strict=True,
    )
    samples = []
    for prompt, completion, reference, question, modality in rows:
        asked = _last(prompt, "user")
        about = {"question": read_text(question) or asked, "modality": modality}
        group = sha256(repr((asked, reference)).encode()).hexdigest()[:16]
        samples.append(read_sample(_last(completion, "assistant"), reference, about, group=group))
    size = bound.num_generations
    return samples if size is None else list(_in_groups(samples, size))


def _in_groups(samples: Sequence[Sample], size: int) -> Iterator[Sample]:
    """Declare the size of each group; the trainer's processes get the samples of a prompt in a row.

    Raises:
        ValueError: the batch of this process divides a group.
    """
    seen: Counter[str | None] = Counter()
    for start in range(0, len(samples), size):
        members = samples[start : start + size]
        name = members[0].group
        if len(members) < size or any(member.group != name for member in members):
            raise ValueError(
                f"num_generations={size}: the batch of this process does not hold whole groups; make "
                "per_device_train_batch_size x steps_per_generation a multiple of it, and "
                "num_generations_eval the same"
            )
        # The same prompt may be drawn twice; its second group is another one.
        suffix = f"/{seen[name]}" if seen[name] else ""
        seen[name] += 1
        for member in members:
            yield replace(member, group=f"{name}{suffix}", group_size=size)


def _last(turns: Turns, role: str) -> str:
    """Return a plain text, or the last message of a role."""
    if isinstance(turns, str):
        return turns
    contents = [turn.get("content") for turn in turns if turn["role"] == role]
    return _text(contents[-1]) if contents else ""


def _text(content: object) -> str:
    """Return the text of a message, which may have parts."""
    if isinstance(content, list):
        return "".join(part["text"] for part in content if part.get("type") == "text")
    return content if isinstance(content, str) else ""
