"""Bad input gets an error that names sample, field and fix; no input gives a 5xx."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import Serve

GOOD: dict[str, Any] = {"response": "<answer>Basal left</answer>", "reference": "left lower lobe"}
ITEM: dict[str, Any] = {"answer": "Basal left", "reference": "left lower lobe"}

NO_POINTS = b'{"items": [{"answer": "a", "criteria": [{"text": "t", "points": NaN}]}]}'

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("path", "body", "status", "told"),
    [
        ("/reward", b"", 400, "not JSON"),
        ("/reward", b"{", 400, "line 1 column 2"),
        ("/reward", b"\xff\xfe", 400, "UTF-8"),
        ("/reward", b"[" * 100_000, 400, "nested too deeply"),
        ("/reward", b"[]", 422, "the body: "),
        ("/reward", b"{}", 422, "samples: required, but missing"),
        ("/reward", {"samples": []}, 422, "samples: empty; send at least one"),
        ("/reward", {"samples": [GOOD], "recipes": 1}, 422, "recipes: unknown field"),
        ("/reward", {"samples": [GOOD, {"response": "x"}]}, 422, "samples[1].reference: required"),
        ("/reward", {"samples": [GOOD | {"response": 7}]}, 422, "samples[0].response: "),
        ("/reward", {"samples": [GOOD | {"reference": ["a", 3]}]}, 422, "samples[0].reference[1]"),
        ("/reward", {"samples": [GOOD | {"anwser": "x"}]}, 422, "samples[0].anwser: unknown"),
        ("/reward", {"samples": [GOOD | {"modality": "XRAY"}]}, 422, "choose from X_RAY"),
        ("/reward", {"samples": [GOOD | {"id": "x" * 257}]}, 422, "samples[0].id: "),
        ("/reward", {"samples": [GOOD], "recipe": "medix"}, 422, "choose from medix-r1"),
        ("/reward", {"samples": [GOOD], "deadline_ms": 0}, 422, "deadline_ms: "),
        ("/reward", {"samples": [GOOD], "deadline_ms": 5_000_000}, 422, "at most 3600000 here"),
        ("/reward", {"samples": [GOOD], "deadline_ms": 10**400}, 422, "deadline_ms: "),
        ("/reward", {"samples": [GOOD], "run": {"id": "r", "step": -1}}, 422, "run.step: "),
        ("/reward", b'{"samples": [], "deadline_ms": NaN}', 422, "deadline_ms: "),
        ("/judge", {"items": []}, 422, "items: empty"),
        ("/judge", {"items": [ITEM], "template": "poem"}, 422, "template: "),
        ("/judge", {"items": [ITEM], "votes": 0}, 422, "votes: "),
        ("/judge", {"items": [ITEM], "votes": 4}, 422, "votes: 4 asked for; "),
        ("/judge", {"items": [ITEM, {"answer": "x"}]}, 422, "items[1].reference: equivalence"),
        ("/judge", {"items": [ITEM], "template": "rubric"}, 422, "items[0].criteria: "),
        ("/judge", NO_POINTS, 422, "items[0].criteria[0].points: "),
    ],
)
async def test_a_wrong_request_is_told_what_is_wrong_and_where(
    serve: Serve, path: str, body: object, status: int, told: str
) -> None:
    """Status, sample and field; the sample's text is not repeated."""
    await check_refusal(serve, path, body, status, told, untold="basal left")


GOT = [
    ("/reward", {"samples": [GOOD | {"reference": 5}]}, "samples[0].reference: a text or a list of texts; got a number"),
    ("/reward", {"samples": [GOOD | {"reference": None}]}, "samples[0].reference: a text or a list of texts; got null"),
    ("/reward", {"samples": [GOOD | {"reference": True}]}, "samples[0].reference: a text or a list of texts; got true"),
    ("/reward", {"samples": [GOOD | {"reference": []}]}, "samples[0].reference: a text or a list of texts; got an empty list"),
    ("/reward", {"samples": [GOOD | {"reference": {}}]}, "samples[0].reference: a text or a list of texts; got an object"),
    ("/reward", {"samples": [GOOD | {"reference": ["a", 3]}]}, "samples[0].reference[1]: a text; got a number"),
    ("/reward", {"samples": [GOOD | {"response": ["x"]}]}, "samples[0].response: a text; got a list"),
    ("/reward", {"samples": [GOOD | {"extra": "x"}]}, "samples[0].extra: an object; got a text"),
    ("/reward", {"samples": GOOD}, "samples: a list; got an object"),
    ("/reward", ["x"], "the body: an object; got a list"),
    ("/reward", {"samples": ["x"]}, "samples[0]: an object; got a text"),
    ("/reward", {"samples": [GOOD], "deadline_ms": "soon"}, "deadline_ms: a whole number; got a text"),
    ("/judge", {"items": [ITEM], "rules": "maybe"}, "rules: true or false; got a text"),
    ("/judge", {"items": [ITEM | {"criteria": [{"text": "t"}]}], "template": "rubric"}, "items[0].criteria[0].points: required, but missing"),
    ("/judge", {"items": [ITEM | {"criteria": [{"text": "t", "points": "x"}]}]}, "items[0].criteria[0].points: a number; got a text"),
    ("/verify", {"reference": 5, "response": {"output": []}}, "reference: a text or a list of texts; got a number"),
    ("/compat/slime", {"response": "x", "label": [1]}, "label.reference[0]: a text; got a number"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "message"), GOT)
async def test_a_wrong_type_is_told_once_with_what_was_wanted(
    serve: Serve, path: str, body: object, message: str
) -> None:
    """The whole message: a field that may be of two types has one line, and one with a wrong part none."""
    async with serve() as client:
        reply = await client.post(path, json=body)

    assert (reply.status_code, reply.json()["error"]["message"]) == (422, message)


@pytest.mark.parametrize(
    ("criteria", "message"),
    [
        ([{"text": "advises rest", "points": 1}, {"text": " ", "points": 1}], "criteria[1].text: blank"),
        ([{"text": "", "points": 1}], "criteria[0].text: blank"),
        ([{"text": "advises rest", "points": -1}], "criteria: at least one criterion needs positive"),
        ([], "criteria: empty"),
    ],
)  # fmt: skip
async def test_bad_criteria_cost_their_item_alone(
    serve: Serve, criteria: list[dict[str, Any]], message: str
) -> None:
    """The item has a problem that names the criterion; its neighbour is judged."""
    good = {"answer": "rest", "criteria": [{"text": "advises rest", "points": 1}]}
    body = {"template": "rubric", "items": [good | {"criteria": criteria}, good]}
    async with serve() as client:
        reply = await client.post("/judge", json=body)

    bad, neighbour = reply.json()["results"]
    assert (bad["status"], bad["error"]["kind"]) == ("unjudged", "invalid_request")
    assert bad["error"]["message"].startswith(message)
    assert neighbour["status"] == "judged"


async def check_refusal(
    serve: Serve, path: str, body: object, status: int, told: str, *, untold: str
) -> None:
    """A request that is refused for good, with a message that holds one text and not another."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with serve() as client:
        reply = await client.post(path, content=content)

    error = reply.json()["error"]
    assert (reply.status_code, error["retryable"]) == (status, False)
    assert told in error["message"]
    assert untold not in reply.text.lower()


@pytest.mark.parametrize(
    ("settings", "samples", "told"),
    [
        ({"max_samples": 2}, 3, "samples: 3 of them; send at most 2 at once"),
        ({"max_body_bytes": 1024}, 40, "over 1024 bytes"),
        ({"max_bytes_in_flight": 1024}, 40, "bytes of decoded bodies"),
        (
            {"max_questions_in_flight": 2},
            3,
            "ask 3 questions, and 2 fit at all; send at most 2 at once",
        ),
    ],
)
async def test_more_than_fits_is_413(
    serve: Serve, settings: dict[str, int], samples: int, told: str
) -> None:
    """The limit is told, so that the caller knows how to cut the request."""
    async with serve(**settings) as client:
        reply = await client.post("/reward", json={"samples": [GOOD] * samples})

    assert reply.status_code == 413
    assert told in reply.json()["error"]["message"]


HEAVY = {
    "small samples": ('{"samples": [%s]}', '{"response": "a", "reference": "b"}'),
    "lists": ('{"samples": [{"response": "a", "reference": "b", "extra": {"a": [%s]}}]}', "[]"),
    "objects": ('{"samples": [{"response": "a", "reference": "b", "extra": {"a": [%s]}}]}', "{}"),
    "brackets": ("[%s]", "[]"),
    "a lone surrogate": ('{"samples": [{"response": "\\ud83d", "extra": [%s]}]}', "[]"),
}


@pytest.mark.parametrize("name", HEAVY)
async def test_a_body_that_would_become_large_is_refused_as_it_arrives(
    serve: Serve, name: str
) -> None:
    """Three bytes may become hundreds: what counts is the memory, and nothing is built of it."""
    whole, part = HEAVY[name]
    content = whole % ",".join([part] * 20_000)
    async with serve(max_bytes_in_flight=2**20) as client:
        reply = await client.post("/reward", content=content)

    assert len(content) < 2**20
    assert reply.status_code == 413
    assert "bytes of decoded bodies" in reply.json()["error"]["message"]


async def test_votes_and_criteria_count_as_questions(serve: Serve) -> None:
    """A small request that asks much is as large as what it asks."""
    item = {"answer": "a", "criteria": [{"text": "t", "points": 1}] * 10}
    async with serve(max_questions_in_flight=29) as client:
        body = {"items": [item], "template": "rubric", "votes": 3}
        refused = await client.post("/judge", json=body)
        taken = await client.post("/judge", json=body | {"votes": 2})

    assert (refused.status_code, taken.status_code) == (413, 200)


async def test_a_body_that_grows_over_the_limit_is_cut_off(serve: Serve) -> None:
    """A body without a declared length is refused as soon as it is too long."""

    async def endless() -> Any:
        while True:
            yield b" " * 512

    async with serve(max_body_bytes=2048) as client:
        reply = await client.post("/reward", content=endless())

    assert reply.status_code == 413


async def test_a_body_that_trickles_is_given_up(serve: Serve) -> None:
    """Nobody holds a permit for ever by sending slowly."""

    async def trickle() -> Any:
        yield b"{"
        await asyncio.Event().wait()

    async with serve(body_timeout_s=0.02) as client:
        reply = await client.post("/reward", content=trickle())
        exposition = (await client.get("/metrics")).text

    assert (reply.status_code, reply.json()["error"]["kind"]) == (408, "body_too_slow")
    assert "medreward_inflight_requests 0.0" in exposition


ODD_TEXTS = {
    "NUL": "\x00",
    "right to left": "\u202eeffusion\u202c",
    "zero width": "ef\u200bfu\u200dsion",
    "a tag character": "\U000e0041effusion",
    "a megabyte of newlines": "\n" * 1_000_000,
    "a combining pile": "e" + "\u0301" * 1000,
    "empty": "",
    "every quote": "\"'`\\",
    "a byte order mark": "\ufeffeffusion",
    "line separators": "a\u2028b\u2029c\u0085d",
}


@pytest.mark.parametrize("text", ODD_TEXTS.values(), ids=ODD_TEXTS)
@pytest.mark.parametrize("field", ["response", "reference", "question"])
async def test_odd_texts_are_scored_or_named_and_their_neighbours_are_scored(
    serve: Serve, field: str, text: str
) -> None:
    """Whatever a text holds, the reply is 200 and the sample beside it has its reward."""
    async with serve() as client:
        reply = await client.post("/reward", json={"samples": [GOOD | {field: text}, GOOD]})

    odd, neighbour = reply.json()["results"]
    assert reply.status_code == 200
    assert neighbour["status"] == "scored"
    assert odd["status"] == "scored" or odd["error"]["kind"] in {"too_long", "invalid_reference"}


async def test_lone_surrogates_are_read_as_the_replacement_character(serve: Serve) -> None:
    """Python writes a degenerate rollout's half characters into JSON; they cost no batch."""
    broken_one = r'{"response": "\ud83d", "reference": "a", "id": "\udc00"}'
    samples = f"[{broken_one}, {json.dumps(GOOD)}]"
    async with serve() as client:
        reply = await client.post("/reward", content=f'{{"samples": {samples}}}')

    broken, neighbour = reply.json()["results"]
    assert reply.status_code == 200
    assert (broken["id"], neighbour["status"]) == ("\ufffd", "scored")


async def test_one_sample_over_its_limit_is_too_long_and_its_neighbours_are_scored(
    serve: Serve,
) -> None:
    """Trouble of one sample's content is never the request's."""
    long = GOOD | {"response": "x" * (256 * 1024 + 1), "id": "long"}
    async with serve() as client:
        reply = await client.post("/reward", json={"samples": [GOOD, long, GOOD]})

    body = reply.json()
    assert [result["status"] for result in body["results"]] == ["scored", "unscored", "scored"]
    assert body["results"][1]["error"]["kind"] == "too_long"
    assert body["results"][1]["reward"] is None
    assert (body["counts"]["scored"], body["counts"]["unscored"]) == (2, 1)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    ["response", "reference", "id", "group", "question", "modality", "criteria", "extra", "other"]
)
SAMPLES = st.lists(st.dictionaries(FIELDS, JSON_VALUES, max_size=6) | JSON_VALUES, max_size=3)
BODIES = (
    st.fixed_dictionaries({"samples": SAMPLES}).map(json.dumps)
    | JSON_VALUES.map(json.dumps)
    | st.text(max_size=50)
)


@given(st.lists(BODIES, min_size=5, max_size=20))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_body_gives_a_5xx(serve: Serve, bodies: list[str]) -> None:
    """Any JSON, and any text that is none, gets a reply of the contract."""
    import anyio  # noqa: PLC0415 - Hypothesis drives synchronous functions only

    async def send() -> list[httpx.Response]:
        async with serve() as client:
            return [
                await client.post(path, content=body.encode("utf-8", "surrogatepass"))
                for body in bodies
                for path in ("/reward", "/judge")
            ]

    for reply in anyio.run(send):
        assert reply.status_code in {200, 400, 413, 422}
        assert "results" in reply.json() or reply.json()["error"]["message"]
