"""`medreward cache`: statistics of the entries in Redis, and their removal."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import typer
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from rich.text import Text

from medreward.cache.entries import TAG, Origin, entry_pattern, origin_of
from medreward.cache.redis_client import primaries
from medreward.cli.environment import read_settings, without_password
from medreward.cli.tables import facts_grid, plain_table
from medreward.cli.terminal import CommandError, Misuse, counting, output, shown
from medreward.settings import Settings

TIMEOUT_S = 5.0
"""Timeout of each reply of Redis."""
SCAN_STEP = 1000
MAX_SCANNED = 200_000
"""Most names that are scanned; the number of further entries is estimated."""
MIB = 1024**2


@dataclass(frozen=True, slots=True)
class Contents:
    """Entries by origin, counted over the names that were scanned."""

    entries: Counter[Origin | None]
    """Scanned entries by origin; None counts those that are not medreward's."""
    scanned: int
    names: int
    """All names in Redis."""

    def estimate(self, origin: Origin | None) -> str:
        """Format the number of entries of one origin, estimated if not all names were scanned."""
        seen = self.entries[origin]
        if self.scanned >= self.names:
            return f"{seen:,}"
        return f"about {round(seen * self.names / self.scanned):,}"


def print_stats() -> None:
    """Print the state of Redis and its entries.

    Raises:
        Misuse: no Redis is configured.
        CommandError: Redis does not answer, or refuses the user.
    """
    settings = read_settings()
    infos, contents = _run(settings, _look)
    console = output()
    console.print(facts_grid(_facts(settings, infos)))
    console.print()
    table = plain_table("entries of", "namespace", "number")
    for origin in sorted(filter(None, contents.entries)):
        table.add_row(
            shown(origin.role), shown(origin.namespace or "none"), contents.estimate(origin)
        )
    if contents.entries[None]:
        table.add_row(Text("others", "dim"), Text("", "dim"), contents.estimate(None))
    if table.row_count:
        console.print(table)
    else:
        console.print("nothing is remembered yet")


def clear_entries(namespace: str | None, *, is_sure: bool) -> None:
    """Remove medreward's entries from Redis.

    Raises:
        Misuse: no Redis is configured, or the namespace is invalid.
        CommandError: Redis does not answer or refuses the user, or the user declined.
    """
    settings = read_settings()
    pattern = _pattern(namespace)
    what = "all of medreward's entries" if namespace is None else f"the entries of {namespace!r}"
    if settings.redis_url is not None and not is_sure:
        question = f"Remove {what} from {_where(settings)}?"
        if not typer.confirm(question, err=True):
            raise CommandError("nothing was removed")
    removed = _run(settings, lambda nodes: _remove(nodes, pattern, namespace))
    output().print(shown(f"{removed:,} entries removed", "green"))


def _run(settings: Settings, work: Callable[[Sequence[Redis]], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        async with primaries(settings, timeout_s=TIMEOUT_S) as nodes:
            return await work(nodes)

    try:
        return asyncio.run(run())
    except AuthenticationError as exc:
        raise CommandError(
            f"{_where(settings)} does not let this user in: mend the user and the password in "
            "MEDREWARD_REDIS_URL, or MEDREWARD_REDIS_PASSWORD_FILE"
        ) from exc
    except ResponseError as exc:
        # The message may be shown: Redis describes the command, and quotes names of entries at
        # most, never their values.
        raise CommandError(
            f"{_where(settings)} refuses: {exc}; check the user's rights and MEDREWARD_REDIS_MODE"
        ) from exc
    except (RedisError, OSError) as exc:
        raise CommandError(
            f"{_where(settings)} does not answer ({type(exc).__name__}): check that it runs, and "
            "MEDREWARD_REDIS_URL, MEDREWARD_REDIS_MODE and the TLS settings"
        ) from exc


async def _look(nodes: Sequence[Redis]) -> tuple[list[dict[str, Any]], Contents]:
    infos = [await node.info() for node in nodes]
    sizes = [await node.dbsize() for node in nodes]
    entries: Counter[Origin | None] = Counter()
    scanned = 0
    with counting("looking at names", min(sum(sizes), MAX_SCANNED) or 1) as add:
        for node, size in zip(nodes, sizes, strict=True):
            # Each node's part of the scan is proportional to its size, so that the sample, and
            # with it the estimate, represents the whole cluster.
            share = MAX_SCANNED if not size else round(MAX_SCANNED * size / sum(sizes))
            async for names in _scan(node, b"*"):
                entries.update(origin_of(name) for name in names)
                scanned += len(names)
                share -= len(names)
                add(len(names))
                if share <= 0:
                    break
    return infos, Contents(entries, scanned, sum(sizes))


async def _remove(nodes: Sequence[Redis], pattern: bytes, namespace: str | None) -> int:
    removed = 0
    sizes = [await node.dbsize() for node in nodes]
    with counting("removing", sum(sizes) or 1) as add:
        for node, size in zip(nodes, sizes, strict=True):
            passed = 0
            async for names in _scan(node, pattern):
                step = min(SCAN_STEP, size - passed)
                passed += step
                add(step)
                for group in _by_slot(names, namespace):
                    removed += await node.unlink(*group)
    return removed


async def _scan(node: Redis, pattern: bytes) -> AsyncIterator[list[bytes]]:
    cursor = 0
    while True:
        reply = await cast("Awaitable[Any]", node.scan(cursor, match=pattern, count=SCAN_STEP))
        cursor, names = reply
        yield names
        if cursor == 0:
            return


def _by_slot(names: Iterable[bytes], namespace: str | None) -> list[list[bytes]]:
    """Group names by hash tag: a cluster accepts names of only one slot in a command."""
    groups: dict[bytes, list[bytes]] = {}
    for name in names:
        # A foreign key may match the pattern by chance, so its origin is parsed before it is
        # removed.
        origin = origin_of(name)
        if origin is not None and namespace in (None, origin.namespace):
            groups.setdefault(name[TAG], []).append(name)
    return list(groups.values())


def _pattern(namespace: str | None) -> bytes:
    try:
        return entry_pattern(namespace)
    except ValueError as exc:
        raise Misuse(f"--namespace: {exc}") from exc


def _where(settings: Settings) -> str:
    url = settings.redis_url.get_secret_value() if settings.redis_url is not None else ""
    return f"Redis at {without_password(url)}"


def _facts(settings: Settings, infos: Sequence[dict[str, Any]]) -> dict[str, Text | str]:
    def total(name: str) -> int:
        return sum(int(info.get(name, 0)) for info in infos)

    servers = {
        f"{info.get('server_name', 'redis')} "
        f"{info.get('valkey_version') or info.get('redis_version')}"
        for info in infos
    }
    nodes = f", {len(infos)} primaries" if settings.redis_mode == "cluster" else ""
    asked = total("keyspace_hits") + total("keyspace_misses")
    return {
        "server": shown(", ".join(sorted(servers))),
        "mode": f"{settings.redis_mode}{nodes}",
        "memory": _memory(total("used_memory"), total("maxmemory")),
        "when full": _policy({str(i.get("maxmemory_policy")) for i in infos}, total("maxmemory")),
        "evicted": f"{total('evicted_keys'):,}, expired {total('expired_keys'):,}",
        "hit rate": f"{total('keyspace_hits') / asked:.1%} of {asked:,}" if asked else "not asked",
    }


def _memory(used: int, limit: int) -> Text:
    if limit:
        return Text(f"{used / MIB:,.1f} MiB of {limit / MIB:,.0f} MiB")
    return Text(f"{used / MIB:,.1f} MiB; no limit: set maxmemory", "yellow")


def _policy(policies: Iterable[str], limit: int) -> Text:
    told = ", ".join(sorted(policies))
    if "noeviction" in told and limit:
        return shown(
            f"{told}: it will refuse new entries; set maxmemory-policy allkeys-lru", "yellow"
        )
    return shown(told)
