"""Replicas that share a Redis: together they ask each question once, and without it they go on."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from medreward.cache.entries import is_lease
from medreward.engines.judge import Inquiry, Judgement
from medreward.engines.judges.scripted import ScriptedJudge
from medreward.errors import Problem
from tests.conftest import Serve
from tests.redis_servers import RedisServer
from tests.support.engines import PacedJudge
from tests.support.wait import LIMIT_S, until

pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("redis")]

PATIENT_S = 10.0
"""As long as Redis may take: a replica that gives it up asks by itself, as it should."""


class CountingJudge(ScriptedJudge):
    """A judge that takes a moment, counts what it is asked, and says YES to even numbers."""

    def __init__(self, asked: Counter[str], seconds: float = 0.02) -> None:
        super().__init__()
        self.asked = asked
        self._seconds = seconds

    async def decide(self, inquiries: Sequence[Inquiry]) -> Sequence[Judgement | Problem]:
        """Answer after a moment."""
        self.asked.update(inquiry.answer for inquiry in inquiries)
        if any(inquiry.answer.startswith("finding") for inquiry in inquiries):
            await asyncio.sleep(self._seconds)
        return [
            Judgement(inquiry.template.labels, (p_yes, 1 - p_yes), 1.0)
            for inquiry in inquiries
            for p_yes in [0.9 if says_yes(inquiry.answer) else 0.1]
        ]


def says_yes(answer: str) -> bool:
    """What the judge says of an answer."""
    return answer.rsplit(maxsplit=1)[-1].isdigit() and int(answer.rsplit(maxsplit=1)[-1]) % 2 == 0


def sample(number: int) -> dict[str, Any]:
    """A sample whose answer is the number's."""
    return {
        "response": f"<X_RAY><thinking>hm</thinking><answer>finding {number}</answer>",
        "reference": f"the finding of case {number}",
        "modality": "X_RAY",
    }


async def scores(
    client: httpx.AsyncClient, numbers: Sequence[int], key: str = ""
) -> dict[str, Any]:
    """The whole reply, every sample of which was scored and rightly."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    body = {"samples": [sample(number) for number in numbers]}
    response = await client.post("/reward", json=body, headers=headers)
    assert response.status_code == 200, response.text
    reply: dict[str, Any] = response.json()
    for number, result in zip(numbers, reply["results"], strict=True):
        assert result["status"] == "scored"
        assert result["components"]["accuracy_llm"]["value"] == float(number % 2 == 0)
    return reply


async def test_two_replicas_ask_each_question_once(serve: Serve, redis_server: RedisServer) -> None:
    """Whatever comes to both at the same time, each distinct question goes to one judge."""
    asked: Counter[str] = Counter()

    shared = {"redis_url": redis_server.url, "redis_timeout_s": PATIENT_S}

    async with (
        serve(judge=CountingJudge(asked), **shared) as one,
        serve(judge=CountingJudge(asked), **shared) as other,
    ):
        asked.clear()
        clients = (one, other)
        await asyncio.gather(*(scores(c, range(n, n + 40)) for n in (0, 20) for c in clients))

    assert asked == Counter(f"finding {number}" for number in range(60))


async def test_what_one_replica_had_judged_another_remembers(
    serve: Serve, redis_server: RedisServer
) -> None:
    """Also a replica that starts later; and the numbers are the same to the last bit."""
    asked: Counter[str] = Counter()
    shared = {"redis_url": redis_server.url, "redis_timeout_s": PATIENT_S}
    async with serve(judge=CountingJudge(asked), **shared) as first:
        fresh = await scores(first, range(30))

    async with serve(judge=CountingJudge(asked), **shared) as second:
        asked.clear()
        remembered = await scores(second, range(30))

    assert not asked
    assert remembered["counts"]["judge_calls"] == 0

    def numbers(reply: dict[str, Any]) -> list[tuple[Any, ...]]:
        return [
            (r["reward"], *(part["p_yes"] or part["cosine"] for part in r["components"].values()))
            for r in reply["results"]
        ]

    assert numbers(fresh) == numbers(remembered)


async def test_a_slow_replica_refuses_nothing_that_another_has_judged(
    serve: Serve, redis_server: RedisServer
) -> None:
    """The shared cache is read before a request is refused for its deadline."""
    shared = {"redis_url": redis_server.url, "redis_timeout_s": PATIENT_S}
    new = {"samples": [sample(number) for number in range(200, 400)], "deadline_ms": 500}
    async with (
        serve(judge=CountingJudge(Counter()), **shared) as one,
        serve(judge=PacedJudge(100.0), **shared) as slow,
    ):
        remembered = [sample(number) for number in range(100)]
        await one.post("/reward", json={"samples": remembered})
        known = [sample(number) for number in range(100, 148)]
        await slow.post("/reward", json={"samples": known})
        refused = await slow.post("/reward", json=new)
        served = await slow.post("/reward", json={"samples": remembered, "deadline_ms": 500})

    assert refused.status_code == 429
    assert served.json()["counts"]["judge_calls"] == 0


@pytest.mark.parametrize(("shares", "times"), [(False, 2), (True, 1)])
async def test_keys_are_namespaces_unless_they_share_the_cache(
    serve: Serve, redis_server: RedisServer, shares: bool, times: int
) -> None:
    """One key's answers tell another's owner nothing, not even by being quick, if not told to."""
    asked: Counter[str] = Counter()
    settings = {
        "redis_url": redis_server.url,
        "redis_timeout_s": PATIENT_S,
        "api_keys": "one,other",
        "share_cache_between_keys": shares,
    }

    async with serve(judge=CountingJudge(asked), **settings) as client:
        asked.clear()
        await scores(client, [1, 2], key="one")
        await scores(client, [1, 2], key="other")
        again = await scores(client, [1, 2], key="one")

    assert asked == Counter({"finding 1": times, "finding 2": times})
    assert again["counts"]["judge_calls"] == 0


async def redis_is(client: httpx.AsyncClient, state: str) -> None:
    """Wait until a service says so of its Redis."""

    async def is_so() -> bool:
        return state in (await client.get("/readyz")).json()["cache"]

    await until(is_so)


async def test_redis_that_dies_and_comes_back_under_load_costs_no_score(
    serve: Serve, redis_server: RedisServer
) -> None:
    """Frozen, killed, started again empty: every sample is scored, and rightly, all the while."""
    asked: Counter[str] = Counter()
    stop = asyncio.Event()

    async with (
        serve(judge=CountingJudge(asked, 0.002), redis_url=redis_server.url) as one,
        serve(judge=CountingJudge(asked, 0.002), redis_url=redis_server.url) as other,
    ):
        is_loaded = asyncio.Event()

        async def load(client: httpx.AsyncClient, start: int) -> int:
            rounds = 0
            while not stop.is_set():
                first = start + 10 * rounds
                await scores(client, range(first, first + 20))
                rounds += 1
                is_loaded.set()
            return rounds

        loads = [
            asyncio.create_task(load(client, start))
            for client in (one, other)
            for start in (0, 100_000)
        ]
        await is_loaded.wait()
        redis_server.freeze()
        await redis_is(one, "not answering")
        redis_server.thaw()
        await redis_is(one, ": answering")
        redis_server.kill()
        await redis_is(one, "not answering")
        dead = await one.get("/readyz")
        await asyncio.to_thread(redis_server.start)
        await redis_is(one, ": answering")
        stop.set()
        rounds = await asyncio.gather(*loads)

    assert (dead.status_code, dead.json()["status"]) == (200, "ready")
    assert all(rounds)


async def test_a_replica_that_hangs_up_hands_over(serve: Serve, redis_server: RedisServer) -> None:
    """A caller that leaves takes its unasked questions with it, and others do not wait for them."""
    asked: Counter[str] = Counter()
    slow = CountingJudge(asked, seconds=3600.0)
    # Leases that nobody hands over last longer than this test may.
    shared = {"redis_url": redis_server.url, "redis_timeout_s": PATIENT_S, "lease_s": 300}

    async def all_is_embedded() -> bool:
        """Whether Redis has the 800 texts, so that leases are left of the judge alone."""
        with redis_server.client as client:
            entries = client.mget(["none", *client.keys()])
        return sum(entry is not None and not is_lease(entry) for entry in entries) == 800

    async with (
        serve(judge=CountingJudge(Counter()), **shared) as quick,
        serve(judge=slow, **shared) as stuck,
    ):
        calling = asyncio.create_task(scores(stuck, range(400)))
        await until(all_is_embedded)
        # One batch is on its way and hangs; what is behind it was never asked.
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)
        unasked = [n for n in range(400) if f"finding {n}" not in asked]
        async with asyncio.timeout(LIMIT_S):
            reply = await scores(quick, unasked[:50])

    assert 0 < len(unasked) < 400
    assert reply["counts"]["scored"] == 50
