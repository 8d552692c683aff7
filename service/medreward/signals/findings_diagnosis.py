"""The signal `findings_diagnosis`: the answer has the right findings, and the thinking has them, too.

    value = F1(A, G) * (1 - penalty * (1 - F1(T, A)))

A are the findings of the answer, T those of the thinking, G the sample's labels; F1 of two sets is
2 * |common| / (|one| + |other|), and 0 if both are empty.

Source: Aligning Findings with Diagnosis, arXiv 2601.03321: its abstract tells of a reward over findings
in `<think>` and labels in `<answer>` that penalises their disagreement. Its formula and weights are not
published.

Ours: all of the formula, and the labeller (`findings.py`: CheXpert's fourteen findings by phrases, with
the guards' negations). The disagreement takes away a share of what right labels earn, so that thinking
and answer that agree on wrong labels, or on all of them, earn little.
"""

from collections.abc import Set as AbstractSet
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from medreward.guards.normal import Normal, normal
from medreward.signals.findings import FINDINGS, Finding, findings_in
from medreward.signals.kind import Rollout, SignalKind

_NAMES = {finding.lower(): finding for finding in FINDINGS}


def _name(label: object) -> object:
    """Return CheXpert's name of a label in any case, with underscores for spaces or not."""
    if not isinstance(label, str):
        return label
    return _NAMES.get(label.strip().lower().replace("_", " "), label)


class Options(BaseModel):
    """What disagreement costs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    penalty: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Share of the value that is lost if thinking and answer have no finding in common."""


class Inputs(BaseModel):
    """The labels of a sample."""

    model_config = ConfigDict(frozen=True)

    labels: Annotated[
        tuple[Annotated[Finding, BeforeValidator(_name)], ...], Field(min_length=1, max_length=14)
    ]
    """Findings that are present, by CheXpert's names; `No Finding` for a normal image."""


def value(rollout: Rollout, inputs: Inputs, options: Options) -> float:
    """Return the value, from 0 to 1."""
    # Answers repeat and are folded by the guards, too; thinking is not worth the memory.
    answered = findings_in(normal(rollout.answer))
    thought = findings_in(Normal(rollout.thinking))
    disagreement = 1 - f1(thought, answered)
    return f1(answered, frozenset(inputs.labels)) * (1 - options.penalty * disagreement)


def f1(one: AbstractSet[Finding], other: AbstractSet[Finding]) -> float:
    """Return the harmonic mean of precision and recall of two sets; 0 if both are empty."""
    return 2 * len(one & other) / (len(one) + len(other)) if one or other else 0.0


KIND = SignalKind(options=Options, inputs=Inputs, value=value)
