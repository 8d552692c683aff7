"""Thousands of calls with one sample each, made at once: how trainers score that know no batches.

usage: python benchmarks/single_calls.py [--rounds 5] [--calls 8192]

`AsyncRewardClient.reward(sample)`, which gathers what comes together, beside one request a call
over httpx (16 at a time) and over aiohttp (64 at a time); one service, all answers remembered, the
connections open. In turn within each round; the rewards have to agree.
Aims: httpx takes 30 times as long, aiohttp 3 times, and ours less than half a second.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import aiohttp
import httpx
from rich.table import Table

from figures import Rounds, options, show
from medreward_client import AsyncRewardClient, RewardClient, Sample, Scored
from rollouts import make_rollouts, nonces
from running import service, stand_in

OURS = "ours: AsyncRewardClient.reward(sample)"
HTTPX = "httpx, one client, 16 at a time"
AIOHTTP = "aiohttp, one session, 64 at a time"
AT_A_TIME = {HTTPX: 16, AIOHTTP: 64}
AIMS = "aims: httpx 30 times ours, aiohttp 3 times; ours under 0.5 s"
WARM_UP_CALLS = 64

Score = Callable[[Sample], Awaitable[float]]
Way = Callable[[str], AbstractAsyncContextManager[Score]]


@asynccontextmanager
async def ours(url: str) -> AsyncIterator[Score]:
    """Score as the client does."""
    async with AsyncRewardClient(url) as client:

        async def score(sample: Sample) -> float:
            result = await client.reward(sample)
            if not isinstance(result, Scored):
                raise SystemExit(f"not scored: {result.error.kind}")
            return result.reward

        yield score


@asynccontextmanager
async def over_httpx(url: str) -> AsyncIterator[Score]:
    """Send a request for each sample through httpx."""
    slots = asyncio.Semaphore(AT_A_TIME[HTTPX])
    async with httpx.AsyncClient(base_url=url, timeout=600.0) as http:

        async def score(sample: Sample) -> float:
            async with slots:
                reply = await http.post("/reward", json=_body(sample))
            return _reward_in(reply.json())

        yield score


@asynccontextmanager
async def over_aiohttp(url: str) -> AsyncIterator[Score]:
    """Send a request for each sample through aiohttp."""
    slots = asyncio.Semaphore(AT_A_TIME[AIOHTTP])
    async with aiohttp.ClientSession(url) as http:

        async def score(sample: Sample) -> float:
            async with slots, http.post("/reward", json=_body(sample)) as reply:
                return _reward_in(await reply.json())

        yield score


WAYS: dict[str, Way] = {OURS: ours, HTTPX: over_httpx, AIOHTTP: over_aiohttp}


def _body(sample: Sample) -> dict[str, Any]:
    names = ("id", "group", "question", "response", "reference")
    return {"samples": [{name: getattr(sample, name) for name in names}]}


def _reward_in(reply: Any) -> float:
    reward: float = reply["results"][0]["reward"]
    return reward


async def scored(way: Way, url: str, samples: Sequence[Sample]) -> tuple[list[float], float]:
    """Give the rewards of all samples, asked for at once, and the seconds that took."""
    async with way(url) as score:
        await asyncio.gather(*map(score, samples[:WARM_UP_CALLS]))
        started = time.perf_counter()
        rewards = await asyncio.gather(*map(score, samples))
        return rewards, time.perf_counter() - started


def table_of(took: Rounds, calls: int) -> Table:
    """What each way took."""
    title = f"{calls:,} calls at once with one sample of 2 KB each, all answers remembered"
    table = Table("way", "s", "calls/s", "times ours", title=title, caption=AIMS)
    for name in WAYS:
        seconds = took.median(name)
        cells = (f"{seconds:.3f}", f"{calls / seconds:,.0f}", took.shown_ratio(name, OURS))
        table.add_row(name, *cells)
    return table


def main() -> None:
    """Run the rounds and print the table."""
    parser = options(__doc__, rounds=5)
    parser.add_argument("--calls", type=int, default=8192)
    arguments = parser.parse_args()
    calls, rounds = (256, 1) if arguments.quick else (arguments.calls, arguments.rounds)
    nonce = next(nonces())
    samples = [Sample(**rollout.renewed(nonce).sample()) for rollout in make_rollouts(calls)]
    took = Rounds()
    with stand_in(0) as engines, service(engines) as server:
        with RewardClient(server.url) as client:
            right = list(client.reward(samples).rewards)
        for _ in range(rounds):
            for name, way in WAYS.items():
                rewards, seconds = asyncio.run(scored(way, server.url, samples))
                if rewards != right:
                    raise SystemExit(f"{name}: other rewards than those of one large request")
                took.add(name, seconds)
    show(table_of(took, calls))


if __name__ == "__main__":
    main()
