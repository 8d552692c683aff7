"""Rules and guards in front of the judge of `/judge`, over HTTP."""

from typing import Any

import httpx
import pytest

from medreward.engines.judges.scripted import ScriptedJudge
from medreward.guards.chain import grading_identity
from tests.conftest import Serve

pytestmark = pytest.mark.anyio

FRACTURE = "Is there a fracture?"
OPTIONS = "Which?\nA. Asthma\nB. Pneumonia"
LONG = "The lower lobe of the left lung is dense. " * 20


async def judged(
    client: httpx.AsyncClient, answer: str, reference: str, question: str | None = None, **more: Any
) -> dict[str, Any]:
    """The reply about one item."""
    item = {"answer": answer, "reference": reference, "question": question}
    reply = await client.post("/judge", json={"items": [item], **more})
    assert reply.status_code == 200, reply.text
    told: dict[str, Any] = reply.json()
    return told


@pytest.mark.parametrize("votes", [1, 3])
@pytest.mark.parametrize(
    ("texts", "verdict", "rule"),
    [
        (("Yes, it is.", "yes", FRACTURE), "YES", "yes_no"),
        (("No, there is none.", "no", FRACTURE), "YES", "yes_no"),
        (("No", "yes", FRACTURE), "NO", "yes_no"),
        (("B", "Pneumonia", OPTIONS), "YES", "option"),
        (("500 mg", "0.5 g", None), "YES", "quantity"),
        (("50 mg", "5 mg", None), "NO", "quantity.value"),
        (("Left lower lobe", "left lower lobe", None), "YES", "equal"),
        (("right lower lobe", "left lower lobe", None), "NO", "contrast.laterality"),
        (("", "spleen", None), "NO", "empty"),
        (("left lower lobe", "left lower lobe", None), "YES", "equal"),
    ],
)
async def test_plain_items_are_settled_without_the_judge(
    serve: Serve, texts: tuple[str, str, str | None], verdict: str, rule: str, votes: int
) -> None:
    """Whatever the number of votes: the item names the rule, a veto with its places."""
    judge = ScriptedJudge(default="NO" if verdict == "YES" else "YES")
    async with serve(judge=judge) as client:
        judge.batches.clear()
        told = await judged(client, *texts, votes=votes)

    (result,) = told["results"]
    assert (result["verdict"], result["score"]) == (verdict, float(verdict == "YES"))
    assert (result["rule"], result["p_yes"], result["votes"]) == (rule, None, [])
    assert not judge.batches
    assert (result["veto"] is not None) == (result["source"] == "veto")
    assert result["veto"] is None or result["veto"]["rule"] == rule


@pytest.mark.parametrize(
    ("answer", "reference", "verdict"),
    [("Yes.", "yes", "NO"), ("right lower lobe", "left lower lobe", "YES")],
)
async def test_without_rules_the_judge_decides_them(
    serve: Serve, answer: str, reference: str, verdict: str
) -> None:
    """`"rules": false` leaves equal texts and empty answers alone to be settled."""
    async with serve(judge=ScriptedJudge(default=verdict)) as client:
        told = await judged(client, answer, reference, rules=False)
        equal = await judged(client, reference, reference, rules=False)
        empty = await judged(client, "", reference, rules=False)

    (result,) = told["results"]
    assert (result["verdict"], result["source"], result["rule"]) == (verdict, "judge", None)
    assert told["provenance"]["rules"] is None
    assert [one["results"][0]["rule"] for one in (equal, empty)] == ["equal", "empty"]


async def test_the_provenance_names_the_rules(serve: Serve) -> None:
    """For `equivalence` alone; the fingerprint of its template does not depend on them."""
    async with serve() as client:
        told = await judged(client, "a", "b")
        alone = await judged(client, "a", "b", rules=False)
        report = await judged(client, "Yes.", "yes", template="report")

    assert told["provenance"]["rules"] == grading_identity()
    assert grading_identity().startswith("grading:sha256:")
    assert told["provenance"]["fingerprint"] == alone["provenance"]["fingerprint"]
    assert (report["provenance"]["rules"], report["results"][0]["rule"]) == (None, None)


@pytest.mark.parametrize(
    "answer",
    [
        LONG,
        "```\nbasal consolidation\n```",
        "<answer>basal consolidation</answer>",
        "A. Asthma does not fit.\nB. Pneumonia fits the fever, so I choose it",
    ],
    ids=["long", "fence", "tag", "options discussed"],
)
async def test_form_is_no_fault_of_a_graded_answer(serve: Serve, answer: str) -> None:
    """Length, mark-up and a discussion of the options are left to the judge."""
    judge = ScriptedJudge(default="YES")
    async with serve(judge=judge) as client:
        told = await judged(client, answer, "Pneumonia", OPTIONS)

    assert (told["results"][0]["verdict"], told["results"][0]["source"]) == ("YES", "judge")


@pytest.mark.parametrize(
    ("recipe", "answer", "signal", "rule"),
    [
        ("medix-r1-guarded", "Yes, it is.", "accuracy_llm", "yes_no"),
        ("medix-r1-guarded", "yes", "accuracy_llm", "equal"),
        ("medix-r1-guarded", "no", "accuracy_llm", "yes_no"),
        ("medix-r1-guarded", "no", "accuracy_embed", "yes_no"),
        ("medix-r1-guarded", "it is broken", "accuracy_llm", None),
        ("medix-r1", "a:b", "accuracy_llm", "rejected"),
        ("medix-r1", "Yes.", "accuracy_llm", None),
        ("medix-r1", "Yes.", "format", "format"),
        ("medix-r1", "Yes.", "modality", "modality"),
    ],
)
async def test_components_name_their_rule(
    serve: Serve, recipe: str, answer: str, signal: str, rule: str | None
) -> None:
    """Null if the models decided."""
    sample = {
        "response": f"<X_RAY><thinking>t</thinking><answer>{answer}</answer>",
        "reference": "yes",
        "question": FRACTURE,
        "modality": "X_RAY",
    }
    async with serve(judge=ScriptedJudge(default="NO")) as client:
        body = {"recipe": recipe, "samples": [sample]}
        reply = await client.post("/reward", json=body)

    assert reply.json()["results"][0]["components"][signal]["rule"] == rule
