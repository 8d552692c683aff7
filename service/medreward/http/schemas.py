"""What crosses HTTP: request, reply and error bodies. docs/api.md tells their meaning."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, model_validator

from medreward.engines.judge import Verdict, View
from medreward.errors import ProblemKind
from medreward.samples import Closed, Identifier, Item, Sample, Source

DeadlineMs = Annotated[int, Field(ge=1, le=24 * 3600 * 1000)]
Status = Literal["scored", "unscored"]


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
    deadline_ms: DeadlineMs | None = None

    @model_validator(mode="after")
    def _items_suit_template(self) -> "JudgeRequest":
        if not self.items:
            raise ValueError("items: empty; send at least one")
        for number, item in enumerate(self.items):
            if self.template == "rubric":
                _check_criteria(item, f"items[{number}].criteria")
            elif item.reference is None:
                raise ValueError(f"items[{number}].reference: {self.template} needs one")
        return self


def _check_criteria(item: Item, where: str) -> None:
    if item.criteria is None:
        raise ValueError(f"{where}: the rubric template needs criteria")
    if not any(criterion.points > 0 for criterion in item.criteria):
        raise ValueError(f"{where}: at least one criterion needs positive points")


class Problem(BaseModel):
    """Why something has no score."""

    kind: ProblemKind
    message: str
    retryable: bool


class Veto(BaseModel):
    """Why an answer cannot be right, whatever a judge says."""

    rule: str
    """Which guard, and what it saw, such as `contrast.laterality`."""
    span: tuple[int, int]
    """Where it stands in the answer, in characters: the first, and the one behind the last."""
    reference_span: tuple[int, int] | None = None
    """What it stands against in the reference, where that is something."""


class Component(BaseModel):
    """One signal's say: its value between 0 and 1, and the weight it was given."""

    value: float
    weight: float
    source: Source
    p_yes: float | None = None
    coverage: float | None = None
    cosine: float | None = None
    veto: Veto | None = None


class SampleResult(BaseModel):
    """What became of one sample: a reward, or the reason there is none."""

    id: str | None
    status: Status
    reward: float | None = None
    components: dict[str, Component]
    flags: list[str]
    error: Problem | None = None


class RewardCounts(BaseModel):
    """How many samples became what, and what it took."""

    scored: int
    unscored: int
    cache_hits: int
    coalesced: int
    judge_calls: int


class RewardProvenance(BaseModel):
    """Everything a reward depends on."""

    recipe: str
    fingerprint: str
    judge: str
    embedder: str
    service: str


class Timings(BaseModel):
    """Milliseconds a request spent, by stage; judge and embed run side by side."""

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


class Vote(BaseModel):
    """What one view of an item gave."""

    view: View
    verdict: Verdict | None = None
    p_yes: float | None = None
    source: Source | None = None
    error: Problem | None = None


class JudgedCriterion(BaseModel):
    """What became of one line of a rubric."""

    text: str
    points: float
    verdict: Verdict | None
    p_yes: float | None
    source: Source | None


class ItemResult(BaseModel):
    """What became of one item: a grade, or the reason there is none."""

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
    error: Problem | None = None


class JudgeCounts(BaseModel):
    """How many items became what, and what it took."""

    judged: int
    unjudged: int
    cache_hits: int
    coalesced: int
    judge_calls: int


class JudgeProvenance(BaseModel):
    """Everything a grade depends on."""

    template: str
    fingerprint: str
    judge: str
    service: str


class JudgeReply(BaseModel):
    """Reply of `POST /judge`; results in the order and number of the items."""

    results: list[ItemResult]
    counts: JudgeCounts
    provenance: JudgeProvenance
    timings_ms: Timings


class ErrorBody(BaseModel):
    """What went wrong with a request as a whole."""

    kind: str
    message: str
    retryable: bool


class ErrorReply(BaseModel):
    """Reply of any request that was refused."""

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
    signals: dict[str, Any]


class RecipesReply(BaseModel):
    """Reply of `GET /recipes`."""

    default: str
    recipes: list[RecipeReply]
