"""What is kept of a question, of what a model answered, and of what that is worth."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal, get_args

Template = Literal["equivalence", "report"]
TEMPLATES: Final[tuple[Template, ...]] = get_args(Template)

BEST: Final[Mapping[Template, float]] = {"equivalence": 1.0, "report": 5.0}
"""What a template's best score is."""

SettledBy = Literal["option", "exact", "rule", "judge"]
"""An option named in plain words; the reference itself; an empty answer; or the judge."""

OWN_TASK: Final = "answers"
"""The task of predictions that name none."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no response, or no score; `retryable` if the same may succeed later."""

    kind: str
    message: str
    retryable: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """One question of a task, as a model is asked it.

    `question` holds the options, too, where there are some: `Choices:` and a line for each.
    `image` is a file's content (JPEG, PNG or WebP).
    """

    id: str
    task: str
    question: str
    reference: str
    template: Template = "equivalence"
    options: tuple[str, ...] = ()
    image: bytes | None = field(default=None, repr=False)
    trouble: Failure | None = None
    """Why it cannot be asked, such as an image that cannot be read; it counts all the same."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model answered, whole; `response` is None, with its `error`, where it did not."""

    id: str
    task: str
    question: str
    reference: str
    response: str | None
    template: Template = "equivalence"
    options: tuple[str, ...] = ()
    finish_reason: str | None = None
    """As the server says it; `length` where the response was cut off."""
    reasoning: str | None = None
    """What the server keeps apart from the response; it is not graded."""
    error: Failure | None = None


@dataclass(frozen=True, slots=True)
class Vote:
    """One view of the judge: `as_written`, `swapped` or `without_question`."""

    view: str
    verdict: Literal["YES", "NO"] | None
    p_yes: float | None


@dataclass(frozen=True, slots=True)
class Grade:
    """What a response is worth: `score` of 0 or 1, or of 0 to 5 for a report; None is unjudged."""

    score: float | None
    settled_by: SettledBy | None = None
    p_yes: float | None = None
    votes: tuple[Vote, ...] = ()
    error: Failure | None = None
    """Why it is unjudged."""

    @property
    def is_split(self) -> bool:
        """Whether it was judged by votes that differ."""
        return self.score is not None and len({vote.verdict for vote in self.votes}) > 1


@dataclass(frozen=True, slots=True)
class Graded:
    """A prediction with its grade."""

    prediction: Prediction
    grade: Grade

    @property
    def credit(self) -> float | None:
        """The score as a share of the best one, from 0 to 1; None is unjudged, and no 0."""
        if self.grade.score is None:
            return None
        return self.grade.score / BEST[self.prediction.template]


def underscored(model: str) -> str:
    """Return a model's name as MediX-R1's folders have it: no organisation, letters and digits."""
    return re.sub(r"[^a-zA-Z0-9]", "_", model.rstrip("/").rpartition("/")[2])


def prediction_row(prediction: Prediction) -> dict[str, Any]:
    """Write a prediction as a line's object; what is empty is left out, except the response."""
    row = asdict(prediction)
    kept = {"id", "task", "template", "question", "reference", "response"}
    return {key: value for key, value in row.items() if key in kept or value}


def graded_row(graded: Graded) -> dict[str, Any]:
    """Write a graded prediction as a line's object."""
    return {**prediction_row(graded.prediction), "grade": asdict(graded.grade)}
