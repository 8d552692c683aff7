"""What crosses HTTP: request, reply and error bodies. docs/api.md tells their meaning."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from medreward.engines.judge import Verdict, View
from medreward.errors import ProblemKind

Identifier = Annotated[str, Field(max_length=256)]
DeadlineMs = Annotated[int, Field(ge=1, le=24 * 3600 * 1000)]
Status = Literal["scored", "unscored"]
Source = Literal["judge", "embedder", "cache", "coalesced", "exact", "rule", "veto"]


class _Body(BaseModel):
    """Closed: an unknown field is refused by name, since a misspelt one would be a silent default."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Criterion(_Body):
    """One line of a rubric."""

    text: Annotated[str, Field(min_length=1)]
    points: Annotated[float, Field(allow_inf_nan=False, ge=-1000, le=1000)]
    """Earned where the answer meets the criterion; negative for what it should not do."""


Criteria = Annotated[tuple[Criterion, ...], Field(min_length=1, max_length=64)]
References = Annotated[tuple[str, ...], Field(min_length=1, max_length=32)]


class Run(_Body):
    """The training job that sends the samples."""

    id: Identifier
    step: Annotated[int, Field(ge=0)] | None = None


class Sample(_Body):
    """One thing to score."""

    response: str
    """What the policy wrote, whole."""
    reference: str | References
    """The ground truth, or several accepted ones."""
    id: Identifier | None = None
    group: Identifier | None = None
    question: str | None = None
    modality: str | None = None
    """One of the recipe's modality tags, with or without its angle brackets."""
    criteria: Criteria | None = None
    extra: dict[str, Any] = Field(default_factory=dict)

    @property
    def references(self) -> References:
        """The accepted references, one or several."""
        return (self.reference,) if isinstance(self.reference, str) else self.reference


class RewardRequest(_Body):
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


class Item(_Body):
    """One answer to judge."""

    answer: str
    reference: str | None = None
    id: Identifier | None = None
    question: str | None = None
    criteria: Criteria | None = None


class JudgeRequest(_Body):
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


class EngineState(BaseModel):
    """Whether one engine is loaded, warm and answering."""

    ready: bool
    model: str
    message: str


class Readiness(BaseModel):
    """Reply of `GET /readyz`."""

    status: Literal["ready", "loading", "failed", "draining"]
    engines: dict[str, EngineState]
    cache: str = "memory"
    """Where answers are remembered. Redis is told of here, and never makes a service unready."""


class Startup(BaseModel):
    """Reply of `GET /startupz`."""

    stage: Literal["load", "warm_up", "ready", "failed"]
    """How far the engines are: read from the disk or awaited, asked for the first time, or ready
    once and for all."""
    engines: dict[str, EngineState]
    elapsed_s: float
    """Since the process began to load, or in which it became ready."""


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


AlertKind = Literal[
    "reward_jump",
    "reward_climb",
    "disagreement",
    "repeated_answer",
    "zero_variance",
    "length_correlation",
    "flags",
    "unscored",
]


class RunMoments(BaseModel):
    """Number, mean and standard deviation of values."""

    count: int
    mean: float
    sd: float


class RunSums(BaseModel):
    """What is known of the samples of a run, or of one of its steps."""

    samples: int
    unscored: int
    reward: RunMoments
    components: dict[str, RunMoments]
    answer_characters: RunMoments
    length_correlation: float | None
    """Of the logarithm of an answer's length with its reward; None where one does not vary."""
    groups: int
    """Prompts of which more than one sample has a reward."""
    zero_variance_groups: int
    judge_only: float | None
    """Share of samples to which the judge said yes and the embedder no."""
    embedder_only: float | None
    flags: dict[str, float]
    """Share of the highly rewarded samples with each flag."""
    distinct_answers: float | None
    """Different answers, as a share of the answers."""


class RunStep(RunSums):
    """One step of a run."""

    step: int


class RunAlert(BaseModel):
    """Something to look at: not proof, and it changes no reward."""

    kind: AlertKind
    of: str | None
    """A flag's name, the one who said yes, or an answer's hash."""
    since: int
    """Step at which it was first seen."""
    step: int
    """Step at which it was last seen."""
    value: float
    """The highest of those steps."""
    threshold: float
    signs: list[Literal["shorter_answers", "fewer_answers"]]
    """What came with a jump or climb of the reward."""


class RunAnswer(BaseModel):
    """An answer that is often rewarded highly; of late, and without its text."""

    answer: str
    """A hash, of use within this process alone."""
    characters: int
    references: int
    """Different references that it was rewarded for without being any of them, up to 16."""
    share: float
    """Of all high rewards."""
    right: float
    """Share of its uses that were rewarded highly."""


class RunForgotten(BaseModel):
    """What a run of this size no longer shows."""

    steps: int
    """Only in `total`."""
    groups: int
    """Let go before their step was over; their later samples count as other groups."""
    late_samples: int
    """Came when their step had been looked at: no alert rests on them."""


class RunReport(BaseModel):
    """Reply of `GET /runs/{id}`: what this replica has seen of a run, since it last heard of it."""

    id: str
    alerts: list[RunAlert]
    total: RunSums
    steps: list[RunStep]
    answers: list[RunAnswer]
    forgotten: RunForgotten
