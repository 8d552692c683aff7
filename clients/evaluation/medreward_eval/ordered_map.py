"""A concurrent map over an async function that yields results in the order of the input."""

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
) -> AsyncGenerator[Answer, None]:
    """Call *ask* for each thing, *at_once* at a time, and yield the answers in the order of *things*.

    An early answer waits for those before it, and no more than 4 x *at_once* calls run or wait.
    Things are read lazily.
    Calls in flight are cancelled when the generator is closed.
    """
    slots = asyncio.Semaphore(at_once)
    waiting: deque[asyncio.Task[Answer]] = deque()

    async def one(thing: Asked) -> Answer:
        async with slots:
            return await ask(thing)

    try:
        for thing in things:
            waiting.append(asyncio.create_task(one(thing)))
            if len(waiting) >= 4 * at_once:
                yield await waiting.popleft()
        while waiting:
            yield await waiting.popleft()
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
