"""What crosses the wire, as plain records; the field names are those of the HTTP contract.

A field with a default may be left out, by us in a request and by the service in a reply.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Literal, NamedTuple, TypedDict

from medreward_client._reading import read_as

Verdict = Literal["YES", "NO"]


@dataclass(frozen=True, slots=True)
class Criterion:
    """One line of a rubric; `points` may be negative."""

    text: str
    points: float


class Terms(NamedTuple):
    """How samples are to be scored, and for which training job; None is the service's choice."""

    recipe: str | None = None
    run_id: str | None = None
    step: int | None = None


class Asking(TypedDict, total=False):
    """How samples are to be scored; what is left out is the service's choice, or the client's.

    `recipe` names the way to score. `run_id` and `step` name the training job and where it is.
    `deadline_s` bounds the whole call, in seconds, retries included: what the service could not
    score by then comes back as Unscored.
    """

    recipe: str | None
    run_id: str | None
    step: int | None
    deadline_s: float | None


@dataclass(frozen=True)  # without slots, which orjson reads six times as slowly
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
    extra: Mapping[str, object] = field(default_factory=dict)


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
class Veto:
    """Why an answer cannot be right, whatever a judge says.

    `rule` names the guard and what it saw; `span` is where, in characters of the answer, and
    `reference_span` what it stands against in the reference.
    """

    rule: str
    span: tuple[int, ...]
    reference_span: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Component:
    """One signal's say about a sample, with the weight it had and where it came from."""

    value: float
    weight: float
    source: str
    p_yes: float | None = None
    cosine: float | None = None
    coverage: float | None = None
    veto: Veto | None = None


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
    """What the rewards depend on: they compare if fingerprint, judge and embedder are equal."""

    recipe: str
    fingerprint: str
    judge: str
    embedder: str
    service: str


@dataclass(frozen=True, slots=True)
class JudgeProvenance:
    """What the scores depend on: they compare if fingerprint and judge are equal."""

    template: str
    fingerprint: str
    judge: str
    service: str


@dataclass(frozen=True)
class RewardReply:
    """One result a sample, in the order of the samples; `timings_ms` in milliseconds a stage.

    `rewards` holds one number a sample, None where there is no reward.
    """

    rewards: tuple[float | None, ...]
    counts: Counts
    provenance: Provenance
    timings_ms: dict[str, float]
    rows: list[object] = field(repr=False, compare=False)
    """The results as they came."""

    @cached_property
    def results(self) -> tuple[Scored | Unscored, ...]:
        """Each sample's result, with its components; read when first asked for."""
        return read_as(tuple[Scored | Unscored, ...], self.rows, "reply.results")


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
class Health:
    """Whether the service takes work; `status` is ready, loading, failed or draining."""

    status: str
    engines: dict[str, EngineState]
    cache: str = ""
    """Where answers are remembered, and whether Redis answers."""

    @property
    def ready(self) -> bool:
        """True if a request sent now would be served."""
        return self.status == "ready"
