"""Deployments that tests share, since each takes some seconds to start, and scenarios mend what they break."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.live import fleet as fleets
from tests.deploy.live.fleet import Fleet, Roles
from tests.redis_servers import RedisServer, any_program


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where logs and configurations of all of them lie."""
    return tmp_path_factory.mktemp("live")


@pytest.fixture(scope="package")
def shared_redis(folder: Path) -> Iterator[RedisServer]:
    """The Redis that the replicas share."""
    server = RedisServer(any_program(), folder)
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="package")
def fleet(folder: Path, shared_redis: RedisServer) -> Iterator[Fleet]:
    """Three replicas behind HAProxy, with a Redis."""
    with fleets.fleet(folder, redis_url=shared_redis.url) as made:
        yield made


@pytest.fixture(scope="module")
def roles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Roles]:
    """An `api` that knows the addresses of two `judge`."""
    with fleets.roles(tmp_path_factory.mktemp("roles"), knows_each=True) as made:
        yield made
