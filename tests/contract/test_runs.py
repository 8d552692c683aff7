"""`GET /runs/{id}`: what callers learn of their own runs, and of nobody else's."""

import pytest

from medreward.engines.judge import Judgement
from medreward.engines.judges.scripted import ScriptedJudge
from tests.conftest import Serve

pytestmark = pytest.mark.anyio

YES = Judgement(("YES", "NO"), (0.9, 0.1), coverage=1.0)
JUDGE = ScriptedJudge({("basal left", "left lower lobe"): YES})


def step(number: int | None, *answers: str, run: str = "grpo/lr 1e-6") -> dict[str, object]:
    """A request with one group."""
    samples = [
        {"response": f"<answer>{answer}</answer>", "reference": "left lower lobe", "group": "p1"}
        for answer in answers
    ]
    return {"samples": samples, "run": {"id": run, "step": number}}


async def test_a_run_is_reported_by_steps_and_in_total(serve: Serve) -> None:
    """With its groups, though their samples came in several requests."""
    async with serve(judge=JUDGE) as client:
        for body in (step(0, "basal left"), step(0, "apex"), step(1, "apex", "apex")):
            assert (await client.post("/reward", json=body)).status_code == 200
        report = (await client.get("/runs/grpo/lr 1e-6")).json()

    assert report["id"] == "grpo/lr 1e-6"
    assert [(s["step"], s["samples"], s["groups"]) for s in report["steps"]] == [
        (0, 2, 1),
        (1, 2, 1),
    ]
    assert [s["zero_variance_groups"] for s in report["steps"]] == [0, 1]
    assert report["total"]["components"]["accuracy_llm"]["mean"] == 0.25
    assert report["total"]["answer_characters"]["mean"] == pytest.approx((10 + 3 * 4) / 4)
    assert report["alerts"] == []


async def test_a_request_of_thousands_is_watched_as_a_small_one(serve: Serve) -> None:
    """Also where its work is done beside the event loop."""
    async with serve(judge=JUDGE) as client:
        body = step(3, *["basal left", "apex"] * 100)
        assert (await client.post("/reward", json=body)).status_code == 200
        report = (await client.get("/runs/grpo/lr 1e-6")).json()

    assert report["total"]["samples"] == 200
    assert report["total"]["distinct_answers"] == 0.01


async def test_a_report_holds_no_text_of_samples(serve: Serve) -> None:
    """Answers are told by hashes of this process."""
    async with serve(judge=JUDGE) as client:
        await client.post("/reward", json=step(0, "basal left"))
        report = (await client.get("/runs/grpo/lr 1e-6")).text
        metrics = (await client.get("/metrics")).text

    assert not [word for word in ("basal", "lobe", "p1") if word in report.replace("lr 1e-6", "")]
    assert "grpo" not in metrics
    assert "medreward_runs_watched 1.0" in metrics


async def test_what_tells_no_run_is_not_watched(serve: Serve) -> None:
    """A run that nobody has told of is not found, and the refusal does not repeat its name."""
    async with serve(judge=JUDGE) as client:
        await client.post("/reward", json={"samples": step(0, "apex")["samples"]})
        missing = await client.get("/runs/nowhere")

    assert missing.status_code == 404
    assert missing.json()["error"]["kind"] == "not_found"
    assert "nowhere" not in missing.json()["error"]["message"]


async def test_runs_of_another_key_are_neither_seen_nor_mixed(serve: Serve) -> None:
    """Though they have the same name."""
    mine, theirs = ({"Authorization": f"Bearer {key}"} for key in ("mine", "theirs"))
    async with serve(judge=JUDGE, api_keys="mine,theirs") as client:
        await client.post("/reward", json=step(0, "apex"), headers=mine)
        hidden = await client.get("/runs/grpo/lr 1e-6", headers=theirs)
        await client.post("/reward", json=step(0, "basal left"), headers=theirs)
        seen = (await client.get("/runs/grpo/lr 1e-6", headers=theirs)).json()
        refused = await client.get("/runs/grpo/lr 1e-6")

    assert hidden.status_code == 404
    assert seen["total"]["samples"] == 1
    assert refused.status_code == 401
