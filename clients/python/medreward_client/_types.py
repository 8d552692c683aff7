"""Requests and results as dataclasses; the field names are those of the HTTP contract.

A field with a default is optional, in a request as in a response.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple, TypedDict, cast

from medreward_client._reading import read_as

Verdict = Literal["YES", "NO"]


@dataclass(frozen=True, slots=True)
class Criterion:
    """One line of a rubric; `points` may be negative."""

    text: str
    points: float


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several descriptions of an answer, and the points that it is worth."""

    text: str
    points: float


@dataclass(frozen=True, slots=True)
class ChoiceCriterion:
    """One line of a sample's rubric that has choices, from the worst to the best."""

    text: str
    choices: Sequence[Choice]


class Terms(NamedTuple):
    """The recipe and the training job of a request; None leaves the choice to the service."""

    recipe: str | None = None
    run_id: str | None = None
    step: int | None = None


class Asking(TypedDict, total=False):
    """Options of a scoring call; each may be left out.

    `recipe` names the scoring recipe. `run_id` and `step` name the training job and its progress.
    `deadline_s` bounds the whole call, in seconds, retries included: samples that the service
    could not score by then return as Unscored.
    """

    recipe: str | None
    run_id: str | None
    step: int | None
    deadline_s: float | None


@dataclass(frozen=True)  # without slots, which orjson reads six times as slowly
class Sample:
    """One response to score.

    `response` is the whole output of the policy; `reference` is the ground truth, or several
    accepted ones. `group` names the prompt of the sample. `criteria` is its rubric, and `extra` what
    further signals read, as far as the recipe has any. `group_size` declares how many samples the
    group has, which are then compared if one request holds them all.
    """

    response: str
    reference: str | Sequence[str]
    id: str | None = None
    group: str | None = None
    question: str | None = None
    modality: str | None = None
    criteria: Sequence[Criterion | ChoiceCriterion] | None = None
    extra: Mapping[str, object] = field(default_factory=dict)
    group_size: int | None = None

    def __post_init__(self) -> None:
        # Only what is in the dict is sent, and services of before refuse fields that they do not know.
        if self.group_size is None:
            del self.__dict__["group_size"]


@dataclass(frozen=True, slots=True)
class Item:
    """One answer to judge, without tags.

    The template `rubric` needs `criteria`; its reference is optional.
    """

    answer: str
    reference: str | None = None
    id: str | None = None
    question: str | None = None
    criteria: Sequence[Criterion] | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """The reason for a missing number; `retryable` if the same request may succeed later."""

    kind: str
    message: str
    retryable: bool


@dataclass(frozen=True, slots=True)
class Veto:
    """A guard's proof that an answer is wrong, which no judge can overrule.

    `rule` names the guard and its finding; `span` is the place in characters of the answer, and
    `reference_span` the contradicted place in the reference.
    """

    rule: str
    span: tuple[int, ...]
    reference_span: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Component:
    """The value of one signal for a sample, with its weight and its source.

    `rule` names the rule that gave the value; None if a model did. `answered_by` is the engine of a
    judge that has two, `first` or `second`.
    """

    value: float
    weight: float
    source: str
    p_yes: float | None = None
    cosine: float | None = None
    coverage: float | None = None
    veto: Veto | None = None
    rule: str | None = None
    answered_by: str | None = None


@dataclass(frozen=True, slots=True)
class CriterionResult:
    """What became of one criterion of a sample: a verdict, the number of a choice, or an error.

    `verdict` is YES, NO or CANNOT_ASSESS. `points` are those earned; None without a verdict.
    """

    verdict: str | None = None
    choice: int | None = None
    points: float | None = None
    p_yes: float | None = None
    source: str | None = None
    error: Problem | None = None


@dataclass(frozen=True, slots=True)
class Scored:
    """A sample with its reward.

    `criteria` has a result for each criterion, and `unanswered` the number of those without a
    verdict; both are None if the recipe has no rubric. `relative` is the distance from the mean of
    the group in standard deviations; None if the group is not whole.
    """

    status: ClassVar[str] = "scored"

    id: str | None
    reward: float
    components: dict[str, Component]
    flags: tuple[str, ...]
    criteria: tuple[CriterionResult, ...] | None = None
    unanswered: int | None = None
    relative: float | None = None


@dataclass(frozen=True, slots=True)
class Unscored:
    """A sample without a reward, and the reason; a failure is not a zero, so it has no number.

    `components` holds the signals that are known, `criteria` the criteria.
    """

    status: ClassVar[str] = "unscored"

    id: str | None
    error: Problem
    components: dict[str, Component]
    flags: tuple[str, ...]
    criteria: tuple[CriterionResult, ...] | None = None
    unanswered: int | None = None


@dataclass(frozen=True, slots=True)
class GroupRank:
    """What the signal `group_rank` compared in a group.

    The judge compared `compared` of the `of` pairs of different answers. `intransitive` counts the
    triples of answers of which each was found better than the next.
    """

    compared: int
    of: int
    intransitive: int


@dataclass(frozen=True, slots=True)
class GroupResult:
    """A group of which samples declare a size; its statistics are those of the scored samples.

    It is `whole` if one request held as many samples as all of them declare. Otherwise `reason` is
    sizes_differ, too_few, too_many, or split if its samples took several requests, and there is
    neither `all_right` nor `mean` nor `sd`. `rank` is None if the recipe does not rank groups, or
    could not rank this one.
    """

    id: str
    size: int | None
    seen: int
    scored: int
    whole: bool
    reason: str | None = None
    all_right: bool | None = None
    mean: float | None = None
    sd: float | None = None
    rank: GroupRank | None = None


@dataclass(frozen=True, slots=True)
class Vote:
    """The verdict on one view of an item: as_written, swapped, without_question or other_engine.

    `answered_by` is the engine of a judge that has two, `first` or `second`.
    """

    view: str
    verdict: Verdict | None
    p_yes: float | None
    source: str | None
    error: Problem | None
    answered_by: str | None = None


@dataclass(frozen=True, slots=True)
class JudgedCriterion:
    """One line of a rubric and the verdict on it."""

    text: str
    points: float
    verdict: Verdict | None
    p_yes: float | None
    source: str | None


@dataclass(frozen=True, slots=True)
class Judged:
    """An item with its score: 0 or 1 for equivalence, 0 to 5 for report, 0 to 1 for rubric.

    `expected` (0 to 5) is set for report alone, `criteria` for rubric alone. `rule` names the
    rule that settled the item, which has a `veto` if a guard did; None if the judge was asked.
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
    rule: str | None = None
    veto: Veto | None = None


@dataclass(frozen=True, slots=True)
class Unjudged:
    """An item without a score, and the reason."""

    status: ClassVar[str] = "unjudged"

    id: str | None
    error: Problem
    votes: tuple[Vote, ...]


@dataclass(frozen=True, slots=True)
class Counts:
    """The numbers of scored and unscored samples of a call, and of its model calls."""

    scored: int
    unscored: int
    cache_hits: int
    coalesced: int
    judge_calls: int


@dataclass(frozen=True, slots=True)
class JudgeCounts:
    """The numbers of judged and unjudged items of a call, and of its model calls."""

    judged: int
    unjudged: int
    cache_hits: int
    coalesced: int
    judge_calls: int


@dataclass(frozen=True, slots=True)
class JudgeExam:
    """The exam of a judge by plain pairs: passed, failed, or no_result if it gave too few verdicts.

    `scope` is what it was examined in, `answers` or `terms`.
    """

    status: str
    scope: str
    balanced_accuracy: float | None = None


@dataclass(frozen=True, slots=True)
class Provenance:
    """The origin of rewards: they are comparable if fingerprint, judge and embedder are equal.

    `judge_exam` is None until the judge's exam has ended, and if it takes none.
    """

    recipe: str
    fingerprint: str
    judge: str
    embedder: str
    service: str
    judge_limits: str | None = None
    """What the judge cannot read; None for one with a language model."""
    judge_exam: JudgeExam | None = None


COMPARED = ("recipe", "fingerprint", "judge", "embedder")
"""The fields of a provenance that two comparable rewards share."""


def changes(before: Provenance, now: Provenance) -> str:
    """Return the fields by which rewards of two origins cannot be compared; empty if they can."""
    return "; ".join(
        f"{name} {getattr(before, name)!r}, now {getattr(now, name)!r}"
        for name in COMPARED
        if getattr(before, name) != getattr(now, name)
    )


@dataclass(frozen=True, slots=True)
class JudgeProvenance:
    """The origin of scores: they are comparable if fingerprint, judge and rules are equal.

    `rules` names the rules and guards in front of the judge; None if there are none. `judge_limits`
    says what the judge cannot read; None for one with a language model.
    """

    template: str
    fingerprint: str
    judge: str
    service: str
    rules: str | None = None
    judge_limits: str | None = None
    judge_exam: JudgeExam | None = None


UNIT = (0.0, 1.0)
"""The range of a recipe that declares none."""


@dataclass(frozen=True)
class RewardReply:
    """One result a sample, in the order of the samples; `timings_ms` in milliseconds a stage.

    `rewards` holds one number a sample, None if it has no reward.
    """

    rewards: tuple[float | None, ...]
    counts: Counts
    provenance: Provenance
    timings_ms: dict[str, float]
    rows: list[object] = field(repr=False, compare=False)
    """The results as parsed JSON."""
    range: tuple[float, float] = UNIT
    """The least and the greatest reward of the recipe."""
    groups: tuple[GroupResult, ...] | None = None
    """The groups of which samples declare a size; None if there are none."""

    @property
    def results(self) -> tuple[Scored | Unscored, ...]:
        """Each sample's result, with its components; read on first access."""
        # No cached_property: up to Python 3.11 it has a lock, which a fork may copy while a thread
        # of the parent holds it; the child would wait for it forever.
        if "_results" not in vars(self):
            found = read_as(tuple[Scored | Unscored, ...], self.rows, "reply.results")
            vars(self)["_results"] = found
        return cast("tuple[Scored | Unscored, ...]", vars(self)["_results"])


@dataclass(frozen=True, slots=True)
class JudgeReply:
    """One result an item, in the order of the items; `timings_ms` in milliseconds a stage."""

    results: tuple[Judged | Unjudged, ...]
    counts: JudgeCounts
    provenance: JudgeProvenance
    timings_ms: dict[str, float]


@dataclass(frozen=True, slots=True)
class EngineState:
    """The readiness of an engine, the reason if it is not ready, and its model."""

    ready: bool
    message: str
    model: str


@dataclass(frozen=True, slots=True)
class Health:
    """The readiness of the service: ready, degraded, loading, failed, stalled or draining.

    A degraded service accepts requests without one of its engines: what neither its cache nor its
    rules decide is unscored.
    """

    status: str
    engines: dict[str, EngineState]
    cache: str = ""
    """The kind of cache, and the state of Redis."""
    judge_exam: JudgeExam | None = None
    """The exam of the judge, with the status `running` until it has ended; None if it takes none."""

    @property
    def ready(self) -> bool:
        """True if the service accepts requests."""
        return self.status in {"ready", "degraded"}
