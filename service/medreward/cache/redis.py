"""The Redis tier of the score cache: bytes by key, shared by replicas, never in a request's way.

Whatever is wrong with Redis, one request waits for it once, for a fifth of a second by default; then
it goes on without Redis, and others do not wait at all until Redis answers again.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from medreward.cache.entries import Role, decode, encode, entry_names, is_lease
from medreward.cache.leases import Claimed, Leases
from medreward.cache.redis_client import connect, connection_kwargs
from medreward.cache.redis_link import MOST_AT_ONCE, CircuitOpen, RedisLink, Unavailable
from medreward.cache.write_behind import RELEASE, WriteBehind
from medreward.settings import Settings
from medreward.telemetry.metrics import Metrics

LONGEST_HOLD_S = 600.0


def build_redis_tier(settings: Settings, metrics: Metrics) -> "RedisTier | None":
    """Make the tier, if there is a Redis.

    Raises:
        SetupError: a file that the settings name cannot be read.
    """
    if settings.redis_url is None:
        return None
    connection_kwargs(settings)
    link = RedisLink(partial(connect, settings), metrics, timeout_s=settings.redis_timeout_s)
    return RedisTier(link, metrics, ttl_s=settings.cache_ttl_s, lease_s=settings.lease_s)


class RedisTier:
    """Stores payloads by 16-byte keys, and claims questions among replicas. Never raises.

    A namespace is a short hexadecimal number, or empty; a role is the kind of engine.
    """

    def __init__(self, link: RedisLink, metrics: Metrics, *, ttl_s: int, lease_s: float) -> None:
        self._link = link
        self._metrics = metrics
        self._leases = Leases(link, metrics, lease_s=lease_s)
        self._writes = WriteBehind(link, metrics, ttl_s=ttl_s, holder=self._leases.holder)
        metrics.redis_open.set_function(lambda: float(link.is_open))
        metrics.redis_buffered.set_function(lambda: float(len(self._writes)))

    def state(self) -> str:
        """Return in words whether Redis answers."""
        return self._link.state()

    async def start(self) -> None:
        """Connect; a Redis that does not answer is tried again in the background."""
        self._writes.start()
        self._leases.start()
        await self._link.start()

    async def aclose(self) -> None:
        """Release the leases and write what waits, for a second at most, then disconnect."""
        await self._leases.aclose()
        self._writes.put(dict.fromkeys(self._leases.forget_all(), RELEASE))
        await self._writes.aclose()
        await self._link.aclose()

    async def flushed(self) -> None:
        """Wait until every write is done; for ever if Redis takes none."""
        await self._writes.flushed()

    async def get_many(
        self, keys: Sequence[bytes], namespace: str = "", *, role: Role
    ) -> dict[bytes, bytes]:
        """Return what is stored; keys without a readable entry are left out."""
        found: dict[bytes, bytes] = {}
        for start in range(0, len(keys), MOST_AT_ONCE):
            some = keys[start : start + MOST_AT_ONCE]
            try:
                stored = await self._link.read("get", entry_names(some, role, namespace))
            except CircuitOpen:
                self._metrics.cache[role, "redis", "bypass"].inc(len(keys) - start)
                break
            except Unavailable:
                self._metrics.cache[role, "redis", "error"].inc(len(keys) - start)
                break
            found |= self._decoded(some, stored, role)
        return found

    def _decoded(
        self, keys: Sequence[bytes], stored: Sequence[object], role: Role
    ) -> dict[bytes, bytes]:
        found, corrupt = {}, 0
        for key, value in zip(keys, stored, strict=True):
            if value is None:
                continue
            payload = decode(key, value)
            if payload is not None:
                found[key] = payload
            elif not is_lease(value):
                corrupt += 1
        misses = len(keys) - len(found) - corrupt
        # Alerts and dashboards know entries that cannot be decoded as rubbish.
        for result, count in (("hit", len(found)), ("miss", misses), ("rubbish", corrupt)):
            if count:
                self._metrics.cache[role, "redis", result].inc(count)
        if corrupt:
            # The reply may have been meant for another request: give that connection up.
            self._link.renew()
        return found

    def put_soon(self, values: Mapping[bytes, bytes], namespace: str = "", *, role: Role) -> None:
        """Store payloads in the background; this ends the leases on their keys."""
        names = entry_names(list(values), role, namespace)
        self._leases.forget(names)
        encoded = (encode(key, payload) for key, payload in values.items())
        self._writes.put(dict(zip(names, encoded, strict=True)))

    async def claim(
        self,
        keys: Sequence[bytes],
        namespace: str = "",
        *,
        role: Role,
        hold_s: float = LONGEST_HOLD_S,
    ) -> Claimed:
        """Divide questions into those to ask here, those in flight elsewhere, and those answered.

        Those to ask are the caller's until `put_soon` or `release`, or *hold_s* seconds from now.
        """
        if not keys:
            return Claimed()
        claimed = await self._leases.claim(entry_names(keys, role, namespace), role, hold_s)
        return claimed.by_key()

    async def wait_for_others(
        self,
        keys: Sequence[bytes],
        until_s: float,
        namespace: str = "",
        *,
        role: Role,
        hold_s: float = LONGEST_HOLD_S,
    ) -> Claimed:
        """Wait for other replicas, until all is answered or something is to be asked here.

        Questions still in flight then can be waited for again. The wait ends at *until_s*, a time
        of `time.monotonic`.
        """
        names = entry_names(keys, role, namespace)
        claimed = await self._leases.wait_for_others(names, role, until_s, hold_s)
        return claimed.by_key()

    def release(self, keys: Iterable[bytes], namespace: str = "", *, role: Role) -> None:
        """Release the leases of questions that got no answer, so that others may ask at once."""
        held = self._leases.forget(entry_names(list(keys), role, namespace))
        if held:
            self._writes.put(dict.fromkeys(held, RELEASE))


__all__ = ["Claimed", "RedisTier", "build_redis_tier"]
