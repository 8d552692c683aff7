"""Single flight across replicas, by leases on entries in Redis.

1. The first replica to claim a question writes a lease in the place of its entry, and asks.
2. The other replicas poll the entry, at growing intervals, until it holds the answer.
3. A lease that is not renewed expires, and one of the waiting replicas takes the question over.
4. If Redis does not answer, each replica asks for itself.
"""

import asyncio
import enum
import itertools
import random
import secrets
import time
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from medreward.cache.entries import LEASE, Role, decode, is_lease, key_of
from medreward.cache.redis_link import MOST_AT_ONCE, RedisLink, Unavailable
from medreward.telemetry.metrics import Metrics

HOLDER_BYTES = 8
FIRST_STEP_S = 0.01
LONGEST_STEP_S = 0.1
TICK_S = 0.005
"""Names that are due within this time are read in one command."""
RENEWALS = 3
"""Renewals within the time of a lease, so that one lost renewal does not end it."""

# Replies false for a lease that is the caller's now, else the value of the entry. GET and SET run in
# one script, since two replicas could otherwise both see an unclaimed entry.
CLAIM = """
local replies = {}
for i, name in ipairs(KEYS) do
  local held = redis.call('GET', name)
  if held and string.sub(held, 1, #ARGV[2]) ~= ARGV[2] then
    replies[i] = held
  else
    redis.call('SET', name, ARGV[2] .. ARGV[3], 'PX', ARGV[1])
    replies[i] = false
  end
end
return replies
"""

# Sets only leases that still exist: a renewal that arrives late must not bring a released one back.
RENEW = """
local replies = {}
for i, name in ipairs(KEYS) do
  local held = redis.call('GET', name)
  replies[i] = 0
  if held and string.sub(held, 1, #ARGV[2]) == ARGV[2] then
    redis.call('SET', name, ARGV[2] .. ARGV[3], 'PX', ARGV[1])
    replies[i] = 1
  end
end
return replies
"""


@dataclass(frozen=True, slots=True)
class Claimed:
    """The state of several questions, by the names of their entries or by their keys."""

    to_ask: set[bytes] = field(default_factory=set)
    """Questions that the caller has to ask; it then stores each answer, or releases the key."""
    in_flight: set[bytes] = field(default_factory=set)
    """Questions that another replica is asking."""
    answered: dict[bytes, bytes] = field(default_factory=dict)
    """Payloads of the questions with an answer."""

    def by_key(self) -> "Claimed":
        """Return the same state by keys instead of names."""
        return Claimed(
            set(map(key_of, self.to_ask)),
            set(map(key_of, self.in_flight)),
            {key_of(name): payload for name, payload in self.answered.items()},
        )


class _Gone(enum.Enum):
    """The reason for which a wait for an entry ends without an answer."""

    RELEASED = enum.auto()
    """The entry has no lease any more: the waiting replicas claim it."""
    UNREACHABLE = enum.auto()
    """The lease is dead, or its state is unknown: each replica asks for itself."""


class _Waiter:
    """A waiting request, with the outcomes that it has not taken yet."""

    def __init__(self) -> None:
        self._outcomes: dict[bytes, bytes | _Gone] = {}
        self._has_outcomes = asyncio.Event()

    def give(self, name: bytes, outcome: bytes | _Gone) -> None:
        """Add the outcome of an entry, and wake the request."""
        self._outcomes[name] = outcome
        self._has_outcomes.set()

    async def take(self, until_s: float) -> dict[bytes, bytes | _Gone]:
        """Wait for outcomes and return them; empty if *until_s* passes first."""
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, until_s - time.monotonic())):
                await self._has_outcomes.wait()
        # Nothing is awaited between the two lines, so the event is set only while outcomes wait.
        self._has_outcomes.clear()
        outcomes, self._outcomes = self._outcomes, {}
        return outcomes


@dataclass(slots=True)
class _Watch:
    """An entry that another replica will fill, and the requests that wait for it here."""

    waiters: set[_Waiter] = field(default_factory=set)
    seen: object = None
    seen_s: float = field(default_factory=time.monotonic)
    """Time at which the value last changed, by `time.monotonic`."""
    step_s: float = FIRST_STEP_S
    due_s: float = 0.0

    def schedule(self, jitter: float) -> None:
        """Set the time of the next read; the intervals grow."""
        self.due_s = time.monotonic() + self.step_s * jitter
        self.step_s = min(1.5 * self.step_s, LONGEST_STEP_S)


class Leases:
    """The leases of one process, and its waits for those of other replicas. For one event loop."""

    def __init__(self, link: RedisLink, metrics: Metrics, *, lease_s: float) -> None:
        self._link = link
        self._metrics = metrics
        self._lease_s = lease_s
        self.holder = LEASE + secrets.token_bytes(HOLDER_BYTES)
        """First bytes of every lease of this process; random, so no other process has them."""
        self._stamps = itertools.count()
        self._held: dict[bytes, float] = {}
        """Leases of this process: the time until which each is renewed, by name."""
        self._watched: dict[bytes, _Watch] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._wakes = asyncio.Event()

    def start(self) -> None:
        """Start the tasks that renew leases and poll watched entries."""
        self._tasks = [asyncio.create_task(self._renew()), asyncio.create_task(self._poll())]

    async def aclose(self) -> list[bytes]:
        """Stop renewing and polling; returns the names of the leases that are left.

        Waiting requests then ask for themselves.
        """
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        for name in list(self._watched):
            self._resolve(name, _Gone.UNREACHABLE)
        return self.forget(list(self._held))

    async def claim(self, names: Sequence[bytes], role: Role, hold_s: float) -> Claimed:
        """Claim the leases of unclaimed entries; each is renewed for *hold_s* at most."""
        claimed, replies = Claimed(), list[object]()
        with suppress(Unavailable):
            while len(replies) < len(names):
                some = names[len(replies) : len(replies) + MOST_AT_ONCE]
                replies += await self._link.run("claim", CLAIM, some, self._lease_arguments())
        held_until_s = time.monotonic() + hold_s
        for name, reply in zip(names, replies, strict=False):
            payload = decode(key_of(name), reply)
            if reply is None:
                # The lease belongs to the process, and another of its requests may have the later
                # deadline.
                self._held[name] = max(held_until_s, self._held.get(name, 0.0))
            if is_lease(reply):
                claimed.in_flight.add(name)
            elif payload is None:
                # Corrupt entries are treated as unclaimed, and overwritten by the answer.
                claimed.to_ask.add(name)
            else:
                claimed.answered[name] = payload
        self._metrics.single_flight[role, "mine"].inc(len(claimed.to_ask))
        self._metrics.single_flight[role, "theirs"].inc(len(claimed.in_flight))
        self._metrics.single_flight[role, "found"].inc(len(claimed.answered))
        claimed.to_ask.update(self._alone(names[len(replies) :], role))
        return claimed

    async def wait_for_others(
        self, names: Sequence[bytes], role: Role, until_s: float, hold_s: float
    ) -> Claimed:
        """Wait until all questions are answered, one has to be asked here, or *until_s* passes."""
        if not self._tasks:
            return Claimed(to_ask=self._alone(names, role))
        claimed, waiter = Claimed(in_flight=set(names)), _Waiter()
        self._join(waiter, names)
        try:
            while claimed.in_flight and not claimed.to_ask:
                if not self._tasks or time.monotonic() >= until_s:
                    break
                released = []
                for name, outcome in (await waiter.take(until_s)).items():
                    claimed.in_flight.discard(name)
                    if isinstance(outcome, bytes):
                        claimed.answered[name] = outcome
                    elif outcome is _Gone.RELEASED:
                        released.append(name)
                    else:
                        claimed.to_ask.add(name)
                if released:
                    # All waiting replicas claim the lease at once, and one of them gets it.
                    again = await self.claim(released, role, hold_s)
                    claimed.to_ask.update(again.to_ask)
                    claimed.in_flight.update(again.in_flight)
                    claimed.answered.update(again.answered)
                    self._join(waiter, again.in_flight)
        finally:
            self._leave(waiter, claimed.in_flight)
        late = 0 if claimed.to_ask else len(claimed.in_flight)
        self._metrics.single_flight[role, "taken_over"].inc(len(claimed.to_ask))
        self._metrics.single_flight[role, "late"].inc(late)
        return claimed

    def forget(self, names: Iterable[bytes]) -> list[bytes]:
        """Stop renewing leases; returns the names of those that this process held."""
        return [name for name in names if self._held.pop(name, None) is not None]

    def _alone(self, names: Collection[bytes], role: Role) -> set[bytes]:
        self._metrics.single_flight[role, "alone"].inc(len(names))
        return set(names)

    def _lease_arguments(self) -> tuple[bytes, bytes, bytes]:
        # The stamp makes each renewal a new value: a waiting replica recognises a dead holder by a
        # value that no longer changes, without comparing clocks.
        return b"%d" % round(1000 * self._lease_s), self.holder, b"%d" % next(self._stamps)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._lease_s / RENEWALS)
            now_s = time.monotonic()
            self._held = {name: until_s for name, until_s in self._held.items() if until_s > now_s}
            names = list(self._held)
            with suppress(Unavailable):
                for start in range(0, len(names), MOST_AT_ONCE):
                    some = names[start : start + MOST_AT_ONCE]
                    await self._link.run("renew", RENEW, some, self._lease_arguments())

    def _join(self, waiter: _Waiter, names: Iterable[bytes]) -> None:
        jitter = _jitter()
        for name in names:
            watch = self._watched.get(name)
            if watch is None:
                watch = self._watched[name] = _Watch()
                watch.schedule(jitter)
            watch.waiters.add(waiter)
        self._wakes.set()

    def _leave(self, waiter: _Waiter, names: Iterable[bytes]) -> None:
        for name in names:
            watch = self._watched.get(name)
            if watch is not None:
                watch.waiters.discard(waiter)
                if not watch.waiters:
                    del self._watched[name]

    async def _poll(self) -> None:
        while True:
            while not self._watched:
                self._wakes.clear()
                await self._wakes.wait()
            first_s = min(watch.due_s for watch in self._watched.values())
            await asyncio.sleep(max(TICK_S, first_s - time.monotonic()))
            soon_s = time.monotonic() + TICK_S
            due = [name for name, watch in self._watched.items() if watch.due_s <= soon_s]
            if due:
                await self._look(due[:MOST_AT_ONCE])

    async def _look(self, names: Sequence[bytes]) -> None:
        jitter = _jitter()
        try:
            stored = await self._link.read("wait", names)
        except Unavailable:
            stored = None
        for number, name in enumerate(names):
            watch = self._watched.get(name)
            if watch is None:
                continue
            if stored is not None:
                outcome = self._outcome(name, stored[number], watch)
            else:
                # If the link is still in use, only the event loop stalled, and the lease may be
                # alive: look again later.
                outcome = _Gone.UNREACHABLE if self._link.is_open else None
            if outcome is None:
                watch.schedule(jitter)
            else:
                self._resolve(name, outcome)

    def _outcome(self, name: bytes, value: object, watch: _Watch) -> bytes | _Gone | None:
        """Return the outcome of a value in Redis; None while its lease is being renewed."""
        if value is None:
            return _Gone.RELEASED
        if not is_lease(value):
            # A corrupt entry, or one of another key, says nothing about the lease.
            payload = decode(key_of(name), value)
            return _Gone.UNREACHABLE if payload is None else payload
        if value != watch.seen:
            watch.seen, watch.seen_s = value, time.monotonic()
        # A lease without a renewal for its whole time is over, even if Redis does not expire it.
        is_over = time.monotonic() - watch.seen_s > self._lease_s
        return _Gone.UNREACHABLE if is_over else None

    def _resolve(self, name: bytes, outcome: bytes | _Gone) -> None:
        watch = self._watched.pop(name)
        for waiter in watch.waiters:
            waiter.give(name, outcome)


def _jitter() -> float:
    """Return a random share of an interval, so that replicas do not poll at the same moments."""
    return random.uniform(0.5, 1.0)  # noqa: S311 - no secret
