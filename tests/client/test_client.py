"""The two clients, with nothing replaced but the network."""

import inspect

import httpx
import orjson
import pytest
from dirty_equals import IsInt, IsPartialDict

from medreward_client import (
    AsyncRewardClient,
    BadReply,
    Component,
    Counts,
    EngineState,
    Health,
    Item,
    JudgeCounts,
    Judged,
    JudgedCriterion,
    JudgeProvenance,
    MedrewardError,
    Problem,
    Provenance,
    RewardClient,
    RewardReply,
    Scored,
    TimedOut,
    Unavailable,
    Unjudged,
    Unscored,
    Vote,
)
from tests.client.stand_in import (
    ITEM,
    JUDGED,
    PATIENT_TEXT,
    READINESS,
    SAMPLE,
    SCORED,
    UNJUDGED,
    UNSCORED,
    URL,
    Ask,
    failing,
    judge_body,
    replying,
    reward_body,
)

pytestmark = pytest.mark.anyio

COMPONENTS = {
    "accuracy_llm": Component(1.0, 0.5175, "judge", p_yes=0.998),
    "accuracy_embed": Component(1.0, 0.3375, "embedder", cosine=0.97),
    "format": Component(1.0, 0.1, "rule"),
}
TIMEOUT = Problem("judge_timeout", "no answer in time", retryable=True)
YES = Vote("as_written", "YES", 0.98, "judge", None)
NOBODY = Vote("as_written", None, None, None, TIMEOUT)


async def test_results_come_back_in_the_order_of_the_samples(ask: Ask) -> None:
    """Each sample gets the result in its place, with components, flags and error."""
    handler = replying(reward_body(SCORED, UNSCORED))

    reply = await ask(handler, lambda client: client.reward([SAMPLE, SAMPLE]))

    assert reply.results == (
        Scored("p17-r3", 1.0, COMPONENTS, ("two_answers",)),
        Unscored("p17-r3", TIMEOUT, COMPONENTS, ("two_answers",)),
    )
    assert reply.counts == Counts(1, 1, cache_hits=1, coalesced=0, judge_calls=1)
    assert reply.provenance == Provenance("medix-r1", "sha256:1f", "Qwen3-4B", "MedEmbed", "1")
    assert reply.timings_ms["total"] == 58.9


async def test_a_failure_is_not_a_zero(ask: Ask) -> None:
    """An unscored sample has no number, not even where the wire carries one."""
    handler = replying(reward_body(SCORED, UNSCORED, UNSCORED | {"reward": 0.0}))

    reply: RewardReply = await ask(handler, lambda client: client.reward([SAMPLE] * 3))

    assert reply.rewards == (1.0, None, None)
    assert not hasattr(reply.results[1], "reward")


async def test_judging_gives_scores_votes_and_criteria(ask: Ask) -> None:
    """An item is judged, or unjudged with the reason and the votes."""
    handler = replying(judge_body(JUDGED, UNJUDGED))

    reply = await ask(handler, lambda client: client.judge([ITEM, ITEM]))

    missed = JudgedCriterion("names the side", 2.0, "NO", 0.1, "cache")
    assert reply.results == (
        Judged("q1", "YES", 0.98, 1.0, None, (YES,), (missed,), "judge"),
        Unjudged("q1", TIMEOUT, (NOBODY,)),
    )
    assert reply.counts == JudgeCounts(1, 1, cache_hits=1, coalesced=0, judge_calls=1)
    assert reply.provenance == JudgeProvenance("equivalence", "sha256:1f", "Qwen3-4B", "1")


@pytest.mark.parametrize(
    ("status_code", "status", "ready"),
    [(200, "ready", True), (503, "loading", False), (503, "draining", False)],
)
async def test_not_being_ready_is_an_answer(
    ask: Ask, status_code: int, status: str, *, ready: bool
) -> None:
    """A 503 of /readyz is a result, which names the missing engine."""
    handler = replying(READINESS | {"status": status}, status=status_code)

    readiness: Health = await ask(handler, lambda client: client.health())

    assert (readiness.ready, readiness.status) == (ready, status)
    assert readiness.engines == {"judge": EngineState(False, "loading weights", "Qwen3-4B")}


async def test_a_reward_call_sends_what_it_was_given(ask: Ask) -> None:
    """Recipe, run, deadline and samples are sent under their names in the contract."""

    def check(request: httpx.Request) -> httpx.Response:
        assert (request.method, str(request.url)) == ("POST", f"{URL}/reward")
        assert request.headers["Content-Type"] == "application/json"
        assert orjson.loads(request.content) == {
            "recipe": "medix-r1",
            "run": {"id": "medix-8b-grpo", "step": 120},
            "deadline_ms": IsInt(ge=1, le=1500),
            "samples": [IsPartialDict(id="p17-r3", response=PATIENT_TEXT)],
        }
        return httpx.Response(200, json=reward_body(SCORED))

    await ask(
        check,
        lambda client: client.reward(
            [SAMPLE], recipe="medix-r1", run_id="medix-8b-grpo", step=120, deadline_s=1.5
        ),
    )


async def test_a_judge_call_sends_what_it_was_given(ask: Ask) -> None:
    """Template, votes, deadline and items are sent under their names in the contract."""

    def check(request: httpx.Request) -> httpx.Response:
        assert (request.method, str(request.url)) == ("POST", f"{URL}/judge")
        assert orjson.loads(request.content) == {
            "template": "rubric",
            "votes": 3,
            "deadline_ms": IsInt(ge=1, le=60000),
            "items": [
                IsPartialDict(answer="left", criteria=[{"text": "names the side", "points": 2.0}])
            ],
        }
        return httpx.Response(200, json=judge_body(JUDGED))

    item = Item("left", criteria=ITEM.criteria)
    await ask(check, lambda client: client.judge([item], template="rubric", votes=3, deadline_s=60))


async def test_a_call_with_nothing_set_leaves_the_choice_to_the_service(ask: Ask) -> None:
    """Without recipe or run the body holds null for them, and when the client stops waiting."""

    def check(request: httpx.Request) -> httpx.Response:
        body = orjson.loads(request.content)
        assert body["deadline_ms"] > 0
        assert (body["recipe"], body["run"]) == (None, None)
        return httpx.Response(200, json=reward_body(SCORED))

    await ask(check, lambda client: client.reward([SAMPLE]))


@pytest.mark.parametrize(
    ("api_key", "header"), [("s3cret", "Bearer s3cret"), (None, None)], ids=["key", "no key"]
)
async def test_the_key_is_the_one_that_was_given(
    ask: Ask, api_key: str | None, header: str | None
) -> None:
    """A key is sent as a bearer token; without one there is no header."""

    def check(request: httpx.Request) -> httpx.Response:
        assert request.headers.get("Authorization") == header
        return httpx.Response(200, json=READINESS)

    await ask(check, lambda client: client.health(), api_key=api_key)


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (httpx.ConnectError, Unavailable),
        # Nothing was sent: that nobody is there says more than that time went by.
        (httpx.ConnectTimeout, Unavailable),
        (httpx.ReadTimeout, TimedOut),
        (httpx.WriteTimeout, TimedOut),
        (httpx.PoolTimeout, TimedOut),
        (httpx.ReadError, Unavailable),
        (httpx.RemoteProtocolError, Unavailable),
        (httpx.ProxyError, Unavailable),
        (httpx.DecodingError, BadReply),
    ],
)
async def test_a_failure_on_the_way_has_our_name(
    ask: Ask, failure: type[httpx.RequestError], error: type[MedrewardError]
) -> None:
    """The error is the client's own, and its cause is the HTTP library's."""
    with pytest.raises(error, match="rewards:8080") as caught:
        await ask(failing(failure), lambda client: client.reward([SAMPLE]))

    assert isinstance(caught.value.__cause__, failure)


def family(error: type[httpx.RequestError]) -> list[type[httpx.RequestError]]:
    """List a tree of errors, its root first."""
    return [error, *(one for child in error.__subclasses__() for one in family(child))]


@pytest.mark.parametrize("failure", family(httpx.RequestError))
async def test_no_failure_on_the_way_keeps_its_foreign_name(
    ask: Ask, failure: type[httpx.RequestError]
) -> None:
    """The translation is complete."""
    with pytest.raises(MedrewardError):
        await ask(failing(failure), lambda client: client.reward([SAMPLE]))


async def test_an_error_does_not_show_the_password_of_a_url(ask: Ask) -> None:
    """An error shows host and port of the base URL alone."""
    with pytest.raises(Unavailable) as caught:
        await ask(
            failing(httpx.ConnectError),
            lambda client: client.reward([SAMPLE]),
            base_url="http://ward:hunter2@rewards:8080",
        )

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("client", [RewardClient, AsyncRewardClient])
@pytest.mark.parametrize(
    "base_url",
    [
        "localhost:8080",
        "",
        "http://",
        "ftp://rewards",
        "http://rewards:port",
        "http://rewards:65536",
        "http://rewards:0",
        "http://rewards :8080",
        "http://rewards:8080 ",
        "http://rewards..example.org",
        f"http://{64 * 'r'}.example.org",
    ],
)
def test_a_mistyped_address_is_not_an_outage(
    client: type[RewardClient | AsyncRewardClient], base_url: str
) -> None:
    """A base URL that can never work is refused at once."""
    with pytest.raises(ValueError, match="base_url must look like"):
        client(base_url)


@pytest.mark.parametrize("client", [RewardClient, AsyncRewardClient])
@pytest.mark.parametrize("api_key", ["s3cret\n", "s3cret\r", " s3cret", "s3crét"])
def test_a_key_that_no_header_can_hold_is_refused_unseen(
    client: type[RewardClient | AsyncRewardClient], api_key: str
) -> None:
    """The refusal does not show the key."""
    with pytest.raises(ValueError, match=r"MEDREWARD_API_KEY.* one line of ASCII") as caught:
        client(URL, api_key=api_key)

    assert "s3cr" not in str(caught.value)


class Closing(httpx.MockTransport):
    """A transport that records whether it was closed."""

    closed = False

    async def aclose(self) -> None:
        """Record that the client has closed."""
        self.closed = True


async def test_leaving_the_block_gives_the_connections_back(ask: Ask) -> None:
    """Both clients close their transport."""
    transport = Closing(replying(READINESS))

    await ask(replying(READINESS), lambda client: client.health(), transport=transport)

    assert transport.closed


@pytest.mark.parametrize("name", ["__init__", "judge", "health"])
def test_the_two_clients_take_the_same_arguments(name: str) -> None:
    """Both clients have the same methods and arguments."""
    blocking = inspect.signature(getattr(RewardClient, name))
    assert blocking == inspect.signature(getattr(AsyncRewardClient, name))


async def test_a_misspelt_argument_is_refused(ask: Ask) -> None:
    """A misspelt option is a TypeError, since the run would be scored otherwise."""
    with pytest.raises(TypeError, match="recipie"):
        await ask(
            replying(reward_body(SCORED)), lambda client: client.reward([SAMPLE], recipie="mine")
        )
