"""Sending in batches: a few on their way at once, replies in order."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from medreward.cli.connection import Connection, refusal
from medreward.cli.failures import CommandError
from medreward.cli.files import Line
from medreward.http.schemas import JudgeReply, RewardReply

A = TypeVar("A")
T = TypeVar("T")
Reply = TypeVar("Reply", RewardReply, JudgeReply)

MOST = 64
LEAST = 8
PIECES = 10
IN_FLIGHT = 4
"""Enough to keep the service at work while a reply is on its way."""


def batches(lines: Sequence[T], size: int | None) -> list[Sequence[T]]:
    """Cut *lines* into pieces of *size*; without one, short enough that progress can be seen."""
    size = size or min(MOST, max(LEAST, len(lines) // PIECES))
    return [lines[start : start + size] for start in range(0, len(lines), size)]


async def in_order(
    pieces: Sequence[T], ask: Callable[[T], Coroutine[Any, Any, A]]
) -> AsyncIterator[A]:
    """Ask about each piece, a few at a time; gives the answers in the order of the pieces."""
    asked: deque[asyncio.Task[A]] = deque()
    try:
        for piece in pieces:
            asked.append(asyncio.create_task(ask(piece)))
            if len(asked) == IN_FLIGHT:
                yield await asked.popleft()
        while asked:
            yield await asked.popleft()
    finally:
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)


async def exchange(
    service: Connection, path: str, body: str, batch: Sequence[Line[T]], model: type[Reply]
) -> Reply:
    """Send one batch and read its reply.

    Raises:
        CommandError: it was refused, or the reply does not fit; names the lines.
    """
    response = await service.post(path, body)
    where = f"lines {batch[0].number} to {batch[-1].number}"
    if response.is_error:
        raise CommandError(f"{service.url} refuses {where}: {refusal(response)}")
    reply = service.read(response, model)
    if len(reply.results) != len(batch):
        raise CommandError(
            f"{service.url} gave {len(reply.results)} results for {len(batch)} ({where}); "
            "something between here and there is not medreward"
        )
    return reply
