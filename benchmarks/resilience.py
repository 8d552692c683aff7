"""Replicas behind HAProxy, their Redis and their judges in trouble, under load: what callers see of it.

usage: python benchmarks/resilience.py [--real] [--quick]

The deployments and the troubles are those of tests/deploy/live; probes and drain are as shipped in
deploy/haproxy/haproxy.cfg. With --real, instead, three replicas with embedded-small's models
are restarted in turn, and each reward is compared with that of a fresh process.
"""

import asyncio
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from rich.table import Column, Table

from figures import options, show

# The deployments are the tests' own, so that what is measured is what is tested.
sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.deploy.live import fleet as fleets
from tests.deploy.live import scenarios
from tests.deploy.live.load import Tally, compare_with, constant_load
from tests.deploy.live.processes import Replica, running, wait_until_ready
from tests.deploy.live.scenarios import Outcome
from tests.redis_servers import RedisServer, any_program, watched

LASTS_S = 10.0
"""For how long Redis is in trouble."""

AWAY_S, LONG_AWAY_S = 60.0, 300.0
"""For how long the judge is away, if replicas do not stay ready, and if they do."""

Outcomes = dict[str, Outcome]


def of_replicas(folder: Path, *, quick: bool) -> Outcomes:
    """Replicas come and go, and their Redis is in trouble."""
    with (
        one_redis(folder) as redis,
        fleets.fleet(folder, quick=quick, redis_url=redis.url) as fleet,
    ):
        outcomes = {"drain by request": asyncio.run(scenarios.drain_and_take_back(fleet))}
        if quick:
            return outcomes
        outcomes["rolling restart"] = asyncio.run(scenarios.rolling_restart(fleet))
        outcomes["a replica killed"] = asyncio.run(scenarios.kill_one(fleet))
        for trouble in scenarios.REDIS_TROUBLES:
            happens = scenarios.redis_in_trouble(fleet, redis, trouble, lasts_s=LASTS_S)
            outcomes[f"Redis {trouble.name}"] = asyncio.run(happens)
    return outcomes


def of_failover(folder: Path) -> Outcomes:
    """The master of a Redis with a sentinel is killed."""
    with (
        watched(folder) as redis,
        fleets.fleet(
            folder,
            quick=False,
            redis_url=redis.sentinel.url,
            redis_mode="sentinel",
            redis_sentinel_master="cache",
        ) as fleet,
    ):
        return {"Redis failed over": asyncio.run(scenarios.redis_failover(fleet, redis))}


def of_judges(folder: Path) -> Outcomes:
    """The processes that hold the judge come and go."""
    with fleets.roles(folder, knows_each=True) as roles:
        return {
            "judges restarted in turn": asyncio.run(scenarios.rolling_restart_of_judges(roles)),
            "one of two judges killed": asyncio.run(scenarios.kill_judges(roles, 1)),
            "both judges killed": asyncio.run(scenarios.kill_judges(roles, 2)),
        }


def of_judge_away(folder: Path) -> Outcomes:
    """The judge's server is away, and keys are rotated; replicas stay ready, or do not."""
    outcomes = {}
    for away_s, stays in ((LONG_AWAY_S, True), (AWAY_S, False)):
        with fleets.fleet_and_judge(folder, quick=False, ready_when_degraded=stays) as made:
            happens = scenarios.judge_away(*made, lasts_s=away_s, deadline_s=2 * away_s)
            ready = "ready" if stays else "not ready"
            outcomes[f"judge away, replicas {ready}"] = asyncio.run(happens)
    return outcomes


def of_real_models(folder: Path) -> Outcomes:
    """Replicas with the models of the profile `embedded-small` are restarted in turn."""
    real: dict[str, object] = {"profile": "embedded-small", "torch_threads": 1}
    light_load = partial(constant_load, requests_a_second=2, callers=1, is_known=False)
    with (
        one_redis(folder) as redis,
        fleets.fleet_of(folder, count=3, quick=False, redis_url=redis.url, **real) as fleet,
    ):
        outcome = asyncio.run(scenarios.rolling_restart(fleet, loading=light_load))
    fresh = Replica("fresh", **real)
    with running(fresh):
        wait_until_ready([fresh])
        asyncio.run(compare_with(fresh.url, outcome.load))
    return {"rolling restart, real models": outcome}


@contextmanager
def one_redis(folder: Path) -> Iterator[RedisServer]:
    """A Redis with nothing in it."""
    server = RedisServer(any_program(), folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def seen_by_callers(outcomes: Outcomes) -> Table:
    """What became of the requests."""
    table = Table(
        Column("trouble", no_wrap=True),
        *("callers", "asked", "failed", "samples", "unscored", "wrong", "median", "p99", "max"),
        title="What callers see",
        caption="median ms before the trouble, p99 and max since; aim: no failed, unscored, wrong",
    )
    for name, outcome in outcomes.items():
        for callers, tally in (("plain", outcome.load.plain), ("client", outcome.load.client)):
            table.add_row(name, callers, *_row(tally, outcome.trouble_at_s))
            name = ""  # noqa: PLW2901 - it stands once for both
    return table


def _row(tally: Tally, trouble_at_s: float) -> list[str]:
    before = [r.seconds for r in tally.requests if r.due_s + r.seconds < trouble_at_s]
    since = tally.seconds(trouble_at_s)
    unscored, wrong = tally.unscored.total(), tally.wrong.total()
    counts = (
        len(tally.requests),
        len(tally.failed),
        tally.scored + unscored + wrong,
        unscored,
        wrong,
    )
    times = statistics.median(before), tally.slowest_of_99_percent_s(trouble_at_s), max(since)
    return [*(f"{count:,}" for count in counts), *(f"{1000 * s:,.0f}" for s in times)]


def how_long(outcomes: Outcomes) -> Table:
    """When what happened."""
    table = Table("trouble", "from … until …", "seconds", title="How long it took")
    for name, outcome in outcomes.items():
        for what, seconds in outcome.times_s.items():
            table.add_row(name, what, f"{seconds:.1f}")
            name = ""  # noqa: PLW2901 - it stands once for all
    return table


def main() -> None:
    """Let it all happen, and print."""
    parser = options(__doc__)
    parser.add_argument("--real", action="store_true", help="replicas with real models")
    arguments = parser.parse_args()
    if shutil.which("haproxy") is None:
        raise SystemExit("no haproxy on the PATH")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.real:
            outcomes = of_real_models(folder)
        elif arguments.quick:
            outcomes = of_replicas(folder, quick=True)
        else:
            outcomes = of_replicas(folder, quick=False) | of_failover(folder)
            outcomes |= of_judges(folder) | of_judge_away(folder)
    show(seen_by_callers(outcomes), how_long(outcomes))


if __name__ == "__main__":
    main()
