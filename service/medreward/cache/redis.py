"""The Redis tier of the score cache: bytes by key, shared by replicas, never in a request's way.

Whatever is wrong with Redis, a request waits for it once, for a fifth of a second by default; then
it goes on without, and others do not wait at all until Redis answers again.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from medreward.cache.entries import Role, entry_names, is_lease, seal, unseal
from medreward.cache.leases import Claimed, Leases
from medreward.cache.redis_client import connect, connection_kwargs
from medreward.cache.redis_link import MOST_AT_ONCE, LeftAlone, RedisLink, Unavailable
from medreward.cache.write_behind import GIVE_BACK, WriteBehind
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
    """Remembers payloads by 16-byte keys, and agrees with other replicas on who asks. Never raises.

    A namespace is a short hexadecimal number, or empty; a role is who answers.
    """

    def __init__(self, link: RedisLink, metrics: Metrics, *, ttl_s: int, lease_s: float) -> None:
        self._link = link
        self._metrics = metrics
        self._leases = Leases(link, metrics, lease_s=lease_s)
        self._writes = WriteBehind(link, metrics, ttl_s=ttl_s, holder=self._leases.holder)
        metrics.watch_redis(lambda: float(link.is_open), lambda: float(len(self._writes)))

    def state(self) -> str:
        """Say in words whether Redis answers."""
        return self._link.state()

    async def start(self) -> None:
        """Connect; a Redis that does not answer is tried again in the background."""
        self._writes.start()
        self._leases.start()
        await self._link.start()

    async def aclose(self) -> None:
        """Give back the leases and write what waits, for a second at most, then disconnect."""
        await self._leases.aclose()
        self._writes.put(dict.fromkeys(self._leases.forget_all(), GIVE_BACK))
        await self._writes.aclose()
        await self._link.aclose()

    async def flushed(self) -> None:
        """Wait until nothing waits to be written; without end where Redis takes nothing."""
        await self._writes.flushed()

    async def get_many(
        self, keys: Sequence[bytes], namespace: str = "", *, role: Role
    ) -> dict[bytes, bytes]:
        """Give what is remembered; a key that is not, or that cannot be told, is left out."""
        found: dict[bytes, bytes] = {}
        for start in range(0, len(keys), MOST_AT_ONCE):
            some = keys[start : start + MOST_AT_ONCE]
            try:
                stored = await self._link.read("get", entry_names(some, role, namespace))
            except LeftAlone:
                self._metrics.count_redis_reads(role, bypassed=len(keys) - start)
                break
            except Unavailable:
                self._metrics.count_redis_reads(role, errors=len(keys) - start)
                break
            found |= self._unsealed(some, stored, role)
        return found

    def _unsealed(
        self, keys: Sequence[bytes], stored: Sequence[object], role: Role
    ) -> dict[bytes, bytes]:
        found, rubbish = {}, 0
        for key, value in zip(keys, stored, strict=True):
            if value is None:
                continue
            payload = unseal(key, value)
            if payload is not None:
                found[key] = payload
            elif not is_lease(value):
                rubbish += 1
        misses = len(keys) - len(found) - rubbish
        self._metrics.count_redis_reads(role, hits=len(found), misses=misses, rubbish=rubbish)
        if rubbish:
            # It may have been meant for somebody else: do not go on over that connection.
            self._link.renew()
        return found

    def put_soon(self, values: Mapping[bytes, bytes], namespace: str = "", *, role: Role) -> None:
        """Remember payloads, off the caller's path; a lease on their keys ends with that."""
        names = entry_names(list(values), role, namespace)
        self._leases.forget(names)
        sealed = (seal(key, payload) for key, payload in values.items())
        self._writes.put(dict(zip(names, sealed, strict=True)))

    async def claim(
        self,
        keys: Sequence[bytes],
        namespace: str = "",
        *,
        role: Role,
        hold_s: float = LONGEST_HOLD_S,
    ) -> Claimed:
        """Sort questions into those to ask, those being asked elsewhere, and those answered.

        Those to ask are the caller's until `put_soon` or `release`, or *hold_s* seconds from now.
        """
        if not keys:
            return Claimed()
        return await self._leases.claim(_named(keys, role, namespace), role, hold_s)

    async def await_theirs(
        self,
        keys: Iterable[bytes],
        until_s: float,
        namespace: str = "",
        *,
        role: Role,
        hold_s: float = LONGEST_HOLD_S,
    ) -> Claimed:
        """Wait for what others ask, until all is found or something has become the caller's.

        What is still theirs then can be waited for again; at *until_s*, a time of
        `time.monotonic`, nothing is waited for any longer.
        """
        return await self._leases.await_theirs(
            _named(list(keys), role, namespace), role, until_s, hold_s
        )

    def release(self, keys: Iterable[bytes], namespace: str = "", *, role: Role) -> None:
        """Give back the leases of questions that got no answer, so that others may try at once."""
        held = self._leases.forget(entry_names(list(keys), role, namespace))
        if held:
            self._writes.put(dict.fromkeys(held, GIVE_BACK))


def _named(keys: Sequence[bytes], role: Role, namespace: str) -> dict[bytes, bytes]:
    return dict(zip(keys, entry_names(keys, role, namespace), strict=True))


__all__ = ["Claimed", "RedisTier", "build_redis_tier"]
