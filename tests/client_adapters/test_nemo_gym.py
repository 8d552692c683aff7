"""NeMo Gym and NeMo RL against the routes that are their adapter, by fakes of both.

Neither can be installed here (Gym needs Python 3.12). `rollout` is a fake of Gym's agent,
`collected` of its collector and `trained_on` of what NeMo RL makes of a collected row; all three
are built from their contracts.
"""

from typing import Any

import httpx
import pytest

from medreward.engines.judges.scripted import ScriptedJudge
from medreward.errors import BackendDown
from tests.conftest import Serve
from tests.contract.test_compat import RIGHT, WRONG, row
from tests.support.engines import TroubledJudge, raising

pytestmark = pytest.mark.anyio

OPEN = "<thinking>Basal.</thinking><answer>at the base, left</answer>"


async def rollout(client: httpx.AsyncClient, given: dict[str, Any]) -> dict[str, Any]:
    """Do as Gym's agent: begin a session, answer, and have the answer verified."""
    seeded = await client.post("/seed_session", json=given)
    seeded.raise_for_status()
    reply = await client.post("/verify", json=given)
    reply.raise_for_status()
    verified: dict[str, Any] = reply.json()
    return verified


def collected(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Do as Gym's collector: rows that count, and those that failed and may be verified again."""
    failed = [row for row in rows if row.get("_ng_failure_class")]
    return [row for row in rows if row not in failed], failed


def trained_on(row: dict[str, Any], names: list[str]) -> tuple[float, float]:
    """Do as NeMo RL: the reward, checked against its components, and what the loss is weighed by."""
    components = row["reward_components"]
    assert list(components) == names
    assert row["reward"] == pytest.approx(sum(components.values()), abs=1e-9)
    is_masked = (row.get("instance_config") or {}).get("mask_sample", False)
    return row["reward"], 0.0 if is_masked else 1.0


async def test_a_group_is_trained_on(serve: Serve) -> None:
    """Rewards with components that add up, under the same names with and without a modality."""
    async with serve() as client:
        rows = [await rollout(client, row(said)) for said in (RIGHT, WRONG)]
        rows.append(await rollout(client, row(RIGHT, modality=None)))

    names = list(rows[0]["reward_components"])
    assert names == ["accuracy_llm", "accuracy_embed", "modality", "format"]
    rewards, weights = zip(*(trained_on(row, names) for row in rows), strict=True)
    assert list(rewards) == pytest.approx([1.0, 0.145, 1.0])
    assert weights == (1.0, 1.0, 1.0)


async def test_a_failed_judge_is_masked_set_aside_and_mended(serve: Serve) -> None:
    """The loss weighs it 0, the evaluation leaves it out, and verifying it again gives its reward."""
    async with serve(judge=TroubledJudge(raising(BackendDown("refused")))) as client:
        rows = [await rollout(client, row(OPEN)), await rollout(client, row(""))]
    counted, failed = collected(rows)

    async with serve(judge=ScriptedJudge(default="YES")) as client:
        mode = (await client.get("/reverify_mode")).json()
        mended = [await rollout(client, one) for one in failed]
        metrics = await client.post("/aggregate_metrics", json={"verify_responses": counted})

    names = list(rows[0]["reward_components"])
    assert [trained_on(row, names)[1] for row in rows] == [0.0, 1.0]
    assert (len(counted), len(failed), mode) == (1, 1, "stateless")
    assert metrics.json()["key_metrics"]["mean/reward"] == counted[0]["reward"]
    assert collected(mended) == (mended, [])
    assert trained_on(mended[0], names) == (mended[0]["reward"], 1.0)
    assert mended[0]["reward"] > 0.5
