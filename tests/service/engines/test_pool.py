"""Several servers: which one is asked, again where that helps, and who is left alone."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from medreward.admission import Deadline
from medreward.engines.remote.api_key import ApiKey
from medreward.engines.remote.pool import FAILURES_TO_EJECT, Pauses, ServerPool
from medreward.engines.remote.rate_limits import RateLimits
from medreward.errors import BackendDown, DeadlinePassed, NonsenseReply, SetupError
from tests.service.engines.judge_servers import SHORT_PAUSES
from tests.support.wait import until

pytestmark = pytest.mark.anyio

Behaviour = Callable[[httpx.Request], Coroutine[Any, Any, httpx.Response]]
SECRET = "sk-the-key-of-the-servers"
LONG_RESTS = replace(SHORT_PAUSES, first_rest_s=60.0, longest_rest_s=60.0)
"""An ejected server stays ejected to the end of a test."""


class Network:
    """Hosts by name, and which of them was asked what, in order."""

    def __init__(self, **hosts: Behaviour) -> None:
        self.hosts = hosts
        self.asked: list[str] = []
        self.seen: list[httpx.Request] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer as the host does."""
        if request.method == "POST":  # not the probes in the background
            self.asked.append(request.url.host)
        self.seen.append(request)
        return await self.hosts[request.url.host](request)


@asynccontextmanager
async def reaching(network: Network, **options: Any) -> AsyncIterator[ServerPool]:
    """The servers of a network."""
    wire: dict[str, Any] = {"timeout_s": 5.0, "pauses": LONG_RESTS}
    wire |= {"transport": httpx.MockTransport(network), **options}
    urls = [f"http://{host}/v1" for host in network.hosts]
    async with aclosing(ServerPool(urls, **wire)) as servers:
        yield servers


def answers(status: int = 200, **headers: str) -> Behaviour:
    """A server that always says the same."""

    async def behave(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, json={}, headers=headers)

    return behave


def in_turn(*statuses: int, **headers: str) -> Behaviour:
    """A server that answers with each status once, then well."""
    left = list(statuses)

    async def behave(_request: httpx.Request) -> httpx.Response:
        status = left.pop(0) if left else 200
        return httpx.Response(status, json={}, headers=headers if status != 200 else {})

    return behave


async def hang(_request: httpx.Request) -> httpx.Response:
    """A server that took the connection and says nothing."""
    await asyncio.Event().wait()
    raise AssertionError


async def refuse(request: httpx.Request) -> httpx.Response:
    """Nobody listens."""
    raise httpx.ConnectError("refused", request=request)


async def refuse_all(_server: object) -> None:
    """Whoever comes back is another than before."""
    raise SetupError("it serves another model now")


async def post(servers: ServerPool, times: int = 1, *, timeout_s: float = 5.0) -> list[Any]:
    """Post several requests at once."""
    posts = (servers.post("x", b"{}", Deadline.after(timeout_s)) for _ in range(times))
    return list(await asyncio.gather(*posts, return_exceptions=True))


async def test_the_least_busy_server_is_asked() -> None:
    """Thirty requests at once are ten for each of three servers."""
    started = asyncio.Event()

    async def slow(_request: httpx.Request) -> httpx.Response:
        await started.wait()
        return httpx.Response(200, json={})

    network = Network(a=slow, b=slow, c=slow)
    async with reaching(network) as servers:
        posting = asyncio.create_task(post(servers, 30))
        await until(lambda: len(network.asked) == 30)
        outstanding = [server.outstanding for server in servers.all]
        started.set()
        replies = await posting

    assert outstanding == [10, 10, 10]
    assert {reply.status for reply in replies} == {200}


@pytest.mark.parametrize("sick", [answers(500), answers(503), refuse, hang])
async def test_a_server_that_fails_costs_no_answer_and_is_left_alone(sick: Behaviour) -> None:
    """Its requests are tried on the others; after a few it is asked no more."""
    network = Network(a=answers(), sick=sick, c=answers())
    async with reaching(network, try_timeout_s=0.05 if sick is hang else 5.0) as servers:
        first = [reply for _ in range(4) for reply in await post(servers, 12)]
        network.asked.clear()
        second = await post(servers, 12)

    assert {reply.status for reply in first + second} == {200}
    assert "sick" not in network.asked


async def test_a_server_that_is_well_again_is_asked_again() -> None:
    """A probe in the background looks after it; no request is spent on finding out."""
    network = Network(a=answers(), b=answers(500))
    async with reaching(network, pauses=SHORT_PAUSES) as servers:
        await post(servers, 12)
        assert servers.all[1].breaker.is_open
        network.hosts["b"] = answers()
        await until(lambda: not servers.all[1].breaker.is_open)
        network.asked.clear()
        await post(servers, 4)

    assert network.asked.count("b") == 2


async def test_a_server_behind_a_page_is_not_well_again() -> None:
    """Its probe, too, needs an answer and not the page of something between."""
    pages = 0

    async def page(_request: httpx.Request) -> httpx.Response:
        nonlocal pages
        pages += 1
        return httpx.Response(200, html="<html>back soon</html>")

    network = Network(a=answers(), b=page)
    async with reaching(network, pauses=SHORT_PAUSES) as servers:
        await post(servers, 12)
        seen = pages
        await until(lambda: pages > seen + 1)
        still_open = servers.all[1].breaker.is_open

    assert still_open


async def test_while_all_rest_no_request_is_sent() -> None:
    """After a few failures, the next request is told why, and when the next try is."""
    network = Network(a=refuse)
    async with reaching(network) as servers:
        await post(servers, FAILURES_TO_EJECT)
        network.asked.clear()
        (told,) = await post(servers, timeout_s=0.05)

    assert isinstance(told, BackendDown)
    assert "cannot be reached" in str(told)
    assert "the next try is in" in str(told)
    assert "a" not in network.asked


async def test_a_queue_is_not_used_up_while_a_server_rests() -> None:
    """A server that fails for a moment costs the requests that come then some time, not their answers."""
    network = Network(a=refuse)
    async with reaching(network, pauses=replace(SHORT_PAUSES, longest_s=60.0)) as servers:
        await post(servers, FAILURES_TO_EJECT, timeout_s=0.05)
        network.hosts["a"] = answers()
        replies = await post(servers, 50)

    assert {reply.status for reply in replies} == {200}


async def test_a_server_that_stays_away_is_not_waited_for() -> None:
    """Each request would hold its place for the wait, and those behind it would wait for minutes."""
    network = Network(a=refuse)
    async with reaching(network, pauses=SHORT_PAUSES) as servers:
        await post(servers, FAILURES_TO_EJECT)
        servers.all[0].ejected_s -= SHORT_PAUSES.longest_s
        asking = asyncio.create_task(post(servers))
        for _ in range(10):
            await asyncio.sleep(0)

        assert asking.done()
        assert isinstance(asking.result()[0], BackendDown)


async def test_a_server_that_is_ejected_comes_back_by_examination_alone() -> None:
    """An answer that was on its way when it was ejected says nothing of who answers next."""
    go_on = asyncio.Event()

    async def first_slow(_request: httpx.Request) -> httpx.Response:
        if len(network.asked) == 1:
            await go_on.wait()
            return httpx.Response(200, json={})
        return httpx.Response(503)

    network = Network(a=first_slow)
    async with reaching(network) as servers:
        servers.examine = refuse_all
        slow = asyncio.create_task(post(servers))
        await until(lambda: len(network.asked) == 1)
        await post(servers, FAILURES_TO_EJECT, timeout_s=0.5)
        go_on.set()
        (reply,) = await slow

        assert reply.status == 200
        assert servers.all[0].breaker.is_open


async def test_a_request_that_waited_for_its_turn_goes_to_no_ejected_server() -> None:
    """Who is asked is chosen after the rate limit's wait, when it is known who is well."""
    limits = RateLimits(requests_per_minute=600, tokens_per_minute=None)
    network = Network(a=answers(), b=answers())
    async with reaching(network, limits=limits) as servers:
        servers.examine = refuse_all
        await post(servers, 100)  # as many as may go at once
        waiting = asyncio.create_task(post(servers, 2))
        await asyncio.sleep(0.05)
        network.asked.clear()
        servers.eject(servers.all[0], "it was seen to be sick")
        await waiting

    assert "a" not in network.asked


@pytest.mark.parametrize("status", [302, 401, 403, 404, 405])
async def test_a_server_that_refuses_whatever_is_sent_is_left_alone(status: int) -> None:
    """It answers faster than those that judge, so it would be sent nearly everything."""
    network = Network(a=answers(status), b=answers())
    async with reaching(network) as servers:
        first = [reply for _ in range(4) for reply in await post(servers, 4)]
        network.asked.clear()
        second = await post(servers, 4)

    assert {reply.status for reply in first + second} == {200}
    assert "a" not in network.asked


async def test_a_page_in_the_place_of_an_answer_is_a_failure() -> None:
    """A proxy's page comes with a 200; another server may have the answer."""

    async def page(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, html="<html>back soon</html>")

    network = Network(a=page, b=answers())
    async with reaching(network) as servers:
        replies = [reply for _ in range(4) for reply in await post(servers, 4)]

        assert {reply.content for reply in replies} == {b"{}"}
        assert servers.all[0].breaker.is_open


async def test_a_page_or_a_wrapped_error_is_tried_again() -> None:
    """Maintenance that takes a moment costs no answer, also with one server."""
    page = httpx.Response(200, html="<html>back soon</html>")
    busy = httpx.Response(200, json={"error": {"code": 429, "message": "busy"}})
    left = [page, busy]

    async def behave(_request: httpx.Request) -> httpx.Response:
        return left.pop(0) if left else httpx.Response(200, json={})

    network = Network(a=behave)
    async with reaching(network) as servers:
        (reply,) = await post(servers)

    assert (reply.status, reply.content, network.asked) == (200, b"{}", ["a", "a", "a"])


async def test_one_request_that_a_server_stumbles_over_does_not_eject_it() -> None:
    """Its four tries are one failure; a server is ejected for what several requests met with."""
    network = Network(a=answers(500))
    async with reaching(network) as servers:
        (reply,) = await post(servers)

        assert reply.status == 500
        assert network.asked == ["a"] * 4
        assert not servers.all[0].breaker.is_open


async def test_a_server_is_not_blamed_for_time_it_was_not_given() -> None:
    """A request that has waited for most of its time is late, and ejects nobody."""

    async def slow(_request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0.1)
        return httpx.Response(200, json={})

    network = Network(a=slow)
    async with reaching(network) as servers:
        told = await post(servers, 4, timeout_s=0.05)

        assert {type(one) for one in told} == {DeadlinePassed}
        assert not servers.all[0].breaker.is_open


TRIES = [
    # What may pass is tried again, also with one server, after a pause.
    *((status, {"a": in_turn(status)}, 200, "aa") for status in (408, 429, 500, 502, 503, 504)),
    # A refusal is an answer.
    *((n, {"a": answers(n), "b": answers()}, n, "a") for n in (400, 413, 422)),
    # What waiting does not mend is asked of each server once.
    *((n, {"a": answers(n), "b": answers(n)}, n, "ab") for n in (302, 401, 403, 404)),
]


@pytest.mark.parametrize(("first", "hosts", "last", "asked"), TRIES, ids=[row[0] for row in TRIES])
async def test_a_status_decides_who_is_asked_next(
    first: int, hosts: dict[str, Behaviour], last: int, asked: str
) -> None:
    """The same server after a pause, another server, or nobody."""
    network = Network(**hosts)
    async with reaching(network) as servers:
        (reply,) = await post(servers)

    assert reply.status == last, first
    assert sorted(network.asked) == list(asked)


async def test_a_busy_server_is_left_alone_as_long_as_it_says() -> None:
    """`Retry-After` is kept if it fits into the time: any earlier request would be refused too."""
    loop = asyncio.get_running_loop()
    opens_s: list[float] = []

    async def busy(_request: httpx.Request) -> httpx.Response:
        opens_s.append(loop.time() + 0.05)
        status = 200 if loop.time() >= opens_s[0] else 429
        return httpx.Response(status, json={}, headers={"Retry-After": "0.05"})

    network = Network(a=busy)
    async with reaching(network) as servers:
        (reply,) = await post(servers)

    assert reply.status == 200
    assert network.asked == ["a", "a"]


async def test_without_pauses_of_its_own_a_pool_has_those_of_the_docs() -> None:
    """A try after a tenth of a second, a wait of 5 s, probes after 0.5 s and every 15 s."""
    assert astuple(Pauses()) == (0.1, 5.0, 0.5, 15.0)

    network = Network(a=in_turn(503))
    async with reaching(network, pauses=None) as servers:
        (reply,) = await post(servers)

    assert reply.status == 200


async def test_a_wait_that_is_too_long_is_not_begun() -> None:
    """Where `Retry-After` is beyond the time, the refusal is the answer, and ejects nobody."""
    network = Network(a=answers(429, **{"Retry-After": "3600"}))
    async with reaching(network) as servers:
        replies = await post(servers, 4, timeout_s=0.5)

        assert [reply.status for reply in replies] == [429] * 4
        assert network.asked == ["a"] * 4
        assert not servers.all[0].breaker.is_open


async def test_tries_end() -> None:
    """A request is sent at most four times, whatever the time."""
    network = Network(**{f"h{n}": answers(503) for n in range(8)})
    async with reaching(network) as servers:
        (reply,) = await post(servers)

    assert reply.status == 503
    assert len(network.asked) == len(set(network.asked)) == 4


async def test_the_whole_time_is_bounded() -> None:
    """Servers that hang one after the other do not add up beyond the time given."""
    network = Network(a=hang, b=hang, c=hang)
    async with reaching(network, try_timeout_s=0.2) as servers:
        (told,) = await post(servers, timeout_s=0.3)

    assert isinstance(told, DeadlinePassed)
    assert len(network.asked) == 2


async def test_requests_in_flight_are_few() -> None:
    """More wait for their turn; one whose turn does not come is late, and no server's fault."""
    network = Network(a=hang)
    async with reaching(network, in_flight_each=2) as servers:
        posting = asyncio.create_task(post(servers, 2))
        await until(lambda: len(network.asked) == 2)
        (told,) = await post(servers, timeout_s=0.05)
        posting.cancel()

        assert isinstance(told, DeadlinePassed)
        assert len(network.asked) == 2
        assert not servers.all[0].breaker.is_open


async def test_a_reply_without_end_is_nonsense() -> None:
    """Nothing reads on for ever."""

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 1024**2

    async def pour(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=endless())

    async with reaching(Network(a=pour)) as servers:
        (told,) = await post(servers)

    assert isinstance(told, NonsenseReply)


# Keys.


def key_checked(network_key: list[str]) -> Behaviour:
    """A server that takes one key only."""

    async def behave(request: httpx.Request) -> httpx.Response:
        is_right = request.headers.get("Authorization") == f"Bearer {network_key[0]}"
        return httpx.Response(200 if is_right else 401, json={})

    return behave


async def test_a_key_file_is_read_anew_when_the_key_is_refused(tmp_path: Path) -> None:
    """A key that was replaced is picked up with the next request, which does not fail for it."""
    file = tmp_path / "key"
    file.write_text("old\n")
    right = ["old"]
    network = Network(a=key_checked(right))
    async with reaching(network, api_key=ApiKey(file=file)) as servers:
        (before,) = await post(servers)
        right[0] = "new"
        (refused,) = await post(servers)
        file.write_text("new\n")
        after = await post(servers, 3)

    assert (before.status, refused.status) == (200, 401)
    assert [reply.status for reply in after] == [200] * 3


async def test_further_headers_are_sent() -> None:
    """For gateways that want more than a key."""
    network = Network(a=answers())
    async with reaching(network, headers={"X-Team": "radiology"}) as servers:
        await post(servers)

    assert network.seen[0].headers["X-Team"] == "radiology"
    assert "Authorization" not in network.seen[0].headers, "without a key"


@pytest.mark.parametrize("key", ["", "two words", "schlüssel", "line\nbreak"])
async def test_a_key_that_no_header_can_carry_is_refused(tmp_path: Path, key: str) -> None:
    """The message says where it stands, and not what it is; a file that is not there is named too."""
    file = tmp_path / "key"
    file.write_text(key, "utf-8")

    for secret, path in ((SecretStr(key), None), (None, file)):
        with pytest.raises(SetupError) as caught:
            ApiKey(secret, path)
        assert not key or key not in str(caught.value)
    with pytest.raises(SetupError, match="nowhere"):
        ApiKey(file=tmp_path / "nowhere")


async def test_a_key_shows_nowhere(capsys: pytest.CaptureFixture[str]) -> None:
    """Not in a repr, an error or a log, also while servers refuse it and are ejected."""
    key = ApiKey(SecretStr(SECRET))
    network = Network(a=answers(401), b=answers(500), c=refuse)
    async with reaching(network, api_key=key, headers={"X-Key": SECRET}) as servers:
        told = await post(servers, 20)
        shown = repr([key, vars(servers), servers.all, told])

    assert SECRET not in shown
    assert SECRET not in "".join(capsys.readouterr())


# Rates.


async def test_a_turn_that_does_not_come_in_time_is_late() -> None:
    """Twelve a minute are two at once; the wait for the third is bounded, and no server is to blame."""
    limits = RateLimits(requests_per_minute=12, tokens_per_minute=None)
    network = Network(a=answers())
    async with reaching(network, limits=limits) as servers:
        *sent, (late,) = [await post(servers, timeout_s=0.1) for _ in range(3)]

        assert [reply.status for (reply,) in sent] == [200, 200]
        assert isinstance(late, DeadlinePassed)
        assert "rate limit" in str(late)
        assert not servers.all[0].breaker.is_open
    assert network.asked == ["a", "a"]


async def test_tokens_are_limited_by_what_replies_tell() -> None:
    """The estimate follows the tokens that servers count: twice the tokens, half the requests."""
    few, many = [RateLimits(requests_per_minute=None, tokens_per_minute=6_000) for _ in range(2)]
    for _ in range(50):
        few.note(100, 20)
        many.note(100, 80)

    assert await sent_at_once(few) > 3 * await sent_at_once(many) > 0


async def sent_at_once(limits: RateLimits) -> int:
    """How many requests of 100 bytes go before one has to wait."""
    sent = 0
    while True:
        try:
            await limits.wait(100, timeout_s=0.001)
        except DeadlinePassed:
            return sent
        sent += 1


async def test_a_request_bigger_than_the_allowance_is_counted_whole() -> None:
    """It waits for as many allowances as it takes, and goes; what comes next waits for its turn."""
    limits = RateLimits(requests_per_minute=None, tokens_per_minute=1_200_000)

    await limits.wait(603_000, timeout_s=5.0)

    with pytest.raises(DeadlinePassed):
        await limits.wait(300_000, timeout_s=0.01)


async def test_a_large_request_is_not_overtaken_for_ever() -> None:
    """First come, first served: small ones that keep coming do not starve it."""
    limits = RateLimits(requests_per_minute=None, tokens_per_minute=600_000)
    turns: list[str] = []

    async def wait(name: str, sent_bytes: int) -> None:
        await limits.wait(sent_bytes, timeout_s=5.0)
        turns.append(name)

    await limits.wait(299_000, timeout_s=1.0)
    await asyncio.gather(wait("large", 3_000), *(wait("small", 30) for _ in range(20)))

    assert turns[0] == "large"


async def test_a_request_that_gives_up_does_not_hold_up_the_next() -> None:
    """Its place in the line is given back."""
    limits = RateLimits(requests_per_minute=None, tokens_per_minute=60_000)
    await limits.wait(29_900, timeout_s=1.0)
    late = asyncio.gather(
        *(limits.wait(30_000, timeout_s=0.01) for _ in range(5)), return_exceptions=True
    )

    assert {type(one) for one in await late} == {DeadlinePassed}
    await limits.wait(300, timeout_s=1.0)
