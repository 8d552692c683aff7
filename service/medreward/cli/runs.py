"""What came of a run: each sample with its result, and what the run took."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from medreward.http.schemas import (
    ItemResult,
    JudgeCounts,
    JudgeProvenance,
    JudgeReply,
    RewardCounts,
    RewardProvenance,
    RewardReply,
    SampleResult,
)
from medreward.samples import Sample

Counts = TypeVar("Counts", RewardCounts, JudgeCounts)


class Scored(NamedTuple):
    """A sample and what became of it."""

    label: str
    sample: Sample
    result: SampleResult


class Graded(NamedTuple):
    """An item and what became of it."""

    label: str
    template: str
    result: ItemResult


@dataclass(frozen=True, slots=True)
class RewardRun:
    """What one recipe made of the samples."""

    scored: Sequence[Scored]
    replies: Sequence[RewardReply]
    seconds: float

    @property
    def counts(self) -> RewardCounts:
        """What all batches took together."""
        return _add_up([reply.counts for reply in self.replies])

    @property
    def provenance(self) -> RewardProvenance:
        """What the rewards depend on."""
        return self.replies[0].provenance

    @property
    def is_of_one_origin(self) -> bool:
        """Whether the service stayed the same while the batches were scored."""
        return all(reply.provenance == self.provenance for reply in self.replies)

    @property
    def rewards(self) -> list[float]:
        """The rewards there are."""
        return [s.result.reward for s in self.scored if s.result.reward is not None]

    @property
    def unscored_share(self) -> float:
        """How many of the samples have no reward, between 0 and 1."""
        return 1 - len(self.rewards) / len(self.scored)


@dataclass(frozen=True, slots=True)
class GradeRun:
    """What the judge made of the items, under one template or several."""

    graded: Sequence[Graded]
    replies: Sequence[JudgeReply]
    seconds: float

    @property
    def counts(self) -> JudgeCounts:
        """What all batches took together."""
        return _add_up([reply.counts for reply in self.replies])

    @property
    def provenances(self) -> list[JudgeProvenance]:
        """What the grades depend on, once for each template."""
        return list({r.provenance.template: r.provenance for r in self.replies}.values())

    @property
    def unjudged(self) -> int:
        """How many of the items have no grade."""
        return sum(item.result.status == "unjudged" for item in self.graded)


def _add_up(counts: Sequence[Counts]) -> Counts:
    first, *others = counts
    added = {
        name: value + sum(getattr(other, name) for other in others)
        for name, value in first.model_dump().items()
    }
    return type(first)(**added)
