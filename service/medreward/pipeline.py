"""The table of contents: how samples become rewards, and items grades, stage by stage.

Ingress and reply are `routes.py`, permits and deadlines `admission.py`; between them stands this.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from medreward.admission import Deadline
from medreward.asking import Answers, Asker, Effort
from medreward.embedding.embedder import Vector
from medreward.grading import Grade, Ungraded, grade_item, open_item
from medreward.judging.judge import Inquiry, Judgement
from medreward.judging.templates import Template
from medreward.recipe import Recipe
from medreward.reward import (
    Reward,
    Signals,
    Unscored,
    compose,
    embed_signal,
    judge_signal,
    signals_of_rules,
)
from medreward.rules import Limits, Reading, read_sample
from medreward.wire import Item, Sample

T = TypeVar("T")
R = TypeVar("R")

SLICE = 128
"""Samples handled at a stretch: some milliseconds."""


@dataclass(frozen=True, slots=True)
class Stages:
    """What the pipeline runs on; built and closed by `app.py`."""

    judge: Asker[Inquiry, Judgement]
    embedder: Asker[str, Vector]
    templates: Mapping[str, Template]
    limits: Limits


@dataclass(slots=True)
class Trace:
    """What one request took."""

    judge: Effort = field(default_factory=Effort)
    embed: Effort = field(default_factory=Effort)
    _started_s: float = field(default_factory=time.perf_counter)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the request began."""
        return time.perf_counter() - self._started_s


async def score(
    samples: Sequence[Sample], recipe: Recipe, stages: Stages, *, deadline: Deadline, trace: Trace
) -> list[Reward | Unscored]:
    """Turn samples into rewards, in order."""
    readings = await in_slices(samples, lambda s: read_sample(s, recipe, stages.limits))
    template = stages.templates[recipe.template]

    judgements, vectors = await asyncio.gather(
        stages.judge.answer(_inquiries(readings, recipe, template), deadline, trace.judge),
        stages.embedder.answer(_texts(readings, recipe), deadline, trace.embed),
    )

    return await in_slices(
        readings,
        lambda reading: compose(
            _signals(reading, recipe, template, judgements, vectors), recipe, reading.flags
        ),
    )


async def grade(
    items: Sequence[Item],
    template: Template,
    votes: int,
    stages: Stages,
    *,
    deadline: Deadline,
    trace: Trace,
) -> list[Grade | Ungraded]:
    """Turn items into grades, in order: the same path, without tags to read or signals to add."""
    limits = stages.limits
    opened = await in_slices(items, lambda item: open_item(item, template, votes, limits))
    inquiries = [inquiry for item in opened for inquiry in item.inquiries]
    judgements = await stages.judge.answer(inquiries, deadline, trace.judge)
    return await in_slices(opened, lambda item: grade_item(item, judgements))


async def in_slices(things: Sequence[T], make: Callable[[T], R]) -> list[R]:
    """Make one of each, and let others have their turn in between: a request may hold thousands."""
    made: list[R] = []
    for start in range(0, len(things), SLICE):
        made += [make(thing) for thing in things[start : start + SLICE]]
        await asyncio.sleep(0)
    return made


def _inquiries(readings: Sequence[Reading], recipe: Recipe, template: Template) -> list[Inquiry]:
    if recipe.signals.accuracy_llm is None:
        return []
    return [
        inquiry
        for reading in readings
        if reading.is_open
        for inquiry in _inquiries_of(reading, template)
    ]


def _inquiries_of(reading: Reading, template: Template) -> list[Inquiry]:
    return [
        Inquiry(
            template=template,
            answer=reading.answer,
            reference=reference,
            # What the prompt does not show must not keep equal inquiries apart.
            question=reading.question if template.shows_question else None,
        )
        for reference in reading.references
    ]


def _texts(readings: Sequence[Reading], recipe: Recipe) -> list[str]:
    if recipe.signals.accuracy_embed is None:
        return []
    return [
        text
        for reading in readings
        if reading.is_open
        for text in (reading.answer, *reading.references)
    ]


def _signals(
    reading: Reading,
    recipe: Recipe,
    template: Template,
    judgements: Answers[Inquiry, Judgement],
    vectors: Answers[str, Vector],
) -> Signals:
    """Bring together what rules, judge and embedder say of one sample."""
    signals = signals_of_rules(reading, recipe)
    if not reading.is_open:
        return signals
    if recipe.signals.accuracy_llm is not None:
        signals["accuracy_llm"] = judge_signal(
            [judgements.take(inquiry) for inquiry in _inquiries_of(reading, template)]
        )
    if recipe.signals.accuracy_embed is not None:
        signals["accuracy_embed"] = embed_signal(
            vectors.take(reading.answer),
            [vectors.take(reference) for reference in reading.references],
            recipe.signals.accuracy_embed.threshold,
        )
    return signals
