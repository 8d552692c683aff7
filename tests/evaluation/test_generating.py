"""Responses to questions, by a model's server on a socket."""

import asyncio
import base64
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from inspect import signature
from pathlib import Path
from threading import Barrier, Event, Thread
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medreward_client import Choice, ChoiceCriterion, Criterion
from medreward_client.pauses import Pauses
from medreward_eval.errors import Failed, OtherRun
from medreward_eval.generation.model_server import ChatServer
from medreward_eval.generation.run import (
    BARREN_ROWS,
    PAUSES,
    Sampling,
    drawn,
    generate,
    read_reply,
)
from medreward_eval.grading.predictions import Reading, prediction_of
from medreward_eval.journal import Journal, Row, latest_rows, rows_of
from medreward_eval.records import Failure, Question
from medreward_eval.resume import Counts
from tests.evaluation.model_server import (
    Body,
    ModelServer,
    Reply,
    asked,
    echo,
    failing,
    model_server,
    refused,
    said,
)

pytestmark = pytest.mark.anyio

PNG = b"\x89PNG\r\n\x1a\n and the rest"
QUICK = Sampling(timeout_s=60.0, patience_s=60.0)
SHORT = Pauses(first_s=0.001, longest_s=0.01)
TOO_LONG = "This model's maximum context length is 128 tokens."


@pytest.fixture
def server() -> Iterator[ModelServer]:
    """A server whose replies depend on the question."""
    with model_server() as running:
        yield running


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of the file of predictions."""
    return tmp_path / "predictions.jsonl"


def questions(number: int, **changes: Any) -> list[Question]:
    """Questions without images."""
    known = {"task": "medqa", "reference": "spleen", "options": ("liver", "spleen")}
    return [
        Question(f"medqa_{n}", question=f"question {n}", **{**known, **changes})
        for n in range(number)
    ]


async def run(
    server: ModelServer,
    path: Path,
    asked: Iterable[Question],
    sampling: Sampling = QUICK,
    **options: Any,
) -> Counts:
    """One run, as the command does it."""
    told = {"say": lambda _: None, "show": lambda **_: None, "pauses": SHORT, **options}
    async with ChatServer(server.url, api_key="secret") as chat:
        header = {"medreward_eval": "predictions", "sampling": sampling.header()}
        with Journal(path, header) as journal:
            return await generate(lambda: asked, chat, journal, settings=sampling, **told)


def content(path: Path) -> bytes:
    """The bytes of a file."""
    return path.read_bytes()


def lines(path: Path) -> list[Row]:
    """The rows of a file, without its header."""
    return [row for _, row in rows_of(path)][1:]


def except_for(text: str, reply: Reply | Callable[[], Reply]) -> Callable[[Body], Reply]:
    """Answers everything, but one question otherwise."""

    def say(body: Body) -> Reply:
        if asked(body) != text:
            return echo(body)
        return reply if isinstance(reply, Reply) else reply()

    return say


def one_after_the_other(*replies: Reply) -> Callable[[Body], Reply]:
    """Answers to one request after the other; the last one stays."""
    left = list(replies)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


async def test_a_rubric_goes_with_its_question(server: ModelServer, path: Path) -> None:
    """The line has the criteria that grading needs; the next run finds it, unless they changed."""
    scale = (Choice("no", 0.0), Choice("now", 4.0))
    rubric = (Criterion("Tells to wait.", -8.0), ChoiceCriterion("Says how urgent.", scale))
    given = questions(1, template="rubric", reference="", criteria=rubric)
    await run(server, path, given)

    counts = await run(server, path, given)

    (row,) = lines(path)
    assert prediction_of(row, Reading({})).criteria == rubric
    assert (counts.done, counts.found) == (0, 1)
    with pytest.raises(OtherRun, match=r"is of another \(criteria\)"):
        await run(server, path, [replace(given[0], criteria=rubric[:1])])


async def test_a_question_becomes_a_line(server: ModelServer, path: Path) -> None:
    """With all that grading needs, and the thinking left in the response."""
    counts = await run(server, path, questions(1))

    header, row = (row for _, row in rows_of(path))
    assert header == {
        "medreward_eval": "predictions",
        "sampling": {
            "max_tokens": 2048,
            "temperature": 0.0,
            "top_p": 1.0,
            "system": None,
            "extra": {},
        },
    }
    assert row == {
        "id": "medqa_0",
        "task": "medqa",
        "template": "equivalence",
        "question": "question 0",
        "reference": "spleen",
        "options": ["liver", "spleen"],
        "response": "<think>question 0?</think>to question 0",
        "finish_reason": "stop",
    }
    assert (counts.done, counts.found, counts.failed.total()) == (1, 0, 0)


async def test_what_a_server_is_asked(server: ModelServer, path: Path) -> None:
    """A text alone is plain text; a server's own keys go along, and one of None takes one away."""
    extra = {"chat_template_kwargs": {"enable_thinking": False}, "top_p": None}

    await run(server, path, questions(1), replace(QUICK, system="Be brief.", extra=extra))

    assert server.bodies == [
        {
            "model": "tiny",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "question 0"},
            ],
            "max_tokens": 2048,
            "temperature": 0.0,
            "chat_template_kwargs": {"enable_thinking": False},
        }
    ]
    assert server.headers[0]["Authorization"] == "Bearer secret"


async def test_an_image_goes_before_its_question(server: ModelServer, path: Path) -> None:
    """The image is a data URL of its unchanged bytes."""
    await run(server, path, questions(1, image=PNG))

    (message,) = server.bodies[0]["messages"]
    url = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    assert message["content"] == [
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "text", "text": "question 0"},
    ]


async def test_no_more_than_so_many_are_asked_at_once(server: ModelServer, path: Path) -> None:
    """And as many, if there are enough: each is answered once three of them are there."""
    meeting = Barrier(3)

    def say(body: Body) -> Reply:
        meeting.wait(60)
        return echo(body)

    server.say = say

    await run(server, path, questions(21), at_once=3)

    assert server.most_at_once == 3


@pytest.mark.parametrize(
    "unfit", [{"image": b"BM, a bitmap"}, {"trouble": Failure("bad_image", "`image` has no image")}]
)
async def test_a_question_that_cannot_be_asked_has_no_response(
    server: ModelServer, path: Path, unfit: dict[str, Any]
) -> None:
    """No request is sent; the question keeps its place in the file, with the reason."""
    first, second = questions(2)
    counts = await run(server, path, [replace(first, **unfit), second])
    rows = lines(path)

    assert (counts.done, counts.failed, len(server.bodies)) == (1, {"bad_image": 1}, 1)
    assert (rows[0]["response"], rows[0]["error"]["kind"]) == (None, "bad_image")


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[ModelServer, Path, list[Question]]]:
    """A server, a finished file of its responses, and the questions; one of them it refuses."""
    with model_server() as server:
        server.say = except_for("question 4", refused(400))
        path = tmp_path_factory.mktemp("finished") / "whole.jsonl"
        asked = questions(9)
        asyncio.run(run(server, path, asked))
        yield server, path, asked


@given(share=st.floats(0, 1))
def test_a_run_cut_off_anywhere_ends_in_the_same_file(
    finished: tuple[ModelServer, Path, list[Question]], share: float
) -> None:
    """Byte for byte, as if it had never been interrupted."""
    server, path, asked = finished
    whole = content(path)
    cut = path.with_name("cut.jsonl")
    cut.write_bytes(whole[: round(share * len(whole))])

    asyncio.run(run(server, cut, asked))

    assert content(cut) == whole


async def test_what_was_answered_is_not_asked_again(server: ModelServer, path: Path) -> None:
    """A second run sends nothing, and one with more questions sends the new ones."""
    await run(server, path, questions(3))
    before = content(path)
    server.bodies.clear()

    counts = await run(server, path, questions(3))
    assert (counts.found, server.bodies, content(path)) == (3, [], before)

    counts = await run(server, path, questions(5))
    assert (counts.found, counts.done) == (3, 2)
    # Both at once, so in any order.
    assert {asked(body) for body in server.bodies} == {"question 3", "question 4"}


async def test_what_got_no_response_is_asked_again_by_the_next_run(
    server: ModelServer, path: Path
) -> None:
    """The new response stands behind, and in the place of the old line when read."""
    server.say = except_for("question 1", refused(422))
    await run(server, path, questions(3))
    before = content(path)
    server.say = echo

    counts = await run(server, path, questions(5))

    assert content(path).startswith(before)
    assert [row.get("again", False) for row in lines(path)] == [False] * 5 + [True]
    responses = [row["response"] for row in latest_rows(path)]
    assert all(response.endswith(f"question {n}") for n, response in enumerate(responses))
    assert (counts.found, counts.done, counts.failed.total()) == (2, 3, 0)


@pytest.mark.parametrize("left", [0, 10, 300])
async def test_asking_again_can_be_cut_off_too(server: ModelServer, path: Path, left: int) -> None:
    """And ends in the same file."""
    server.say = lambda body: refused(422) if asked(body)[-1] in "13" else echo(body)
    await run(server, path, questions(5))
    before = content(path)
    server.say = echo
    await run(server, path, questions(5))
    whole = content(path)
    cut = path.with_name("cut.jsonl")
    cut.write_bytes(whole[: len(before) + left])

    await run(server, cut, questions(5))

    assert content(cut) == whole
    assert whole.count(b'{"again":true') == 2


async def test_the_same_trouble_again_is_not_told_again(server: ModelServer, path: Path) -> None:
    """Another one is."""
    server.say = except_for("question 1", refused(422))
    await run(server, path, questions(3))
    before = content(path)

    counts = await run(server, path, questions(3))
    assert content(path) == before
    assert (counts.found, counts.failed) == (2, {"refused": 1})

    server.say = except_for("question 1", refused(400, TOO_LONG))
    await run(server, path, questions(3))
    assert lines(path)[-1]["again"]
    assert lines(path)[-1]["error"]["kind"] == "context_length"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"reference": "liver"}, "reference"),
        ({"options": ("spleen",)}, "options"),
        ({"task": "medmcqa"}, "task"),
    ],
)
async def test_a_file_of_other_questions_is_not_added_to(
    server: ModelServer, path: Path, changes: dict[str, Any], field: str
) -> None:
    """The first line that differs is named, and nothing of its text."""
    await run(server, path, questions(2))

    with pytest.raises(OtherRun, match=rf"'medqa_0' is of another \({field}\)"):
        await run(server, path, questions(3, **changes))

    assert len(lines(path)) == 2


async def test_a_file_of_more_questions_is_not_added_to(server: ModelServer, path: Path) -> None:
    """Its responses would be counted as of these."""
    await run(server, path, questions(3))

    with pytest.raises(OtherRun, match="has lines of more than there is now"):
        await run(server, path, questions(2))


async def test_other_sampling_is_another_run(server: ModelServer, path: Path) -> None:
    """But not another patience."""
    await run(server, path, questions(1))
    await run(server, path, questions(1), replace(QUICK, timeout_s=9.0, patience_s=9.0))

    with pytest.raises(OtherRun, match="sampling"):
        await run(server, path, questions(1), replace(QUICK, temperature=1.0))


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (refused(400, TOO_LONG), "context_length"),
        (refused(400, "image_url"), "refused"),
        (refused(413), "refused"),
        (refused(422), "refused"),
        (failing(400, code="content_filter"), "content_filter"),
        (failing(400, type="content_policy_violation"), "content_filter"),
        (failing(403, code="moderation_blocked"), "content_filter"),
        (said("", "content_filter"), "content_filter"),
        (Reply(b"<html>patient John Doe", 400), "refused"),
        (Reply({"choices": []}), "no_response"),
        (said(None), "no_response"),
    ],
)
async def test_what_is_wrong_with_one_question_is_told_of_that_one(
    server: ModelServer, path: Path, reply: Reply, kind: str
) -> None:
    """It has no response, rather than an empty one, and its neighbours have theirs."""
    server.say = except_for("question 1", reply)

    counts = await run(server, path, questions(3))

    assert [row["response"] is None for row in lines(path)] == [False, True, False]
    assert lines(path)[1]["error"]["kind"] == kind
    assert counts.failed == {kind: 1}
    assert len(server.bodies) == 3
    assert b"John Doe" not in content(path)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (refused(500), "server_error"),
        (refused(504), "timeout"),
        (Reply(b"no JSON"), "bad_reply"),
    ],
)
async def test_what_fails_three_times_has_no_response(
    server: ModelServer, path: Path, reply: Reply, kind: str
) -> None:
    """Its trouble says that the same may succeed later."""
    server.say = except_for("question 1", reply)

    await run(server, path, questions(3))

    error = lines(path)[1]["error"]
    assert (error["kind"], error["retryable"]) == (kind, True)
    assert "John Doe" not in error["message"]
    assert [asked(body) for body in server.bodies].count("question 1") == 3


async def test_what_takes_too_long_three_times_has_no_response(
    server: ModelServer, path: Path
) -> None:
    """A server that never answers costs three times the timeout, and the question's response."""
    ended = Event()

    def say(_: Body) -> Reply:
        ended.wait()
        return said("late")

    server.say = say
    await run(server, path, questions(1), replace(QUICK, timeout_s=0.4))
    ended.set()

    error = lines(path)[0]["error"]
    assert (error["kind"], error["retryable"]) == ("timeout", True)
    assert len(server.bodies) == 3


def test_pauses_begin_below_half_a_second_and_double_to_half_a_minute() -> None:
    """The bound after each attempt, in seconds, of a run that was given no other pauses."""
    default = signature(generate).parameters["pauses"].default

    assert [default.doubled(attempt) for attempt in range(1, 9)] == [0.5, 1, 2, 4, 8, 16, 30, 30]


@given(st.integers(1, 10_000))
def test_a_pause_is_at_least_half_of_its_bound(attempt: int) -> None:
    """And never longer than the longest."""
    most_s = PAUSES.doubled(attempt)

    assert most_s / 2 <= drawn(PAUSES, attempt) <= most_s <= PAUSES.longest_s


async def test_what_fails_once_is_asked_again_at_once(server: ModelServer, path: Path) -> None:
    """And leaves no trace."""
    server.say = one_after_the_other(refused(500), refused(503), said("spleen"))

    counts = await run(server, path, questions(1))

    assert lines(path)[0]["response"] == "spleen"
    assert counts.failed.total() == 0


async def test_a_busy_server_is_asked_again_when_it_says(server: ModelServer, path: Path) -> None:
    """Its Retry-After is heeded, and a person is told that it is waited for."""
    heard: list[str] = []
    server.say = one_after_the_other(refused(429, **{"Retry-After": "1"}), said("spleen"))

    began = time.monotonic()
    await run(server, path, questions(1), say=heard.append)

    assert time.monotonic() - began >= 1.0
    assert lines(path)[0]["response"] == "spleen"
    (told,) = heard
    assert "429" in told
    assert "waiting" in told


async def test_a_server_that_goes_down_is_waited_for(server: ModelServer, path: Path) -> None:
    """Requests in flight are retried, and the file is that of an undisturbed run."""
    undisturbed = path.with_name("undisturbed.jsonl")
    await run(server, undisturbed, questions(20))
    stopped = Event()

    def stop() -> None:
        server.stop()
        stopped.set()
        # Long enough to be found gone, again and again.
        time.sleep(0.1)
        server.start()

    stopping = Thread(target=stop)

    def say(body: Body) -> Reply:
        if asked(body) == "question 7" and not stopped.is_set():
            stopping.start()
            stopped.wait()
        return echo(body)

    server.say = say
    server.bodies.clear()

    await run(server, path, questions(20), at_once=4)

    stopping.join()
    assert len(server.bodies) > 20
    assert content(path) == content(undisturbed)


async def test_a_server_that_stays_down_ends_the_run(server: ModelServer, path: Path) -> None:
    """After so long as it is waited for, which is told once; the next run goes on."""
    stopping = Thread(target=server.stop)
    heard: list[str] = []

    def say(body: Body) -> Reply:
        if asked(body) == "question 3":
            stopping.start()
            stopping.join()
        return echo(body)

    server.say = say
    with pytest.raises(Failed, match=r"cannot be reached, for 0\.1 s now"):
        await run(
            server, path, questions(9), replace(QUICK, patience_s=0.1), say=heard.append, at_once=1
        )
    assert len(lines(path)) == 3
    assert len(heard) == 1

    server.say = echo
    server.start()
    await run(server, path, questions(9))
    assert [row["id"] for row in lines(path)] == [f"medqa_{n}" for n in range(9)]


async def test_who_is_turned_away_while_others_are_answered_has_no_response(
    server: ModelServer, path: Path
) -> None:
    """The server is there, so one question does not hold up the run for ever, nor end it."""
    turning_away = except_for("question 0", refused(503))
    server.say = lambda body: replace(turning_away(body), after_s=0.05)

    await run(server, path, questions(20), replace(QUICK, patience_s=0.5), at_once=2)

    rows = lines(path)
    assert rows[0]["error"]["kind"] == "unavailable"
    assert all(row["response"] for row in rows[1:])


@pytest.mark.parametrize(
    ("status", "advice"), [(401, "API key"), (403, "API key"), (404, "no such model"), (405, "no")]
)
async def test_what_is_wrong_with_all_questions_ends_the_run(
    server: ModelServer, path: Path, status: int, advice: str
) -> None:
    """The run ends at once with the remedy, and the file has no line without a response."""
    server.say = lambda _: refused(status)

    with pytest.raises(Failed, match=rf"{status} \(BadRequestError\).*{advice}") as failed:
        await run(server, path, questions(3))

    assert lines(path) == []
    assert "secret" not in str(failed.value)
    assert "John Doe" not in str(failed.value)


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (
            failing(400, param="max_tokens", code="unsupported_parameter"),
            """(unsupported_parameter, param max_tokens); if the model does not take it, give \
--extra '{"max_tokens": null, "max_completion_tokens": 2048}'""",
        ),
        (failing(400, param="temperature"), """give --extra '{"temperature": null}'"""),
        (failing(422, param="top_p"), """give --extra '{"top_p": null}'"""),
        (failing(400, param="top_k"), "(param top_k)"),
        (
            Reply({"detail": [{"loc": ["body", "max_tokens"], "msg": "John Doe"}]}, 422),
            "(param max_tokens); if",
        ),
    ],
)
async def test_a_parameter_that_a_server_does_not_take_is_named(
    server: ModelServer, path: Path, reply: Reply, told: str
) -> None:
    """With the option that leaves it out, if it is one that every request has."""
    server.say = lambda _: reply

    await run(server, path, questions(1))

    assert told in lines(path)[0]["error"]["message"]


@pytest.mark.parametrize("param", ["Mr Doe", "messages[0]", {"name": "Doe"}, ["Doe"], None])
async def test_a_parameter_that_is_no_plain_name_is_not_shown(
    server: ModelServer, path: Path, param: object
) -> None:
    """It may quote the question."""
    server.say = lambda _: failing(400, param=param)

    await run(server, path, questions(1))

    assert lines(path)[0]["error"]["message"].endswith(" said 400")


async def test_a_server_that_answers_nothing_ends_the_run(server: ModelServer, path: Path) -> None:
    """Long before it has failed at all of a data set."""
    server.say = lambda _: refused(400)

    with pytest.raises(Failed, match=f"no response to {BARREN_ROWS} questions in a row"):
        await run(server, path, questions(200))

    assert len(lines(path)) == BARREN_ROWS


@pytest.mark.parametrize(
    ("reply", "image", "kind"),
    [
        (refused(400, TOO_LONG), None, "context_length"),
        (refused(400, TOO_LONG), b"BM, a bitmap", "bad_image"),
        (failing(400, code="content_filter"), None, "content_filter"),
        (said("The", "content_filter"), None, "content_filter"),
    ],
)
async def test_many_questions_may_be_unfit(
    server: ModelServer, path: Path, reply: Reply, image: bytes | None, kind: str
) -> None:
    """That is the questions' matter, and no reason to end the run."""
    server.say = lambda _: reply

    counts = await run(server, path, questions(2 * BARREN_ROWS, image=image))

    assert counts.failed == {kind: 2 * BARREN_ROWS}


async def test_progress_is_shown(server: ModelServer, path: Path) -> None:
    """The counts are of questions with a response, without one, and with one before the run."""
    shown: list[dict[str, int]] = []
    await run(server, path, questions(1))
    server.say = except_for("question 2", refused(400))

    await run(server, path, questions(3), show=lambda **counts: shown.append(counts))

    first, *later = shown
    assert first == {"done": 1, "trouble": 0, "found": 1}
    assert later == [{"done": 1, "trouble": 1, "found": 1}] * 2


async def test_nothing_of_questions_and_keys_is_logged(
    server: ModelServer, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever a library logs, and at its most talkative."""
    caplog.set_level(logging.DEBUG)

    await run(server, path, questions(2, reference="a secret reference"))

    assert "question 0" not in caplog.text
    assert "secret" not in caplog.text


async def test_the_one_model_that_is_served_is_taken(server: ModelServer) -> None:
    """It is the default; a name that is given is used unchecked."""
    async with ChatServer(server.url + "/") as chat:
        assert chat.model == "tiny"
    server.models = Reply({"data": []}, 404)
    async with ChatServer(server.url, model="mine") as chat:
        assert chat.model == "mine"


@pytest.mark.parametrize(
    ("models", "told"),
    [
        (Reply({"data": [{"id": "a"}, {"id": "b"}]}), "several models; name one of a, b"),
        (
            Reply({"data": [{"id": f"m{n}"} for n in range(25)]}),
            "m18, m19, and 5 more",
        ),
        (Reply({"data": []}), "name the model"),
        (Reply({"object": "list"}), "name the model"),
        (Reply(b"<html>", 404), r"\(404\); name the model"),
        (refused(401), "give its API key"),
    ],
)
async def test_where_no_model_can_be_taken_it_is_told_at_once(
    server: ModelServer, models: Reply, told: str
) -> None:
    """With those to choose from."""
    server.models = models

    with pytest.raises(Failed, match=told):
        async with ChatServer(server.url):
            pass


async def test_a_server_that_is_not_there_is_told_at_once(server: ModelServer) -> None:
    """Before anything is read or written, whether or not a model is named."""
    server.stop()

    with pytest.raises(Failed, match="cannot be reached; is the model's server running"):
        async with ChatServer(server.url, model="tiny"):
            pass
    server.start()


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8000",
        "ftp://host/v1",
        "http://",
        "http://host/v1?key=secret",
        "\n",
        "http://host:65536",
    ],
)
def test_an_address_that_cannot_be_is_refused(url: str) -> None:
    """And not repeated: it may hold a password."""
    with pytest.raises(ValueError, match="must be like http://localhost:8000/v1") as refused_:
        ChatServer(url)

    assert "secret" not in str(refused_.value)


@pytest.mark.parametrize("key", ["secret\n", "schlüssel", ""])
def test_a_key_that_cannot_be_sent_is_refused(key: str) -> None:
    """And not repeated."""
    with pytest.raises(ValueError, match=r"one line of ASCII$"):
        ChatServer("http://host/v1", api_key=key)


@pytest.mark.parametrize(
    "wrong", [{"extra": {"stream": True}}, {"timeout_s": 0.0}, {"patience_s": float("inf")}]
)
def test_sampling_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    """Keys that would make replies unreadable, and endless waits, are errors."""
    with pytest.raises(ValueError, match=next(iter(wrong.get("extra", wrong)))):
        Sampling(**wrong)


THOUGHT = "It may be the spleen"


@pytest.mark.parametrize(
    ("message", "finish_reason", "response", "reasoning"),
    [
        ({"content": "spleen"}, "stop", "spleen", None),
        ({"content": ""}, "stop", "", None),
        ({"content": "spleen", "reasoning_content": THOUGHT}, "stop", "spleen", THOUGHT),
        ({"content": "spleen", "reasoning": THOUGHT}, "stop", "spleen", THOUGHT),
        ({"content": None, "reasoning": THOUGHT}, "length", "", THOUGHT),
        ({"content": "", "reasoning": THOUGHT}, "length", "", THOUGHT),
        ({"content": None, "thinking": THOUGHT}, "max_tokens", "", THOUGHT),
        ({"content": None, "reasoning": THOUGHT}, "stop", None, THOUGHT),
        ({"content": "spleen", "tool_calls": []}, "STOP", "spleen", None),
        ({"content": "spleen", "reasoning": ""}, "length", "spleen", None),
        ({"content": None}, "length", None, None),
        ({"content": ["spleen"]}, "stop", None, None),
    ],
)
def test_what_a_reply_says(
    message: dict[str, Any], finish_reason: str, response: str | None, reasoning: str | None
) -> None:
    """Cut off while it thought is an empty response; no text for another reason is none at all."""
    (question,) = questions(1)

    told = read_reply(question, {"choices": [{"message": message, "finish_reason": finish_reason}]})

    assert (told.response, told.reasoning) == (response, reasoning)
    assert told.finish_reason == finish_reason
    assert (told.error is None) == (response is not None)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["choices", "message", "content", "finish_reason", "reasoning"]),
            inner,
        )
    ),
)


@given(st.dictionaries(st.sampled_from(["choices", "message", "error"]), json_values))
def test_every_reply_is_a_response_or_an_error(reply: dict[str, Any]) -> None:
    """A prediction never has both, whatever a server sends, and `finish_reason` cannot be free text."""
    (question,) = questions(1)

    told = read_reply(question, reply)

    assert (told.response is None) == (told.error is not None)
    assert json.dumps(told.finish_reason)
    assert " " not in (told.finish_reason or "")


@pytest.mark.parametrize("content", ["", "\n\n", None])
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("reasoning_content", "The answer is B."),
        ("reasoning", "The answer is B."),
        ("thinking", "The answer is B."),
        ("reasoning_details", [{"text": "The answer is B."}]),
        ("tool_calls", [{"function": {"name": "answer", "arguments": "B"}}]),
        ("refusal", "I cannot help."),
    ],
)
@pytest.mark.parametrize("reason", ["stop", "eos_token", None])
def test_an_answer_that_the_server_put_elsewhere_is_not_an_empty_one(
    content: str | None, key: str, value: object, reason: str | None
) -> None:
    """It would be graded as wrong; the error names the key, and what to see to."""
    (question,) = questions(1)
    choice = {"finish_reason": reason, "message": {"content": content, key: value}}
    told = read_reply(question, {"choices": [choice]})

    assert told.response is None
    assert told.error is not None
    assert told.error.kind == "no_response"
    assert f"has `{key}` and no text in `content`" in told.error.message
    assert "--reasoning-parser" in told.error.message


@pytest.mark.parametrize("content", ["", "The answ", None])
@pytest.mark.parametrize("reason", ["content_filter", "SAFETY", "guardrail_intervened", "refusal"])
def test_what_a_content_filter_ended_is_no_answer(content: str | None, reason: str) -> None:
    """It is counted by itself, and asking again would end alike."""
    (question,) = questions(1)
    choice = {"finish_reason": reason, "message": {"content": content}}
    told = read_reply(question, {"choices": [choice]})

    assert told.response is None
    assert told.error is not None
    assert (told.error.kind, told.error.retryable) == ("content_filter", False)


@pytest.mark.parametrize("reason", ["abort", "error", "insufficient_system_resource", "unheard_of"])
def test_what_the_server_broke_off_is_no_answer(reason: str) -> None:
    """Half of an answer, or none of it, would be graded as the model's."""
    (question,) = questions(1)
    choice = {"finish_reason": reason, "message": {"content": "The answ"}}
    told = read_reply(question, {"choices": [choice]})

    assert told.response is None
    assert told.error is not None
    assert (told.error.kind, told.error.retryable) == ("broken_off", True)
