"""Single flight across replicas: who asks a question first holds a lease on its entry in Redis.

The others wait for the answer. A lease that is not renewed ends, and one of those who wait takes
its place; without Redis, everybody asks for themselves.
"""

import asyncio
import enum
import itertools
import random
import secrets
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from medreward.cache.entries import LEASE, Role, is_lease, unseal
from medreward.cache.redis_link import MOST_AT_ONCE, RedisLink, Unavailable
from medreward.telemetry.metrics import Metrics

HOLDER_BYTES = 8
FIRST_STEP_S = 0.01
LONGEST_STEP_S = 0.1
TICK_S = 0.005
"""What is due within this is asked for at once."""
RENEWALS = 3
"""Renewals before a lease would end."""

# Gives back false where the lease is the caller's now, else what stands there.
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

# A lease that was given back meanwhile must not come to life again.
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
    """What is to be done about each of several questions."""

    mine: set[bytes] = field(default_factory=set)
    """To be asked by the caller, who then puts the answer or releases the key."""
    theirs: set[bytes] = field(default_factory=set)
    """Being asked elsewhere."""
    found: dict[bytes, bytes] = field(default_factory=dict)
    """Answered already."""


class _Gone(enum.Enum):
    """Why there is nothing more to wait for."""

    FREE = enum.auto()
    """Nobody holds a lease any longer."""
    STUCK = enum.auto()
    """Redis tells nothing of use: each asks for themselves."""


class _Waiter:
    """One caller, and what has come for it since it last looked."""

    def __init__(self) -> None:
        self._came: dict[bytes, bytes | _Gone] = {}
        self._has_come = asyncio.Event()

    def give(self, key: bytes, outcome: bytes | _Gone) -> None:
        """Note what became of a key."""
        self._came[key] = outcome
        self._has_come.set()

    async def take(self, until_s: float) -> dict[bytes, bytes | _Gone]:
        """Wait until something has come, and take it; nothing where the time is over first."""
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, until_s - time.monotonic())):
                await self._has_come.wait()
        self._has_come.clear()
        came, self._came = self._came, {}
        return came


@dataclass(slots=True)
class _Watch:
    """One key that others ask about, and who waits for it here."""

    key: bytes
    waiters: set[_Waiter] = field(default_factory=set)
    seen: object = None
    seen_s: float = field(default_factory=time.monotonic)
    step_s: float = FIRST_STEP_S
    due_s: float = 0.0

    def schedule(self, jitter: float) -> None:
        """Look again after a step; the next one is longer."""
        self.due_s = time.monotonic() + self.step_s * jitter
        self.step_s = min(1.5 * self.step_s, LONGEST_STEP_S)


class Leases:
    """The leases of one process, and its waits for those of others. All in one event loop."""

    def __init__(self, link: RedisLink, metrics: Metrics, *, lease_s: float) -> None:
        self._link = link
        self._metrics = metrics
        self._lease_s = lease_s
        self.holder = LEASE + secrets.token_bytes(HOLDER_BYTES)
        """What the value of each lease held here begins with."""
        self._stamps = itertools.count()
        self._held: dict[bytes, float] = {}
        """Until when each lease held here is renewed, by name."""
        self._watched: dict[bytes, _Watch] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._wakes = asyncio.Event()

    def start(self) -> None:
        """Renew and watch from now on."""
        self._tasks = [asyncio.create_task(self._renew()), asyncio.create_task(self._poll())]

    async def aclose(self) -> None:
        """Stop renewing and watching; whoever waits asks for themselves."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        for name in list(self._watched):
            self._resolve(name, _Gone.STUCK)

    async def claim(self, names: Mapping[bytes, bytes], role: Role, hold_s: float) -> Claimed:
        """Take the leases that are free; renewed for *hold_s* at most."""
        claimed = Claimed()
        keys, replies = list(names), list[object]()
        with suppress(Unavailable):
            while len(replies) < len(keys):
                some = keys[len(replies) : len(replies) + MOST_AT_ONCE]
                replies += await self._link.run(
                    "claim", CLAIM, [names[key] for key in some], self._lease_arguments()
                )
        held_until_s = time.monotonic() + hold_s
        for key, reply in zip(keys, replies, strict=False):
            if reply is None:
                # Another request of this process may want it for longer.
                self._held[names[key]] = max(held_until_s, self._held.get(names[key], 0.0))
            _sort(key, reply, claimed)
        self._metrics.count_single_flight(role, "mine", len(claimed.mine))
        self._metrics.count_single_flight(role, "theirs", len(claimed.theirs))
        self._metrics.count_single_flight(role, "found", len(claimed.found))
        claimed.mine.update(self._alone(keys[len(replies) :], role))
        return claimed

    async def await_theirs(
        self, names: Mapping[bytes, bytes], role: Role, until_s: float, hold_s: float
    ) -> Claimed:
        """Wait until something can be done; what is still theirs then can be waited for again.

        *until_s* is a time of `time.monotonic`, after which it gives back whatever it has.
        """
        if not self._tasks:
            return Claimed(mine=self._alone(names, role))
        found: dict[bytes, bytes] = {}
        waiting, waiter = dict(names), _Waiter()
        self._join(waiter, waiting)
        try:
            while waiting:
                came = await waiter.take(until_s)
                found |= {
                    key: outcome for key, outcome in came.items() if isinstance(outcome, bytes)
                }
                waiting = {key: name for key, name in waiting.items() if key not in came}
                stuck = {key for key, outcome in came.items() if outcome is _Gone.STUCK}
                free = {k: names[k] for k, outcome in came.items() if outcome is _Gone.FREE}
                taken = await self.claim(free, role, hold_s) if free else Claimed()
                found |= taken.found
                again = {key: names[key] for key in taken.theirs}
                self._join(waiter, again)
                waiting |= again
                mine = stuck | taken.mine
                if mine or not self._tasks or time.monotonic() >= until_s:
                    self._metrics.count_single_flight(role, "taken_over", len(mine))
                    self._metrics.count_single_flight(role, "late", 0 if mine else len(waiting))
                    return Claimed(mine, set(waiting), found)
        finally:
            self._leave(waiter, waiting)
        return Claimed(found=found)

    def forget(self, names: Iterable[bytes]) -> list[bytes]:
        """Renew these no longer; gives those that were held."""
        return [name for name in names if self._held.pop(name, None) is not None]

    def forget_all(self) -> list[bytes]:
        """Renew nothing any longer; gives all that was held."""
        return self.forget(list(self._held))

    def _alone(self, keys: Iterable[bytes], role: Role) -> set[bytes]:
        alone = set(keys)
        self._metrics.count_single_flight(role, "alone", len(alone))
        return alone

    def _lease_arguments(self) -> tuple[bytes, bytes, bytes]:
        # The stamp makes each renewal seen by those who wait.
        return b"%d" % round(1000 * self._lease_s), self.holder, b"%d" % next(self._stamps)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._lease_s / RENEWALS)
            now = time.monotonic()
            self._held = {name: until_s for name, until_s in self._held.items() if until_s > now}
            names = list(self._held)
            for start in range(0, len(names), MOST_AT_ONCE):
                some = names[start : start + MOST_AT_ONCE]
                try:
                    await self._link.run("renew", RENEW, some, self._lease_arguments())
                except Unavailable:
                    break

    def _join(self, waiter: _Waiter, names: Mapping[bytes, bytes]) -> None:
        jitter = _jitter()
        for key, name in names.items():
            watch = self._watched.get(name)
            if watch is None:
                watch = self._watched[name] = _Watch(key)
                watch.schedule(jitter)
            watch.waiters.add(waiter)
        self._wakes.set()

    def _leave(self, waiter: _Waiter, names: Mapping[bytes, bytes]) -> None:
        for name in names.values():
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
            await self._look(due[:MOST_AT_ONCE])

    async def _look(self, names: list[bytes]) -> None:
        if not names:
            return
        jitter = _jitter()
        try:
            stored = await self._link.read("wait", names)
        except Unavailable:
            for name in names:
                self._note_silence(name, jitter)
            return
        for name, value in zip(names, stored, strict=True):
            watch = self._watched.get(name)
            if watch is not None:
                self._note(name, watch, value, jitter)

    def _note_silence(self, name: bytes, jitter: float) -> None:
        watch = self._watched.get(name)
        if self._link.is_open:
            self._resolve(name, _Gone.STUCK)
        elif watch is not None:
            # It was this process that was busy.
            watch.schedule(jitter)

    def _note(self, name: bytes, watch: _Watch, value: object, jitter: float) -> None:
        if not is_lease(value):
            payload = unseal(watch.key, value)
            gone = _Gone.FREE if value is None else _Gone.STUCK
            self._resolve(name, gone if payload is None else payload)
        elif value != watch.seen:
            watch.seen, watch.seen_s = value, time.monotonic()
            watch.schedule(jitter)
        elif time.monotonic() - watch.seen_s > self._lease_s:
            # Nobody renews it, and Redis does not end it.
            self._resolve(name, _Gone.STUCK)
        else:
            watch.schedule(jitter)

    def _resolve(self, name: bytes, outcome: bytes | _Gone) -> None:
        watch = self._watched.pop(name, None)
        if watch is not None:
            for waiter in watch.waiters:
                waiter.give(watch.key, outcome)


def _jitter() -> float:
    """A part of a step: the same for what is asked for together, another for each replica."""
    return random.uniform(0.5, 1.0)  # noqa: S311 - no secret


def _sort(key: bytes, reply: object, claimed: Claimed) -> None:
    if reply is None:
        claimed.mine.add(key)
    elif is_lease(reply):
        claimed.theirs.add(key)
    else:
        payload = unseal(key, reply)
        if payload is None:
            # Rubbish is nobody's lease; the answer will overwrite it.
            claimed.mine.add(key)
        else:
            claimed.found[key] = payload
