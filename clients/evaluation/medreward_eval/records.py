"""Records of a question, a model's response to it, and the response's grade."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal, get_args

from medreward_client import ChoiceCriterion, Criterion

Template = Literal["equivalence", "report", "rubric"]
TEMPLATES: Final[tuple[Template, ...]] = get_args(Template)

BEST: Final[Mapping[Template, float]] = {"equivalence": 1.0, "report": 5.0, "rubric": 1.0}
"""The best score of each template."""

SettledBy = Literal["option", "exact", "rule", "judge"]
"""Source of a score: a plainly named option, the exact reference, the service's rules and guards, or
the judge."""

Criteria = tuple[Criterion | ChoiceCriterion, ...]

CUT: Final = frozenset({"length", "max_tokens", "max_length", "max_output_tokens", "model_length"})
"""Values of `finish_reason` for a response that was cut off at `max_tokens` or the context's end."""

OWN_TASK: Final = "answers"
"""The task of predictions without one."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The reason for a missing response or score; `retryable` if a later attempt may succeed."""

    kind: str
    message: str
    retryable: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """One question of a task, with the text that a model is asked.

    `question` includes the options, if any: `Choices:` and a line for each.
    `image` is a file's content (JPEG, PNG or WebP).
    """

    id: str
    task: str
    question: str
    reference: str
    template: Template = "equivalence"
    options: tuple[str, ...] = ()
    criteria: Criteria = ()
    """The rubric of the template `rubric`."""
    image: bytes | None = field(default=None, repr=False)
    trouble: Failure | None = None
    """The reason why it cannot be asked, such as an unreadable image; it still counts."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """A model's whole response to a question; without one, `response` is None and `error` is set."""

    id: str
    task: str
    question: str
    reference: str
    response: str | None
    template: Template = "equivalence"
    options: tuple[str, ...] = ()
    criteria: Criteria = ()
    finish_reason: str | None = None
    """The server's `finish_reason`; `length` if the response was cut off."""
    reasoning: str | None = None
    """Thinking that the server returned apart from the response; it is not graded."""
    error: Failure | None = None


@dataclass(frozen=True, slots=True)
class Vote:
    """One view of the judge: `as_written`, `swapped` or `without_question`."""

    view: str
    verdict: Literal["YES", "NO"] | None
    p_yes: float | None


@dataclass(frozen=True, slots=True)
class Grade:
    """A response's grade: `score` is 0 or 1, 0 to 5 for a report, and None if it is unjudged.

    For a rubric it is the points earned over the positive points, which may be below 0.
    """

    score: float | None
    settled_by: SettledBy | None = None
    p_yes: float | None = None
    votes: tuple[Vote, ...] = ()
    error: Failure | None = None
    """The reason why the response is unjudged."""
    points: tuple[float | None, ...] = ()
    """Points earned by each criterion of a rubric; None without a verdict."""

    @property
    def is_split(self) -> bool:
        """True if the judge's votes differ."""
        return self.score is not None and len({vote.verdict for vote in self.votes}) > 1


@dataclass(frozen=True, slots=True)
class Graded:
    """A prediction with its grade."""

    prediction: Prediction
    grade: Grade

    @property
    def credit(self) -> float | None:
        """The score as a share of the best one, from 0 to 1; None, not 0, if it is unjudged.

        That of a rubric may be below 0.
        """
        if self.grade.score is None:
            return None
        return self.grade.score / BEST[self.prediction.template]


def is_cut_off(finish_reason: object) -> bool:
    """Return True if a server ended a response at a limit of its length."""
    return isinstance(finish_reason, str) and finish_reason.lower() in CUT


def underscored(model: str) -> str:
    """Return a model's name as MediX-R1's folders have it: no organisation, letters and digits."""
    return re.sub(r"[^a-zA-Z0-9]", "_", model.rstrip("/").rpartition("/")[2])


def prediction_row(prediction: Prediction) -> dict[str, Any]:
    """Convert a prediction to a line's object; empty values are left out, except the response."""
    row = asdict(prediction)
    kept = {"id", "task", "template", "question", "reference", "response"}
    return {key: value for key, value in row.items() if key in kept or value}


def graded_row(graded: Graded) -> dict[str, Any]:
    """Convert a graded prediction to a line's object."""
    grade = asdict(graded.grade)
    if not grade["points"]:
        del grade["points"]
    return {**prediction_row(graded.prediction), "grade": grade}
