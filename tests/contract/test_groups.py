"""Groups over HTTP: samples of one request that declare the size of their group."""

import math
from typing import Any

import pytest

from medreward.engines.judges.scripted import ScriptedJudge
from medreward.errors import Problem, ProblemKind
from medreward.http import schemas
from tests.conftest import Serve

LOST = Problem(ProblemKind.JUDGE_UNREACHABLE, "judge: nobody home")
REFERENCE = "left lower lobe"
JUDGE = ScriptedJudge(
    {
        ("basal left", REFERENCE): "YES",
        ("apex", REFERENCE): "NO",
        ("lost", REFERENCE): LOST,
    }
)


def samples(
    answer: str, group: str | None, size: int | None, number: int = 1
) -> list[dict[str, Any]]:
    """Equal samples of a group; without a size they declare none."""
    declared = {} if size is None else {"group_size": size}
    sample = {"response": f"<answer>{answer}</answer>", "reference": REFERENCE, "group": group}
    return [sample | declared] * number


async def replied(serve: Serve, *sent: dict[str, Any], recipe: str = "medix-r1") -> dict[str, Any]:
    """Score samples."""
    async with serve(judge=JUDGE, recipe=recipe) as client:
        reply = await client.post("/reward", json={"samples": sent})
        body: dict[str, Any] = reply.json()
    assert reply.status_code == 200, body
    schemas.RewardReply.model_validate(body)
    return body


def relative(body: dict[str, Any]) -> list[float | None]:
    """The relative reward of each sample."""
    return [result["relative"] for result in body["results"]]


@pytest.mark.anyio
async def test_without_a_size_nothing_is_said_of_groups(serve: Serve) -> None:
    """The reply has none of the new fields, and the rewards are those with a size."""
    plain = await replied(serve, *samples("basal left", "g", None), *samples("apex", "g", None))
    sized = await replied(serve, *samples("basal left", "g", 2), *samples("apex", "g", 2))

    assert "groups" not in plain
    assert all("relative" not in result for result in plain["results"])
    del sized["groups"]
    for result in sized["results"]:
        del result["relative"]
    assert sized["results"] == plain["results"]
    assert sized.keys() == plain.keys()


@pytest.mark.anyio
async def test_a_whole_group_is_compared(serve: Serve) -> None:
    """Mean and deviation of its rewards, and the distance of each from the mean."""
    body = await replied(
        serve,
        *samples("basal left", "p1", 4, 3),
        *samples("apex", "p1", 4),
        *samples("basal left", "p2", 2, 2),
    )

    right, wrong = body["results"][0]["reward"], body["results"][3]["reward"]
    first, second = body["groups"]
    assert first == {
        "id": "p1",
        "size": 4,
        "seen": 4,
        "scored": 4,
        "whole": True,
        "reason": None,
        "all_right": False,
        "mean": pytest.approx((3 * right + wrong) / 4),
        "sd": pytest.approx((right - wrong) / 2),
    }
    assert (second["id"], second["all_right"], second["sd"]) == ("p2", True, 0.0)
    assert second["mean"] == right
    assert relative(body) == pytest.approx([0.5, 0.5, 0.5, -1.5, 0.0, 0.0])


@pytest.mark.anyio
async def test_equal_samples_of_two_groups_differ_by_their_group(serve: Serve) -> None:
    """The same answer is over the mean of one group and under none of the other's."""
    body = await replied(
        serve,
        *samples("basal left", "p1", 2),
        *samples("basal left", "P1", 2, 2),
        *samples("apex", "p1", 2),
        *samples("basal left", None, None),
        *samples("basal left", "p3", None),
    )

    assert [group["id"] for group in body["groups"]] == ["p1", "P1"]
    root = math.sqrt(0.5)
    assert relative(body)[:4] == pytest.approx([root, 0.0, 0.0, -root])
    assert relative(body)[4:] == [None, None]


@pytest.mark.anyio
async def test_an_unscored_sample_is_left_out_of_its_group(serve: Serve) -> None:
    """It counts as seen; mean and deviation are those of the others."""
    body = await replied(
        serve,
        *samples("basal left", "p1", 3),
        *samples("lost", "p1", 3),
        *samples("basal left", "p1", 3),
        *samples("lost", "p2", 1),
    )

    first, second = body["groups"]
    assert (first["whole"], first["seen"], first["scored"], first["all_right"]) == (
        True,
        3,
        2,
        True,
    )
    assert (first["mean"], first["sd"]) == (body["results"][0]["reward"], 0.0)
    assert (second["whole"], second["scored"]) == (True, 0)
    assert [second[name] for name in ("all_right", "mean", "sd")] == [None, None, None]
    assert relative(body) == [0.0, None, 0.0, None]


@pytest.mark.anyio
async def test_a_group_that_is_not_whole_says_why(serve: Serve) -> None:
    """Too few, too many, or of several sizes; it has no statistics."""
    body = await replied(
        serve,
        *samples("apex", "few", 3, 2),
        *samples("apex", "many", 2, 4),
        *samples("apex", "two", 2, 2),
        *samples("basal left", "two", 3, 3),
        *samples("apex", "half", 2),
        *samples("apex", "half", None),
    )

    told = [(g["id"], g["size"], g["seen"], g["whole"], g["reason"]) for g in body["groups"]]
    assert told == [
        ("few", 3, 2, False, "too_few"),
        ("many", 2, 4, False, "too_many"),
        ("two", None, 5, False, "sizes_differ"),
        ("half", None, 2, False, "sizes_differ"),
    ]
    assert {g[name] for g in body["groups"] for name in ("all_right", "mean", "sd")} == {None}
    assert set(relative(body)) == {None}


@pytest.mark.anyio
async def test_a_group_of_one_and_one_of_512(serve: Serve) -> None:
    """One has no deviation; of 512 a single right answer is far above the rest."""
    body = await replied(
        serve,
        *samples("basal left", "one", 1),
        *samples("basal left", "crowd", 512),
        *samples("apex", "crowd", 512, 511),
    )

    one, crowd = body["groups"]
    assert (one["all_right"], one["sd"]) == (True, 0.0)
    assert (crowd["seen"], crowd["whole"], crowd["all_right"]) == (512, True, False)
    assert relative(body)[:2] == [0.0, pytest.approx(511 / math.sqrt(512))]


@pytest.mark.anyio
async def test_without_a_judge_the_greatest_reward_is_right(serve: Serve) -> None:
    """Under a rubric, all are right that earn every point."""
    criteria = [{"text": "Names the lobe.", "points": 2}]
    sent = [
        {"response": text, "reference": "", "criteria": criteria, "group": text, "group_size": 1}
        for text in ("said", "unsaid")
    ]
    judge = ScriptedJudge({("said", None): "YES"})
    async with serve(judge=judge, recipe="rubric") as client:
        body = (await client.post("/reward", json={"samples": sent})).json()

    assert [(g["mean"], g["all_right"]) for g in body["groups"]] == [(1.0, True), (0.0, False)]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({"group_size": 2}, "samples[0].group_size: needs `group`"),
        ({"group_size": 2, "group": None}, "samples[0].group_size: needs `group`"),
        ({"group_size": 0, "group": "g"}, "samples[0].group_size"),
        ({"group_size": 4097, "group": "g"}, "samples[0].group_size"),
        ({"group_size": "many", "group": "g"}, "samples[0].group_size: a whole number"),
    ],
)
async def test_a_size_that_means_nothing_is_refused(
    serve: Serve, declared: dict[str, Any], said: str
) -> None:
    """The error names sample and field; null is no size."""
    sample = {"response": "apex", "reference": REFERENCE}
    async with serve(judge=JUDGE) as client:
        refused = await client.post("/reward", json={"samples": [sample | declared]})
        taken = await client.post("/reward", json={"samples": [sample | {"group_size": None}]})

    assert refused.status_code == 422
    assert refused.json()["error"]["message"].startswith(said)
    assert taken.status_code == 200
    assert "groups" not in taken.json()
