"""The Redis tier of the cache of answers: bytes by key, shared by replicas.

A failure of Redis delays requests once, by a fifth of a second by default. They continue without
Redis, and later requests do not wait for it until it answers again.
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
    """Build the tier; None if no Redis is configured.

    Raises:
        SetupError: a file that the settings name cannot be read.
    """
    if settings.redis_url is None:
        return None
    # Only for its errors: a missing certificate or password file must stop the start. Later, the
    # link would take it for a Redis that does not answer.
    connection_kwargs(settings)
    link = RedisLink(partial(connect, settings), metrics, timeout_s=settings.redis_timeout_s)
    return RedisTier(link, metrics, ttl_s=settings.cache_ttl_s, lease_s=settings.lease_s)


class RedisTier:
    """Stores payloads by 16-byte keys, and claims questions among replicas. Never raises.

    A namespace is a short hexadecimal number, or empty; a role is `judge` or `embedder`.
    """

    def __init__(self, link: RedisLink, metrics: Metrics, *, ttl_s: int, lease_s: float) -> None:
        self._link = link
        self._metrics = metrics
        self._leases = Leases(link, metrics, lease_s=lease_s)
        self._writes = WriteBehind(link, metrics, ttl_s=ttl_s, holder=self._leases.holder)
        metrics.redis_open.set_function(lambda: float(link.is_open))
        metrics.redis_buffered.set_function(lambda: float(len(self._writes)))

    def state(self) -> str:
        """Return a text for people on whether Redis answers."""
        return self._link.state()

    async def start(self) -> None:
        """Connect; if Redis does not answer, the link retries in the background."""
        self._writes.start()
        self._leases.start()
        await self._link.start()

    async def aclose(self) -> None:
        """Release the leases and flush the queued writes, for a second at most, then disconnect."""
        # The order matters: renewals end before the releases, or one could bring a lease back.
        held = await self._leases.aclose()
        self._writes.put(dict.fromkeys(held, RELEASE))
        await self._writes.aclose()
        await self._link.aclose()

    async def flushed(self) -> None:
        """Wait until every write is done; without end if Redis accepts none."""
        await self._writes.flushed()

    async def get_many(
        self, keys: Sequence[bytes], namespace: str = "", *, role: Role
    ) -> dict[bytes, bytes]:
        """Return the stored payloads; keys without a valid entry are left out."""
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
        # `rubbish` is the label that alerts and dashboards use for entries that cannot be decoded.
        for result, count in (("hit", len(found)), ("miss", misses), ("rubbish", corrupt)):
            if count:
                self._metrics.cache[role, "redis", result].inc(count)
        if corrupt:
            # The connection may deliver replies of other requests, so it is replaced.
            self._link.renew()
        return found

    def put_soon(self, values: Mapping[bytes, bytes], namespace: str = "", *, role: Role) -> None:
        """Queue payloads to be stored; each overwrites the lease on its key."""
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
        """Sort questions into those to ask here, those in flight elsewhere, and those answered.

        Leases on those to ask last until `put_soon` or `release`, but at most *hold_s* seconds.
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
        """Wait for other replicas until all questions are answered, or one has to be asked here.

        The wait ends at *until_s*, a time of `time.monotonic`. Questions that are still in flight can
        be waited for again.
        """
        names = entry_names(keys, role, namespace)
        claimed = await self._leases.wait_for_others(names, role, until_s, hold_s)
        return claimed.by_key()

    def release(self, keys: Iterable[bytes], namespace: str = "", *, role: Role) -> None:
        """Release the leases of questions without an answer, so that other replicas can ask now."""
        held = self._leases.forget(entry_names(list(keys), role, namespace))
        if held:
            self._writes.put(dict.fromkeys(held, RELEASE))
