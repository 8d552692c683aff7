"""Replicas behind a load balancer come and go, and callers see nothing of it."""

from pathlib import Path

import httpx
import pytest

from medreward_client import AsyncRewardClient, Sample, TryAgain
from tests.deploy.live import fleet as fleets
from tests.deploy.live import scenarios
from tests.deploy.live.balancers import by_connections, haproxy, nginx
from tests.deploy.live.fleet import Fleet
from tests.deploy.live.load import Load, Tally, sample
from tests.deploy.live.processes import Replica

pytestmark = [pytest.mark.anyio, pytest.mark.needs("haproxy"), pytest.mark.xdist_group("alone")]

PROBE_S = 0.5
DRAIN_DELAY_S = 1.5


def nothing_failed(tally: Tally) -> bool:
    """Whether each request was answered, and each sample scored rightly."""
    assert tally.failed == []
    assert not tally.unscored
    assert not tally.wrong
    return tally.scored > 0


def nobody_noticed(load: Load) -> bool:
    """The same of both kinds of callers."""
    return nothing_failed(load.plain) and nothing_failed(load.client)


@pytest.mark.live
async def test_a_rolling_restart_fails_no_request(fleet: Fleet) -> None:
    """Each replica is ended by SIGTERM under load, and comes back at its address."""
    outcome = await scenarios.rolling_restart(fleet)

    assert nobody_noticed(outcome.load)


async def test_a_drained_replica_is_out_before_it_refuses(fleet: Fleet) -> None:
    """It gets nothing while it is drained, comes back when that is taken back, and nothing fails."""
    outcome = await scenarios.drain_and_take_back(fleet)

    assert nobody_noticed(outcome.load)
    assert outcome.notes["statuses"] == "202 200 200"
    assert outcome.notes["requests while drained"] == "0"
    assert outcome.times_s["drain until out of the balancer"] < 2 * PROBE_S + DRAIN_DELAY_S


async def test_a_killed_replica_takes_along_what_it_worked_on_alone(fleet: Fleet) -> None:
    """What was sent to it before is lost to a caller that asks once, and to the client nothing."""
    outcome = await scenarios.kill_one(fleet)

    assert nothing_failed(outcome.load.client)
    killed_s = outcome.trouble_at_s
    gone_s = killed_s + outcome.times_s["killed until it was gone"]
    plain = outcome.load.plain
    in_flight = [r for r in plain.requests if r.due_s < gone_s and r.due_s + r.seconds > killed_s]
    assert all(request in in_flight for request in plain.failed)
    assert len(plain.failed) < len(in_flight)
    assert not plain.unscored
    assert not plain.wrong


@pytest.mark.live
async def test_a_degraded_fleet_goes_on_without_its_judge(tmp_path: Path) -> None:
    """No request fails, nor gets a 401 while keys are rotated; what needs no judge is scored."""
    with fleets.fleet_and_judge(tmp_path, ready_when_degraded=True) as (fleet, judge, keys):
        outcome = await scenarios.judge_away(fleet, judge, keys)

    for tally in (outcome.load.plain, outcome.load.client):
        assert tally.failed == []
        assert not tally.wrong
        assert set(tally.unscored) <= {("judge_unreachable", True), ("judge_timeout", True)}
        assert tally.unscored_needlessly == 0
    assert outcome.notes == {"states": "degraded", "replicas never restarted": "3"}


@pytest.mark.live
async def test_a_fleet_without_its_judge_is_away_and_comes_back(tmp_path: Path) -> None:
    """Plain callers get 503 from the balancer, never a 401; the client waits, and gets all."""
    with fleets.fleet_and_judge(tmp_path) as (fleet, judge, keys):
        outcome = await scenarios.judge_away(fleet, judge, keys)

    assert {request.failure for request in outcome.load.plain.failed} == {"503"}
    assert outcome.load.client.failed == []
    for tally in (outcome.load.plain, outcome.load.client):
        assert not tally.wrong
        assert set(tally.unscored) <= {("judge_unreachable", True), ("judge_timeout", True)}
        assert tally.unscored_needlessly == 0
    assert outcome.notes["replicas never restarted"] == "3"


async def test_without_a_ready_replica_the_balancer_says_when_to_come_back(tmp_path: Path) -> None:
    """As a replica would: 503 with Retry-After and a body that clients can read."""
    with (
        Replica("one") as one,
        Replica("two") as two,
        haproxy(tmp_path, [one, two], quick=True, waits_for="DOWN") as balancer,
    ):
        async with httpx.AsyncClient(base_url=balancer.url) as http:
            refused = await http.post("/reward", json={"samples": [sample(1)]})
        async with AsyncRewardClient(balancer.url, deadline_s=1) as client:
            with pytest.raises(TryAgain) as caught:
                await client.reward([Sample("<answer>left</answer>", "left")])

    assert refused.status_code == 503
    assert refused.headers["Retry-After"] == "2"
    assert refused.json()["error"]["kind"] == "not_ready"
    assert caught.value.retry_after_s == 2


@pytest.mark.live
@pytest.mark.needs("nginx")
async def test_a_rolling_restart_behind_nginx_fails_no_request(
    fleet: Fleet, tmp_path: Path
) -> None:
    """It learns of a draining replica by a refusal, and sends that request to another.

    It leaves the replica alone for 5 s, so the next one is ended only when the first is used again:
    with three replicas out it would have none.
    """
    with nginx(tmp_path, fleet.replicas) as url:
        outcome = await scenarios.rolling_restart(fleet, url, until_used=True)

    assert nobody_noticed(outcome.load)


@pytest.mark.live
@pytest.mark.needs("nginx")
async def test_behind_nginx_a_killed_replica_loses_nothing(fleet: Fleet, tmp_path: Path) -> None:
    """It sends what the replica worked on to another."""
    with nginx(tmp_path, fleet.replicas) as url:
        outcome = await scenarios.kill_one(fleet, url)

    assert nobody_noticed(outcome.load)


@pytest.mark.live
async def test_a_rolling_restart_behind_balanced_connections_fails_no_request(
    fleet: Fleet, tmp_path: Path
) -> None:
    """Where only new connections go to what is ready, callers are asked to leave those they have."""
    with by_connections(tmp_path, fleet.replicas) as url:
        outcome = await scenarios.rolling_restart(fleet, url)

    assert nobody_noticed(outcome.load)
