"""Redis may freeze, die, be full or fail over: callers get every reward, the right one, and in time."""

from pathlib import Path

import pytest

from tests.deploy.live import fleet as fleets
from tests.deploy.live import scenarios
from tests.deploy.live.fleet import Fleet
from tests.deploy.live.scenarios import REDIS_TROUBLES, Outcome, RedisTrouble
from tests.deploy.live.test_replicas_live import nobody_noticed
from tests.redis_servers import RedisServer, watched

pytestmark = [pytest.mark.anyio, pytest.mark.needs("haproxy"), pytest.mark.xdist_group("alone")]

LONGEST_S = 5.0
"""For a request that takes a quarter of a second; what waited for Redis without end took longer."""
LONGEST_RECOVERY_S = 30.0


def nobody_waited(outcome: Outcome) -> bool:
    """Whether 99 of 100 requests since the trouble began were quick."""
    both = (outcome.load.plain, outcome.load.client)
    return all(tally.slowest_of_99_percent_s(outcome.trouble_at_s) < LONGEST_S for tally in both)


@pytest.mark.parametrize("trouble", REDIS_TROUBLES, ids=lambda trouble: trouble.name)
async def test_redis_in_trouble_costs_no_reward(
    fleet: Fleet, shared_redis: RedisServer, trouble: RedisTrouble
) -> None:
    """Replicas leave it alone, stay ready, and use it again when the trouble is over."""
    outcome = await scenarios.redis_in_trouble(fleet, shared_redis, trouble)

    assert nobody_noticed(outcome.load)
    assert nobody_waited(outcome)
    assert outcome.notes == {"ready replicas": "3", "remembers again": "yes"}
    assert outcome.times_s["over until all replicas use it"] < LONGEST_RECOVERY_S


@pytest.mark.live
async def test_a_failover_costs_no_reward(tmp_path: Path) -> None:
    """The master dies, a sentinel promotes its replica, and all go on with that."""
    with watched(tmp_path) as redis:
        url = redis.sentinel.url
        with fleets.fleet(
            tmp_path, count=2, redis_url=url, redis_mode="sentinel", redis_sentinel_master="cache"
        ) as fleet:
            outcome = await scenarios.redis_failover(fleet, redis)

    assert nobody_noticed(outcome.load)
    assert nobody_waited(outcome)
    assert outcome.notes == {"remembers again": "yes"}
