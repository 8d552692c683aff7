"""What processes of one service say to each other: bodies and replies of `/engine`."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from medreward.engines.judge import View
from medreward.errors import Problem, ProblemKind

ENGINE, JUDGE, EMBED = "/engine", "/engine/judge", "/engine/embed"
ENGINE_ROUTES = (ENGINE, JUDGE, EMBED)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    identity: str
    """Of the engine that is meant: another one's answers would be remembered as this one's."""
    deadline_ms: Annotated[int, Field(ge=0)]


class Question(BaseModel):
    """One inquiry, its template by name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    template: str
    answer: str
    reference: str | None = None
    question: str | None = None
    criterion: str | None = None
    view: View = View.AS_WRITTEN


class Questions(_Body):
    """Body of `POST /engine/judge`."""

    questions: tuple[Question, ...]


class Texts(_Body):
    """Body of `POST /engine/embed`."""

    texts: tuple[str, ...]


class Unanswered(BaseModel):
    """Why one question has no answer."""

    kind: ProblemKind
    message: str

    @property
    def problem(self) -> Problem:
        """The value that the sample carries."""
        return Problem(self.kind, self.message)


class Said(BaseModel):
    """What the judge said to one question, in its template's order of labels."""

    probabilities: tuple[float, ...] = ()
    coverage: float | None = None
    threshold: float = 0.5
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
    """Reply of `GET /engine`: what this process holds, and what suits it."""

    role: Literal["judge", "embed"]
    service: str
    """Version of medreward."""
    model: str
    identity: str
    templates: Mapping[str, str] = Field(default_factory=dict)
    """SHA-256 of each template that the judge answers, by name."""
    identities: Mapping[str, str] = Field(default_factory=dict)
    """What answers each of them."""
    has_other_engine: bool = False
    batch: Annotated[int, Field(ge=1)]
    concurrency: Annotated[int, Field(ge=1)]
    tokens: int | None = None
