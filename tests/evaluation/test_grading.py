"""Grades for predictions."""

from collections.abc import Sequence
from dataclasses import replace

import httpx
import pytest

from medreward_client import Judged
from medreward_eval.errors import Failed, OtherRun
from medreward_eval.grading.grader import (
    BATCH_CHARACTERS,
    BATCH_ITEMS,
    Grader,
    batches,
    find_identity,
    grade_of,
    grades_header,
)
from medreward_eval.records import Failure, Grade, Vote
from tests.evaluation.wire import (
    IDENTITY,
    Item,
    Say,
    client,
    judged,
    prediction,
    service,
    unjudged,
)

pytestmark = pytest.mark.anyio


def saying(verdict: str) -> Say:
    """The same to every item."""
    return lambda items, _: [judged(item, verdict) for item in items]


def recording(asked: list[Item], verdict: str = "YES", **changes: str) -> Say:
    """The same to every item, which is added to *asked*."""

    def say(items: Sequence[Item], template: str) -> list[Item]:
        asked.extend(items)
        return [judged(item, verdict, **changes) for item in items]

    return say


async def grades(say: Say, *predictions: object) -> list[Grade]:
    """Grades by a service that says so."""
    async with client(service(say)) as asked:
        graded = await Grader(asked, IDENTITY).grade(predictions)  # type: ignore[arg-type]
    return [one.grade for one in graded]


async def test_an_open_answer_is_graded_by_the_majority_of_three_views() -> None:
    """The grade includes the verdict of each view."""
    (grade,) = await grades(saying("YES"), prediction("q1"))

    assert (grade.score, grade.settled_by, grade.p_yes) == (1.0, "judge", 0.9)
    assert grade.votes == tuple(
        Vote(view, "YES", 0.9) for view in ("as_written", "swapped", "without_question")
    )


async def test_what_the_judge_is_shown() -> None:
    """The answer without its thinking, the reference with its letter, and three votes asked for."""
    asked: list[Item] = []
    response = "<think>Liver? No.</think>\nProbably the spleen, I should say"
    await grades(recording(asked), prediction("q1", response, options=("liver", "spleen")))

    assert [(one["answer"], one["reference"], one["question"]) for one in asked] == [
        ("Probably the spleen, I should say", "B. spleen", "Which organ?")
    ]


async def test_an_option_in_plain_words_is_not_asked_about() -> None:
    """The judge is asked about the rest of the batch alone, and grades keep their places."""
    asked: list[Item] = []
    options = ("liver", "spleen")
    told = await grades(
        recording(asked),
        prediction("q1", "A", options=options),
        prediction("q2", "the spleen, perhaps", options=options),
        prediction("q3", "B", options=options),
    )

    assert [(one.score, one.settled_by) for one in told] == [
        (0.0, "option"),
        (1.0, "judge"),
        (1.0, "option"),
    ]
    assert len(asked) == 1


async def test_a_report_gets_the_mean_of_its_views() -> None:
    """`expected`, which lies between the digits, and not the likeliest digit."""
    (grade,) = await grades(
        lambda items, _: [judged(items[0], None, score=4.0, expected=3.62)],
        prediction("r1", "Clear lungs.", template="report"),
    )

    assert (grade.score, grade.settled_by) == (3.62, "judge")


async def test_what_is_remembered_counts_as_judged() -> None:
    """Cache hits must not show in a file, since resumed runs have to write the same one."""
    told = await grades(
        lambda items, _: [
            judged(items[0], "YES", source="cache"),
            judged(items[1], "YES", source="coalesced"),
            judged(items[2], "YES", source="exact", votes=[]),
            judged(items[3], "NO", source="rule", votes=[]),
            judged(items[4], "NO", source="veto", votes=[]),
        ],
        *(prediction(f"q{n}", f"answer {n}") for n in range(5)),
    )

    assert [one.settled_by for one in told] == ["judge", "judge", "exact", "rule", "rule"]


async def test_what_was_not_judged_has_a_reason_and_no_score() -> None:
    """A failure is not a zero, and costs its neighbour nothing."""
    told = await grades(
        lambda items, _: [unjudged(items[0]), judged(items[1], "YES")],
        prediction("q1"),
        prediction("q2"),
    )

    assert told[0].score is None
    assert told[0].error == Failure("judge_timeout", "no answer in time", retryable=True)
    assert told[1].score == 1.0


async def test_a_response_that_never_came_is_not_graded_as_wrong() -> None:
    """It is unjudged, for the reason that it has none; an empty one is asked about."""
    late = Failure("timeout", "no answer in 180 s", retryable=True)
    told = await grades(saying("NO"), prediction("q1", None, error=late), prediction("q2", ""))

    assert (told[0].score, told[0].error) == (None, late)
    assert told[1].score == 0.0


async def test_an_endless_answer_is_not_sent() -> None:
    """No service would take it."""
    (grade,) = await grades(saying("YES"), prediction("q1", "x" * 1_000_001))

    assert grade.error == Failure("too_long", "the answer has more than 1,000,000 characters")


async def test_an_item_that_the_service_refuses_costs_its_neighbours_nothing() -> None:
    """The client tells the one apart that a refusal is about."""

    def reply(request: httpx.Request) -> httpx.Response:
        if b"poison" in request.content:
            error = {"kind": "invalid_request", "message": "items[3].answer", "retryable": False}
            return httpx.Response(422, json={"error": error, "request_id": "r"})
        return service(saying("YES")).handler(request)  # type: ignore[return-value]

    many = [prediction(f"q{n}", "poison" if n == 3 else f"answer {n}") for n in range(7)]
    async with client(httpx.MockTransport(reply)) as asked:
        graded = await Grader(asked, IDENTITY).grade(many)

    assert [one.grade.score for one in graded] == [1.0, 1.0, 1.0, None, 1.0, 1.0, 1.0]
    assert graded[3].grade.error is not None
    assert graded[3].grade.error.kind == "sample_refused"


async def test_a_service_that_is_gone_stops_the_run() -> None:
    """After its deadline, in words that say what to do."""
    transport = httpx.MockTransport(lambda _: httpx.Response(503))
    async with client(transport, deadline_s=0.1) as asked:
        with pytest.raises(Failed, match="what was graded is in the file, so run this again"):
            await Grader(asked, IDENTITY, deadline_s=0.1).grade([prediction("q1")])


async def test_a_wrong_key_stops_the_run_at_once() -> None:
    """It is not the items' fault, so none of them is called unjudged."""
    error = {"error": {"kind": "unauthorized", "message": "no key", "retryable": False}}
    transport = httpx.MockTransport(lambda _: httpx.Response(401, json=error))
    async with client(transport) as asked:
        with pytest.raises(Failed, match=r"refuses to grade.*unauthorized"):
            await Grader(asked, IDENTITY).grade([prediction("q1"), prediction("q2")])


async def test_a_service_that_changed_stops_the_run() -> None:
    """Half a file by one judge and half by another looks like one model."""
    async with client(service(saying("YES"), judge="another")) as asked:
        with pytest.raises(OtherRun, match="now another"):
            await Grader(asked, IDENTITY).grade([prediction("q1")])


async def test_a_template_that_the_run_did_not_begin_with_is_told() -> None:
    """Before the judge is asked about anything of the batch."""
    grader_identity = replace(IDENTITY, judges={"equivalence": "judge"})
    async with client(service(saying("YES"))) as asked:
        with pytest.raises(OtherRun, match="whether it grades by report"):
            await Grader(asked, grader_identity).grade([prediction("r1", template="report")])


async def test_what_a_service_is_can_be_asked_without_a_model() -> None:
    """By an answer that is the reference itself; the header says it."""
    asked: list[Item] = []
    async with client(service(recording(asked, source="exact"))) as asking:
        grader_identity = await find_identity(asking, ["report", "equivalence"])

    assert grader_identity == IDENTITY
    assert all(one["answer"] == one["reference"] for one in asked)
    assert grades_header("m", grader_identity, [{"tasks": "sha256:t"}], votes=3, total=7) == {
        "medreward_eval": "grades",
        "version": 1,
        "model": "m",
        "predictions": 7,
        "tasks": "sha256:t",
        "service": "1.0",
        "judges": {"equivalence": "judge", "report": "judge"},
        "templates": {"equivalence": "sha256:e", "report": "sha256:r"},
        "rules": {"equivalence": "rules", "report": None},
        "votes": 3,
    }


def test_a_header_names_every_way_in_which_predictions_were_generated() -> None:
    """Also where runs of two models stand in one file; equal ones are told once."""
    cool = {"model": "one", "sampling": {"temperature": 0}}
    warm = {"model": "two", "sampling": {"temperature": 1}}
    headers = [{"medreward_eval": "predictions", **way} for way in (cool, warm, cool)]

    header = grades_header("one + two", IDENTITY, headers, votes=1, total=2)

    assert header["generated"] == [cool, warm]


async def test_a_template_without_a_judge_is_told_before_anything_is_graded() -> None:
    """A service without a language model cannot grade reports."""
    error = {"error": {"kind": "template_unavailable", "message": "no llm", "retryable": False}}
    transport = httpx.MockTransport(lambda _: httpx.Response(422, json=error))
    async with client(transport) as asked:
        with pytest.raises(Failed, match=r"the template 'report'.*template_unavailable"):
            await find_identity(asked, ["report"])


def test_a_reply_without_a_score_is_unjudged() -> None:
    """The other fields of the reply do not matter."""
    odd = Judged("q1", None, None, 4.0, None, (), None, "judge")

    assert grade_of("report", odd).error == Failure("bad_reply", "the service gave no score")


def test_batches_are_bounded_in_number_and_size() -> None:
    """A request stays far below what a service takes, and nothing is left out."""
    short = [prediction(f"s{n}") for n in range(BATCH_ITEMS + 1)]
    long = [prediction(f"l{n}", "x" * (BATCH_CHARACTERS // 2)) for n in range(3)]

    assert [len(batch) for batch in batches(short)] == [BATCH_ITEMS, 1]
    assert [len(batch) for batch in batches(long)] == [1, 1, 1]
    assert list(batches([])) == []
