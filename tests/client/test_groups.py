"""Groups of a declared size: sent only if declared, kept in one request, and never half compared."""

import asyncio
import json
from collections import Counter
from dataclasses import replace
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medreward_client import AsyncRewardClient, GroupResult, RewardReply, Sample, Scored
from medreward_client._batching import BATCH_CHARACTERS, BATCH_SAMPLES, batches_of
from tests.client.stand_in import PAUSES, SCORED, UNSCORED, URL, reward_body

pytestmark = pytest.mark.anyio

LATE = {"kind": "deadline", "message": "it passed before the answer came", "retryable": True}


class Grouping:
    """A service that counts the samples of each group, and calls a group whole if all are there.

    It takes *fits* samples at once; those whose id is in *late* it does not reach the first time.
    """

    def __init__(self, *, fits: int = 10_000, late: frozenset[str] = frozenset()) -> None:
        self.bodies: list[bytes] = []
        self._fits = fits
        self._late = set(late)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer a request, or refuse it."""
        self.bodies.append(request.content)
        samples = json.loads(request.content)["samples"]  # orjson reads no half of a character
        if len(samples) > self._fits:
            error = {"kind": "too_large", "message": "fewer", "retryable": False}
            error |= {"fits": self._fits}
            return httpx.Response(413, json={"error": error, "request_id": "r-1"})
        sizes = {s["group"]: s["group_size"] for s in samples if "group_size" in s}
        seen = Counter(s["group"] for s in samples)
        body = reward_body(*(self._result(s) for s in samples))
        if sizes:
            for sample, result in zip(samples, body["results"], strict=True):
                whole = seen[sample["group"]] == sizes.get(sample["group"])
                result["relative"] = 0.25 if whole and result["status"] == "scored" else None
            body["groups"] = [
                {
                    "id": name,
                    "size": size,
                    "seen": seen[name],
                    "scored": seen[name],
                    "whole": seen[name] == size,
                    "reason": None if seen[name] == size else "too_few",
                    "all_right": True if seen[name] == size else None,
                    "mean": 0.5 if seen[name] == size else None,
                    "sd": 0.1 if seen[name] == size else None,
                }
                for name, size in sizes.items()
            ]
        return httpx.Response(200, content=orjson.dumps(body))

    def _result(self, sample: dict[str, Any]) -> dict[str, Any]:
        if sample["id"] in self._late:
            self._late.remove(sample["id"])
            return UNSCORED | {"id": sample["id"], "error": LATE}
        return SCORED | {"id": sample["id"]}


def group(name: str, size: int, number: int | None = None) -> list[Sample]:
    """Samples of a group that declare its size."""
    return [
        Sample("left", "left lower lobe", id=f"{name}-{n}", group=name, group_size=size)
        for n in range(size if number is None else number)
    ]


async def rewarded(service: Grouping, samples: list[Sample]) -> RewardReply:
    """Score samples in one call."""
    transport = httpx.MockTransport(service)
    async with AsyncRewardClient(URL, transport=transport, pauses=PAUSES) as client:
        return await client.reward(samples)


def relative(reply: RewardReply) -> list[float | None]:
    """The relative reward of each sample."""
    return [one.relative if isinstance(one, Scored) else None for one in reply.results]


@pytest.mark.parametrize("response", ["left", "half an emoji: \ud83d"])
async def test_a_size_is_sent_only_if_there_is_one(response: str) -> None:
    """A service of before, which does not know the field, refuses nothing."""
    service, plain = Grouping(), Sample(response, "left lower lobe", id="1", group="p")

    without = await rewarded(service, [plain])
    sized = await rewarded(service, [replace(plain, group_size=1)])

    assert b"group_size" not in service.bodies[0]
    assert b"group_size" in service.bodies[1]
    assert (without.groups, relative(without)) == (None, [None])
    assert (sized.groups is not None, relative(sized)) == (True, [0.25])
    assert plain == replace(plain, group_size=None)
    assert plain.group_size is None


async def test_groups_that_fit_are_kept_whole() -> None:
    """1,000 samples in groups of 12 take requests that end between groups."""
    samples = [sample for n in range(84) for sample in group(f"p{n}", 12)]
    service = Grouping()

    reply = await rewarded(service, samples)

    sizes = [len(orjson.loads(body)["samples"]) for body in service.bodies]
    assert sizes == [504, 504]
    assert reply.groups is not None
    assert [one.id for one in reply.groups] == [f"p{n}" for n in range(84)]
    assert all(one.whole for one in reply.groups)
    assert relative(reply) == [0.25] * 1008


async def test_a_group_of_several_requests_is_not_whole() -> None:
    """It is told as split, and none of its samples is compared; the others are."""
    reply = await rewarded(Grouping(fits=2), [*group("a", 2), *group("b", 3)])

    whole = GroupResult("a", 2, 2, 2, True, None, True, 0.5, 0.1)
    assert reply.groups == (whole, GroupResult("b", 3, 3, 3, whole=False, reason="split"))
    assert relative(reply) == [0.25, 0.25, None, None, None]
    assert reply.rewards == (1.0,) * 5


@pytest.mark.parametrize(
    ("service", "asked"),
    [
        # Three samples would fit, and two groups do not.
        (Grouping(fits=3), [["a-0", "a-1", "b-0", "b-1"], ["a-0", "a-1"], ["b-0", "b-1"]]),
        # One of two was not reached by the deadline.
        (Grouping(late=frozenset({"b-1"})), [["a-0", "a-1", "b-0", "b-1"], ["b-0", "b-1"]]),
    ],
)
async def test_a_request_in_parts_divides_no_group_that_fits(
    service: Grouping, asked: list[list[str]]
) -> None:
    """A part ends between groups, and a group that has to be asked about again is asked whole."""
    reply = await rewarded(service, [*group("a", 2), *group("b", 2)])

    assert [[s["id"] for s in json.loads(body)["samples"]] for body in service.bodies] == asked
    assert reply.groups is not None
    assert [one.whole for one in reply.groups] == [True, True]
    assert relative(reply) == [0.25] * 4


async def test_small_calls_at_once_divide_no_group() -> None:
    """A request that is full waits for the rest of a group, which comes in the same moment."""
    samples = [sample for n in range(52) for sample in group(f"p{n}", 10)]
    service = Grouping()
    transport = httpx.MockTransport(service)
    async with AsyncRewardClient(URL, transport=transport, pauses=PAUSES) as client:
        results = await asyncio.gather(*map(client.reward, samples))

    sizes = [len(json.loads(body)["samples"]) for body in service.bodies]
    assert sorted(sizes) == [10, 510]
    assert [isinstance(one, Scored) and one.relative for one in results] == [0.25] * 520


async def test_a_group_larger_than_a_request_is_told_once() -> None:
    """It is split, with the numbers of all its samples."""
    size = BATCH_SAMPLES + 1

    reply = await rewarded(Grouping(), group("a", size))

    assert reply.groups == (GroupResult("a", size, size, size, whole=False, reason="split"),)
    assert set(relative(reply)) == {None}


@given(
    st.lists(st.tuples(st.integers(1, 700), st.booleans(), st.booleans()), min_size=1, max_size=6)
)
def test_a_cut_divides_no_group_that_fits(drawn: list[tuple[int, bool, bool]]) -> None:
    """No sample is lost, no request too large, and a group of at most half a request's is whole."""
    samples: list[Sample] = []
    for number, (size, declares, is_long) in enumerate(drawn):
        one = Sample("left " * (20_000 if is_long else 1), "left", group=str(number))
        samples += [replace(one, group_size=size) if declares else one] * size
    batches = list(batches_of(samples))

    assert [id(s) for batch in batches for s in batch] == [id(s) for s in samples]
    for batch in batches:
        characters = sum(len(sample.response) for sample in batch)
        assert 0 < len(batch) <= BATCH_SAMPLES
        assert len(batch) == 1 or characters <= BATCH_CHARACTERS
    if not any(is_long for _, _, is_long in drawn):
        for number, (size, declares, _) in enumerate(drawn):
            holding = [b for b in batches if any(s.group == str(number) for s in b)]
            assert len(holding) == 1 or not declares or size > BATCH_SAMPLES
