"""Parts: a call that the service has no time for at once is sent in parts, and stays one call."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medreward_client import (
    AsyncRewardClient,
    Item,
    Judged,
    Overloaded,
    RequestRefused,
    RewardReply,
    Sample,
    Scored,
    Unjudged,
    Unscored,
)
from medreward_client._http import REQUEST_S
from medreward_client._parts import IDLE_S, LONGEST_S, Patience
from tests.client.stand_in import (
    JUDGED,
    PAUSES,
    SCORED,
    UNJUDGED,
    UNSCORED,
    URL,
    judge_body,
    reward_body,
)

pytestmark = pytest.mark.anyio

LATE = {"kind": "deadline", "message": "it passed before the answer came", "retryable": True}


def refusal(fits: int, status: int = 429) -> httpx.Response:
    """Refuse a request, with the number of samples that fit."""
    kind = {429: "deadline_too_short", 413: "too_large"}[status]
    error = {"kind": kind, "message": f"send at most {fits} at once", "retryable": True}
    return httpx.Response(status, json={"error": error | {"fits": fits}, "request_id": "r-1"})


class Slow:
    """A service whose reward for a sample is the number in its id.

    `fits` holds the number of samples that it has time for at each request, for ever after the
    last; `late` the ids that it does not reach the first time that it accepts them.
    """

    def __init__(self, *fits: int, late: frozenset[str] = frozenset(), status: int = 429) -> None:
        self._fits = list(fits)
        self._late = set(late)
        self._status = status
        self.sizes: list[int] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer a request, or refuse it."""
        body = orjson.loads(request.content)
        key = "samples" if "samples" in body else "items"
        ids = [one["id"] for one in body[key]]
        self.sizes.append(len(ids))
        fits = self._fits.pop(0) if len(self._fits) > 1 else self._fits[0]
        if len(ids) > fits:
            return refusal(fits, self._status)
        late = self._late & set(ids)
        self._late -= late
        if key == "items":
            return httpx.Response(200, json=judge_body(*(_grade(i, late) for i in ids)))
        return httpx.Response(200, json=reward_body(*(_reward(i, late) for i in ids)))


def _reward(name: str, late: set[str]) -> dict[str, Any]:
    if name in late:
        return UNSCORED | {"id": name, "error": LATE}
    return SCORED | {"id": name, "reward": float(name)}


def _grade(name: str, late: set[str]) -> dict[str, Any]:
    return UNJUDGED | {"id": name, "error": LATE} if name in late else JUDGED | {"id": name}


def samples(number: int) -> list[Sample]:
    """Make samples with numbers as ids."""
    return [Sample("left", "left lower lobe", id=str(n)) for n in range(number)]


async def rewarded(
    handler: Callable[[httpx.Request], Any], number: int, deadline_s: float | None = 60.0
) -> RewardReply:
    """Score so many samples in one call."""
    transport = httpx.MockTransport(handler)
    async with AsyncRewardClient(URL, transport=transport, pauses=PAUSES) as client:
        return await client.reward(samples(number), deadline_s=deadline_s)


@pytest.mark.parametrize("status", [429, 413])
async def test_a_refused_request_is_sent_in_parts_that_fit(status: int) -> None:
    """One after the other; the counts and the timings are those of all parts."""
    service = Slow(4, status=status)

    reply = await rewarded(service, 10)

    assert service.sizes == [10, 4, 6, 4, 2]
    assert reply.rewards == tuple(range(10))
    assert (reply.counts.scored, reply.counts.unscored, reply.counts.judge_calls) == (10, 0, 3)
    assert reply.timings_ms["total"] == pytest.approx(3 * 58.9)


@given(
    number=st.integers(1, 40),
    fits=st.lists(st.integers(1, 40), min_size=1, max_size=12),
    late=st.frozensets(st.integers(0, 39).map(str)),
)
def test_a_call_in_parts_has_the_rewards_of_one_request(
    number: int, fits: list[int], late: frozenset[str]
) -> None:
    """Whatever fits, and whatever is not reached in time at first."""
    whole = asyncio.run(rewarded(Slow(number), number))

    reply = asyncio.run(rewarded(Slow(*fits, late=late), number))

    assert reply.rewards == whole.rewards
    assert reply.results == whole.results


async def test_small_calls_share_a_request_that_is_sent_in_parts() -> None:
    """A call with one sample gets its own reward, as every adapter's calls do."""
    service = Slow(7, late=frozenset({"3"}))
    transport = httpx.MockTransport(service)
    async with AsyncRewardClient(URL, transport=transport) as client:
        results = await asyncio.gather(*map(client.reward, samples(20)))

    assert [isinstance(r, Scored) and r.reward for r in results] == list(range(20))


async def test_answers_are_judged_in_parts_too() -> None:
    """Those that were not reached in time are asked again."""
    service, items = (
        Slow(4, late=frozenset({"1", "8"})),
        [Item("a", "b", str(n)) for n in range(10)],
    )
    async with AsyncRewardClient(URL, transport=httpx.MockTransport(service)) as client:
        reply = await client.judge(items)

    assert [result.id for result in reply.results] == [item.id for item in items]
    assert all(isinstance(result, Judged) for result in reply.results)
    assert (reply.counts.judged, reply.counts.unjudged) == (10, 0)


def failing_from(number: int, service: Slow, failure: httpx.Response) -> Callable[..., Any]:
    """Answer by a service, and with a failure from the request of that number on."""

    def answer(request: httpx.Request) -> httpx.Response:
        reply = service(request)
        return failure if len(service.sizes) >= number else reply

    return answer


async def test_a_part_that_fails_leaves_its_samples_without_a_reward() -> None:
    """Those that were scored before keep theirs, and no failure becomes a zero."""
    answer = failing_from(3, Slow(4), httpx.Response(500))

    reply = await rewarded(answer, 10)

    lost = [result for result in reply.results if isinstance(result, Unscored)]
    assert reply.rewards == (0.0, 1.0, 2.0, 3.0, *[None] * 6)
    assert [one.id for one in lost] == [str(n) for n in range(4, 10)]
    assert {(one.error.kind, one.error.retryable) for one in lost} == {
        ("service_unavailable", True)
    }
    assert (reply.counts.scored, reply.counts.unscored) == (4, 6)


async def test_an_item_of_a_part_that_fails_is_unjudged() -> None:
    """With the reason."""
    answer = failing_from(3, Slow(1), httpx.Response(500))
    transport = httpx.MockTransport(answer)
    async with AsyncRewardClient(URL, transport=transport) as client:
        judged, lost = (await client.judge([Item("a", "b", str(n)) for n in range(2)])).results

    assert isinstance(judged, Judged)
    assert isinstance(lost, Unjudged)
    assert lost.error.kind == "service_unavailable"


async def test_a_request_is_invalid_whatever_was_scored_before() -> None:
    """The caller has to change it, so it is raised."""
    with pytest.raises(RequestRefused):
        await rewarded(failing_from(3, Slow(4), httpx.Response(422)), 10)


@pytest.mark.parametrize(("status", "error"), [(429, Overloaded), (413, RequestRefused)])
async def test_one_sample_that_does_not_fit_is_not_divided(
    status: int, error: type[Exception]
) -> None:
    """The refusal is raised, and nothing is sent again."""
    service = Slow(0, status=status)
    with pytest.raises(error):
        await rewarded(service, 1)

    assert service.sizes == [1]


async def test_what_was_never_reached_stays_unscored() -> None:
    """At the deadline of the call, with the service's own reason."""

    def never(request: httpx.Request) -> httpx.Response:
        ids = [one["id"] for one in orjson.loads(request.content)["samples"]]
        return httpx.Response(200, json=reward_body(*(_reward(i, set(ids)) for i in ids)))

    reply = await rewarded(never, 3, deadline_s=0.05)

    kinds = {result.error.kind for result in reply.results if isinstance(result, Unscored)}
    assert (reply.rewards, kinds) == ((None,) * 3, {"deadline"})


async def test_no_request_waits_longer_than_two_minutes() -> None:
    """However long the call may take: a draining replica, or a proxy, would cut it off."""
    deadlines: list[int] = []

    def note(request: httpx.Request) -> httpx.Response:
        deadlines.append(orjson.loads(request.content)["deadline_ms"])
        return Slow(3)(request)

    await rewarded(note, 3, deadline_s=None)
    await rewarded(note, 3, deadline_s=900.0)

    assert deadlines == [1000 * REQUEST_S] * 2


async def test_by_default_a_call_may_take_an_hour_if_results_keep_coming() -> None:
    """Ten minutes without one end it; a deadline that is given is the only bound."""
    now_s = asyncio.get_running_loop().time()

    assert Patience().from_now().gives_up_at == pytest.approx(now_s + IDLE_S, abs=5)
    assert Patience().from_now().ends_at == pytest.approx(now_s + LONGEST_S, abs=5)
    assert Patience(900.0, 900.0).from_now().gives_up_at == pytest.approx(now_s + 900, abs=5)
