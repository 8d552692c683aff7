"""Schemas of HTTP bodies: requests, replies and errors. docs/api.md explains them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, model_validator

from medreward.engines.judge import Verdict, View
from medreward.engines.status import JudgeExam
from medreward.errors import ProblemKind
from medreward.rewards.groups import Reason
from medreward.rewards.rubric import Met
from medreward.samples import AnsweredBy, Closed, Identifier, Item, Sample, Source

DeadlineMs = Annotated[int, Field(ge=1, le=24 * 3600 * 1000)]
Status = Literal["scored", "unscored"]


def _is_none(value: object) -> bool:
    """Return whether a field is absent: replies of before it was there stay what they were."""
    return value is None


class Run(Closed):
    """The training job that sends the samples."""

    id: Identifier
    step: Annotated[int, Field(ge=0)] | None = None


class RewardRequest(Closed):
    """Body of `POST /reward`."""

    samples: tuple[Sample, ...]
    recipe: str | None = None
    run: Run | None = None
    deadline_ms: DeadlineMs | None = None

    @model_validator(mode="after")
    def _some_samples(self) -> "RewardRequest":
        if not self.samples:
            raise ValueError("samples: empty; send at least one")
        return self


class JudgeRequest(Closed):
    """Body of `POST /judge`."""

    items: tuple[Item, ...]
    template: Literal["equivalence", "report", "rubric"] = "equivalence"
    votes: Annotated[int, Field(ge=1)] = 1
    rules: bool = True
    """Settle plain cases and veto contradictions before the judge is asked (`equivalence`), and veto
    orders to the judge (`equivalence`, `report`)."""
    deadline_ms: DeadlineMs | None = None

    @model_validator(mode="after")
    def _items_suit_template(self) -> "JudgeRequest":
        if not self.items:
            raise ValueError("items: empty; send at least one")
        for number, item in enumerate(self.items):
            if self.template == "rubric":
                if item.criteria is None:
                    raise ValueError(
                        f"items[{number}].criteria: the rubric template needs criteria"
                    )
            elif item.reference is None:
                raise ValueError(f"items[{number}].reference: {self.template} needs one")
        return self


class Problem(BaseModel):
    """The reason for which something has no score."""

    kind: ProblemKind
    message: str
    retryable: bool


class Veto(BaseModel):
    """A guard's finding that an answer is wrong, independent of the judge."""

    rule: str
    """Guard and finding, such as `contrast.laterality`."""
    span: tuple[int, int]
    """Place in the answer: first character, and the one after the last."""
    reference_span: tuple[int, int] | None = None
    """Place of the contradicted words in the reference, if there are such words."""


class Component(BaseModel):
    """One signal of a reward: its value, between 0 and 1 unless its kind says otherwise, and its weight."""

    value: float
    weight: float
    source: Source
    p_yes: float | None = None
    coverage: float | None = None
    cosine: float | None = None
    veto: Veto | None = None
    rule: str | None = None
    """The rule that gave the value, such as `yes_no` or that of the veto; null if a model did."""
    answered_by: AnsweredBy | None = None
    """Which engine of a cascade judged it; null without a cascade, and if no judge was asked."""


class CriterionResult(BaseModel):
    """What became of one criterion of a sample."""

    verdict: Met | None = None
    """Null for choices, and without a verdict."""
    choice: int | None = None
    """Number of the choice that the answer reaches, from 0 for the worst."""
    points: float | None = None
    """Points earned; null without a verdict."""
    p_yes: float | None = None
    source: Source | None = None
    error: Problem | None = None
    """Reason why there is no verdict."""


class SampleResult(BaseModel):
    """The result of one sample: a reward, or the problem in its place."""

    id: str | None
    status: Status
    reward: float | None = None
    components: dict[str, Component]
    flags: list[str]
    error: Problem | None = None
    criteria: Annotated[list[CriterionResult] | None, Field(exclude_if=_is_none)] = None
    """In the order of the sample's criteria; absent if the recipe has no rubric."""
    unanswered: Annotated[int | None, Field(exclude_if=_is_none)] = None
    """Number of criteria without a verdict, which are left out; absent if the recipe has no rubric."""
    relative: Annotated[float | None, Field(exclude_if=_is_none)] = None
    """Distance of the reward from its group's mean, in standard deviations; null if the sample is
    unscored or its group is not whole, absent if no sample of the request declares a `group_size`."""


class GroupRank(BaseModel):
    """What the signal `group_rank` compared in a group."""

    compared: int
    """Number of pairs of different answers that the judge compared."""
    of: int
    """Number of all pairs of different answers."""
    intransitive: int
    """Number of triples of answers of which each was found better than the next."""


class GroupResult(BaseModel):
    """A group of which samples declare a size; with statistics if it is whole."""

    id: str
    size: int | None
    """The declared size; null if the samples do not all declare the same one."""
    seen: int
    """Number of its samples in the request."""
    scored: int
    whole: bool
    """True if its samples are as many as all of them declare."""
    reason: Reason | None = None
    """Why it is not whole."""
    all_right: bool | None = None
    """True if all scored samples are right; null if none is scored, and if it is not whole."""
    mean: float | None = None
    """Mean reward of the scored samples."""
    sd: float | None = None
    """Standard deviation of the scored samples' rewards, of a sample: divided by n - 1."""
    rank: Annotated[GroupRank | None, Field(exclude_if=_is_none)] = None
    """Absent if its answers could not be compared, or the recipe does not rank groups."""


class RewardCounts(BaseModel):
    """Numbers of samples by status, and of the answers that they took."""

    scored: int
    unscored: int
    cache_hits: int
    coalesced: int
    judge_calls: int


class RewardProvenance(BaseModel):
    """Everything that a reward depends on."""

    recipe: str
    fingerprint: str
    judge: str
    judge_limits: str | None = None
    """What the judge cannot read; null for one with a language model."""
    embedder: str
    service: str
    judge_exam: JudgeExam | None = None
    """The exam of the judge, once it has ended; null if none was taken."""


class Timings(BaseModel):
    """Milliseconds of a request by stage; judge and embed run at the same time."""

    queue: float
    cache: float
    judge: float
    embed: float
    total: float


class RewardReply(BaseModel):
    """Reply of `POST /reward`; results in the order and number of the samples."""

    results: list[SampleResult]
    counts: RewardCounts
    provenance: RewardProvenance
    timings_ms: Timings
    range: Annotated[tuple[float, float] | None, Field(exclude_if=_is_none)] = None
    """The recipe's least and greatest reward; absent if they are 0 and 1."""
    groups: Annotated[list[GroupResult] | None, Field(exclude_if=_is_none)] = None
    """The groups of which a sample declares a size, in order of their first sample; absent if there
    are none."""


class Vote(BaseModel):
    """The judge's answer to one view of an item, or the problem in its place."""

    view: View
    verdict: Verdict | None = None
    p_yes: float | None = None
    source: Source | None = None
    answered_by: AnsweredBy | None = None
    """Which engine of a cascade judged it; null without a cascade."""
    error: Problem | None = None


class JudgedCriterion(BaseModel):
    """The verdict on one criterion of a rubric."""

    text: str
    points: float
    verdict: Verdict | None
    p_yes: float | None
    source: Source | None


class ItemResult(BaseModel):
    """The result of one item: a grade, or the problem in its place."""

    id: str | None
    status: Literal["judged", "unjudged"]
    verdict: Verdict | None = None
    p_yes: float | None = None
    score: float | None = None
    expected: float | None = None
    """Mean grade under the judge's probabilities; `report` only."""
    votes: list[Vote]
    criteria: list[JudgedCriterion] | None = None
    source: Source | None = None
    rule: str | None = None
    """The rule that settled the item, such as `yes_no` or that of the veto; null if a model did."""
    veto: Veto | None = None
    error: Problem | None = None


class JudgeCounts(BaseModel):
    """Numbers of items by status, and of the answers that they took."""

    judged: int
    unjudged: int
    cache_hits: int
    coalesced: int
    judge_calls: int


class JudgeProvenance(BaseModel):
    """Everything that a grade depends on."""

    template: str
    fingerprint: str
    judge: str
    judge_limits: str | None = None
    """What the judge cannot read; null for one with a language model."""
    rules: str | None = None
    """Name and digest of the rules and guards in front of the judge; null if there are none."""
    service: str
    judge_exam: JudgeExam | None = None
    """The exam of the judge, once it has ended; null if none was taken."""


class JudgeReply(BaseModel):
    """Reply of `POST /judge`; results in the order and number of the items."""

    results: list[ItemResult]
    counts: JudgeCounts
    provenance: JudgeProvenance
    timings_ms: Timings


class ErrorBody(BaseModel):
    """The error for which a request as a whole was refused."""

    kind: str
    message: str
    retryable: bool
    fits: int | None = None
    """The number of samples, from the first on, that would be accepted at once; null if unknown."""


class ErrorReply(BaseModel):
    """Reply to any request that was refused."""

    error: ErrorBody
    request_id: str


class Drained(BaseModel):
    """Reply of `POST /drain` and `DELETE /drain`."""

    status: Literal["serving", "draining", "drained"]
    in_flight: int
    """Requests that are not answered yet."""


class Liveness(BaseModel):
    """Reply of `GET /livez`."""

    status: Literal["alive", "stalled"] = "alive"


class Version(BaseModel):
    """Reply of `GET /version`."""

    service: str
    notice: str


class RecipeReply(BaseModel):
    """A resolved recipe with its fingerprint."""

    name: str
    version: int
    description: str
    fingerprint: str
    template: str
    tags: dict[str, Any]
    rules: dict[str, Any]
    guards: dict[str, Any] | None = None
    range: tuple[float, float] = (0.0, 1.0)
    """The least and the greatest reward."""
    signals: dict[str, Any]
    needs: dict[str, list[str]] = {}
    """What each signal needs: an engine, the recipe's tags, a field of each sample, or whole groups."""


class RecipesReply(BaseModel):
    """Reply of `GET /recipes`."""

    default: str
    recipes: list[RecipeReply]
