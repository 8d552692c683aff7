"""Bodies and replies of `/engine`, by which the processes of one service work together."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from medreward.engines.judge import View
from medreward.engines.status import JudgeExam
from medreward.errors import Problem, ProblemKind
from medreward.samples import AnsweredBy

ENGINE, JUDGE, EMBED = "/engine", "/engine/judge", "/engine/embed"
ENGINE_ROUTES = (ENGINE, JUDGE, EMBED)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    identity: str
    """The identity of the wanted engine: another's answers would be cached under it."""
    deadline_ms: Annotated[int, Field(ge=0)]


class Question(BaseModel):
    """One inquiry, with its template's name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    template: str
    answer: str
    reference: str | None = None
    question: str | None = None
    criterion: str | None = None
    view: View = View.AS_WRITTEN
    second: str | None = None


class Questions(_Body):
    """Body of `POST /engine/judge`."""

    questions: tuple[Question, ...]


class Texts(_Body):
    """Body of `POST /engine/embed`."""

    texts: tuple[str, ...]


class Unanswered(BaseModel):
    """The reason for which one question has no answer."""

    kind: ProblemKind
    message: str

    @property
    def problem(self) -> Problem:
        """The same reason as a `Problem`."""
        return Problem(self.kind, self.message)


class Said(BaseModel):
    """The judgement of one question, with probabilities in its template's order of labels."""

    probabilities: tuple[float, ...] = ()
    coverage: float | None = None
    threshold: float = 0.5
    answered_by: AnsweredBy | None = None
    error: Unanswered | None = None


class Judged(BaseModel):
    """Reply of `POST /engine/judge`: an answer to each question, in order."""

    answers: tuple[Said, ...]


class Row(BaseModel):
    """One text's vector: little-endian float16 in base64."""

    vector: str = ""
    error: Unanswered | None = None


class Embedded(BaseModel):
    """Reply of `POST /engine/embed`: a row for each text, in order."""

    answers: tuple[Row, ...]


class EngineFacts(BaseModel):
    """Reply of `GET /engine`: the engine of this process, and the batches that suit it."""

    role: Literal["judge", "embed"]
    service: str
    """Version of medreward."""
    model: str
    identity: str
    templates: Mapping[str, str] = Field(default_factory=dict)
    """SHA-256 of each template that the judge answers, by name."""
    identities: Mapping[str, str] = Field(default_factory=dict)
    """Identity of the engine that answers each of these templates, by name."""
    characters: Mapping[str, str] = Field(default_factory=dict)
    """Characters beyond ASCII that the engine for a template knows, by name; others read all texts."""
    has_other_engine: bool = False
    is_for_terms: bool = False
    judge_exam: JudgeExam | None = None
    """The exam of the judge in this process; None if none is taken."""
    batch: Annotated[int, Field(ge=1)]
    concurrency: Annotated[int, Field(ge=1)]
    tokens: int | None = None
