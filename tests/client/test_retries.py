"""Retries: the failures that cause one, the pauses before it, and the deadline."""

import asyncio
import logging
from inspect import signature

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medreward_client import (
    AsyncRewardClient,
    BadReply,
    MedrewardError,
    Overloaded,
    RequestRefused,
    RewardClient,
    Sample,
    TimedOut,
    TryAgain,
    Unavailable,
)
from medreward_client._batching import BATCH_SAMPLES
from medreward_client._http import IN_FLIGHT, PAUSES, pause_after
from medreward_client.pauses import Pauses
from tests.client.stand_in import (
    SAMPLE,
    SCORED,
    URL,
    Ask,
    Handler,
    failing,
    reward_body,
)

pytestmark = pytest.mark.anyio


class Recovering:
    """A service that fails a number of times, then answers."""

    def __init__(self, failures: int, fail: Handler) -> None:
        self._failures = failures
        self._fail = fail
        self.bodies: list[bytes] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer a request."""
        self.bodies.append(request.content)
        if len(self.bodies) <= self._failures:
            return self._fail(request)
        return httpx.Response(200, json=reward_body(SCORED))


def saying(status: int, **headers: str) -> Handler:
    """Reply with a status and nothing else."""
    return lambda _: httpx.Response(status, headers=headers)


@pytest.mark.parametrize(
    "fail",
    [
        *(saying(status) for status in (408, 502, 503, 504)),
        saying(429, **{"Retry-After": "0"}),
        failing(httpx.ConnectError),
        failing(httpx.ConnectTimeout),
        # The service was killed while it worked; rewards depend on the request alone.
        failing(httpx.ReadError),
        failing(httpx.RemoteProtocolError),
    ],
)
async def test_what_may_pass_is_asked_again(ask: Ask, fail: Handler) -> None:
    """If the service recovers before the deadline, the call succeeds."""
    service = Recovering(1, fail)

    reply = await ask(service, lambda client: client.reward([SAMPLE]), deadline_s=60)

    assert reply.rewards == (1.0,)
    assert len(service.bodies) == 2


@pytest.mark.parametrize(
    ("fail", "error"),
    [
        (saying(422), RequestRefused),
        (saying(500), Unavailable),
        # The request itself is malformed, and would be so again.
        (failing(httpx.LocalProtocolError), RequestRefused),
        (saying(302), BadReply),
        (lambda _: httpx.Response(200, content=b"<html>"), BadReply),
    ],
)
async def test_what_will_not_pass_is_asked_once(
    ask: Ask, fail: Handler, error: type[MedrewardError]
) -> None:
    """A refusal or a bug would repeat, so it is raised at once."""
    service = Recovering(1, fail)

    with pytest.raises(error):
        await ask(service, lambda client: client.reward([SAMPLE]), deadline_s=60)

    assert len(service.bodies) == 1


async def test_each_attempt_says_how_much_time_is_left(ask: Ask) -> None:
    """The service can then respond by the deadline of the call, not by a later one."""
    service = Recovering(1, saying(503))

    await ask(service, lambda client: client.reward([SAMPLE]), deadline_s=60)

    first, second = (orjson.loads(body)["deadline_ms"] for body in service.bodies)
    assert 60_000 >= first >= second > 0


async def test_a_wait_that_would_outlast_the_deadline_is_not_begun(ask: Ask) -> None:
    """If the service asks for a pause of an hour, no second request is sent."""
    service = Recovering(1, saying(429, **{"Retry-After": "3600"}))

    with pytest.raises(Overloaded) as caught:
        await ask(service, lambda client: client.reward([SAMPLE]), deadline_s=60)

    assert caught.value.retry_after_s == 3600.0
    assert len(service.bodies) == 1


async def never(_: httpx.Request) -> httpx.Response:
    """Accept a request and never respond."""
    await asyncio.Event().wait()
    raise AssertionError


@pytest.mark.parametrize("asked", [SAMPLE, [SAMPLE], [SAMPLE] * (BATCH_SAMPLES + 1)])
async def test_no_call_outlasts_its_deadline(asked: Sample | list[Sample]) -> None:
    """If the service never responds, the call ends at its deadline."""
    async with AsyncRewardClient(URL, transport=httpx.MockTransport(never)) as client:
        with pytest.raises(TimedOut, match="by the deadline"):
            await client.reward(asked, deadline_s=0.01)


@given(st.integers(1, 10_000), st.floats(0, 3600))
def test_pauses_are_bounded_and_heed_the_service(attempt: int, retry_after_s: float) -> None:
    """A pause is never shorter than the service asked for, nor half a minute longer."""
    pause_s = pause_after(attempt, TryAgain("busy", retry_after_s=retry_after_s))

    assert retry_after_s <= pause_s <= retry_after_s + PAUSES.longest_s


@pytest.mark.parametrize("client", [RewardClient, AsyncRewardClient])
def test_pauses_begin_below_a_second_and_double_to_half_a_minute(client: type[object]) -> None:
    """The bound after each attempt, in seconds, of a client that was given no other pauses."""
    default = signature(client).parameters["pauses"].default

    assert [default.doubled(attempt) for attempt in range(1, 8)] == [1, 2, 4, 8, 16, 30, 30]


async def test_a_client_pauses_between_tries_as_it_was_made_to(
    ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    """Both clients do; the log of a run names the reason of each, and holds no patient text."""
    service = Recovering(3, saying(503))
    caplog.set_level(logging.WARNING, "medreward_client")

    reply = await ask(
        service,
        lambda client: client.reward([SAMPLE]),
        deadline_s=60,
        pauses=Pauses(first_s=0.0, longest_s=0.0),
    )

    assert reply.rewards == (1.0,)
    assert [record.message for record in caplog.records] == [
        f"status 503, http_503: no reason given by rewards:8080; attempt {attempt} in 0.0 s"
        for attempt in (2, 3, 4)
    ]


def test_workers_that_failed_together_come_back_apart() -> None:
    """The pause is drawn at random each time."""
    assert len({pause_after(5, TryAgain("busy")) for _ in range(50)}) > 1


class Crowded:
    """A service that notes how many requests it holds at once."""

    def __init__(self) -> None:
        self.now = self.most = self.total = 0

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        """Hold a request for a moment."""
        self.now += 1
        self.total += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.001)
        self.now -= 1
        samples = orjson.loads(request.content)["samples"]
        return httpx.Response(200, json=reward_body(*[SCORED | {"id": s["id"]} for s in samples]))


async def test_the_number_of_requests_in_flight_is_bounded() -> None:
    """With any number of calls, few requests are in flight."""
    service = Crowded()
    async with AsyncRewardClient(URL, transport=httpx.MockTransport(service)) as client:
        await asyncio.gather(*(client.reward([SAMPLE]) for _ in range(100)))

    assert (service.most, service.total) == (IN_FLIGHT, 100)


async def test_a_password_in_the_address_is_sent_and_not_logged(
    ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    """The HTTP library, which logs each request, does not log it either."""
    caplog.set_level(logging.DEBUG)
    sent = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.headers["Authorization"])
        return httpx.Response(200, json=reward_body(SCORED))

    address = "http://me:hush-hush@rewards:8080/behind"
    await ask(answer, lambda client: client.reward([SAMPLE]), base_url=address)

    assert sent == ["Basic bWU6aHVzaC1odXNo"]
    assert "hush-hush" not in caplog.text
    assert "rewards:8080/behind/reward" in caplog.text
