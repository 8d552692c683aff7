"""The report of a run: numbers and hashes, no text."""

from typing import Literal

from pydantic import BaseModel

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
    """Sums over the samples of a run, or of one of its steps."""

    samples: int
    unscored: int
    reward: RunMoments
    components: dict[str, RunMoments]
    answer_characters: RunMoments
    length_correlation: float | None
    """Correlation of the logarithm of an answer's length with its reward; None if one is constant."""
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
    """A finding that deserves a look; it is not proof and does not change a reward."""

    kind: AlertKind
    of: str | None
    """A flag's name, the scorer that said yes, or an answer's hash."""
    since: int
    """Step at which it was first seen."""
    step: int
    """Step at which it was last seen."""
    value: float
    """Highest value of those steps."""
    threshold: float
    signs: list[Literal["shorter_answers", "fewer_answers"]]
    """Changes that accompanied a jump or climb of the reward."""


class RunAnswer(BaseModel):
    """An answer that was often rewarded highly in recent steps, without its text."""

    answer: str
    """A hash that is valid within this process only."""
    characters: int
    references: int
    """Different references for which it was rewarded without being equal to them, up to 16."""
    share: float
    """Share of all high rewards."""
    right: float
    """Share of its uses that were rewarded highly."""


class RunForgotten(BaseModel):
    """Parts of a run that the report does not show in detail."""

    steps: int
    """Steps that are counted in `total` only."""
    groups: int
    """Groups dropped before their step ended; their later samples count as other groups."""
    late_samples: int
    """Samples that arrived after their step had ended, so that no alert includes them."""


class RunReport(BaseModel):
    """Response of `GET /runs/{id}`: a run since this replica began to watch it."""

    id: str
    alerts: list[RunAlert]
    total: RunSums
    steps: list[RunStep]
    answers: list[RunAnswer]
    forgotten: RunForgotten
