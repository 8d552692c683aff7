"""Replicas that share a Redis: together they ask each question once, and without it they go on."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from medreward.engines.judge import Inquiry, Judgement
from medreward.engines.judges.scripted import ScriptedJudge
from medreward.errors import Problem
from tests.conftest import Serve
from tests.redis_servers import RedisServer

pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("redis")]


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

    async with (
        serve(judge=CountingJudge(asked), redis_url=redis_server.url) as one,
        serve(judge=CountingJudge(asked), redis_url=redis_server.url) as other,
    ):
        asked.clear()
        await asyncio.gather(
            *(
                scores(client, range(start, start + 40))
                for start in (0, 20)
                for client in (one, other)
            )
        )

    assert asked == Counter(f"finding {number}" for number in range(60))


async def test_what_one_replica_had_judged_another_remembers(
    serve: Serve, redis_server: RedisServer
) -> None:
    """Also a replica that starts later; and the numbers are the same to the last bit."""
    asked: Counter[str] = Counter()
    async with serve(judge=CountingJudge(asked), redis_url=redis_server.url) as first:
        fresh = await scores(first, range(30))

    async with serve(judge=CountingJudge(asked), redis_url=redis_server.url) as second:
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


async def test_keys_are_namespaces(serve: Serve, redis_server: RedisServer) -> None:
    """What one key's owner had judged tells another's nothing, not even by being quick."""
    asked: Counter[str] = Counter()
    settings = {"redis_url": redis_server.url, "api_keys": "one,other"}

    async with serve(judge=CountingJudge(asked), **settings) as client:
        asked.clear()
        await scores(client, [1, 2], key="one")
        await scores(client, [1, 2], key="other")
        again = await scores(client, [1, 2], key="one")

    assert asked == Counter({"finding 1": 2, "finding 2": 2})
    assert again["counts"]["judge_calls"] == 0


async def test_with_one_key_all_callers_share_if_told_to(
    serve: Serve, redis_server: RedisServer
) -> None:
    """A deployment whose keys belong to one team asks once for all of them."""
    asked: Counter[str] = Counter()
    settings = {"redis_url": redis_server.url, "api_keys": "one,other"}

    async with serve(
        judge=CountingJudge(asked), share_cache_between_keys=True, **settings
    ) as client:
        asked.clear()
        await scores(client, [1, 2], key="one")
        await scores(client, [1, 2], key="other")

    assert asked == Counter({"finding 1": 1, "finding 2": 1})


async def redis_is(client: httpx.AsyncClient, state: str) -> None:
    """Wait until a service says so of its Redis."""
    for _ in range(600):
        if state in (await client.get("/readyz")).json()["cache"]:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"it never said {state!r}")


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

        async def load(client: httpx.AsyncClient, start: int) -> int:
            rounds = 0
            while not stop.is_set():
                first = start + 10 * rounds
                await scores(client, range(first, first + 20))
                rounds += 1
            return rounds

        loads = [
            asyncio.create_task(load(client, start))
            for client in (one, other)
            for start in (0, 100_000)
        ]
        await asyncio.sleep(0.3)
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
    slow = CountingJudge(asked, seconds=30.0)

    async with (
        serve(judge=CountingJudge(Counter()), redis_url=redis_server.url) as quick,
        serve(redis_url=redis_server.url, judge=slow) as stuck,
    ):
        with pytest.raises((asyncio.TimeoutError, TimeoutError)):
            # One batch is on its way and hangs; what is behind it was never asked.
            await asyncio.wait_for(scores(stuck, range(400)), 0.3)
        unasked = [n for n in range(400) if f"finding {n}" not in asked]
        reply = await asyncio.wait_for(scores(quick, unasked[:50]), 5.0)

    assert reply["counts"]["scored"] == 50
