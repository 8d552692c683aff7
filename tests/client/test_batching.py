"""Batching: many small calls share requests, and one large call is split."""

import asyncio
import logging
from dataclasses import replace

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medreward_client import (
    AsyncRewardClient,
    Counts,
    Item,
    RequestRefused,
    RewardClient,
    Sample,
    Scored,
    TimedOut,
    Unavailable,
    Unjudged,
    Unscored,
)
from medreward_client._batching import BATCH_CHARACTERS, BATCH_SAMPLES, batches_of
from tests.client.stand_in import JUDGED, SCORED, URL, judge_body, reward_body

pytestmark = pytest.mark.anyio


class Echo:
    """A service whose reward for a sample is the number in its id; it remembers its requests."""

    def __init__(self, fingerprint: str = "sha256:1f") -> None:
        self.requests: list[dict[str, object]] = []
        self.fingerprints = [fingerprint]

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer a request."""
        body = orjson.loads(request.content)
        self.requests.append(body)
        reply = reward_body(
            *(SCORED | {"id": s["id"], "reward": float(s["id"])} for s in body["samples"])
        )
        reply["provenance"]["fingerprint"] = self.fingerprints[-1]
        self.fingerprints = self.fingerprints[:-1] or self.fingerprints
        return httpx.Response(200, content=orjson.dumps(reply))

    @property
    def sizes(self) -> list[int]:
        """The number of samples in each request."""
        return [len(request["samples"]) for request in self.requests]  # type: ignore[arg-type]

    def client(self) -> AsyncRewardClient:
        """Make a client that asks here."""
        return AsyncRewardClient(URL, transport=httpx.MockTransport(self))


def sample(number: int, response: str = "left") -> Sample:
    """Make a sample with a number."""
    return Sample(response, "left lower lobe", id=str(number))


async def test_calls_at_the_same_time_travel_together() -> None:
    """A thousand calls with one sample are two requests, and each gets its own reward."""
    service = Echo()
    async with service.client() as client:
        results = await asyncio.gather(*(client.reward(sample(n)) for n in range(1000)))

    assert service.sizes == [BATCH_SAMPLES, 1000 - BATCH_SAMPLES]
    assert [isinstance(r, Scored) and r.reward for r in results] == list(range(1000))


async def test_long_samples_fill_a_request_sooner() -> None:
    """A request is limited in characters as well as in samples."""
    service, long = Echo(), "left " * (BATCH_CHARACTERS // 20)
    async with service.client() as client:
        await asyncio.gather(*(client.reward(sample(n, long)) for n in range(9)))
        await client.reward([sample(n, long) for n in range(9)])

    assert service.sizes == [4, 4, 1, 4, 2, 3]


async def test_only_what_is_asked_alike_travels_together() -> None:
    """Samples of different recipes, runs or steps are sent in different requests."""
    service = Echo()
    async with service.client() as client:
        await asyncio.gather(
            client.reward(sample(1), run_id="a", step=1),
            client.reward(sample(2), run_id="a", step=1),
            client.reward(sample(3), run_id="a", step=2),
            client.reward(sample(4), recipe="other"),
        )

    assert sorted(service.sizes) == [1, 1, 2]


async def test_who_gives_up_gives_up_alone() -> None:
    """Cancelling one call does not affect the others of its request."""
    service = Echo()
    async with service.client() as client:
        leaving, staying = (asyncio.create_task(client.reward(sample(n))) for n in (1, 2))
        await asyncio.sleep(0)
        leaving.cancel()
        result = await staying

    assert isinstance(result, Scored)
    assert result.reward == 2.0


@pytest.mark.parametrize(("status", "error"), [(500, Unavailable), (422, RequestRefused)])
async def test_a_request_that_fails_as_a_whole_is_asked_once(
    status: int, error: type[Exception]
) -> None:
    """The error is raised in each call; a refusal that names no sample is not bisected."""
    asked = []

    def fail(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(status)

    async with AsyncRewardClient(URL, transport=httpx.MockTransport(fail)) as client:
        failures = await asyncio.gather(
            *(client.reward(sample(n)) for n in range(100)), return_exceptions=True
        )

    assert [type(failure) for failure in failures] == [error] * 100
    assert len(asked) == 1


INVALID = {"kind": "invalid_request", "message": "samples[5].modality", "retryable": False}


@pytest.mark.parametrize(
    "refusal",
    [httpx.Response(422, json={"error": INVALID, "request_id": "r-1"}), httpx.Response(413)],
    ids=["named", "too large"],
)
async def test_a_sample_that_is_refused_costs_its_neighbours_nothing(
    refusal: httpx.Response,
) -> None:
    """If one sample may be the cause, only its call fails, and the others are sent without it."""

    def refuse(request: httpx.Request) -> httpx.Response:
        return refusal if b'"5"' in request.content else Echo()(request)

    async with AsyncRewardClient(URL, transport=httpx.MockTransport(refuse)) as client:
        results = await asyncio.gather(
            *(client.reward(sample(n)) for n in range(100)), return_exceptions=True
        )

    assert [n for n, one in enumerate(results) if isinstance(one, RequestRefused)] == [5]
    assert sum(isinstance(one, Scored) for one in results) == 99


def modalities(request: httpx.Request) -> httpx.Response:
    """Refuse a request for its first sample of an unknown modality, as the service does."""
    asked = orjson.loads(request.content)["samples"]
    for place, one in enumerate(asked):
        if one["modality"] == "XRAY":
            told = {"kind": "invalid_request", "message": f"samples[{place}].modality: no tag"}
            error = told | {"retryable": False}
            return httpx.Response(422, json={"error": error, "request_id": "r-1"})
    return Echo()(request)


def some_odd(number: int, *odd: int) -> list[Sample]:
    """Make samples of which some have an unknown modality."""
    return [replace(sample(n), modality="XRAY" if n in odd else None) for n in range(number)]


@pytest.mark.parametrize(
    ("number", "odd"),
    [(100, (5,)), (100, (0, 50, 99)), (BATCH_SAMPLES + 1, (BATCH_SAMPLES,)), (4, (0, 1, 2))],
)
async def test_a_sample_of_a_list_that_is_refused_costs_its_neighbours_nothing(
    number: int, odd: tuple[int, ...]
) -> None:
    """It is unscored, with a message that names it; the others have their rewards."""
    async with AsyncRewardClient(URL, transport=httpx.MockTransport(modalities)) as client:
        reply = await client.reward(some_odd(number, *odd))

    refused = {n: one for n, one in enumerate(reply.results) if isinstance(one, Unscored)}
    assert tuple(refused) == odd
    assert all(
        (one.id, one.error.kind, one.error.retryable) == (str(n), "sample_refused", False)
        and f"the sample '{n}', modality: no tag" in one.error.message
        for n, one in refused.items()
    )
    assert [n for n, one in enumerate(reply.rewards) if one is None] == list(odd)
    if number <= BATCH_SAMPLES:
        assert (reply.counts.scored, reply.counts.unscored) == (number - len(odd), len(odd))


async def test_a_list_whose_samples_are_all_refused_is_refused() -> None:
    """There is no provenance for a reply; the error names the first."""
    async with AsyncRewardClient(URL, transport=httpx.MockTransport(modalities)) as client:
        with pytest.raises(RequestRefused, match="the sample '0', modality") as caught:
            await client.reward(some_odd(3, 0, 1, 2))

    assert (caught.value.status, caught.value.request_id) == (422, "r-1")


async def test_an_item_that_is_refused_costs_its_neighbours_nothing() -> None:
    """It is unjudged."""

    def judge(request: httpx.Request) -> httpx.Response:
        asked = [one["id"] for one in orjson.loads(request.content)["items"]]
        if "5" in asked:
            place = asked.index("5")
            told = {"kind": "invalid_request", "message": f"items[{place}].reference: empty"}
            return httpx.Response(422, json={"error": told | {"retryable": False}})
        return httpx.Response(200, json=judge_body(*(JUDGED | {"id": one} for one in asked)))

    async with AsyncRewardClient(URL, transport=httpx.MockTransport(judge)) as client:
        reply = await client.judge([Item("a", "b", str(n)) for n in range(10)])

    assert [one.id for one in reply.results if isinstance(one, Unjudged)] == ["5"]
    assert (reply.counts.judged, reply.counts.unjudged) == (9, 1)


async def test_a_large_call_travels_in_parts() -> None:
    """Results come back in order, and the counts are those of all parts."""
    service, asked = Echo(), [sample(n) for n in range(2 * BATCH_SAMPLES + 1)]
    async with service.client() as client:
        reply = await client.reward(asked)

    assert service.sizes == [BATCH_SAMPLES, BATCH_SAMPLES, 1]
    assert reply.rewards == tuple(range(len(asked)))
    assert [result.id for result in reply.results] == [one.id for one in asked]
    # The stand-in says the same of each request: one of everything.
    assert reply.counts == Counts(3, 3, cache_hits=3, coalesced=0, judge_calls=3)


async def test_a_part_that_fails_fails_the_call() -> None:
    """The call fails if one of its parts fails."""
    service = Echo()

    def fail_the_short(request: httpx.Request) -> httpx.Response:
        reply = service(request)
        return reply if service.sizes[-1] == BATCH_SAMPLES else httpx.Response(500)

    transport = httpx.MockTransport(fail_the_short)
    async with AsyncRewardClient(URL, transport=transport) as client:
        with pytest.raises(Unavailable, match="status 500"):
            await client.reward([sample(n) for n in range(BATCH_SAMPLES + 1)])


async def test_a_change_of_the_service_between_parts_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Two replicas that score differently leave a line in the log."""
    caplog.set_level(logging.WARNING, "medreward_client")
    service = Echo()
    service.fingerprints = ["sha256:2e", "sha256:1f"]
    async with service.client() as client:
        await client.reward([sample(n) for n in range(BATCH_SAMPLES + 1)])

    assert ["not all of its rewards are comparable" in r.message for r in caplog.records] == [True]


def test_the_blocking_client_takes_one_sample_too() -> None:
    """One sample in, one result out, without waiting for company."""
    with RewardClient(URL, transport=httpx.MockTransport(Echo())) as client:
        result = client.reward(sample(3))

    assert isinstance(result, Scored)
    assert result.reward == 3.0


@given(st.lists(st.integers(0, BATCH_CHARACTERS), max_size=12))
def test_cutting_loses_nothing(lengths: list[int]) -> None:
    """The parts, joined, are the samples that were sent, and each is within the limits."""
    asked = [sample(n, "x" * length) for n, length in enumerate(lengths)]

    parts = list(batches_of(asked))

    assert [one for part in parts for one in part] == asked
    assert all(sum(len(one.response) for one in part[:-1]) < BATCH_CHARACTERS for part in parts)


async def test_a_call_has_its_own_deadline() -> None:
    """Calls with different deadlines are sent in different requests."""

    async def answer_the_patient(request: httpx.Request) -> httpx.Response:
        body = orjson.loads(request.content)
        if body["deadline_ms"] < 1000:
            await asyncio.Event().wait()
        return Echo()(request)

    transport = httpx.MockTransport(answer_the_patient)
    async with AsyncRewardClient(URL, transport=transport) as client:
        found = await asyncio.gather(
            client.reward(sample(1), deadline_s=0.01),
            client.reward(sample(2), deadline_s=60),
            return_exceptions=True,
        )

    assert [type(one) for one in found] == [TimedOut, Scored]


@pytest.mark.parametrize(
    ("odd", "complaint"),
    [
        (Sample(None, "left"), "the response of a sample is NoneType, not str"),  # type: ignore[arg-type]
        (Sample("left", "left", question=7), "the question of a sample is int"),  # type: ignore[arg-type]
        (Sample("left", "left", extra={"a": object()}), "object"),
    ],
)
async def test_a_sample_that_cannot_be_sent_costs_its_neighbours_nothing(
    odd: Sample, complaint: str
) -> None:
    """The error is raised in its own call alone, and names the field."""
    async with Echo().client() as client:
        found = await asyncio.gather(
            client.reward(sample(1)),
            client.reward(odd),
            client.reward(sample(2)),
            return_exceptions=True,
        )
        with pytest.raises(TypeError, match=complaint):
            await client.reward([sample(1), odd])

    assert [type(one) for one in found] == [Scored, TypeError, Scored]
    assert complaint in str(found[1])


@pytest.mark.parametrize("deadline_s", [float("inf"), float("nan")])
async def test_a_deadline_is_a_number_of_seconds(deadline_s: float) -> None:
    """The error is raised at once, and names the field."""
    with pytest.raises(ValueError, match="deadline_s"):
        AsyncRewardClient(URL, deadline_s=deadline_s)
    async with Echo().client() as client:
        with pytest.raises(ValueError, match="deadline_s"):
            await client.reward(sample(1), deadline_s=deadline_s)
