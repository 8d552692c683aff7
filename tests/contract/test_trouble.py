"""A judge or embedder in trouble leaves samples unscored with the right kind: never 0, never hung."""

import asyncio
from collections.abc import Sequence

import httpx
import pytest

from medreward.engines.judge import Inquiry, Judgement
from medreward.engines.judges.openai import OpenAiJudge
from medreward.engines.judges.scripted import certain
from medreward.errors import BackendDown, DeadlinePassed, NonsenseReply, Problem, ProblemKind
from tests.conftest import Serve
from tests.support.engines import (
    Held,
    Trouble,
    TroubledEmbedder,
    TroubledJudge,
    hang,
    raising,
    replying,
)

pytestmark = pytest.mark.anyio

OPEN = {"response": "<answer>Basal left</answer>", "reference": "left lower lobe"}
SETTLED = {"response": "<answer>left lower lobe</answer>", "reference": "left lower lobe"}
BODY = {"samples": [OPEN, SETTLED]}


@pytest.mark.parametrize(
    ("trouble", "kind", "retryable"),
    [
        (raising(BackendDown("refused")), "judge_unreachable", True),
        (raising(KeyError("Basal left")), "judge_unreachable", True),
        (raising(MemoryError()), "judge_unreachable", True),
        (raising(DeadlinePassed("late")), "judge_timeout", True),
        (hang, "judge_timeout", True),
        (raising(NonsenseReply("?")), "judge_unparseable", False),
        (replying(), "judge_unparseable", False),
        (replying("YES"), "judge_unparseable", False),
        (replying(Judgement(("YES", "NO"), (float("nan"), 0.5))), "judge_unparseable", False),
        (replying(Judgement(("A", "B"), (1.0, 0.0))), "judge_unparseable", False),
        (replying(Problem(ProblemKind.JUDGE_REFUSED, "no")), "judge_refused", False),
    ],
)
async def test_a_judge_in_trouble_is_a_reason_and_not_a_zero(
    serve: Serve, trouble: Trouble, kind: str, *, retryable: bool
) -> None:
    """The sample that needed the judge is unscored; the one that a rule settled has its reward."""
    async with serve(judge=TroubledJudge(trouble), judge_timeout_s=0.05) as client:
        reply = await client.post("/reward", json=BODY)

    lost, settled = reply.json()["results"]
    assert reply.status_code == 200
    assert (lost["status"], lost["reward"]) == ("unscored", None)
    assert (lost["error"]["kind"], lost["error"]["retryable"]) == (kind, retryable)
    assert set(lost["components"]) == {"accuracy_embed", "format"}
    assert (settled["status"], settled["error"]) == ("scored", None)
    assert "Basal left" not in lost["error"]["message"]


async def test_one_slow_judge_call_holds_up_no_other(serve: Serve) -> None:
    """Of eighty questions to a server, one hangs: seventy-nine have their verdicts in time."""

    async def server(request: httpx.Request) -> httpx.Response:
        if b"stuck" in request.content:
            await asyncio.Event().wait()
        top = [{"token": "YES", "logprob": -0.01}, {"token": "NO", "logprob": -5.0}]
        return httpx.Response(
            200, json={"choices": [{"logprobs": {"content": [{"top_logprobs": top}]}}]}
        )

    judge = OpenAiJudge("http://judge/v1", model="m", transport=httpx.MockTransport(server))
    answers = [*(f"answer {i}" for i in range(79)), "stuck"]
    samples = [OPEN | {"response": f"<answer>{answer}</answer>"} for answer in answers]
    async with serve(judge=judge, judge_timeout_s=5) as client:
        reply = (await client.post("/reward", json={"samples": samples})).json()

    kinds = [r["error"]["kind"] for r in reply["results"] if r["status"] == "unscored"]
    assert kinds == ["judge_timeout"]


async def test_past_the_requests_deadline_samples_are_unscored(serve: Serve) -> None:
    """A caller that cannot wait gets its reply in time, with the kind `deadline`."""
    async with serve(judge=TroubledJudge(hang)) as client:
        reply = await client.post("/reward", json=BODY | {"deadline_ms": 300})

    lost, settled = reply.json()["results"]
    assert (lost["reward"], lost["error"]["kind"]) == (None, "deadline")
    assert settled["status"] == "scored"
    assert reply.json()["timings_ms"]["total"] < 5000


async def test_a_judge_that_dies_on_the_way_takes_only_what_it_had_not_answered(
    serve: Serve,
) -> None:
    """Batches before its death are rewards, those after it are reasons; then it comes back."""
    calls: list[int] = []

    async def dying(inquiries: Sequence[Inquiry]) -> Sequence[Judgement]:
        calls.append(len(inquiries))
        if 1 < len(calls) <= 3:
            raise BackendDown("killed")
        return [certain(inquiry.template, "YES") for inquiry in inquiries]

    samples = [OPEN | {"response": f"<answer>answer {i}</answer>"} for i in range(12)]
    async with serve(judge=TroubledJudge(dying)) as client:
        first = (await client.post("/reward", json={"samples": samples})).json()
        second = (await client.post("/reward", json={"samples": samples})).json()

    assert [r["status"] for r in first["results"]] == ["scored"] * 4 + ["unscored"] * 8
    assert second["counts"]["scored"] == 12
    assert second["counts"]["judge_calls"] == 8
    assert calls == [4, 4, 4, 4, 4]


async def test_one_poisonous_sample_costs_its_neighbours_nothing(serve: Serve) -> None:
    """A text that breaks the judge is the only one that is unscored."""

    async def fragile(inquiries: Sequence[Inquiry]) -> Sequence[Judgement]:
        if any(inquiry.answer == "poison" for inquiry in inquiries):
            raise ValueError
        return [certain(inquiry.template, "YES") for inquiry in inquiries]

    answers = ["one", "two", "poison", "four", "five", "six"]
    samples = [OPEN | {"response": f"<answer>{answer}</answer>"} for answer in answers]
    async with serve(judge=TroubledJudge(fragile)) as client:
        reply = (await client.post("/reward", json={"samples": samples})).json()

    unscored = [a for a, r in zip(answers, reply["results"], strict=True) if r["reward"] is None]
    assert unscored == ["poison"]


@pytest.mark.parametrize(
    ("trouble", "kind"),
    [
        (raising(BackendDown("refused")), "judge_unreachable"),
        (hang, "judge_timeout"),
        (replying("YES"), "judge_unparseable"),
    ],
)
async def test_an_item_without_a_verdict_is_unjudged(
    serve: Serve, trouble: Trouble, kind: str
) -> None:
    """`/judge` too: no verdict, no score, a reason."""
    body = {"items": [{"answer": "basal left", "reference": "left lower lobe"}]}
    async with serve(judge=TroubledJudge(trouble), judge_timeout_s=0.05) as client:
        (result,) = (await client.post("/judge", json=body)).json()["results"]

    assert (result["status"], result["verdict"], result["score"]) == ("unjudged", None, None)
    assert (result["error"]["kind"], result["votes"][0]["error"]["kind"]) == (kind, kind)


@pytest.mark.parametrize(
    ("trouble", "kind"),
    [
        (raising(BackendDown("refused")), "embedder_unreachable"),
        (raising(ValueError("Basal left")), "embedder_unreachable"),
        (raising(DeadlinePassed("late")), "embedder_timeout"),
        (hang, "embedder_timeout"),
        (replying(), "embedder_unreachable"),
    ],
)
async def test_an_embedder_in_trouble_is_a_reason_and_not_a_zero(
    serve: Serve, trouble: Trouble, kind: str
) -> None:
    """The judge's say is shown, and there is no reward without the other."""
    embedder = TroubledEmbedder(trouble)
    async with serve(embedder=embedder, embedder_timeout_s=0.05) as client:
        lost, settled = (await client.post("/reward", json=BODY)).json()["results"]

    assert (lost["reward"], lost["error"]["kind"]) == (None, kind)
    assert set(lost["components"]) == {"accuracy_llm", "format"}
    assert settled["status"] == "scored"


async def test_a_caller_that_hangs_up_frees_its_place(serve: Serve) -> None:
    """What nobody waits for any more holds no permit and is dropped from the queue."""
    held = Held()
    async with serve(judge=TroubledJudge(held), max_requests_in_flight=1) as client:
        calling = asyncio.create_task(client.post("/reward", json=BODY))
        await held.is_asked.wait()
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)
        exposition = (await client.get("/metrics")).text

    assert "medreward_inflight_requests 0.0" in exposition
    assert 'medreward_queue_depth{role="judge"} 0.0' in exposition


async def test_a_full_service_says_when_to_come_back(serve: Serve) -> None:
    """The second request at once is turned away with `Retry-After`, and nothing of it was scored."""
    judge = Held()
    async with serve(judge=TroubledJudge(judge), max_requests_in_flight=1) as client:
        holding = asyncio.create_task(client.post("/reward", json=BODY))
        await judge.is_asked.wait()
        refused = await client.post("/reward", json=BODY)
        judge.may_answer.set()
        held = await holding

    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "1"
    assert refused.json()["error"] | {"message": ""} == {
        "kind": "overloaded",
        "message": "",
        "retryable": True,
        "fits": None,
    }
    assert held.status_code == 200
