"""The client against the app in one process: every field of the contract arrives."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

import medreward_client as client
from medreward.app import create_app
from medreward.engines.embedders.hashed import HashedEmbedder
from medreward.engines.judge import Judgement
from medreward.engines.judges.scripted import ScriptedJudge
from medreward.engines.status import EngineState, Readiness
from medreward.engines.templates import load_templates
from medreward.errors import Problem, ProblemKind
from medreward.http import schemas
from medreward.samples import Choice, Criterion, Item, Sample
from medreward.settings import Settings
from tests.support.service import loaded
from tests.support.wait import until

DOCUMENT = json.loads((Path(__file__).parents[2] / "service" / "openapi.json").read_text("utf-8"))
YES = Judgement(("YES", "NO"), (0.75, 0.25), coverage=0.5)
JUDGE = ScriptedJudge(
    {
        ("Left lower lobe", "left lower lobe"): YES,
        ("lost", "left lower lobe"): Problem(ProblemKind.JUDGE_REFUSED, "no comment"),
    }
)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Sample, client.Sample),
        (Criterion, client.Criterion),
        (Choice, client.Choice),
        (schemas.CriterionResult, client.CriterionResult),
        (schemas.GroupResult, client.GroupResult),
        (schemas.GroupRank, client.GroupRank),
        (Item, client.Item),
        (schemas.Component, client.Component),
        (schemas.Veto, client.Veto),
        (schemas.Problem, client.Problem),
        (schemas.Vote, client.Vote),
        (schemas.JudgedCriterion, client.JudgedCriterion),
        (schemas.RewardCounts, client.Counts),
        (schemas.JudgeCounts, client.JudgeCounts),
        (schemas.RewardProvenance, client.Provenance),
        (schemas.JudgeProvenance, client.JudgeProvenance),
        (schemas.JudgeReply, client.JudgeReply),
        (EngineState, client.EngineState),
        (Readiness, client.Health),
    ],
)
def test_both_sides_know_the_same_fields(ours: type[BaseModel], theirs: type[Any]) -> None:
    """Each wire type exists twice, and the two and the committed document agree."""
    fields = {field.name for field in dataclasses.fields(theirs)}
    documented = DOCUMENT["components"]["schemas"][ours.__name__]["properties"]

    assert fields == set(ours.model_fields) == set(documented)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (schemas.SampleResult, (client.Scored, client.Unscored)),
        (schemas.ItemResult, (client.Judged, client.Unjudged)),
    ],
)
def test_a_result_is_split_by_what_became_of_it(
    ours: type[BaseModel], theirs: tuple[type[Any], type[Any]]
) -> None:
    """Scored and unscored together hold every field but the status, which their type tells."""
    good, bad = ({field.name for field in dataclasses.fields(cls)} for cls in theirs)

    assert good | bad == set(ours.model_fields) - {"status"}
    assert not {"reward", "score"} & bad


@pytest.mark.anyio
async def test_rewards_arrive_typed() -> None:
    """What the service says of each sample is what the client gives."""
    app = create_app(Settings(api_keys="k"), judge=JUDGE, embedder=HashedEmbedder())
    samples = [
        client.Sample(
            response="<X_RAY><thinking>t</thinking><answer>Left lower lobe</answer>",
            reference=["left lower lobe", "LLL"],
            id="right",
            group="g",
            question="Where?",
            modality="X_RAY",
            criteria=[client.Criterion(text="names the lobe", points=1)],
            extra={"kind": "right"},
        ),
        client.Sample(response="<answer>lost</answer>", reference="left lower lobe", id="lost"),
    ]
    async with app.router.lifespan_context(app):
        await loaded(app)
        async with client.AsyncRewardClient(
            "http://localhost", api_key="k", transport=httpx.ASGITransport(app)
        ) as service:
            reply = await service.reward(
                samples, recipe="medix-r1", run_id="run", step=3, deadline_s=20
            )
            readiness = await service.health()

    right, lost = reply.results
    assert isinstance(right, client.Scored)
    assert right.reward == pytest.approx(1.0)
    assert right.components["accuracy_llm"] == client.Component(
        value=1.0, weight=0.5175, source="judge", p_yes=0.75, coverage=0.5, cosine=None
    )
    assert isinstance(lost, client.Unscored)
    assert lost.error == client.Problem("judge_refused", "no comment", retryable=False)
    assert set(lost.components) == {"accuracy_embed", "format"}
    assert reply.rewards == (right.reward, None)
    assert (reply.counts.scored, reply.counts.unscored) == (1, 1)
    assert reply.provenance.recipe == "medix-r1"
    assert set(reply.timings_ms) == {"queue", "cache", "judge", "embed", "total"}
    assert readiness.ready
    assert set(readiness.engines) == {"judge", "embedder"}


CRITERIA: list[client.Criterion | client.ChoiceCriterion] = [
    client.Criterion("Names the lobe.", 3.0),
    client.ChoiceCriterion("Says how sure.", [client.Choice("no", 0), client.Choice("yes", 1)]),
]


@pytest.mark.anyio
async def test_a_rubric_arrives_typed() -> None:
    """Criteria with points and with choices go out; range and results of the criteria come back."""
    settings = Settings(judge="scripted", embedder="hashed")
    app = create_app(settings, judge=ScriptedJudge(default="YES"))
    samples = [
        client.Sample("Left lower lobe", "", id="judged", criteria=CRITERIA),
        client.Sample("Left lower lobe", "", id="refused"),
    ]
    async with app.router.lifespan_context(app):
        await loaded(app)
        async with client.AsyncRewardClient(
            "http://localhost", transport=httpx.ASGITransport(app)
        ) as service:
            reply = await service.reward(samples, recipe="rubric")
            plain = await service.reward(samples, recipe="medix-r1")

    judged, refused = reply.results
    assert isinstance(judged, client.Scored)
    assert (judged.reward, judged.unanswered) == (1.0, 0)
    assert judged.criteria == (
        client.CriterionResult("YES", None, 3.0, 1.0, "judge", None),
        client.CriterionResult(None, 1, 1.0, None, "judge", None),
    )
    assert isinstance(refused, client.Unscored)
    assert (refused.error.kind, refused.criteria) == ("invalid_request", ())
    assert (reply.range, plain.range) == ((-2.0, 1.0), (0.0, 1.0))
    assert plain.results[0].criteria is None


@pytest.mark.anyio
async def test_groups_arrive_typed() -> None:
    """A declared size goes out; groups and relative rewards come back, and None without a size."""
    settings = Settings(judge="scripted", embedder="hashed", recipe="medix-r1")
    app = create_app(settings, judge=ScriptedJudge(default="YES"))
    right = client.Sample("<answer>basal left</answer>", "left lower lobe", group="p")
    wrong = client.Sample("<answer></answer>", "left lower lobe", group="p")
    plain = [right, wrong]
    sized = [dataclasses.replace(sample, group_size=2) for sample in plain]
    async with app.router.lifespan_context(app):
        await loaded(app)
        async with client.AsyncRewardClient(
            "http://localhost", transport=httpx.ASGITransport(app)
        ) as service:
            compared = await service.reward(sized)
            alone = await service.reward(plain)

    assert compared.groups is not None
    (group,) = compared.groups
    assert group == client.GroupResult("p", 2, 2, 2, True, None, False, group.mean, group.sd)
    first, second = compared.results
    assert isinstance(first, client.Scored)
    assert isinstance(second, client.Scored)
    assert (group.mean or 0.0) == pytest.approx((first.reward + second.reward) / 2)
    assert (first.relative, second.relative) == pytest.approx((0.5**0.5, -(0.5**0.5)))
    assert alone.groups is None
    assert compared.rewards == alone.rewards


OLD_CLIENT = Path(__file__).with_name("recorded") / "client_before_ranges.zip"
READ_BY_OLD_CLIENT = """
import sys
from medreward_client import _batching, _types
from medreward_client._http import Reply
assert ".zip" in _batching.__file__
samples = [_types.Sample("", "", id=name) for name in ("judged", "refused")]
reply = _batching._read_rewards(samples, Reply(200, {}, sys.stdin.buffer.read()))
print([(result.status, reward) for result, reward in zip(reply.results, reply.rewards)])
"""


def read_by_old_client(content: bytes) -> str:
    """Read a reply with the code in the archive; gives status and reward of each result."""
    read = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", READ_BY_OLD_CLIENT],
        input=content,
        env={**os.environ, "PYTHONPATH": str(OLD_CLIENT)},
        capture_output=True,
        check=True,
    )
    return read.stdout.decode().strip()


@pytest.mark.anyio
async def test_a_client_of_before_reads_the_replies_of_now() -> None:
    """The code of the client as it was before ranges, rubrics and groups reads a reply with all three."""
    app = create_app(Settings(judge="scripted", embedder="hashed"), judge=ScriptedJudge())
    rubric = [{"text": "Names the lobe.", "points": 3}, {"text": "Is rude.", "points": -3}]
    samples: list[dict[str, Any]] = [
        {
            "id": "judged",
            "response": "It is the left lower lobe.",
            "reference": "",
            "criteria": rubric,
        },
        {"id": "refused", "response": "It is the left lower lobe.", "reference": ""},
    ]
    grouped = [{**sample, "group": "p", "group_size": 2} for sample in samples]
    async with app.router.lifespan_context(app):
        await loaded(app)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            replies = [
                await http.post("/reward", json={"recipe": "rubric", "samples": sent})
                for sent in (samples, grouped)
            ]

    for reply in replies:
        assert b'"range":[-2.0,1.0]' in reply.content
        assert b'"unanswered":0' in reply.content
        assert read_by_old_client(reply.content) == "[('scored', 0.0), ('unscored', None)]"
    assert b'"groups":[{"id":"p"' in replies[1].content
    assert b'"relative":' in replies[1].content


@pytest.mark.anyio
async def test_the_exam_of_the_judge_arrives_typed() -> None:
    """In readiness while it runs, and in provenance once it has ended."""
    settings = Settings(judge="scripted", embedder="hashed", exam="on")
    app = create_app(settings, judge=ScriptedJudge(default="YES"))
    async with (
        app.router.lifespan_context(app),
        client.AsyncRewardClient("http://localhost", transport=httpx.ASGITransport(app)) as service,
    ):

        async def exam() -> client.JudgeExam | None:
            return (await service.health()).judge_exam

        async def is_over() -> bool:
            now = await exam()
            return now is not None and now.status != "running"

        await until(is_over)
        found = await exam()
        reply = await service.judge([client.Item("left", "left lower lobe")])

    assert found == client.JudgeExam("failed", "answers", 0.5)
    assert reply.provenance.judge_exam == found


@pytest.mark.anyio
@pytest.mark.parametrize("template", ["equivalence", "report", "rubric"])
async def test_grades_arrive_typed(template: str) -> None:
    """All three templates, with votes and criteria."""
    app = create_app(Settings(), judge=ScriptedJudge(), embedder=HashedEmbedder())
    criteria = [client.Criterion(text="names the lobe", points=1)] if template == "rubric" else None
    item = client.Item(
        answer="basal left",
        reference="left lower lobe",
        id="i",
        question="Where?",
        criteria=criteria,
    )
    async with app.router.lifespan_context(app):
        await loaded(app)
        async with client.AsyncRewardClient(
            "http://localhost", transport=httpx.ASGITransport(app)
        ) as service:
            reply = await service.judge([item], template=template, votes=3)

    (judged,) = reply.results
    assert isinstance(judged, client.Judged)
    assert (judged.id, judged.score) == ("i", 0.0)
    assert len(judged.votes) == (0 if template == "rubric" else 3)
    assert (judged.criteria is None) is (template != "rubric")
    assert (judged.expected is None) is (template != "report")
    assert reply.provenance.template == template
    assert reply.provenance.fingerprint == f"sha256:{load_templates()[template].sha}"


@pytest.mark.anyio
async def test_grades_by_rule_arrive_with_their_veto_and_can_be_turned_off() -> None:
    """The blocking client passes the same argument on to this one."""
    app = create_app(Settings(), judge=ScriptedJudge(default="YES"), embedder=HashedEmbedder())
    item = client.Item(answer="right lower lobe", reference="left lower lobe")
    async with app.router.lifespan_context(app):
        await loaded(app)
        async with client.AsyncRewardClient(
            "http://localhost", transport=httpx.ASGITransport(app)
        ) as service:
            by_rule = await service.judge([item])
            alone = await service.judge([item], rules=False)

    (vetoed,), (judged,) = by_rule.results, alone.results
    assert isinstance(vetoed, client.Judged)
    assert isinstance(judged, client.Judged)
    assert (vetoed.verdict, vetoed.source, vetoed.rule) == ("NO", "veto", "contrast.laterality")
    assert vetoed.veto == client.Veto("contrast.laterality", (0, 5), (0, 4))
    assert (judged.verdict, judged.rule, judged.veto) == ("YES", None, None)
    assert by_rule.provenance.rules is not None
    assert alone.provenance.rules is None


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("settings", "call", "error"),
    [
        ({"api_keys": "other"}, {}, client.RequestRefused),
        ({}, {"recipe": "none"}, client.RequestRefused),
        ({"max_samples": 1}, {}, None),
        ({"max_questions_in_flight": 1}, {}, None),
        ({"max_requests_in_flight": 1}, {}, None),
    ],
)
async def test_refusals_arrive_as_errors(
    settings: dict[str, Any], call: dict[str, Any], error: type[Exception] | None
) -> None:
    """A refusal raises what the caller can act on; a request that is too large is sent in parts."""
    app = create_app(
        Settings.model_validate(settings), judge=ScriptedJudge(), embedder=HashedEmbedder()
    )
    samples = [client.Sample(response="ab", reference="cd")] * 2
    async with app.router.lifespan_context(app):
        await loaded(app)
        async with client.AsyncRewardClient(
            "http://localhost", transport=httpx.ASGITransport(app)
        ) as service:
            if error is None:
                assert len((await service.reward(samples, **call)).results) == 2
                return
            with pytest.raises(error):
                await service.reward(samples, **call)
