"""Signals: the value that one scorer gives one sample."""

from collections.abc import Mapping
from typing import NamedTuple

from medreward.guards.pair import Veto
from medreward.samples import AnsweredBy, Source

COST: Mapping[Source, int] = {"cache": 0, "coalesced": 1, "judge": 2, "embedder": 2}
"""Order of the sources of answers: what several answers made has the costliest of their sources."""


class Signal(NamedTuple):
    """A value between 0 and 1, and its source."""

    value: float
    source: Source
    p_yes: float | None = None
    coverage: float | None = None
    cosine: float | None = None
    veto: Veto | None = None
    rule: str | None = None
    """Name of the rule that gave the value; None if a model did."""
    answered_by: AnsweredBy | None = None
    """Which of two engines of the judge gave it; None without a second one."""
