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
