"""What crosses the wire, as plain records; the field names are those of the HTTP contract.

A field with a default may be left out, by us in a request and by the service in a reply.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

Verdict = Literal["YES", "NO"]


@dataclass(frozen=True, slots=True)
class Criterion:
    """One line of a rubric; `points` may be negative."""

    text: str
    points: float


@dataclass(frozen=True, slots=True)
class Sample:
    """One response to score.

    `response` is what the policy wrote, whole; `reference` is the ground truth, or
    several that are all accepted. `group` names the prompt that the sample belongs to.
    """

    response: str
    reference: str | Sequence[str]
    id: str | None = None
    group: str | None = None
    question: str | None = None
    modality: str | None = None
    criteria: Sequence[Criterion] | None = None
    extra: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """One answer to judge, without tags.

    The template `rubric` needs `criteria`, and may do without a reference.
    """

    answer: str
    reference: str | None = None
    id: str | None = None
    question: str | None = None
    criteria: Sequence[Criterion] | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """Why there is no number; `retryable` if the same request may succeed later."""

    kind: str
    message: str
    retryable: bool


@dataclass(frozen=True, slots=True)
class Component:
    """One signal's say about a sample, with the weight it had and where it came from."""

    value: float
    weight: float
    source: str
    p_yes: float | None = None
    cosine: float | None = None
    coverage: float | None = None


@dataclass(frozen=True, slots=True)
class Scored:
    """A sample with its reward."""

    status: ClassVar[str] = "scored"

    id: str | None
    reward: float
    components: dict[str, Component]
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unscored:
    """A sample without a reward, and why; a failure is not a zero, so there is no number to take.

    `components` holds the signals that could be had.
    """

    status: ClassVar[str] = "unscored"

    id: str | None
    error: Problem
    components: dict[str, Component]
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Vote:
    """One look at an item: as_written, swapped or without_question."""

    view: str
    verdict: Verdict | None
    p_yes: float | None
    source: str | None
    error: Problem | None


@dataclass(frozen=True, slots=True)
class JudgedCriterion:
    """One line of a rubric and whether the answer meets it."""

    text: str
    points: float
    verdict: Verdict | None
    p_yes: float | None
    source: str | None


@dataclass(frozen=True, slots=True)
class Judged:
    """An item with its score: 0 or 1 for equivalence, 0 to 5 for report, 0 to 1 for rubric.

    `expected` (0 to 5) is there for report alone, `criteria` for rubric alone.
    """

    status: ClassVar[str] = "judged"

    id: str | None
    verdict: Verdict | None
    p_yes: float | None
    score: float
    expected: float | None
    votes: tuple[Vote, ...]
    criteria: tuple[JudgedCriterion, ...] | None
    source: str | None


@dataclass(frozen=True, slots=True)
class Unjudged:
    """An item without a score, and why."""

    status: ClassVar[str] = "unjudged"

    id: str | None
    error: Problem
    votes: tuple[Vote, ...]


@dataclass(frozen=True, slots=True)
class Counts:
    """How the samples of one call ended, and what that took."""

    scored: int
    unscored: int
    cache_hits: int
    coalesced: int
    judge_calls: int


@dataclass(frozen=True, slots=True)
class JudgeCounts:
    """How the items of one call ended, and what that took."""

    judged: int
    unjudged: int
    cache_hits: int
    coalesced: int
    judge_calls: int


@dataclass(frozen=True, slots=True)
class Provenance:
    """What the rewards depend on; equal fingerprints mean comparable rewards."""

    recipe: str
    fingerprint: str
    judge: str
    embedder: str
    service: str


@dataclass(frozen=True, slots=True)
class JudgeProvenance:
    """What the scores depend on; equal fingerprints mean comparable scores."""

    template: str
    fingerprint: str
    judge: str
    service: str


@dataclass(frozen=True, slots=True)
class RewardReply:
    """One result a sample, in the order of the samples; `timings_ms` in milliseconds a stage."""

    results: tuple[Scored | Unscored, ...]
    counts: Counts
    provenance: Provenance
    timings_ms: dict[str, float]

    @property
    def rewards(self) -> list[float | None]:
        """One number a sample, in order; None where there is no reward."""
        return [result.reward if isinstance(result, Scored) else None for result in self.results]


@dataclass(frozen=True, slots=True)
class JudgeReply:
    """One result an item, in the order of the items; `timings_ms` in milliseconds a stage."""

    results: tuple[Judged | Unjudged, ...]
    counts: JudgeCounts
    provenance: JudgeProvenance
    timings_ms: dict[str, float]


@dataclass(frozen=True, slots=True)
class EngineState:
    """Whether an engine answers, why not if so, and which model it holds."""

    ready: bool
    message: str
    model: str


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether the service takes work; `status` is ready, loading, failed or draining."""

    status: str
    engines: dict[str, EngineState]
    cache: str = ""
    """Where answers are remembered, and whether Redis answers."""

    @property
    def ready(self) -> bool:
        """True if a request sent now would be served."""
        return self.status == "ready"
