"""Many at a time, and the answers in the order of the questions."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import TypeVar

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


async def ordered_map(
    ask: Callable[[Asked], Awaitable[Answer]],
    things: Iterable[Asked],
    *,
    at_once: int,
    window: int | None = None,
) -> AsyncGenerator[Answer, None]:
    """Ask about each thing, *at_once* at a time, and give the answers in the order of *things*.

    An answer that comes early waits for those before it: *window*, by default 4 x *at_once*,
    bounds how many are asked about or wait. Things are read as they are needed.
    Whatever is on its way when the reader stops is cancelled.
    """
    slots = asyncio.Semaphore(at_once)
    waiting: deque[asyncio.Task[Answer]] = deque()

    async def one(thing: Asked) -> Answer:
        async with slots:
            return await ask(thing)

    try:
        for thing in things:
            waiting.append(asyncio.create_task(one(thing)))
            if len(waiting) >= (window or 4 * at_once):
                yield await waiting.popleft()
        while waiting:
            yield await waiting.popleft()
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
