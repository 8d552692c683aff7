"""One request a sample over aiohttp, 64 at a time: what trainers do that score asynchronously."""

import asyncio
from collections.abc import Iterable

import aiohttp

from baselines.medix_r1 import Reading, Weights, question, read, total, verdict

AT_A_TIME = 64


async def rewards_over_one_session(
    url: str, pairs: Iterable[tuple[str, str]], weights: Weights
) -> list[float]:
    """Score all through one session, whose connections stay open."""
    slots = asyncio.Semaphore(AT_A_TIME)
    async with aiohttp.ClientSession() as session:

        async def reward(response: str, solution: str) -> float:
            async with slots:
                reading = read(response, solution)
                return total(reading, await _judged(session, url, reading), weights)

        return await asyncio.gather(*(reward(*pair) for pair in pairs))


async def rewards_over_sessions(
    url: str, pairs: Iterable[tuple[str, str]], weights: Weights
) -> list[float]:
    """Score all, each through a session of its own."""
    slots = asyncio.Semaphore(AT_A_TIME)

    async def reward(response: str, solution: str) -> float:
        async with slots, aiohttp.ClientSession() as session:
            reading = read(response, solution)
            return total(reading, await _judged(session, url, reading), weights)

    return await asyncio.gather(*(reward(*pair) for pair in pairs))


async def _judged(session: aiohttp.ClientSession, url: str, reading: Reading) -> float:
    if reading.accuracy is not None:
        return reading.accuracy
    async with session.post(f"{url}/chat/completions", json=question(reading)) as reply:
        return verdict(await reply.json())
