"""The processes that hold the judge come and go under an `api` that asks them."""

from pathlib import Path

import pytest

from tests.deploy.live import fleet as fleets
from tests.deploy.live import scenarios
from tests.deploy.live.fleet import Roles
from tests.deploy.live.test_replicas_live import nobody_noticed

pytestmark = [pytest.mark.anyio, pytest.mark.live]


async def test_a_rolling_restart_of_the_judges_leaves_no_sample_unscored(roles: Roles) -> None:
    """While one drains and loads, the other answers."""
    outcome = await scenarios.rolling_restart_of_judges(roles)

    assert nobody_noticed(outcome.load)


@pytest.mark.needs("haproxy")
async def test_judges_behind_one_address_are_restarted_unnoticed(tmp_path: Path) -> None:
    """The `api` keeps its connections, and moves when a judge that drains asks it to."""
    with fleets.roles(tmp_path, knows_each=False) as roles:
        outcome = await scenarios.rolling_restart_of_judges(roles)

    assert nobody_noticed(outcome.load)


async def test_a_killed_judge_leaves_no_sample_unscored(roles: Roles) -> None:
    """What it was asked is asked of the other."""
    outcome = await scenarios.kill_judges(roles, 1)

    assert nobody_noticed(outcome.load)


async def test_without_any_judge_samples_are_unscored_for_now_and_never_zero(roles: Roles) -> None:
    """Every request is answered; each sample has its right reward, or a reason to send it again."""
    outcome = await scenarios.kill_judges(roles, 2)

    for tally in (outcome.load.plain, outcome.load.client):
        assert tally.failed == []
        assert not tally.wrong
        assert set(tally.unscored) <= {("judge_unreachable", True), ("judge_timeout", True)}
        assert tally.scored + tally.unscored.total() == 4 * len(tally.requests)
