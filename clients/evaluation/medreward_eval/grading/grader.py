"""Grades for predictions: options in plain words by rule, all else by the service's judge."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from medreward_client import (
    AsyncRewardClient,
    Item,
    Judged,
    JudgeProvenance,
    MedrewardError,
    RequestRefused,
    Unjudged,
)
from medreward_eval.errors import Failed, OtherRun
from medreward_eval.grading.answers import read_answer
from medreward_eval.grading.choices import lettered, settle_choice
from medreward_eval.journal import COUNT_KEY, GENERATED_KEY, HEADER_KEY
from medreward_eval.records import (
    Failure,
    Grade,
    Graded,
    Prediction,
    SettledBy,
    Template,
    Vote,
)
from medreward_eval.statistics.scores import ways_of

VERSION: Final = 1
"""Of how a grade comes about here: the reading of answers, and the rules for options."""
VOTES: Final = 3
"""As written, swapped, without the question."""
DEADLINE_S: Final = 300.0
BATCH_ITEMS: Final = 32
"""What a kill costs at most, for each request on its way; the service gathers what it asks anyway."""
BATCH_CHARACTERS: Final = 4_000_000
"""At most six times as many bytes, which is far below what a service takes."""
MOST_CHARACTERS: Final = 1_000_000
"""Of one answer: no service takes it, and it is not worth sending."""
DIGITS: Final = 4
"""Of a probability: as many as the service promises to be the same again."""

SOURCES: Final[Mapping[str, SettledBy]] = {"exact": "exact", "rule": "rule"}
"""What the service says of a result's source; whatever is remembered was the judge's."""
ITS_OWN: Final = frozenset(
    {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.UNPROCESSABLE_ENTITY,
    }
)
"""Statuses that one item may have brought on the whole request."""


@dataclass(frozen=True, slots=True)
class GraderIdentity:
    """What grades depend on beside the predictions: two files compare if these are equal."""

    service: str
    """Its version."""
    judges: Mapping[Template, str]
    """Who answers each template: beside a judge of verdicts there may be one for reports."""
    templates: Mapping[Template, str]
    """Their fingerprints."""

    def header(self) -> dict[str, Any]:
        """Write what a file's header says of it."""
        return {
            "service": self.service,
            "judges": dict(sorted(self.judges.items())),
            "templates": dict(sorted(self.templates.items())),
        }

    def fits(self, told: JudgeProvenance, template: Template) -> bool:
        """Tell whether a reply is of the same service."""
        own = self.service, self.judges[template], self.templates[template]
        return own == (told.service, told.judge, told.fingerprint)


class Grader:
    """Grades by one service, and by nothing but what it was when the run began."""

    def __init__(
        self,
        client: AsyncRewardClient,
        grader_identity: GraderIdentity,
        *,
        votes: int = VOTES,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._client = client
        self._identity = grader_identity
        self._votes = votes
        self._deadline_s = deadline_s

    async def grade(self, predictions: Sequence[Prediction]) -> list[Graded]:
        """Grade each prediction, in their order.

        Raises:
            OtherRun: the service has changed since the run began.
            Failed: it was away for longer than the deadline, or refuses us altogether.
        """
        grades: dict[int, Grade] = {}
        open_: dict[Template, dict[int, Item]] = {}
        for place, prediction in enumerate(predictions):
            found = opened(prediction)
            if isinstance(found, Grade):
                grades[place] = found
            else:
                open_.setdefault(prediction.template, {})[place] = found
        if missing := open_.keys() - self._identity.judges.keys():
            raise OtherRun(
                f"the service was not asked whether it grades by {', '.join(sorted(missing))}; "
                "name these templates when the run begins"
            )
        for template, items in open_.items():
            judged = await self._judge(template, list(items.values()))
            grades.update(zip(items, judged, strict=True))
        return [Graded(one, grades[place]) for place, one in enumerate(predictions)]

    async def _judge(self, template: Template, items: Sequence[Item]) -> list[Grade]:
        """Ask about items; where one of many cannot be asked about, find it, for the others' sake."""
        try:
            reply = await self._client.judge(
                items, template=template, votes=self._votes, deadline_s=self._deadline_s
            )
        except RequestRefused as refused:
            if refused.status not in ITS_OWN:
                raise Failed(f"the service refuses to grade: {refused}") from refused
            if len(items) == 1:
                trouble = Failure(refused.kind or "refused", "the service refuses this item")
                return [Grade(None, error=trouble)]
        except MedrewardError as exc:
            raise Failed(
                f"the service could not be asked: {exc}; what was graded is in the file, "
                "so run this again"
            ) from exc
        else:
            self._check(template, reply.provenance)
            return [grade_of(template, result) for result in reply.results]
        half = len(items) // 2
        return [
            *await self._judge(template, items[:half]),
            *await self._judge(template, items[half:]),
        ]

    def _check(self, template: Template, told: JudgeProvenance) -> None:
        if not self._identity.fits(told, template):
            raise OtherRun(
                "the service has changed since the run began, so its grades would not compare: "
                f"now {told.judge}, {told.fingerprint}, medreward {told.service}; "
                "write to a new file, or put the old service back"
            )


async def find_identity(
    client: AsyncRewardClient,
    templates: Iterable[Template],
    *,
    votes: int = VOTES,
    deadline_s: float = DEADLINE_S,
) -> GraderIdentity:
    """Ask a service what it grades by, with an answer that needs no model.

    What it refuses here, such as so many votes, it would refuse of each item.

    Raises:
        Failed: it cannot be asked, or has no judge for a template.
    """
    told: dict[Template, JudgeProvenance] = {}
    for template in sorted(templates):
        try:
            reply = await client.judge(
                [Item("same", "same")], template=template, votes=votes, deadline_s=deadline_s
            )
        except MedrewardError as exc:
            raise Failed(
                f"the service cannot be asked to grade by the template {template!r}: {exc}; see "
                "that it runs (`medreward serve`), and that the URL is its own"
            ) from exc
        told[template] = reply.provenance
    return GraderIdentity(
        service=next((one.service for one in told.values()), ""),
        judges={template: one.judge for template, one in told.items()},
        templates={template: one.fingerprint for template, one in told.items()},
    )


def opened(prediction: Prediction) -> Grade | Item:
    """Grade what needs no judge, or cannot be judged; else write what the judge is shown."""
    if prediction.response is None:
        trouble = prediction.error or Failure("no_response", "the model gave no response")
        return Grade(None, error=trouble)
    answer = read_answer(prediction.response)
    if len(answer) > MOST_CHARACTERS:
        told = f"the answer has more than {MOST_CHARACTERS:,} characters"
        return Grade(None, error=Failure("too_long", told))
    if prediction.template == "equivalence":
        is_right = settle_choice(answer, prediction.reference, prediction.options)
        if is_right is not None:
            return Grade(float(is_right), "option")
    reference = lettered(prediction.reference, prediction.options)
    return Item(answer, reference, question=prediction.question or None)


def grade_of(template: Template, result: Judged | Unjudged) -> Grade:
    """Read what the service made of an item: a verdict by majority, or the mean of the views."""
    votes = tuple(Vote(vote.view, vote.verdict, _rounded(vote.p_yes)) for vote in result.votes)
    if isinstance(result, Unjudged):
        error = Failure(result.error.kind, result.error.message, result.error.retryable)
        return Grade(None, votes=votes, error=error)
    settled_by = SOURCES.get(result.source or "", "judge")
    score = result.expected if template == "report" else result.score
    if score is None:
        return Grade(None, error=Failure("bad_reply", "the service gave no score"))
    return Grade(round(score, DIGITS), settled_by, _rounded(result.p_yes), votes)


def grades_header(
    model: str,
    grader_identity: GraderIdentity,
    predictions: Sequence[Mapping[str, Any]],
    *,
    votes: int,
    total: int,
) -> dict[str, Any]:
    """Write the first line of a file of grades; *predictions* are the headers of their file."""
    of_tasks = [one["tasks"] for one in predictions if "tasks" in one]
    tasks = {"tasks": of_tasks[-1]} if of_tasks else {}
    generated = ways_of(predictions)
    return {
        HEADER_KEY: "grades",
        "version": VERSION,
        "model": model,
        COUNT_KEY: total,
        **({GENERATED_KEY: generated} if generated else {}),
        **tasks,
        **grader_identity.header(),
        "votes": votes,
    }


def batches(predictions: Iterable[Prediction]) -> Iterator[list[Prediction]]:
    """Cut predictions into what one request may hold."""
    batch: list[Prediction] = []
    characters = 0
    for one in predictions:
        size = len(one.response or "") + len(one.question) + len(one.reference)
        if batch and (len(batch) == BATCH_ITEMS or characters + size > BATCH_CHARACTERS):
            yield batch
            batch, characters = [], 0
        batch.append(one)
        characters += size
    if batch:
        yield batch


def _rounded(p: float | None) -> float | None:
    return None if p is None else round(p, DIGITS)
