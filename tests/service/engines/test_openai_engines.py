"""The engines behind a server: what it may say, and what is made of it, faked at the wire only."""

import asyncio
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from dirty_equals import IsApprox
from pydantic import SecretStr

from medreward.engines.capacity import Capacity
from medreward.engines.embedder import cosine
from medreward.engines.embedders.openai import OpenAiEmbedder
from medreward.engines.judge import Inquiry, Judgement, is_sound
from medreward.engines.judges.openai import OpenAiJudge
from medreward.engines.registry import BuildContext, build_embedder, build_judge
from medreward.engines.remote.api_key import ApiKey
from medreward.engines.remote.budget import CostTracker
from medreward.engines.templates import Template, load_templates
from medreward.errors import (
    BackendDown,
    DeadlinePassed,
    EngineError,
    NonsenseReply,
    Problem,
    ProblemKind,
    SetupError,
)
from medreward.settings import Settings
from tests.redis_servers import free_port
from tests.service.engines.judge_servers import MODEL, SHORT_PAUSES, FakeServer
from tests.support.problems import judgement, problem
from tests.support.service import listening

pytestmark = pytest.mark.anyio

URL = "http://judge.test/v1"
API_KEY = "sk-key-of-the-server"
KEY = ApiKey(SecretStr(API_KEY))
PATIENT_TEXT = "Mrs Roe, mass in the left lower lobe"
MATCH = load_templates()["match"]
INQUIRY = Inquiry(MATCH, PATIENT_TEXT, f"{PATIENT_TEXT}, as read by Dr Who")

Server = Callable[[httpx.Request], httpx.Response]


def judge(server: Any, **options: Any) -> aclosing[OpenAiJudge]:
    """A judge whose server is *server*, or that connects to the address in its options."""
    wire = {"transport": httpx.MockTransport(server)} if server else {}
    options = {"api_key": KEY, "pauses": SHORT_PAUSES, **wire, **options}
    return aclosing(OpenAiJudge(options.pop("url", URL), model="qwen", **options))


def embedder(server: Any, **options: Any) -> aclosing[OpenAiEmbedder]:
    """An embedder, likewise."""
    wire = {"transport": httpx.MockTransport(server)} if server else {}
    options = {"api_key": KEY, "pauses": SHORT_PAUSES, **wire, **options}
    return aclosing(OpenAiEmbedder(options.pop("url", URL), model="medembed", **options))


def choice(tokens: Iterable[tuple[str, object]], **more: object) -> dict[str, Any]:
    """A reply whose likeliest first tokens are *tokens*, with their logarithms."""
    top = [{"token": token, "logprob": logprob} for token, logprob in tokens]
    return {"choices": [{"logprobs": {"content": [{"top_logprobs": top}]}, **more}]}


def says(shares: Mapping[str, float]) -> Server:
    """A server that gives each token its share of the probability."""
    reply = choice((token, math.log(share)) for token, share in shares.items())
    return lambda _: httpx.Response(200, json=reply)


def replies(response: httpx.Response) -> Server:
    """A server that says the same to everybody."""
    return lambda _: response


def noting(server: Server) -> tuple[list[httpx.Request], Server]:
    """A server, and the requests that came to it."""
    sent: list[httpx.Request] = []

    def noted(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return server(request)

    return sent, noted


async def only(asked: aclosing[OpenAiJudge], inquiry: Inquiry = INQUIRY) -> Judgement | Problem:
    """What a judge says of one inquiry."""
    async with asked as engine:
        (answer,) = await engine.decide([inquiry])
        return answer


def prompt_of(request: httpx.Request) -> str:
    """What the judge's server is told."""
    content: str = json.loads(request.content)["messages"][0]["content"]
    return content


# The judge: reading a verdict.


@pytest.mark.parametrize(
    ("shares", "p_yes", "coverage"),
    [
        ({"YES": 0.6, "NO": 0.2, "Sure": 0.2}, 0.75, 0.8),
        ({"NO": 0.9, "YES": 0.1}, 0.1, 1.0),
        ({"YES": 1.0}, 1.0, 1.0),
        ({" Yes": 0.3, "yes": 0.2, "\nYES ": 0.1, " no": 0.2, "No": 0.2}, 0.6, 1.0),
        ({"Y": 0.6, "NO": 0.3}, 2 / 3, 0.9),  # YES is two tokens to some
        ({"YE": 0.5, "n": 0.5}, 0.5, 1.0),
        ({"\u0120YES": 0.5, "\u2581No": 0.3, "\u0120or": 0.2}, 0.625, 0.8),  # of vocabularies
        ({"YES": 0.3, "YESTERDAY": 0.3, "NOT": 0.2, "NO": 0.1, "EYES": 0.1}, 0.75, 0.4),
        ({"YES": 0.4, "": 0.2, " ": 0.2, "\n": 0.1, "YES.": 0.1}, 1.0, 0.4),
    ],
)
async def test_the_verdict_is_the_share_of_yes_among_the_labels(
    shares: Mapping[str, float], p_yes: float, coverage: float
) -> None:
    """Forms of a label count together, what is no beginning of one is only missing coverage."""
    answer = judgement(await only(judge(says(shares))))

    assert is_sound(answer, INQUIRY)
    assert [answer.p_yes, answer.coverage] == [IsApprox(p_yes), IsApprox(coverage)]
    assert answer.verdict == ("YES" if p_yes > 0.5 else "NO")


async def test_a_token_that_begins_two_labels_counts_for_neither() -> None:
    """What could become either label says nothing about which."""
    template = Template("x", 1, "verdict", ("YES", "YELLOW", "NO"), False, "?", "Verdict:")
    served = says({"YE": 0.3, "Y": 0.1, "YES": 0.3, "YEL": 0.1, "NO": 0.2})

    answer = judgement(await only(judge(served), Inquiry(template, "a", "b")))

    assert answer.probabilities == tuple(IsApprox(share) for share in (0.5, 1 / 6, 1 / 3))
    assert answer.coverage == IsApprox(0.6)


@pytest.mark.parametrize(
    ("floor", "share", "is_read"),
    [(0.2, 0.19, False), (0.2, 0.21, True), (0.0, 0.001, True)],
)
async def test_below_the_floor_nothing_was_said(floor: float, share: float, is_read: bool) -> None:
    """A judge that hardly speaks of the labels has no opinion, whichever it leans to."""
    answer = await only(judge(says({"YES": share, "The": 1 - share}), coverage_floor=floor))

    assert isinstance(answer, Judgement) is is_read
    if not is_read:
        assert f"{share:.3f}" in problem(answer, ProblemKind.JUDGE_UNPARSEABLE).message


DEEP = b'{"choices":' + b"[" * 200_000
NO_ANSWERS: dict[str, object] = {
    "html": f"<html>{PATIENT_TEXT}</html>".encode(),
    "null": None,
    "error of text": {"error": PATIENT_TEXT},
    "error with a status": {"error": {"code": 429, "message": PATIENT_TEXT}},
    "error with a status as text": {"error": {"code": "503", "message": PATIENT_TEXT}},
    "error with a code": {"error": {"code": "server_error", "message": PATIENT_TEXT}},
}
UNREADABLE: dict[str, object] = {
    "truncated": b'{"choices": [{"logprobs": {"content": [{"to',
    "not utf-8": b'{"choices": "\xff\xfe\xfa"}',
    "too deep": DEEP,
    "no choices": {"text": PATIENT_TEXT},
    "null for an error": {"error": None, "choices": []},
    "empty choices": {"choices": []},
    "a choice of text": {"choices": [PATIENT_TEXT]},
    "no logprobs": {"choices": [{"message": {"content": "YES"}}]},
    "old logprobs": {"choices": [{"logprobs": {"tokens": ["YES"], "token_logprobs": [-0.1]}}]},
    "top is text": {"choices": [{"logprobs": {"content": [{"top_logprobs": "YES"}]}}]},
    "no tokens": choice([]),
    "other tokens": choice([("The", -0.1), (PATIENT_TEXT, -3.0)]),
    "logprob is text": choice([("YES", "likely")]),
    "logprob is null": choice([("YES", None)]),
    "logprob NaN": choice([("YES", math.nan)]),
    "logprob infinite": choice([("YES", math.inf)]),
    "logprob positive": choice([("YES", 0.7)]),
    "logprobs just not infinite": choice([("YES", 709.7), ("NO", 709.7)]),
    "logprob of many digits": choice([("YES", 10**400)]),
    "logprobs of more than all": choice([("YES", -0.1), ("yes", -0.1)]),
}
"""Bodies: bytes as they are, anything else as JSON, which Python writes with NaN and infinities."""


def unreadable(name: str) -> Server:
    """A server that answers with one of these bodies, or with the status that has none."""
    body = (UNREADABLE | NO_ANSWERS).get(name, b"")
    content = body if isinstance(body, bytes) else json.dumps(body)
    return replies(httpx.Response(204 if name == "no content" else 200, content=content))


@pytest.mark.parametrize("name", [*NO_ANSWERS, "no content"])
async def test_a_success_that_is_none_is_a_server_that_cannot(name: str) -> None:
    """A page of something between, or an error wrapped in a 200: the sample may be sent again."""
    answer = await only(judge(unreadable(name), coverage_floor=0.0))

    found = problem(answer, ProblemKind.JUDGE_UNREACHABLE)
    assert found.retryable
    _tells_nothing(found.message)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": 400, "message": "no"}, ProblemKind.JUDGE_REFUSED),
        ({"code": 400, "message": "maximum context length"}, ProblemKind.TOO_LONG),
        ({"code": "413"}, ProblemKind.TOO_LONG),
    ],
)
async def test_an_error_in_a_success_is_read_by_its_code(
    error: dict[str, object], kind: ProblemKind
) -> None:
    """As if it were the status: a refusal stays one."""
    told = httpx.Response(200, json={"error": error})

    problem(await only(judge(replies(told), coverage_floor=0.0)), kind)


@pytest.mark.parametrize("name", UNREADABLE)
async def test_what_cannot_be_read_is_no_verdict(name: str) -> None:
    """Whatever a server says: a judgement, or the reason there is none; never an exception, or a NO."""
    answer = await only(judge(unreadable(name), coverage_floor=0.0))

    _tells_nothing(problem(answer, ProblemKind.JUDGE_UNPARSEABLE).message)


async def test_a_filtered_reply_is_a_refusal() -> None:
    """A server's content filter has refused; that is no NO, also where a token came with it."""
    filtered = choice([("NO", -0.1)], finish_reason="content_filter")

    answer = await only(judge(replies(httpx.Response(200, json=filtered))))

    problem(answer, ProblemKind.JUDGE_REFUSED)


# The judge: a server that does not answer.


@pytest.mark.parametrize(
    ("status", "reason", "kind"),
    [
        (413, "", ProblemKind.TOO_LONG),
        (400, "This model's maximum context length is 4096 tokens.", ProblemKind.TOO_LONG),
        (400, "context_length_exceeded", ProblemKind.TOO_LONG),
        (422, "inputs: too long", ProblemKind.TOO_LONG),
        (400, "content_filter", ProblemKind.JUDGE_REFUSED),
        (400, "logprobs are not supported", ProblemKind.JUDGE_REFUSED),
    ],
)
async def test_a_prompt_that_is_refused_costs_its_neighbours_nothing(
    status: int, reason: str, kind: ProblemKind
) -> None:
    """A refusal is the trouble of one inquiry, with the server's reason; the others are judged."""

    def server(request: httpx.Request) -> httpx.Response:
        if "enormous" in prompt_of(request):
            said = f"{reason} {prompt_of(request)}"
            return httpx.Response(status, json={"error": {"message": said}})
        return says({"YES": 1.0})(request)

    async with judge(server) as engine:
        answers = await engine.decide(
            [Inquiry(MATCH, text, "ref") for text in ("short", "enormous", "small")]
        )

    assert [type(answer) for answer in answers] == [Judgement, Problem, Judgement]
    message = problem(answers[1], kind).message
    assert str(status) in message
    _tells_nothing(message)


@pytest.mark.parametrize(
    "status", [307, 401, 403, 404, 405, 408, 409, 429, 500, 502, 503, 504, 529]
)
async def test_a_server_that_says_it_cannot_is_unreachable(status: int) -> None:
    """The message names the status, for the operator to mend, and nothing of what was sent."""
    refusal = httpx.Response(
        status, text=f"{PATIENT_TEXT} {API_KEY}", headers={"Location": "https://other.test/v1"}
    )

    answer = await only(judge(replies(refusal)))
    async with embedder(replies(refusal)) as engine:
        with pytest.raises(BackendDown, match=f"^the server answers {status}$"):
            await engine.embed([PATIENT_TEXT])

    assert answer == Problem(ProblemKind.JUDGE_UNREACHABLE, f"judge: the server answers {status}")


def fails_with(error: type[httpx.TransportError]) -> Server:
    """A connection that breaks, with an error that quotes what it can."""

    def server(request: httpx.Request) -> httpx.Response:
        raise error(f"{request.content!r} {request.headers}", request=request)

    return server


BROKEN = (
    *(httpx.ConnectError, httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError),
    *(httpx.DecodingError, httpx.ProxyError, httpx.UnsupportedProtocol),
)
STALLED = (httpx.ReadTimeout, httpx.ConnectTimeout, httpx.WriteTimeout, httpx.PoolTimeout)


@pytest.mark.parametrize("error", [*BROKEN, *STALLED])
async def test_a_connection_that_breaks_or_stalls_is_told_by_its_kind(
    error: type[httpx.TransportError],
) -> None:
    """Each error of the HTTP library has one meaning to both engines, and its own words stay inside."""
    is_late = error in STALLED
    answer = await only(judge(fails_with(error)))
    async with embedder(fails_with(error)) as engine:
        with pytest.raises(DeadlinePassed if is_late else BackendDown) as caught:
            await engine.embed([PATIENT_TEXT])

    kind = ProblemKind.JUDGE_TIMEOUT if is_late else ProblemKind.JUDGE_UNREACHABLE
    message = problem(answer, kind).message
    assert error.__name__ in message
    _tells_nothing(f"{message} {caught.value}")


async def test_one_broken_connection_costs_its_neighbours_nothing() -> None:
    """Each inquiry has its own request, so each has its own trouble."""

    def server(request: httpx.Request) -> httpx.Response:
        if "unlucky" in prompt_of(request):
            raise httpx.ReadError("reset", request=request)
        return says({"NO": 1.0})(request)

    async with judge(server) as engine:
        answers = await engine.decide([Inquiry(MATCH, t, "ref") for t in ("a", "unlucky", "b")])

    assert [type(answer) for answer in answers] == [Judgement, Problem, Judgement]


def _tells_nothing(message: str) -> None:
    for secret in (PATIENT_TEXT, "enormous", "Mrs Roe", API_KEY):
        assert secret not in message


# The judge: what it sends.


async def test_the_server_is_asked_for_one_token_with_its_probabilities() -> None:
    """One user turn that ends with the fenced data, no sampling, one token, the likeliest twenty."""
    sent, server = noting(says({"YES": 1.0}))

    await only(judge(server, url=f"{URL}/"))

    (request,) = sent
    body = json.loads(request.content)
    assert str(request.url) == f"{URL}/chat/completions"
    assert request.headers["Authorization"] == f"Bearer {API_KEY}"
    assert body.pop("messages") == [{"role": "user", "content": prompt_of(request)}]
    assert prompt_of(request).startswith(MATCH.instruction)
    assert f'candidate: "{PATIENT_TEXT}"' in prompt_of(request)
    assert body == {
        "model": "qwen",
        "temperature": 0,
        "max_tokens": 1,
        "logprobs": True,
        "top_logprobs": 20,
    }


async def test_a_sum_a_little_over_one_is_rounding() -> None:
    """Servers round log-probabilities; the coverage is still at most 1."""
    answer = await only(judge(says({"YES": 1.0, "NO": 1e-4})))

    assert judgement(answer).coverage == 1.0


async def test_answers_keep_the_order_of_the_inquiries() -> None:
    """Also where the server answers the last one first."""

    async def server(request: httpx.Request) -> httpx.Response:
        number = int(prompt_of(request).split('candidate: "')[1][0])
        await asyncio.sleep(0.002 * (5 - number))
        return says({"YES": (number + 1) / 10, "NO": 1 - (number + 1) / 10})(request)

    async with judge(server) as engine:
        answers = await engine.decide([Inquiry(MATCH, str(i), "ref") for i in range(5)])

    shares = [answer.p_yes for answer in answers if isinstance(answer, Judgement)]
    assert shares == [IsApprox((i + 1) / 10) for i in range(5)]


async def test_the_identity_is_what_can_change_a_judgement() -> None:
    """Model, secret and floor are part of it; address, key and patience are not."""

    def identity(**changed: Any) -> str:
        options: dict[str, Any] = {"model": "qwen", "secret": "s", "api_key": KEY}
        return OpenAiJudge(changed.pop("url", URL), **{**options, **changed}).identity

    assert identity(url="http://other/v1", api_key=None, timeout_s=1.0) == identity()
    changes: list[dict[str, Any]] = [{"model": "other"}, {"secret": "t"}, {"coverage_floor": 0.5}]
    assert len({identity(), *(identity(**change) for change in changes)}) == 4
    assert API_KEY not in identity()


# The embedder.


def serves(rows: object) -> Server:
    """A server whose reply holds *rows*."""
    return lambda _: httpx.Response(200, content=json.dumps({"data": rows}))


def row(index: object, embedding: object) -> dict[str, object]:
    """One row of a reply."""
    return {"index": index, "embedding": embedding}


async def test_vectors_have_unit_length_and_the_order_of_the_texts() -> None:
    """Rows are matched by their index, not by where they stand."""
    served = serves([row(2, [0.0, 5.0]), row(0, [3.0, 4.0]), row(1, [-2, 0])])

    async with embedder(served) as engine:
        vectors = await engine.embed(["a", "b", "c"])

    assert [np.asarray(vector).tolist() for vector in vectors] == [
        [IsApprox(0.6), IsApprox(0.8)],
        [-1.0, 0.0],
        [0.0, 1.0],
    ]
    assert {np.asarray(vector).dtype for vector in vectors} == {np.dtype(np.float32)}


@pytest.mark.parametrize("numbers", [[1e30, -1e30], [1e-30, -1e-30], [1e39, -1e39], [1, -1]])
async def test_the_length_of_what_the_server_sends_does_not_matter(
    numbers: Sequence[float],
) -> None:
    """Very long and very short vectors keep their direction: none turns into a similarity of 0."""
    async with embedder(serves([row(0, numbers)])) as engine:
        (vector,) = await engine.embed(["a"])

    assert np.asarray(vector).tolist() == [IsApprox(math.sqrt(0.5)), IsApprox(-math.sqrt(0.5))]


async def test_a_vector_of_zeros_stays_one() -> None:
    """It has no direction, so it is like nothing, itself included."""
    async with embedder(serves([row(0, [0.0, 0.0]), row(1, [1.0, 0.0])])) as engine:
        zero, other = await engine.embed(["a", "b"])

    zero, other = np.asarray(zero), np.asarray(other)
    assert (cosine(zero, other), cosine(zero, zero)) == (0.0, 0.0)


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([row(0, [1.0, 0.0])], id="one too few"),
        pytest.param([row(0, [1.0, 0.0]), row(0, [0.0, 1.0])], id="one twice"),
        pytest.param([row(None, [1.0]), row(None, [1.0])], id="no index"),
        pytest.param([{"index": 0}, {"index": 1}], id="without vector"),
        pytest.param([row(0, ["a", "b"]), row(1, ["c", "d"])], id="text"),
        pytest.param([row(0, [1.0, [0.0]]), row(1, [1.0, 0.0])], id="ragged"),
        pytest.param([row(0, [10**400, 1]), row(1, [1.0, 0.0])], id="a number of 401 digits"),
        pytest.param([[0, [1.0]], [1, [1.0]]], id="rows as lists"),
        pytest.param(None, id="no rows"),
    ],
)
async def test_a_reply_that_is_not_one_vector_a_text_is_nonsense(rows: object) -> None:
    """Nobody can tell which vector belongs to which text, so none is used."""
    async with embedder(serves(rows)) as engine:
        with pytest.raises(NonsenseReply) as caught:
            await engine.embed([PATIENT_TEXT, "b"])

    _tells_nothing(str(caught.value))


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("html", BackendDown),
        ("null", BackendDown),
        ("error of text", BackendDown),
        ("truncated", NonsenseReply),
        ("too deep", NonsenseReply),
    ],
)
async def test_a_reply_that_is_no_json_object_of_rows_is_no_vector(
    name: str, error: type[EngineError]
) -> None:
    """A proxy's page, an error or half a reply is not taken for vectors."""
    async with embedder(unreadable(name)) as engine:
        with pytest.raises(error) as caught:
            await engine.embed([PATIENT_TEXT])

    _tells_nothing(str(caught.value))


@pytest.mark.parametrize(
    "numbers",
    [
        pytest.param([math.nan, 1.0], id="NaN"),
        pytest.param(None, id="no vector"),
        pytest.param([], id="empty"),
        pytest.param([1.0, 0.0, 0.0], id="of another size"),
        pytest.param(1.0, id="a number"),
    ],
)
async def test_a_vector_that_is_none_costs_its_neighbours_nothing(numbers: object) -> None:
    """One text's nonsense is its own trouble, and is told by a value, not by a similarity."""
    served = serves([row(0, [1.0, 0.0]), row(1, numbers), row(2, [0.0, 1.0])])

    async with embedder(served) as engine:
        before, nonsense, after = await engine.embed(["a", "b", "c"])

    problem(nonsense, ProblemKind.EMBEDDER_UNREACHABLE)
    assert [np.asarray(vector).tolist() for vector in (before, after)] == [[1.0, 0.0], [0.0, 1.0]]


async def test_a_server_that_changes_its_model_is_noticed() -> None:
    """Vectors of another size cannot be compared with those that are remembered."""
    sizes = iter([3, 4])

    def server(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"data": [row(0, [1.0] * next(sizes))]})

    async with embedder(server) as engine:
        (first,) = await engine.embed(["a"])
        (second,) = await engine.embed(["b"])

    assert not isinstance(first, Problem)
    assert isinstance(second, Problem)
    assert "3" in second.message
    assert "4" in second.message


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_a_text_that_is_refused_costs_its_neighbours_nothing(status: int) -> None:
    """A batch that is too much is sent again in halves, until the one text that is too long is alone."""

    def server(request: httpx.Request) -> httpx.Response:
        texts = json.loads(request.content)["input"]
        if "enormous" in texts or len(texts) > 4:
            return httpx.Response(status, text=f"{texts}")
        return httpx.Response(200, json={"data": [row(i, [1.0]) for i in range(len(texts))]})

    async with embedder(server) as engine:
        vectors = await engine.embed([*"abcd", "enormous", *"efghijk"])

    message = problem(vectors[4], ProblemKind.TOO_LONG).message
    assert [isinstance(vector, Problem) for vector in vectors] == [n == 4 for n in range(12)]
    assert str(status) in message
    _tells_nothing(message)


async def test_the_embedder_sends_its_texts_in_one_request() -> None:
    """Model, texts and the plain format; the key as a bearer."""
    sent, server = noting(serves([row(0, [1.0]), row(1, [1.0])]))

    async with embedder(server) as engine:
        await engine.embed(("a", "b"))

    (request,) = sent
    assert str(request.url) == f"{URL}/embeddings"
    assert request.headers["Authorization"] == f"Bearer {API_KEY}"
    assert json.loads(request.content) == {
        "model": "medembed",
        "input": ["a", "b"],
        "encoding_format": "float",
    }


# From settings.


def test_the_settings_reach_the_engines(tmp_path: Path) -> None:
    """Several addresses, a key from a file, further headers; nothing secret shows."""
    file = tmp_path / "key"
    file.write_text(API_KEY)
    settings = Settings(
        profile="remote",
        judge_url="http://a/v1, http://b/v1",
        judge_api_key_file=file,
        judge_headers={"X-Key": API_KEY},
        judge_way="chat",
        judge_requests_per_minute=60,
        embedder_url="http://c/v1",
        embedder_api_key=API_KEY,
    )
    with ThreadPoolExecutor(max_workers=1) as worker:
        context = BuildContext(settings, worker, costs=CostTracker())
        asks, sees = build_judge(context), build_embedder(context)

    assert asks.capacity == Capacity(batch=1, concurrency=32)
    assert sees.capacity.batch > 1
    assert API_KEY not in repr([settings, vars(asks), vars(sees)])


@pytest.mark.parametrize("role", ["judge", "embedder"])
def test_an_engine_without_an_address_is_refused(role: str) -> None:
    """The message names the setting."""
    build = build_judge if role == "judge" else build_embedder
    with ThreadPoolExecutor(max_workers=1) as worker:
        context = BuildContext(Settings(profile="remote"), worker)
        with pytest.raises(SetupError, match=f"needs MEDREWARD_{role.upper()}_URL"):
            build(context)


# Over a real socket.


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loopback is reached directly, whatever this machine's proxy is."""
    monkeypatch.setenv("NO_PROXY", "*")


async def test_a_server_that_restarts_is_found_again() -> None:
    """While it is away the judge says so; when it is back, nothing has to be done."""
    server = FakeServer("vllm")
    port = free_port()
    judging = OpenAiJudge(f"http://127.0.0.1:{port}/v1", model=MODEL, pauses=SHORT_PAUSES)
    async with aclosing(judging) as engine:
        with listening(server.app, port):
            await engine.start()
            (before,) = await engine.decide([INQUIRY])
        (away,) = await engine.decide([INQUIRY])
        with listening(server.app, port):
            (after,) = await engine.decide([INQUIRY])
            while isinstance(after, Problem):
                await asyncio.sleep(0.05)
                (after,) = await engine.decide([INQUIRY])

    problem(away, ProblemKind.JUDGE_UNREACHABLE)
    assert before == after


async def test_a_server_that_never_answers_is_late() -> None:
    """It took the connection and says nothing: the wait ends, and its end has a name."""

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    async with server:
        answer = await only(judge(None, url=url, timeout_s=0.05))
        async with embedder(None, url=url, timeout_s=0.05) as engine:
            with pytest.raises(DeadlinePassed):
                await engine.embed(["a"])

    problem(answer, ProblemKind.JUDGE_TIMEOUT)
