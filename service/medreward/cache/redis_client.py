"""The client of Redis: one server, a master that sentinels name, or a cluster.

It never retries by itself: the link sets the timeout of each command, and its breaker decides when
to retry.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeAlias, cast

from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import ConnectionPool, SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from medreward.cache.entries import TAG
from medreward.errors import SetupError
from medreward.settings import Settings

Argument: TypeAlias = bytes | str | int

MAX_CONNECTIONS = 16
"""Most connections of one process, to one server or to each node of a cluster."""
CONNECT_TIMEOUT_S = 1.0
SENTINEL_TIMEOUT_S = 0.5


class NonsensicalReply(Exception):
    """Redis sent a reply that does not fit the command."""


class OneServer:
    """A single Redis, or the master that sentinels name: one command for each batch."""

    def __init__(self, redis: Redis, sentinel: Sentinel | None = None) -> None:
        self._execute = cast("Callable[..., Awaitable[Any]]", redis.execute_command)
        self._redis = redis
        self._sentinel = sentinel

    async def read(self, names: Sequence[bytes]) -> list[object]:
        """Return the value of each name, in order, by one `MGET`; None for a name without a value."""
        return _checked(await self._execute("MGET", *names), len(names))

    async def run(
        self, script: str, names: Sequence[bytes], shared: Sequence[bytes], each: Sequence[bytes]
    ) -> list[object]:
        """Run a script that replies once for each name, by one `EVAL`.

        *each* has one argument for each name, and *shared* those of all.
        """
        # The script is sent each time: it is shorter than ten keys, and a server that was restarted,
        # flushed or promoted needs no second round trip to load it.
        replies = await self._execute("EVAL", script, len(names), *names, *shared, *each)
        return _checked(replies, len(names))

    async def aclose(self) -> None:
        """Close the connections, also those to the sentinels."""
        await self._redis.aclose()
        if self._sentinel is not None:
            await self._sentinel.aclose()


class Cluster:
    """A cluster: one command for each bucket in the batch, one round trip for each node."""

    def __init__(self, redis: RedisCluster) -> None:
        self._redis = redis

    async def read(self, names: Sequence[bytes]) -> list[object]:
        """Return the value of each name, by one `MGET` for each bucket."""
        return await self._spread(
            names, lambda places: ("MGET", *(names[place] for place in places))
        )

    async def run(
        self, script: str, names: Sequence[bytes], shared: Sequence[bytes], each: Sequence[bytes]
    ) -> list[object]:
        """Run a script, by one `EVAL` for each bucket."""

        def command(places: list[int]) -> tuple[Argument, ...]:
            own = [names[place] for place in places]
            theirs = [each[place] for place in places] if each else []
            return ("EVAL", script, len(own), *own, *shared, *theirs)

        return await self._spread(names, command)

    async def aclose(self) -> None:
        """Close the connections to all nodes."""
        await self._redis.aclose()

    async def _spread(
        self, names: Sequence[bytes], command: Callable[[list[int]], tuple[Argument, ...]]
    ) -> list[object]:
        places_by_bucket: dict[bytes, list[int]] = {}
        for place, name in enumerate(names):
            places_by_bucket.setdefault(name[TAG], []).append(place)
        pipeline = self._redis.pipeline()
        for places in places_by_bucket.values():
            pipeline.execute_command(*command(places))
        replies: list[object] = [None] * len(names)
        for places, answer in zip(places_by_bucket.values(), await pipeline.execute(), strict=True):
            for place, reply in zip(places, _checked(answer, len(places)), strict=True):
                replies[place] = reply
        return replies


Store = OneServer | Cluster
"""Redis as the cache uses it. Errors of the library pass through."""


def connect(settings: Settings) -> Store:
    """Build the store; it connects at its first command.

    Raises:
        SetupError: a file that the settings name cannot be read.
    """
    client, sentinel = _make_client(settings)
    return Cluster(client) if isinstance(client, RedisCluster) else OneServer(client, sentinel)


def _make_client(
    settings: Settings, *, timeout_s: float | None = None
) -> tuple["Redis | RedisCluster", Sentinel | None]:
    """Build a client, and with sentinels their client too; *timeout_s* bounds each of its waits."""
    kwargs = _with_timeout(settings, timeout_s)
    if settings.redis_mode == "sentinel":
        return _master(settings, kwargs)
    if settings.redis_mode == "cluster":
        return _cluster(settings, kwargs), None
    return _one_server(kwargs), None


@asynccontextmanager
async def primaries(settings: Settings, *, timeout_s: float) -> AsyncIterator[Sequence[Redis]]:
    """Yield a client of each server that holds a part of the cache.

    Raises:
        SetupError: there is no URL, or a file that the settings name cannot be read.
        RedisError: the cluster does not list its nodes.
    """
    async with AsyncExitStack() as stack:
        client, sentinel = _make_client(settings, timeout_s=timeout_s)
        stack.push_async_callback(client.aclose)
        if sentinel is not None:
            stack.push_async_callback(sentinel.aclose)
        if isinstance(client, Redis):
            yield [client]
            return
        await client.initialize()
        kwargs = _with_timeout(settings, timeout_s)
        nodes = [
            _one_server(kwargs | {"host": node.host, "port": int(node.port)})
            for node in client.get_primaries()
        ]
        for node in nodes:
            stack.push_async_callback(node.aclose)
        yield nodes


def connect_timeout_s(timeout_s: float) -> float:
    """Return the seconds that a new connection may take, if a command may take *timeout_s*."""
    # A user who lets commands take longer has a slow network or a busy machine: a connection that
    # had to be quicker than a command would make Redis look lost.
    return max(CONNECT_TIMEOUT_S, timeout_s)


def _with_timeout(settings: Settings, timeout_s: float | None) -> dict[str, Any]:
    return connection_kwargs(settings) | {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s or connect_timeout_s(settings.redis_timeout_s),
    }


def connection_kwargs(settings: Settings) -> dict[str, Any]:
    """Return the library's arguments for a connection, without its timeouts.

    Raises:
        SetupError: there is no URL, or a file that the settings name cannot be read.
    """
    if settings.redis_url is None:
        raise SetupError("no Redis is configured: set MEDREWARD_REDIS_URL")
    kwargs: dict[str, Any] = dict(parse_url(settings.redis_url.get_secret_value()))
    if settings.redis_password_file is not None:
        try:
            kwargs["password"] = settings.redis_password_file.read_text("utf-8-sig").strip()
        except (OSError, UnicodeDecodeError) as exc:
            raise SetupError(
                f"MEDREWARD_REDIS_PASSWORD_FILE cannot be read ({type(exc).__name__})"
            ) from exc
    if kwargs.get("connection_class") is SSLConnection:
        kwargs |= _tls(settings)
    return kwargs | {
        # Retries by the library would multiply the time that a caller waits.
        "retry": Retry(NoBackoff(), 0),
        # Protocol 2 needs no HELLO, which some proxies and old servers do not support.
        "protocol": 2,
        "driver_info": None,
    }


def _master(settings: Settings, kwargs: dict[str, Any]) -> tuple[Redis, Sentinel]:
    hosts = _hosts(settings, kwargs)
    is_tls = kwargs.get("connection_class") is SSLConnection
    own = {key: kwargs[key] for key in kwargs.keys() - {"host", "port", "connection_class"}}
    # A dead sentinel has to leave time, within the link's timeout, to ask the next one.
    sentinel_kwargs = {key: own[key] for key in own if key.startswith("ssl_")} | {
        "socket_timeout": SENTINEL_TIMEOUT_S,
        "socket_connect_timeout": SENTINEL_TIMEOUT_S,
        "retry": own["retry"],
        "protocol": own["protocol"],
        "driver_info": None,
        "ssl": is_tls,
    }
    if settings.redis_sentinel_password is not None:
        sentinel_kwargs["password"] = settings.redis_sentinel_password.get_secret_value()
    sentinel = Sentinel(hosts, sentinel_kwargs=sentinel_kwargs)  # type: ignore[no-untyped-call]
    master = sentinel.master_for(
        settings.redis_sentinel_master,
        max_connections=MAX_CONNECTIONS,
        ssl=is_tls,
        **own,
    )
    return cast("Redis", master), sentinel


def _cluster(settings: Settings, kwargs: dict[str, Any]) -> RedisCluster:
    nodes = [ClusterNode(host, port) for host, port in _hosts(settings, kwargs)]
    own = {key: kwargs[key] for key in kwargs.keys() - {"host", "port", "db", "connection_class"}}
    return RedisCluster(
        startup_nodes=nodes,
        ssl=kwargs.get("connection_class") is SSLConnection,
        require_full_coverage=False,
        max_connections=MAX_CONNECTIONS,
        **own,
    )


def _one_server(kwargs: dict[str, Any]) -> Redis:
    return Redis.from_pool(ConnectionPool(max_connections=MAX_CONNECTIONS, **kwargs))


def _hosts(settings: Settings, kwargs: dict[str, Any]) -> list[tuple[str, int]]:
    default_port = 26379 if settings.redis_mode == "sentinel" else 6379
    first = (kwargs.get("host", "localhost"), kwargs.get("port", default_port))
    further = (host.rpartition(":") for host in settings.redis_hosts)
    return [first, *((host.strip("[]"), int(port)) for host, _, port in further)]


def _tls(settings: Settings) -> dict[str, Any]:
    kwargs: dict[str, Any] = {
        "ssl_cert_reqs": "none" if settings.redis_tls_check == "none" else "required",
        "ssl_check_hostname": settings.redis_tls_check == "full",
    }
    files = (
        ("ssl_ca_certs", "CA", settings.redis_ca_file),
        ("ssl_certfile", "CERT", settings.redis_cert_file),
        ("ssl_keyfile", "KEY", settings.redis_key_file),
    )
    for name, variable, file in files:
        if file is None:
            continue
        if not file.is_file():
            raise SetupError(f"MEDREWARD_REDIS_{variable}_FILE: there is no such file")
        kwargs[name] = str(file)
    return kwargs


def _checked(replies: Iterable[object], count: int) -> list[object]:
    if not isinstance(replies, list) or len(replies) != count:
        raise NonsensicalReply(f"not {count} replies to {count} names")
    return replies
