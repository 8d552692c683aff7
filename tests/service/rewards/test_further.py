"""The signals of single samples: shipped kinds, which are computed in this process."""

import math
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from medreward.engines.judge import Inquiry, Judgement
from medreward.engines.templates import load_templates
from medreward.errors import Problem, ProblemKind
from medreward.inference.answers import Answers
from medreward.parsing.sample import parse_sample
from medreward.parsing.signal import Signal
from medreward.recipes.recipe import read_recipe, recipe_with
from medreward.rewards.further import plan_further
from medreward.samples import Limits, Sample
from medreward.signals.kind import Rollout, SignalKind
from medreward.signals.registry import KnownKind

RECIPE = """
name = "mine"
version = 1
description = "One kind."
template = "equivalence"
range = [-2, 2]

[tags]

[signals.told]
weight = 1.0
"""
LIMITS = Limits(response_bytes=200)


class Nothing(BaseModel):
    """No option."""


class Value(BaseModel):
    """The value that the sample asks for."""

    value: float


heard: list[Rollout] = []


def told(rollout: Rollout, inputs: Value, _: Nothing) -> float:
    """Give the value that the sample asks for."""
    heard.append(rollout)
    return inputs.value


KIND = SignalKind(Nothing, Value, told, range=lambda _: (-2.0, 2.0))
MINE = read_recipe(RECIPE, source="test", model=recipe_with({"told": KnownKind(KIND)}))


def signal(extra: Mapping[str, Any], response: str = "spleen") -> Signal | Problem:
    """Compute the signal of one sample."""
    sample = Sample(response=response, reference="<X_RAY>liver.", question="Which?", extra=extra)
    parsed = parse_sample(sample, MINE, LIMITS)
    further = plan_further([sample], [parsed], MINE, load_templates(), limits=LIMITS)
    assert further is not None
    answers: Answers[Inquiry, Judgement] = Answers()
    (found,) = further.of_samples(answers)
    return found.signals["told"]


@given(st.floats())
def test_only_a_number_within_the_range_is_a_signal(value: float) -> None:
    """NaN, infinite numbers and values beyond the range are problems, and never numbers."""
    found = signal({"value": value})

    if isinstance(found, Signal):
        assert found.value == value
        assert -2 <= value <= 2
    else:
        assert found.kind is ProblemKind.SIGNAL_FAILED
        assert found.message.startswith("signal told: ")
        assert math.isnan(value) or not -2 <= value <= 2


@pytest.mark.parametrize(
    ("response", "thinking", "answer"),
    [
        ("<thinking> Left. </thinking><answer>spleen</answer>", "Left.", "spleen"),
        ("Left.</thinking><answer>spleen</answer>", "Left.", "spleen"),
        ("<thinking>One</thinking><thinking>two</thinking>spleen", "One", None),
        ("<thinking>Never closed", "", None),
        ("spleen", "", None),
    ],
)
def test_a_signal_is_told_the_parts_of_the_response(
    response: str, thinking: str, answer: str | None
) -> None:
    """The thinking, the answer or else the whole response, and references without their tags."""
    signal({"value": 0}, response)

    whole = response if answer is None else answer
    assert heard.pop() == Rollout(response, thinking, whole, ("liver",), "Which?")


def test_a_response_over_its_limit_is_not_told() -> None:
    """It was not parsed, so its signals have the same problem as the others."""
    found = signal({"value": 0}, "x" * 201)

    assert isinstance(found, Problem)
    assert found.kind is ProblemKind.TOO_LONG
