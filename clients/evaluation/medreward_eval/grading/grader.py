"""Grades for predictions: plainly named options by rule, other answers by the service's judge."""

from collections.abc import Awaitable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from medreward_client import (
    AsyncRewardClient,
    ChoiceCriterion,
    Criterion,
    Item,
    Judged,
    JudgeProvenance,
    MedrewardError,
    Provenance,
    RequestRefused,
    Sample,
    Scored,
    Unjudged,
    Unscored,
)
from medreward_eval.errors import OF_ONE_ITEM, Failed, OtherRun
from medreward_eval.grading.answers import read_answer
from medreward_eval.grading.choices import lettered, settle_choice
from medreward_eval.journal import COUNT_KEY, GENERATED_KEY, HEADER_KEY, QUESTIONS_KEY
from medreward_eval.records import (
    Criteria,
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
"""Version of the grading done here: answer extraction, and the rules for options."""
VOTES: Final = 3
"""Views of the judge: as written, swapped, without the question."""
BATCH_ITEMS: Final = 32
"""Items of one request: a killed run loses this many per request in flight. The service batches
across requests, so larger ones gain nothing."""
BATCH_CHARACTERS: Final = 4_000_000
"""Characters of one request; JSON makes at most six bytes of each, far below the service's limit."""
MOST_CHARACTERS: Final = 1_000_000
"""Characters of one answer; the service would refuse a longer one, so it is not sent."""
DIGITS: Final = 4
"""Digits of a probability: the service promises no more to be reproducible."""

RUBRIC: Final = "rubric"
"""The template of rubrics, and the service's recipe for them, whose signal has that name, too."""
SILENT: Final = Sample("", "", criteria=[Criterion("Says something.", 1.0)])
"""A sample that needs no model: an empty answer earns the least of its rubric."""

T = TypeVar("T")

SOURCES: Final[Mapping[str, SettledBy]] = {"exact": "exact", "rule": "rule", "veto": "rule"}
"""Sources of a result that are not the judge's; a cached verdict counts as the judge's."""


@dataclass(frozen=True, slots=True)
class GraderIdentity:
    """The service, judges, templates and rules of grades: two files compare only if these are equal."""

    service: str
    """The version of the service."""
    judges: Mapping[Template, str]
    """The judge of each template: reports may have another judge than verdicts."""
    templates: Mapping[Template, str]
    """The fingerprint of each template."""
    rules: Mapping[Template, str | None] = field(default_factory=dict)
    """The rules and guards in front of each template's judge; None if there are none."""

    def header(self) -> dict[str, Any]:
        """Return the keys of a file's header."""
        return {
            "service": self.service,
            "judges": dict(sorted(self.judges.items())),
            "templates": dict(sorted(self.templates.items())),
            "rules": dict(sorted(self.rules.items())),
        }

    def fits(self, told: JudgeProvenance, template: Template) -> bool:
        """Return True if a reply is of the same service, judge, template and rules."""
        own = (
            self.service,
            self.judges[template],
            self.templates[template],
            self.rules.get(template),
        )
        return own == (told.service, told.judge, told.fingerprint, told.rules)


class Grader:
    """Grades by one service, and refuses its replies once its judge or templates change."""

    def __init__(
        self,
        client: AsyncRewardClient,
        grader_identity: GraderIdentity,
        *,
        votes: int = VOTES,
        rules: bool = True,
        deadline_s: float | None = None,
    ) -> None:
        self._client = client
        self._identity = grader_identity
        self._votes = votes
        self._rules = rules
        self._deadline_s = deadline_s

    async def grade(self, predictions: Sequence[Prediction]) -> list[Graded]:
        """Grade predictions, and return the grades in their order.

        Raises:
            OtherRun: the service has changed since the run began.
            Failed: the service was away for longer than the deadline, or refuses all requests.
        """
        grades: dict[int, Grade] = {}
        open_: dict[Template, dict[int, Item]] = {}
        rubrics: dict[int, Sample] = {}
        for place, prediction in enumerate(predictions):
            found = opened(prediction)
            if isinstance(found, Grade):
                grades[place] = found
            elif isinstance(found, Sample):
                rubrics[place] = found
            else:
                open_.setdefault(prediction.template, {})[place] = found
        asked = {*open_, RUBRIC} if rubrics else open_.keys()
        if missing := asked - self._identity.judges.keys():
            raise OtherRun(
                f"the service was not asked whether it grades by {', '.join(sorted(missing))}; "
                "name these templates when the run begins"
            )
        for template, items in open_.items():
            judged = await self._judge(template, list(items.values()))
            grades.update(zip(items, judged, strict=True))
        if rubrics:
            scored = await self._score(list(rubrics.values()))
            grades.update(zip(rubrics, scored, strict=True))
        return [Graded(one, grades[place]) for place, one in enumerate(predictions)]

    async def _judge(self, template: Template, items: Sequence[Item]) -> list[Grade]:
        """Send items to the judge; the client leaves one that the service refuses without a grade."""
        reply = await self._reply_to(
            self._client.judge(
                items,
                template=template,
                votes=self._votes,
                rules=self._rules,
                deadline_s=self._deadline_s,
            )
        )
        if isinstance(reply, Grade):
            return [reply] * len(items)
        self._check(template, reply.provenance)
        return [grade_of(template, result) for result in reply.results]

    async def _score(self, samples: Sequence[Sample]) -> list[Grade]:
        """Send answers with a rubric to /reward, which has the arithmetic of rubrics."""
        reply = await self._reply_to(
            self._client.reward(samples, recipe=RUBRIC, deadline_s=self._deadline_s)
        )
        if isinstance(reply, Grade):
            return [reply] * len(samples)
        self._check(RUBRIC, judge_of(reply.provenance))
        return [grade_of_rubric(result) for result in reply.results]

    async def _reply_to(self, asked: Awaitable[T]) -> T | Grade:
        """Wait for a reply; a grade without a score if each item is refused by itself."""
        try:
            return await asked
        except RequestRefused as refused:
            if refused.status not in OF_ONE_ITEM:
                raise Failed(f"the service refuses to grade: {refused}") from refused
            # The client raises only if every item of the call is refused by itself.
            trouble = Failure(refused.kind or "refused", "the service refuses this item")
            return Grade(None, error=trouble)
        except MedrewardError as exc:
            raise Failed(
                f"the service could not be asked: {exc}; what was graded is in the file, "
                "so run this again"
            ) from exc

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
    rules: bool = True,
    deadline_s: float | None = None,
) -> GraderIdentity:
    """Request the service's judges and templates, with an item that needs no model.

    A refusal here, such as of the number of votes, would come for each item.

    Raises:
        Failed: the service cannot be reached, or has no judge for a template.
    """
    told: dict[Template, JudgeProvenance] = {}
    for template in sorted(templates):
        try:
            told[template] = await _provenance_of(
                client, template, votes=votes, rules=rules, deadline_s=deadline_s
            )
        except MedrewardError as exc:
            raise Failed(
                f"the service cannot be asked to grade by the template {template!r}: {exc}; see "
                "that it runs (`medreward serve`), and that the URL is its own"
            ) from exc
    return GraderIdentity(
        service=next((one.service for one in told.values()), ""),
        judges={template: one.judge for template, one in told.items()},
        templates={template: one.fingerprint for template, one in told.items()},
        rules={template: one.rules for template, one in told.items()},
    )


async def _provenance_of(
    client: AsyncRewardClient,
    template: Template,
    *,
    votes: int,
    rules: bool,
    deadline_s: float | None,
) -> JudgeProvenance:
    """Request the judge of one template."""
    if template == RUBRIC:
        scored = await client.reward([SILENT], recipe=RUBRIC, deadline_s=deadline_s)
        return judge_of(scored.provenance)
    same = [Item("same", "same")]
    judged = await client.judge(
        same, template=template, votes=votes, rules=rules, deadline_s=deadline_s
    )
    return judged.provenance


def judge_of(told: Provenance) -> JudgeProvenance:
    """Return the judge of rewards by a rubric; the fingerprint is the recipe's, with its template."""
    return JudgeProvenance(RUBRIC, told.fingerprint, told.judge, told.service)


def opened(prediction: Prediction) -> Grade | Item | Sample:
    """Return a grade if the judge is not needed or cannot help, otherwise what the judge is asked."""
    if prediction.response is None:
        trouble = prediction.error or Failure("no_response", "the model gave no response")
        return Grade(None, error=trouble)
    answer = read_answer(prediction.response)
    if len(answer) > MOST_CHARACTERS:
        told = f"the answer has more than {MOST_CHARACTERS:,} characters"
        return Grade(None, error=Failure("too_long", told))
    if prediction.template == RUBRIC:
        question = prediction.question or None
        return Sample(answer, "", question=question, criteria=prediction.criteria)
    if prediction.template == "equivalence":
        is_right = settle_choice(answer, prediction.reference, prediction.options)
        if is_right is not None:
            return Grade(float(is_right), "option")
    reference = lettered(prediction.reference, prediction.options)
    return Item(answer, reference, question=prediction.question or None)


def grade_of(template: Template, result: Judged | Unjudged) -> Grade:
    """Convert the service's result: the majority's verdict, or the mean of the views for reports."""
    votes = tuple(Vote(vote.view, vote.verdict, _rounded(vote.p_yes)) for vote in result.votes)
    if isinstance(result, Unjudged):
        error = Failure(result.error.kind, result.error.message, result.error.retryable)
        return Grade(None, votes=votes, error=error)
    settled_by = SOURCES.get(result.source or "", "judge")
    score = result.expected if template == "report" else result.score
    if score is None:
        return Grade(None, error=Failure("bad_reply", "the service gave no score"))
    return Grade(round(score, DIGITS), settled_by, _rounded(result.p_yes), votes)


def grade_of_rubric(result: Scored | Unscored) -> Grade:
    """Convert the service's reward by a rubric, which is not clipped."""
    points = tuple(one.points for one in result.criteria or ())
    if isinstance(result, Unscored):
        error = Failure(result.error.kind, result.error.message, result.error.retryable)
        return Grade(None, error=error, points=points)
    source = result.components[RUBRIC].source if RUBRIC in result.components else ""
    return Grade(round(result.reward, DIGITS), SOURCES.get(source, "judge"), points=points)


def grades_header(
    model: str,
    grader_identity: GraderIdentity,
    predictions: Sequence[Mapping[str, Any]],
    *,
    votes: int,
    total: int,
    questions: int | None = None,
) -> dict[str, Any]:
    """Build the header of a file of grades of *total* predictions of *questions* questions.

    *predictions* are the headers of their file.
    """
    of_tasks = [one["tasks"] for one in predictions if "tasks" in one]
    tasks = {"tasks": of_tasks[-1]} if of_tasks else {}
    generated = ways_of(predictions)
    return {
        HEADER_KEY: "grades",
        "version": VERSION,
        "model": model,
        COUNT_KEY: total,
        **({} if questions is None else {QUESTIONS_KEY: questions}),
        **({GENERATED_KEY: generated} if generated else {}),
        **tasks,
        **grader_identity.header(),
        "votes": votes,
    }


def batches(predictions: Iterable[Prediction]) -> Iterator[list[Prediction]]:
    """Split predictions into batches that one request may hold."""
    batch: list[Prediction] = []
    characters = 0
    for one in predictions:
        size = len(one.response or "") + len(one.question) + len(one.reference)
        size += sum(map(len, texts_of(one.criteria)))
        if batch and (len(batch) == BATCH_ITEMS or characters + size > BATCH_CHARACTERS):
            yield batch
            batch, characters = [], 0
        batch.append(one)
        characters += size
    if batch:
        yield batch


def texts_of(criteria: Criteria) -> Iterator[str]:
    """Yield the texts of a rubric."""
    for line in criteria:
        yield line.text
        if isinstance(line, ChoiceCriterion):
            yield from (choice.text for choice in line.choices)


def _rounded(p: float | None) -> float | None:
    return None if p is None else round(p, DIGITS)
