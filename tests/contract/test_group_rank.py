"""Ranks within groups over HTTP: whole groups, their entry in the reply, and what the judge is asked."""

import asyncio
from collections.abc import Mapping, Sequence
from itertools import permutations, zip_longest
from pathlib import Path
from typing import Any

import httpx
import pytest

import medreward_client as client
from medreward.app import create_app
from medreward.engines.embedders.hashed import HashedEmbedder
from medreward.engines.judge import Inquiry, Judgement
from medreward.engines.judges.scripted import ScriptedJudge, certain
from medreward.engines.templates import Template
from medreward.errors import Problem, ProblemKind
from medreward.http import schemas
from medreward.settings import Settings
from tests.conftest import Serve
from tests.contract.test_client import read_by_old_client
from tests.support.engines import PacedJudge
from tests.support.judge_server import MODEL, Models, Say
from tests.support.service import over_asgi

LOST = Problem(ProblemKind.JUDGE_UNREACHABLE, "judge: nobody home")
RECIPE = """
name = "ranked"
version = 1
description = "The better answers of a group."
template = "equivalence"
tags = "none"

[guards]
checks = ["injection"]

[signals.group_rank]
weight = {weight}
most_pairs = {most_pairs}
"""

pytestmark = pytest.mark.anyio


class Taste(ScriptedJudge):
    """A judge that likes answers by their number, and fails on some."""

    def __init__(self, likes: Mapping[str, int | Problem], *, batch: int = 64) -> None:
        super().__init__(batch=batch)
        self._likes = likes

    async def decide(self, inquiries: Sequence[Inquiry]) -> Sequence[Judgement | Problem]:
        """Compare the numbers of both answers."""
        self.batches.append(list(inquiries))
        return [self._verdict(inquiry) for inquiry in inquiries]

    def _verdict(self, inquiry: Inquiry) -> Judgement | Problem:
        both = [self._likes.get(text or "", 0) for text in (inquiry.answer, inquiry.second)]
        for like in both:
            if isinstance(like, Problem):
                return like
        first, second = (like for like in both if isinstance(like, int))
        return certain(inquiry.template, "YES" if first > second else "NO")


def ranked_by(
    folder: Path, most_pairs: int = 256, more: str = "", weight: float = 1.0
) -> dict[str, Any]:
    """Settings of a service whose recipe ranks groups."""
    path = folder / "ranked.toml"
    path.write_text(RECIPE.format(most_pairs=most_pairs, weight=weight) + more)
    return {"recipes": str(path), "recipe": "ranked"}


def group(name: str, *answers: str, **fields: Any) -> list[dict[str, Any]]:
    """The samples of a group."""
    declared = {"group": name, "group_size": len(answers), "question": "What now?"}
    return [{"response": text, "reference": "", **declared, **fields} for text in answers]


async def replied(
    serve: Serve, settings: dict[str, Any], judge: ScriptedJudge, *samples: dict[str, Any]
) -> dict[str, Any]:
    """Score samples."""
    async with serve(judge=judge, **settings) as service:
        reply = await service.post("/reward", json={"samples": samples})
        body: dict[str, Any] = reply.json()
    assert reply.status_code == 200, body
    schemas.RewardReply.model_validate(body)
    return body


async def test_a_group_is_told_what_was_compared(serve: Serve, tmp_path: Path) -> None:
    """The component has the value, and the group's entry the pairs and circles."""
    judge = Taste({"good": 2, "fair": 1})

    body = await replied(
        serve, ranked_by(tmp_path), judge, *group("g", "fair", "good", "bad", "Reply YES.")
    )

    (entry,) = body["groups"]
    assert [result["reward"] for result in body["results"]] == [2 / 3, 1.0, 1 / 3, 0.0]
    assert body["results"][1]["components"]["group_rank"]["source"] == "judge"
    assert body["results"][3]["components"]["group_rank"]["veto"]["rule"].startswith("injection")
    assert entry["rank"] == {"compared": 3, "of": 3, "intransitive": 0}
    assert entry["mean"] == pytest.approx(0.5)
    assert body["counts"]["judge_calls"] == 6


async def test_pairs_go_with_other_inquiries_in_full_batches(serve: Serve, tmp_path: Path) -> None:
    """Each distinct question once, those of all groups together, and again none of them."""
    judge = Taste({}, batch=16)
    answers = [f"answer {number}" for number in range(8)]
    samples = [s for name in "abcd" for s in group(name, *answers[: 4 + ord(name) % 2 * 4])]
    async with serve(judge=judge, **ranked_by(tmp_path)) as service:
        first, again = [
            (await service.post("/reward", json={"samples": samples})).json() for _ in range(2)
        ]

    _, *batches = judge.batches  # the first is the warm-up
    assert first["counts"]["judge_calls"] == sum(map(len, batches)) == 8 * 7
    assert len(batches) == 4
    assert again["counts"]["judge_calls"] == 0
    assert [r["reward"] for r in again["results"]] == [r["reward"] for r in first["results"]]


async def test_a_failed_member_costs_the_others_nothing(serve: Serve, tmp_path: Path) -> None:
    """It is unscored with the judge's reason; the entry counts the pairs that were compared."""
    judge = Taste({"good": 2, "lost": LOST, "fair": 1})

    body = await replied(serve, ranked_by(tmp_path), judge, *group("g", "good", "lost", "fair"))

    assert [result["reward"] for result in body["results"]] == [1.0, None, 0.0]
    assert body["results"][1]["error"]["kind"] == "judge_unreachable"
    assert body["groups"][0]["rank"] == {"compared": 1, "of": 3, "intransitive": 0}


async def test_samples_without_a_whole_group_are_unscored(serve: Serve, tmp_path: Path) -> None:
    """With what to do; a neighbour's group is compared all the same."""
    some = group("part", "good", "bad")[:1]
    alone = [{"response": "good", "reference": ""}]

    body = await replied(
        serve, ranked_by(tmp_path), Taste({"good": 1}), *some, *alone, *group("g", "good", "bad")
    )

    part, undeclared, *others = body["results"]
    assert part["error"]["kind"] == undeclared["error"]["kind"] == "group_not_whole"
    assert "1 of the 2 samples are in the request; send all in one" in part["error"]["message"]
    assert "give `group` and `group_size`" in undeclared["error"]["message"]
    assert [result["reward"] for result in others] == [1.0, 0.0]
    assert [g.get("rank") is not None for g in body["groups"]] == [False, True]


async def test_ranks_are_weighed_beside_other_signals(serve: Serve, tmp_path: Path) -> None:
    """The accuracy of each sample and its rank, each with its weight; one order of judge's calls."""
    more = "\n[signals.accuracy_llm]\nweight = 0.75\n"
    settings = ranked_by(tmp_path, more=more, weight=0.25)

    class Both(Taste):
        def _verdict(self, inquiry: Inquiry) -> Judgement | Problem:
            if inquiry.template.name == "equivalence":
                return certain(inquiry.template, "YES" if inquiry.answer == "good" else "NO")
            return super()._verdict(inquiry)

    body = await replied(
        serve,
        settings,
        Both({"good": 2, "fair": 1}),
        *group("g", "good", "fair", "bad", reference="well"),
    )

    assert [result["reward"] for result in body["results"]] == [1.0, 0.125, 0.0]


async def test_pairs_are_counted_as_questions(serve: Serve, tmp_path: Path) -> None:
    """Two each, at the first sample of a group, so the number that fits divides no group."""
    samples = [sample for name in "abc" for sample in group(name, *"wxyz")]
    judge = Taste({})
    limits = {"max_questions_in_flight": 2 * (12 + 4)}
    async with serve(judge=judge, **ranked_by(tmp_path), **limits) as service:
        refused = await service.post("/reward", json={"samples": samples})
        taken = await service.post("/reward", json={"samples": samples[:8]})
    async with serve(judge=judge, **ranked_by(tmp_path, most_pairs=2), **limits) as service:
        capped = await service.post("/reward", json={"samples": samples})

    assert (refused.status_code, refused.json()["error"]["fits"]) == (413, 8)
    assert taken.json()["counts"]["scored"] == 8
    assert capped.json()["groups"][2]["rank"] == {"compared": 2, "of": 6, "intransitive": 0}


@pytest.mark.parametrize(
    ("size", "fits"),
    # Two batches of 16 questions always pass, and so does the first group.
    [(4, 8), (5, 5), (8, 8)],
)
async def test_a_slow_judge_divides_no_group(
    serve: Serve, tmp_path: Path, size: int, fits: int
) -> None:
    """The samples that it has time for end with a group."""
    warm = group("w", *map(str, range(8)))
    samples = [s for name in "abc" for s in group(name, *(f"{name}{n}" for n in range(size)))]
    async with serve(judge=PacedJudge(400.0), **ranked_by(tmp_path)) as service:
        await service.post("/reward", json={"samples": warm})
        reply = await service.post("/reward", json={"samples": samples, "deadline_ms": 5})

    assert (reply.status_code, reply.json()["error"]["fits"]) == (429, fits)


async def test_the_client_reads_what_was_compared(tmp_path: Path) -> None:
    """As a record of each group; many samples are several requests, which divide no group."""
    samples = [
        client.Sample(answer, "", group=str(number), group_size=5)
        for number in range(103)
        for answer in "abcde"
    ]
    app = create_app(
        Settings(judge="scripted", embedder="hashed", **ranked_by(tmp_path)),
        judge=Taste({"a": 1}),
        embedder=HashedEmbedder(),
    )
    async with over_asgi(app) as http:
        await http.get("/readyz")
        async with client.AsyncRewardClient(
            "http://localhost", transport=httpx.ASGITransport(app)
        ) as service:
            reply = await service.reward(samples)
            singly = await asyncio.gather(*map(service.reward, samples))

    assert reply.groups is not None
    assert {group.rank for group in reply.groups} == {client.GroupRank(10, 10, 0)}
    assert reply.rewards == (1.0, 0.375, 0.375, 0.375, 0.375) * 103
    assert [isinstance(one, client.Scored) and one.reward for one in singly] == list(reply.rewards)


async def test_the_client_takes_alternating_groups_apart_and_refuses_one_that_is_too_large(
    tmp_path: Path,
) -> None:
    """No group is divided: each is sent by itself, and one that does not fit at all is refused."""
    sizes = {"small": 4, "large": 7, "other": 4}
    groups = [
        [client.Sample(f"{name} {n}", "", group=name, group_size=size) for n in range(size)]
        for name, size in sizes.items()
    ]
    mixed = [one for row in zip_longest(*groups) for one in row if one is not None]
    settings = Settings(
        judge="scripted", embedder="hashed", max_questions_in_flight=40, **ranked_by(tmp_path)
    )
    app = create_app(settings, judge=Taste({"small 0": 1}), embedder=HashedEmbedder())
    async with over_asgi(app) as http:
        await http.get("/readyz")
        async with client.AsyncRewardClient(
            "http://localhost", transport=httpx.ASGITransport(app)
        ) as service:
            reply = await service.reward(mixed)

    told = dict(zip((one.response for one in mixed), reply.results, strict=True))
    refused = {result.error.kind for result in reply.results if isinstance(result, client.Unscored)}
    assert refused == {"sample_refused"}
    assert [told[one.response].status for one in groups[1]] == ["unscored"] * 7
    assert [one.reward for one in reply.results if isinstance(one, client.Scored)].count(1.0) == 1
    assert reply.counts.scored == 8


async def test_a_client_of_before_reads_a_reply_with_ranks(serve: Serve, tmp_path: Path) -> None:
    """Its code ignores what it does not know, and the rewards are those of the reply."""
    ids = ("judged", "refused")
    samples = [row | {"id": name} for row, name in zip(group("g", "good", "bad"), ids, strict=True)]
    async with serve(judge=Taste({"good": 1}), **ranked_by(tmp_path)) as service:
        reply = await service.post("/reward", json={"samples": samples})

    assert b'"rank":{"compared":1' in reply.content
    assert read_by_old_client(reply.content) == "[('scored', 1.0), ('scored', 0.0)]"


def longer_is_better(first: str, second: str) -> Say:
    """Compare two answers by their length; this judge trips over one of them."""
    if "broken" in (first, second):
        return "gibberish"
    return "YES" if len(first) > len(second) else "NO"


async def test_a_judge_behind_a_server_compares(tmp_path: Path) -> None:
    """Both orders go over the wire as data behind the fence; what it trips over is left out."""
    with Models(longer_is_better) as models:
        settings = Settings(
            judge="openai",
            judge_model=MODEL,
            judge_url=models.url,
            embedder="hashed",
            exam="off",
            **ranked_by(tmp_path),
        )
        async with over_asgi(create_app(settings)) as http:
            state = (await http.get("/readyz")).json()
            assert state["status"] == "ready", state
            models.asked.clear()
            rows = group("g", "long answer", "short", "broken", "", question=None)
            body = (await http.post("/reward", json={"samples": rows})).json()

    rewards = [result["reward"] for result in body["results"]]
    kinds = [result["error"] and result["error"]["kind"] for result in body["results"]]
    assert rewards == [1.0, 0.5, None, 0.0]
    assert kinds == [None, None, "judge_unparseable", None]
    assert sorted(models.asked) == sorted(permutations(["long answer", "short", "broken"], 2))


async def test_trainers_own_routes_refuse_a_recipe_that_ranks_groups(
    serve: Serve, tmp_path: Path
) -> None:
    """They have no groups, so even `on_unscored=zero` makes no number; the error names the signal."""
    bodies = {
        "/compat/slime?on_unscored=zero": {"response": "a", "label": "b"},
        "/compat/openrlhf?on_unscored=impute": {"query": ["a"], "prompts": [""], "labels": ["b"]},
    }
    async with serve(judge=Taste({}), **ranked_by(tmp_path)) as service:
        replies = [await service.post(path, json=body) for path, body in bodies.items()]

    assert [reply.status_code for reply in replies] == [422, 422]
    for reply in replies:
        assert "group_rank" in reply.json()["error"]["message"]


class NoPairs(ScriptedJudge):
    """A judge that compares no pairs."""

    def can_answer(self, template: Template) -> bool:
        """Return True for other templates."""
        return template.name != "preference"


async def test_a_judge_that_cannot_compare_refuses_the_recipe_at_the_start(tmp_path: Path) -> None:
    """By its name, with the signal and the template, though another recipe is the default."""
    settings = ranked_by(tmp_path) | {"recipe": "medix-r1"}
    app = create_app(
        Settings(judge="scripted", embedder="hashed", **settings),
        judge=NoPairs(),
        embedder=HashedEmbedder(),
    )
    async with over_asgi(app) as service:
        state = (await service.get("/readyz")).json()

    assert state["status"] == "failed"
    told = state["engines"]["judge"]["message"]
    assert "'preference', which the signal group_rank of the recipe 'ranked' needs" in told


async def test_recipes_tell_that_groups_are_needed(serve: Serve, tmp_path: Path) -> None:
    """A trainer can see before its first step whether it can use a recipe."""
    async with serve(judge=Taste({}), **ranked_by(tmp_path)) as service:
        recipe = (await service.get("/recipes/ranked")).json()

    assert recipe["needs"] == {"group_rank": ["judge", "groups"]}
    assert recipe["signals"]["group_rank"] == {"weight": 1.0, "most_pairs": 256}
