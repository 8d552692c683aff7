"""How a service is asked: a few requests at a time, again after what passes, until the deadline."""

import asyncio
import logging
import math
import random
from collections.abc import Callable, Sequence

from medreward_client._errors import MedrewardError, TimedOut, TryAgain
from medreward_client._gathering import MicroBatcher, batches_of
from medreward_client._http import Connections
from medreward_client._types import RewardReply, Sample, Terms
from medreward_client._wire import Call, T, error_of, merged, reward_call
from medreward_client.pauses import Pauses

IN_FLIGHT = 8
"""Requests at once: more would only wait at the service, and slow down the library's pool."""
MARGIN_S, MARGIN_SHARE = 0.5, 0.05
"""What a wait allows beyond the service's own deadline: large bodies travel both ways."""
PAUSES = Pauses(first_s=0.5, longest_s=30.0)

log = logging.getLogger("medreward_client")


class Session:
    """What one event loop has of a client: connections, places in flight, what is gathered."""

    def __init__(self, connect: Callable[[], Connections], pauses: Pauses) -> None:
        self._connections = connect()
        self._pauses = pauses
        self._places = asyncio.Semaphore(IN_FLIGHT)
        self._waits: set[asyncio.Timeout] = set()
        self._is_closed = False
        self.micro_batcher = MicroBatcher(self.reward)

    async def aclose(self) -> None:
        """Give the connections back; who still waits for an answer waits no longer."""
        self._is_closed = True
        for wait in self._waits:
            if not wait.expired():
                wait.reschedule(0.0)
        await self._connections.aclose()

    async def reward(self, samples: Sequence[Sample], terms: Terms, ends_at: float) -> RewardReply:
        """Score samples, in as many requests as it takes."""
        calls = [reward_call(batch, terms) for batch in batches_of(samples)]
        if len(calls) == 1:
            return await self.ask(calls[0], ends_at)
        try:
            async with asyncio.TaskGroup() as group:
                parts = [group.create_task(self.ask(call, ends_at)) for call in calls]
        except ExceptionGroup as failed:
            # One reason is enough, and callers catch it by its class.
            raise failed.exceptions[0] from None
        return merged([part.result() for part in parts])

    async def ask(self, call: Call[T], ends_at: float) -> T:
        """Ask until there is an answer, or the loop's clock says *ends_at*.

        What failed on the way or was turned away is asked again: an answer depends on the
        request alone, so that to ask twice is safe.

        Raises:
            MedrewardError: the service refuses; at the end, the last trouble there was.
        """
        left_s = ends_at - asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(left_s + MARGIN_S + MARGIN_SHARE * max(0.0, left_s)) as wait:
                self._waits.add(wait)
                # Of a call that was gathered while the client was closed.
                if self._is_closed:
                    wait.reschedule(0.0)
                return await self._ask(call, ends_at)
        except TimeoutError as exc:
            if self._is_closed:
                raise MedrewardError("the client was closed before there was an answer") from exc
            raise TimedOut("no answer by the deadline") from exc
        finally:
            self._waits.discard(wait)

    async def _ask(self, call: Call[T], ends_at: float) -> T:
        time, attempt = asyncio.get_running_loop().time, 1
        while True:
            try:
                async with self._places:
                    content = call.content(ends_at - time())
                    reply = await self._connections.send(call.path, content)
                if reply.status in call.passing:
                    raise error_of(reply)
            except TryAgain as trouble:
                pause_s = pause_after(attempt, trouble, self._pauses)
                if time() + pause_s >= ends_at:
                    raise
                log.warning("%s; attempt %d in %.1f s", trouble, attempt + 1, pause_s)
            else:
                return call.read(reply)
            attempt += 1
            await asyncio.sleep(pause_s)


def check_deadline(deadline_s: float) -> float:
    """Refuse with ValueError what is no number of seconds."""
    if not math.isfinite(deadline_s):
        raise ValueError(f"deadline_s={deadline_s}: a finite number of seconds")
    return deadline_s


def pause_after(attempt: int, trouble: TryAgain, pauses: Pauses = PAUSES) -> float:
    """Return the seconds to wait: what the service asked for, and a pause that grows with tries.

    The pause is drawn from 0 up to its bound. Workers of a run that all failed at the same moment
    must not all come back at the same moment.
    """
    return trouble.retry_after_s + random.uniform(0.0, pauses.doubled(attempt))  # noqa: S311 - no secret
