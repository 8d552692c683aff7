"""The link to Redis: each command has a timeout, and a failure delays callers by it only once.

1. After a failure the circuit opens: commands fail at once, and a background task probes Redis over
   a new connection until it answers.
2. If Redis refuses writes but answers reads, as when it is full, only writes pause.
3. A timeout while this process's own event loop stalled is not a failure of Redis, unless a command
   that began after it times out too.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Literal, TypeAlias

import structlog
from redis.exceptions import (
    AskError,
    AuthenticationError,
    ClusterError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import TimeoutError as ConnectTimeout

from medreward.breaker import Breaker
from medreward.cache.entries import probe_names
from medreward.cache.redis_client import MAX_CONNECTIONS, Store, connect_timeout_s
from medreward.errors import MedrewardError, SetupError
from medreward.telemetry.metrics import Metrics

Operation: TypeAlias = Literal["get", "put", "claim", "wait", "renew"]

MOST_AT_ONCE = 1024
"""Names in one command: a full one blocks Redis for some milliseconds, and with the longest values
its reply has some megabytes."""
PROBE_TIMEOUT_S = 2.0
"""Timeout of a probe, generous since no request waits for it, and TLS or sentinels take a while."""
PUT_TIMEOUT_S = 1.0
"""Timeout of a write, generous since no request waits for it."""
CLOSE_TIMEOUT_S = 0.5
STALL_S = 0.05
"""A timeout that fires this much too late shows that this process's event loop was busy."""
FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 5.0
FIRST_REFUSAL_PAUSE_S = 1.0
LONGEST_REFUSAL_PAUSE_S = 30.0

log = structlog.get_logger(__name__)


class Unavailable(MedrewardError):
    """Redis did not answer within its time."""


class CircuitOpen(Unavailable):
    """The command was not sent, since Redis did not answer before."""


class Refused(Unavailable):
    """Redis answers, but refuses to write."""


class RedisLink:
    """Sends commands to Redis, and tracks whether it answers. For one event loop."""

    def __init__(
        self,
        connect: Callable[[], Store],
        metrics: Metrics,
        *,
        timeout_s: float,
        put_timeout_s: float = PUT_TIMEOUT_S,
    ) -> None:
        self._connect = connect
        self._metrics = metrics
        self._timeout_s = timeout_s
        self._put_timeout_s = max(timeout_s, put_timeout_s)
        self._store: Store | None = None
        self._opened: set[Store] = set()
        """The store in use, and those that are being closed."""
        self._breaker = Breaker(failures=1, pause_s=FIRST_PAUSE_S, longest_pause_s=LONGEST_PAUSE_S)
        self._writes = Breaker(
            failures=1, pause_s=FIRST_REFUSAL_PAUSE_S, longest_pause_s=LONGEST_REFUSAL_PAUSE_S
        )
        self._answers = asyncio.Event()
        self._places = asyncio.Semaphore(MAX_CONNECTIONS)
        self._lost_s = time.monotonic()
        self._renewed_s = 0.0
        self._stalled_s = math.inf
        """When the first command since the last reply timed out in a stall; infinite if none did."""
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_open(self) -> bool:
        """True while commands fail at once, since Redis does not answer."""
        return not self._answers.is_set()

    def state(self) -> str:
        """Return a text for people on whether Redis answers and writes."""
        if self.is_open:
            return f"not answering for {time.monotonic() - self._lost_s:.0f} s, memory alone"
        return "answering, but refuses to write" if self._writes.is_open else "answering"

    async def start(self) -> None:
        """Connect; if that fails, retry in the background."""
        reason = await self._reconnect()
        if reason is not None:
            self._note_lost(reason)

    async def aclose(self) -> None:
        """Stop the background tasks and close the connections."""
        self._answers.clear()
        # Before the tasks end: a command that fails meanwhile must not start another task.
        self._store = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._close_all()

    async def read(self, operation: Operation, names: Sequence[bytes]) -> list[object]:
        """Return the value of each name, in order; None for a name without a value.

        Raises:
            Unavailable: Redis did not answer in time, or the circuit is open.
        """
        return await self._ask(operation, self._timeout_s, lambda store: store.read(names))

    async def run(
        self,
        operation: Operation,
        script: str,
        names: Sequence[bytes],
        shared: Sequence[bytes],
        each: Sequence[bytes] = (),
    ) -> list[object]:
        """Run a script that writes; returns its reply for each name.

        Raises:
            Unavailable: Redis did not answer in time, or the circuit is open; it may have written.
            Refused: Redis refused to write all or some of the names.
        """
        is_put = operation == "put"
        if not is_put and not self._writes.allows():
            raise Refused
        timeout_s = self._put_timeout_s if is_put else self._timeout_s
        try:
            replies = await self._ask(
                operation, timeout_s, lambda store: store.run(script, names, shared, each)
            )
        except Refused as exc:
            self._note_refusal(str(exc))
            raise
        except BaseException:
            self._writes.gave_up()
            raise
        if self._writes.is_open:
            log.info("redis_writes_again")
        self._writes.succeeded()
        return replies

    async def may_write(self) -> None:
        """Wait until Redis answers, and the pause after a refused write is over."""
        while True:
            await self._answers.wait()
            if self._writes.allows():
                return
            await asyncio.sleep(max(self._writes.left_s, 0.01))

    def renew(self) -> None:
        """Replace connections that are out of step, or lead to a former master; once a second at most."""
        if time.monotonic() - self._renewed_s < 1.0:
            return
        self._renewed_s = time.monotonic()
        if self._answers.is_set():
            self._spawn(self._swap())

    async def _ask(
        self,
        operation: Operation,
        timeout_s: float,
        ask: Callable[[Store], Awaitable[list[object]]],
    ) -> list[object]:
        store = self._store_in_use()
        started_s, asked_s = time.monotonic(), math.inf
        try:
            async with asyncio.timeout(timeout_s), self._places:
                # Read again after the wait for a place: a store that was closed meanwhile would
                # open new connections.
                store = self._store_in_use()
                asked_s = time.monotonic()
                with self._metrics.time_redis(operation):
                    replies = await self._over(store, ask)
        except CircuitOpen:
            raise
        except Exception as exc:
            if operation in ("put", "claim", "renew") and _is_refusal(exc):
                raise Refused(_reason(exc)) from exc
            now_s = time.monotonic()
            # Two failures do not count against Redis: one of a store that was replaced meanwhile,
            # and a timeout of a command that waited most of its time for a connection.
            had_time = now_s - asked_s > timeout_s / 2
            is_evidence = had_time or not isinstance(exc, TimeoutError)
            if is_evidence and store is self._store:
                due_s = started_s + timeout_s
                if isinstance(exc, ConnectTimeout):
                    # A new connection has a timeout of its own, which began with it.
                    due_s = asked_s + connect_timeout_s(self._timeout_s)
                # All commands of one stall time out together, so they count as one.
                if now_s <= due_s + STALL_S or asked_s > self._stalled_s:
                    self._note_lost(_reason(exc))
                else:
                    self._stalled_s = min(self._stalled_s, now_s)
            raise Unavailable(_reason(exc)) from exc
        self._stalled_s = math.inf
        return replies

    async def _over(
        self, store: Store, ask: Callable[[Store], Awaitable[list[object]]]
    ) -> list[object]:
        try:
            return await ask(store)
        finally:
            # The store was closed during the command, which may have opened a connection since.
            if store not in self._opened:
                self._spawn(self._close(store))

    def _store_in_use(self) -> Store:
        if self.is_open or self._store is None:
            raise CircuitOpen
        return self._store

    def _note_lost(self, reason: str) -> None:
        if not self._breaker.is_open:
            self._lost_s = time.monotonic()
            log.warning("redis_lost", reason=reason)
            self._breaker.failed()
            self._spawn(self._try_until_back())
        self._answers.clear()

    def _note_refusal(self, reason: str) -> None:
        if not self._writes.is_open:
            log.warning("redis_refuses_writes", reason=reason)
        self._writes.failed()
        if "READONLY" in reason:
            # The former master is a replica now; a new connection may reach the new master.
            self.renew()

    async def _try_until_back(self) -> None:
        while self._breaker.is_open:
            await asyncio.sleep(self._breaker.left_s)
            if not self._breaker.allows():
                continue
            if await self._reconnect() is None:
                self._breaker.succeeded()
                log.info("redis_back", after_s=round(time.monotonic() - self._lost_s, 1))
            else:
                self._breaker.failed()

    async def _reconnect(self) -> str | None:
        """Probe Redis over a new connection; returns the reason of a failure, else None."""
        old, self._store = self._store, None
        if old is not None:
            await self._close(old)
        try:
            store = self._open()
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                await store.read(probe_names())
            # The second probe runs over the open connection, so it has to meet the timeout of
            # callers; otherwise a slow Redis would open the circuit again with the next request.
            async with asyncio.timeout(self._timeout_s):
                await store.read(probe_names())
        except Exception as exc:  # noqa: BLE001 - whatever it is, Redis is not usable
            await self._close_all()
            return _reason(exc)
        self._store = store
        self._answers.set()
        return None

    async def _swap(self) -> None:
        old = self._store
        try:
            new = self._open()
        except SetupError:
            return
        self._store = new
        # Commands over the old connections may take up to their timeout to finish.
        await asyncio.sleep(self._timeout_s)
        if old is not None:
            await self._close(old)

    def _open(self) -> Store:
        store = self._connect()
        self._opened.add(store)
        return store

    async def _close_all(self) -> None:
        for store in list(self._opened):
            await self._close(store)

    async def _close(self, store: Store) -> None:
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await store.aclose()
        except Exception as exc:  # noqa: BLE001 - a broken connection may fail to close in any way
            log.debug("redis_close_failed", error=type(exc).__name__)
        self._opened.discard(store)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _is_refusal(error: Exception) -> bool:
    """Return whether Redis replied with a refusal, as when it is full or a replica."""
    # A cluster that lacks or moves a slot needs a new connection, as if it did not answer.
    is_moving = isinstance(error, (ClusterError, AskError, TryAgainError))
    return isinstance(error, ResponseError) and not is_moving


def _reason(error: Exception) -> str:
    """Return the type of an error with Redis' code for it, without its message, which may quote names."""
    kind = type(error).__name__
    if isinstance(error, AuthenticationError):
        return f"{kind}: check the user and the password in MEDREWARD_REDIS_URL"
    found = [word for word in WORDS if isinstance(error, RedisError) and word in str(error)]
    return ": ".join([kind, *found[:1]])


WORDS = (
    *("OOM", "READONLY", "NOPERM", "NOAUTH", "WRONGPASS", "LOADING", "MISCONF"),
    *("CLUSTERDOWN", "MASTERDOWN", "BUSY", "NOREPLICAS"),
)
