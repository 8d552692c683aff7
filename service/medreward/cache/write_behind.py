"""Background writes to Redis, in batches of one round trip, so that no response waits for them.

The release of a lease is queued as a write too, so it shares the round trip of its batch.
"""

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress

from medreward.cache.redis_link import RedisLink, Refused, Unavailable
from medreward.telemetry.metrics import Metrics

MAX_WAITING = 65_536
"""Most entries in the queue; further ones are dropped, and only cached in memory."""
MAX_WAITING_BYTES = 32 * 1024**2
MAX_BATCH = 512
"""Entries in one script, which blocks Redis for about a millisecond."""
MAX_BATCH_BYTES = 1024**2
FLUSH_TIMEOUT_S = 1.0
RELEASE = b""
"""The value that releases the lease of an entry."""

# An entry overwrites the lease in its place. If it cannot be written (Redis is full), its lease is
# released, so that no replica waits for it.
WRITE = """
local own, failed = ARGV[2], nil
local function release(name)
  local held = redis.call('GET', name)
  if held and string.sub(held, 1, #own) == own then redis.call('DEL', name) end
end
local replies = {}
for i, name in ipairs(KEYS) do
  local value = ARGV[i + 2]
  replies[i] = 1
  if value == '' then
    release(name)
  else
    local reply = redis.pcall('SET', name, value, 'EX', ARGV[1])
    if reply['err'] then failed = reply; release(name) end
  end
end
return failed or replies
"""


class WriteBehind:
    """Queues entries, and writes them as soon as Redis accepts writes."""

    def __init__(self, link: RedisLink, metrics: Metrics, *, ttl_s: int, holder: bytes) -> None:
        self._link = link
        self._metrics = metrics
        self._shared = (b"%d" % ttl_s, holder)
        self._waiting: dict[bytes, bytes] = {}
        self._waiting_bytes = 0
        self._wakes = asyncio.Event()
        self._is_empty = asyncio.Event()
        self._is_empty.set()
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """Return the number of queued entries."""
        return len(self._waiting)

    def start(self) -> None:
        """Start the task that writes."""
        self._task = asyncio.create_task(self._run())

    async def flushed(self) -> None:
        """Wait until the queue is empty and its last batch is written."""
        await self._is_empty.wait()

    async def aclose(self) -> None:
        """Write the queue, for a second at most, and stop."""
        if self._task is None:
            return
        if not self._link.is_open:
            with suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_TIMEOUT_S):
                    await self._is_empty.wait()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None
        self._metrics.redis_dropped["closed"].inc(_values(self._waiting.values()))
        self._waiting.clear()

    def put(self, values: Mapping[bytes, bytes]) -> None:
        """Queue encoded values by name; `RELEASE` releases the lease of that name.

        A value overwrites the lease in its place, so a later release does not replace it.
        """
        dropped = []
        for name, value in values.items():
            if not self._take(name, value):
                dropped.append(value)
        if dropped:
            self._metrics.redis_dropped["full"].inc(_values(dropped))
        if self._waiting:
            self._is_empty.clear()
            self._wakes.set()

    def _take(self, name: bytes, value: bytes) -> bool:
        replaced = self._waiting.get(name)
        if replaced and value == RELEASE:
            return True
        size = self._waiting_bytes + len(name) + len(value)
        if replaced is not None:
            size -= len(name) + len(replaced)
        elif len(self._waiting) >= MAX_WAITING:
            return False
        if size > MAX_WAITING_BYTES:
            return False
        self._waiting[name] = value
        self._waiting_bytes = size
        return True

    async def _run(self) -> None:
        while True:
            await self._wakes.wait()
            await self._link.may_write()
            batch = self._next_batch()
            try:
                await self._link.run("put", WRITE, list(batch), self._shared, list(batch.values()))
            except Refused:
                self._metrics.redis_dropped["refused"].inc(_values(batch.values()))
            except Unavailable:
                # Queue the batch again, but keep newer entries of the same names: they hold the
                # same answers, or release a lease.
                self.put({n: v for n, v in batch.items() if n not in self._waiting})
            if not self._waiting:
                self._wakes.clear()
                self._is_empty.set()

    def _next_batch(self) -> dict[bytes, bytes]:
        batch: dict[bytes, bytes] = {}
        size = 0
        for name, value in self._waiting.items():
            size += len(name) + len(value)
            if len(batch) >= MAX_BATCH or (batch and size > MAX_BATCH_BYTES):
                break
            batch[name] = value
        for name, value in batch.items():
            del self._waiting[name]
            self._waiting_bytes -= len(name) + len(value)
        return batch


def _values(waiting: Iterable[bytes]) -> int:
    return sum(1 for value in waiting if value != RELEASE)
