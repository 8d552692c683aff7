"""Requests into bytes, replies into results."""

import contextlib
import copy
import json
from collections import deque
from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medreward_client import (
    BadReply,
    Criterion,
    MedrewardError,
    Overloaded,
    RequestRefused,
    Sample,
    TimedOut,
    Unavailable,
)
from medreward_client._batching import RewardRoute
from medreward_client._client import JudgeRoute, health_call
from medreward_client._http import Call, Reply
from medreward_client._types import Terms
from tests.client.stand_in import (
    ITEM,
    JUDGED,
    PATIENT_TEXT,
    READINESS,
    SAMPLE,
    SCORED,
    UNJUDGED,
    UNSCORED,
    judge_body,
    reward_body,
)

CALLS: dict[str, tuple[Call[Any], dict[str, Any]]] = {
    "reward": (
        RewardRoute(Terms()).call([SAMPLE, SAMPLE]),
        reward_body(SCORED, UNSCORED),
    ),
    "judge": (JudgeRoute("rubric", 1).call([ITEM, ITEM]), judge_body(JUDGED, UNJUDGED)),
    "health": (health_call(), READINESS),
}
REWARD, _ = CALLS["reward"]

INT64 = st.integers(-(2**63), 2**63 - 1)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | INT64
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
CRITERIA = st.builds(Criterion, text=st.text(), points=st.floats(-10, 10))
SAMPLES = st.builds(
    Sample,
    response=st.text(),
    reference=st.text() | st.lists(st.text()),
    id=st.none() | st.text(),
    group=st.none() | st.text(),
    question=st.none() | st.text(),
    modality=st.none() | st.text(),
    criteria=st.none() | st.lists(CRITERIA),
    extra=st.dictionaries(st.text(), JSON),
)


def reply(body: object, status: int = 200, **headers: str) -> Reply:
    """Make a reply out of JSON or bytes."""
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    return Reply(
        status, {name.replace("_", "-"): value for name, value in headers.items()}, content
    )


def sent(*samples: Sample) -> list[dict[str, Any]]:
    """Read the samples from the body of a request."""
    content = RewardRoute(Terms()).call(samples).content(60.0)
    assert content is not None
    received: list[dict[str, Any]] = orjson.loads(content)["samples"]
    return received


def as_sample(received: dict[str, Any]) -> Sample:
    """Build a sample from what arrived."""
    criteria = received.pop("criteria", None)
    return Sample(
        **received,
        criteria=None if criteria is None else [Criterion(**criterion) for criterion in criteria],
    )


@given(st.lists(SAMPLES, max_size=4))
def test_a_sample_arrives_as_it_was_sent(samples: list[Sample]) -> None:
    """No sample is lost, changed or reordered in transit to the service."""
    assert [as_sample(received) for received in sent(*samples)] == samples


def test_what_is_not_set_is_null_and_what_is_empty_is_empty() -> None:
    """To the service null is as good as absent, and an empty text is a text."""
    sample = Sample("left", "", question="", extra={"site": None})

    (received,) = sent(sample)

    assert {name for name, value in received.items() if value is None} == {
        *("id", "group", "modality", "criteria")
    }
    assert (received["question"], received["extra"]) == ("", {"site": None})


def test_half_a_character_reaches_the_service() -> None:
    """A degenerate rollout may hold a lone surrogate, which costs its neighbours nothing."""
    content = RewardRoute(Terms()).call([Sample("left \ud83d", ("a", "b")), SAMPLE]).content(60.0)

    assert content is not None
    assert json.loads(content)["samples"][0]["response"] == "left \ud83d"


def test_any_sequence_and_any_mapping_will_do() -> None:
    """The annotations promise Sequence and Mapping, so more than list and dict can be sent."""
    sample = Sample(
        "left",
        deque(["left", "left side"]),
        criteria=deque([Criterion("names the side", 1)]),
        extra=MappingProxyType({"sites": deque([1, 2])}),
    )

    (received,) = sent(sample)

    assert received["reference"] == ["left", "left side"]
    assert received["criteria"] == [{"text": "names the side", "points": 1}]
    assert received["extra"] == {"sites": [1, 2]}


@pytest.mark.parametrize("value", [b"bytes", {PATIENT_TEXT}, object(), {1: "no name"}])
def test_what_json_cannot_hold_is_a_type_error(value: object) -> None:
    """It is raised before anything is sent, and does not show the sample."""
    with pytest.raises(TypeError) as caught:
        RewardRoute(Terms()).call([Sample(PATIENT_TEXT, "left", extra={"x": value})]).content(60.0)

    assert PATIENT_TEXT not in str(caught.value)


@pytest.mark.parametrize(
    ("run_id", "step", "run"),
    [
        ("r", 0, {"id": "r", "step": 0}),
        ("r", None, {"id": "r", "step": None}),
        (None, 7, None),
    ],
)
def test_a_run_travels_with_what_is_known_of_it(
    run_id: str | None, step: int | None, run: dict[str, object] | None
) -> None:
    """Step 0 is a step; a step without its run says nothing, and stays at home."""
    content = RewardRoute(Terms(None, run_id, step)).call([SAMPLE]).content(60.0)

    assert content is not None
    assert orjson.loads(content).get("run") == run


def read_whole(call: Call[Any], answer: Reply) -> Any:
    """Read a reply, and the results that are otherwise read on first access."""
    found = call.read(answer)
    return found, getattr(found, "results", None)


Place = tuple[str | int, ...]
ABSENT = object()


def parts(document: Any, place: Place = ()) -> Iterator[Place]:
    """List the places of all objects in a document, its own first."""
    if isinstance(document, dict):
        yield place
    inner = document.items() if isinstance(document, dict) else enumerate(document)
    for step, value in inner:
        if isinstance(value, dict | list):
            yield from parts(value, (*place, step))


PARTS = [(name, place) for name, (_, body) in CALLS.items() for place in parts(body)]
"""Each object in each reply."""


def at(document: Any, place: Place) -> Any:
    """Go to a part of a document."""
    for step in place:
        document = document[step]
    return document


@pytest.mark.parametrize("name", CALLS)
def test_fields_from_the_future_are_ignored(name: str) -> None:
    """A newer service may say more in every part of a reply."""
    call, body = CALLS[name]
    newer = copy.deepcopy(body)
    for place in parts(body):
        if not place or place[-1] not in {"components", "engines", "timings_ms"}:
            at(newer, place)["horoscope"] = {"sign": "Virgo"}

    assert read_whole(call, reply(newer)) == read_whole(call, reply(body))


@given(st.sampled_from(PARTS), st.data())
def test_a_reply_is_read_or_refused_but_never_breaks_us(
    part: tuple[str, Place], data: st.DataObject
) -> None:
    """With any value in any field, the only error is BadReply."""
    call, body = CALLS[part[0]]
    odd = copy.deepcopy(body)
    fields = at(odd, part[1])
    fields[data.draw(st.sampled_from(sorted(fields)))] = data.draw(JSON)

    with contextlib.suppress(BadReply):
        read_whole(call, reply(odd))


@given(st.sampled_from(sorted(CALLS)), st.data())
def test_a_truncated_reply_is_no_reply(name: str, data: st.DataObject) -> None:
    """A reply that was cut off anywhere is refused as a whole."""
    call, body = CALLS[name]
    content = orjson.dumps(body)
    cut = data.draw(st.integers(0, len(content) - 1))

    with pytest.raises(BadReply):
        call.read(reply(content[:cut]))


@pytest.mark.parametrize("page", [b"<html>Welcome to the ward</html>", b"[]", b"null", b"{}"])
@pytest.mark.parametrize("name", CALLS)
def test_something_else_instead_of_a_reply_is_a_bad_reply(name: str, page: bytes) -> None:
    """A 200 with a proxy's page, or with JSON that is not ours, is refused."""
    with pytest.raises(BadReply):
        CALLS[name][0].read(reply(page))


@pytest.mark.parametrize(
    ("name", "place", "value", "complaint"),
    [
        ("reward", ("results", 0, "reward"), None, "is NoneType, not float"),
        ("reward", ("results", 0, "reward"), True, "is bool, not float"),
        ("reward", ("results", 0, "status"), "guessed", "is not scored or unscored"),
        ("reward", ("results", 1, "status"), ["scored"], "is not scored or unscored"),
        ("reward", ("results", 0, "flags", 0), 3, "is int, not str"),
        ("reward", ("results",), {}, "is dict, not list"),
        ("reward", ("counts", "scored"), 1.0, "is float, not int"),
        ("reward", ("counts",), [], "is list, not dict"),
        ("reward", ("timings_ms", "total"), None, "is NoneType, not float"),
        ("judge", ("results", 0, "verdict"), "MAYBE", "is str, not YES or NO"),
        ("reward", ("results",), ABSENT, "is missing"),
        ("reward", ("results", 0, "reward"), ABSENT, "is missing"),
        ("reward", ("results", 0, "components", "format", "weight"), ABSENT, "is missing"),
        ("reward", ("results", 1, "error", "retryable"), ABSENT, "is missing"),
        ("judge", ("results", 0, "expected"), ABSENT, "is missing"),
        ("judge", ("results", 0, "votes", 0, "verdict"), ABSENT, "is missing"),
        ("health", ("engines", "judge", "ready"), ABSENT, "is missing"),
    ],
)
def test_a_field_that_is_missing_or_of_another_type_is_named(
    name: str, place: Place, value: object, complaint: str
) -> None:
    """No field is filled with a guess; the error names it, and the types found and expected."""
    call, body = CALLS[name]
    odd = copy.deepcopy(body)
    if value is ABSENT:
        del at(odd, place[:-1])[place[-1]]
    else:
        at(odd, place[:-1])[place[-1]] = value
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place)

    with pytest.raises(BadReply) as caught:
        read_whole(call, reply(odd))

    assert str(caught.value) == f"reply{path} {complaint}"


@pytest.mark.parametrize("results", [[], [SCORED], [SCORED] * 3])
def test_a_reply_must_have_as_many_results_as_samples(results: list[dict[str, Any]]) -> None:
    """Otherwise a reward might go to another sample."""
    with pytest.raises(BadReply, match="results for 2 asked"):
        REWARD.read(reply(reward_body(*results)))


def test_a_result_must_carry_the_id_of_its_sample() -> None:
    """A reply in another order is refused."""
    body = reward_body(SCORED, SCORED | {"id": "p17-r4"})

    with pytest.raises(BadReply, match=r"results\[1\].id"):
        REWARD.read(reply(body))


def test_a_sample_without_an_id_takes_the_result_in_its_place() -> None:
    """The service may name what we did not."""
    call = RewardRoute(Terms()).call([Sample("left", "left")])

    assert call.read(reply(reward_body(SCORED))).rewards == (1.0,)


REFUSAL = {
    "error": {"kind": "too_large", "message": "more than 64 MiB", "retryable": False},
    "request_id": "r-1",
}


@pytest.mark.parametrize(
    ("status", "error"),
    [
        *((status, RequestRefused) for status in (400, 401, 413, 422)),
        (408, TimedOut),
        (429, Overloaded),
        *((status, Unavailable) for status in (500, 503)),
        # We follow no redirect: it might take patient text to another host.
        *((status, BadReply) for status in (204, 302)),
    ],
)
def test_the_status_decides_the_class(status: int, error: type[MedrewardError]) -> None:
    """The class follows from the status alone, whatever the body is."""
    for body in (REFUSAL, b"<html>"):
        with pytest.raises(MedrewardError) as caught:
            REWARD.read(reply(body, status))

        assert type(caught.value) is error


def test_a_refusal_carries_the_service_s_words() -> None:
    """Kind, status and request id can be read; the message can be shown."""
    with pytest.raises(RequestRefused, match="status 413, too_large: more than 64 MiB") as caught:
        REWARD.read(reply(REFUSAL, 413))

    refused = caught.value
    assert (refused.kind, refused.status, refused.request_id) == ("too_large", 413, "r-1")


def test_a_refusal_by_somebody_else_says_its_status_alone() -> None:
    """A foreign body may quote the request, so no word of it is shown."""
    quoting = {"detail": [{"loc": ["body", "samples", 0], "input": PATIENT_TEXT}]}

    with pytest.raises(RequestRefused, match="status 422, http_422: no reason given") as caught:
        REWARD.read(reply(quoting, 422, x_request_id="r-2"))

    assert (caught.value.kind, caught.value.request_id) == ("http_422", "r-2")


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [
        ({"retry_after": "0.5"}, 0.5),
        ({"retry_after": "0"}, 0.0),
        ({"retry_after": "Wed, 21 Oct 2026 07:28:00 GMT"}, 1.0),
        ({"retry_after": "-3"}, 1.0),
        ({"retry_after": "nan"}, 1.0),
        ({"retry_after": "inf"}, 1.0),
        ({}, 1.0),
    ],
)
def test_retry_after_is_a_number_one_can_sleep(header: dict[str, str], wait_s: float) -> None:
    """A Retry-After that is not a number of seconds counts as one second, as does none."""
    with pytest.raises(Overloaded) as caught:
        REWARD.read(reply(REFUSAL, 429, **header))

    assert caught.value.retry_after_s == wait_s


@pytest.mark.parametrize(
    ("status", "error"),
    [(200, BadReply), (404, RequestRefused), (502, Unavailable), (503, Unavailable)],
)
def test_readiness_that_cannot_be_read_is_an_error(
    status: int, error: type[MedrewardError]
) -> None:
    """A proxy's page is not the service's word on its engines."""
    with pytest.raises(error):
        health_call().read(reply(b"<html>", status))
