"""The recipe medix-r1-guarded over HTTP, under a judge that says YES to everything."""

from typing import Any

import httpx
import numpy as np
import pytest

from medreward.engines.capacity import Capacity
from medreward.engines.judge import View
from medreward.engines.judges.cascade import Cascade
from medreward.engines.judges.scripted import ScriptedJudge
from tests.conftest import Serve

pytestmark = pytest.mark.anyio

RECIPES = ("medix-r1", "medix-r1-guarded")
QUESTION = "What does the radiograph show?"
REFERENCE = "left lower lobe pneumonia"


def response(answer: str) -> str:
    """A response that is well formed and of the right modality."""
    return f"<X_RAY><thinking>Dense.</thinking><answer>{answer}</answer>"


def sample(answer: str, reference: Any = REFERENCE, **more: Any) -> dict[str, Any]:
    """A sample with that answer."""
    return {"response": response(answer), "reference": reference, "modality": "X_RAY", **more}


async def scored(
    client: httpx.AsyncClient, *samples: dict[str, Any], recipe: str = "medix-r1-guarded"
) -> list[dict[str, Any]]:
    """The results for samples."""
    reply = await client.post("/reward", json={"recipe": recipe, "samples": list(samples)})
    assert reply.status_code == 200, reply.text
    results: list[dict[str, Any]] = reply.json()["results"]
    return results


async def test_a_wrong_side_earns_an_honest_misss_reward(serve: Serve) -> None:
    """Before, a judge that says YES paid the wrong side in full; guarded, it is vetoed and named."""
    async with serve(judge=ScriptedJudge(default="YES")) as client:
        wrong = sample("right lower lobe pneumonia")
        before = (await scored(client, wrong, recipe="medix-r1"))[0]
        after = (await scored(client, wrong))[0]

    assert before["components"]["accuracy_llm"]["value"] == 1.0
    assert after["reward"] == pytest.approx(0.15)
    assert after["components"]["accuracy_llm"]["source"] == "veto"
    assert after["components"]["accuracy_llm"]["veto"] == {
        "rule": "contrast.laterality",
        "span": [0, 5],
        "reference_span": [0, 4],
    }


async def test_a_vetoed_answer_is_asked_of_no_model(serve: Serve) -> None:
    """What a guard decides costs no question."""
    judge = ScriptedJudge(default="YES")
    async with serve(judge=judge) as client:
        judge.batches.clear()
        await scored(client, sample("right lower lobe pneumonia"), sample("Thought process:"))

    assert not judge.batches


@pytest.mark.parametrize(
    "text",
    [
        "left lower lobe pneumonia",  # no tags
        "<thinking>x</thinking><answer>left lower lobe pneumonia",
        response(REFERENCE) + f"<answer>{REFERENCE}</answer>",
        f"<X_RAY><thinking>x</thinking><answer></answer>{REFERENCE}",
    ],
)
async def test_only_the_one_answer_between_tags_is_judged(serve: Serve, text: str) -> None:
    """Without exactly one answer in its tags, nothing of a response reaches the judge."""
    async with serve(judge=ScriptedJudge(default="YES")) as client:
        (result,) = await scored(client, sample("x") | {"response": text})

    assert result["components"]["accuracy_llm"]["value"] == 0.0
    assert result["components"]["accuracy_llm"]["source"] == "rule"
    assert result["components"]["format"]["value"] == 0.0


async def test_a_yes_without_a_witness_is_no_reward_and_no_zero(serve: Serve) -> None:
    """An answer that shares nothing with the reference is unscored when one judge alone says YES."""
    async with serve(judge=ScriptedJudge(default="YES")) as client:
        alone, shared = await scored(
            client, sample("Basal consolidation"), sample("Basal pneumonia on the left")
        )

    assert alone["status"] == "unscored"
    assert alone["error"]["kind"] == "judge_abstained"
    assert shared["status"] == "scored"
    assert shared["components"]["accuracy_llm"]["value"] == 1.0


async def test_the_embedder_bears_witness(serve: Serve) -> None:
    """A cosine over the recipe's floor is witness enough for words that have nothing in common."""
    async with serve(judge=ScriptedJudge(default="YES"), embedder=SameVector()) as client:
        (result,) = await scored(client, sample("Basal consolidation"))

    assert result["status"] == "scored"
    assert result["reward"] == pytest.approx(1.0)


class SameVector:
    """An embedder to which all texts are one."""

    identity = "same"
    capacity = Capacity(batch=64)

    async def start(self) -> None:
        """Nothing is left to do."""

    async def embed(self, texts: Any) -> Any:
        """Give each the same vector."""
        return [np.ones(4, dtype=np.float16) / 2 for _ in texts]

    async def aclose(self) -> None:
        """Nothing is held."""


async def test_one_reference_that_fits_is_enough(serve: Serve) -> None:
    """An answer that contradicts one accepted reference is judged by the others."""
    judge = ScriptedJudge(default="YES")
    async with serve(judge=judge) as client:
        judge.batches.clear()
        references = ["left lower lobe pneumonia", "pneumonia of the right lower lobe"]
        (result,) = await scored(client, sample("right lower lobe pneumonia", references))

    assert result["components"]["accuracy_llm"]["value"] == 1.0
    assert [i.reference for batch in judge.batches for i in batch] == references[1:]


async def test_a_yes_has_to_hold_with_the_question_and_without(serve: Serve) -> None:
    """Where a question is given the judge is asked in both views, else in one."""
    judge = ScriptedJudge(default="YES")
    async with serve(judge=judge) as client:
        judge.batches.clear()
        await scored(client, sample("pneumonia, lower left", question=QUESTION))
        asked = [inquiry.view for batch in judge.batches for inquiry in batch]
        judge.batches.clear()
        await scored(client, sample("pneumonia, lower left"))
        blind = [inquiry.view for batch in judge.batches for inquiry in batch]

    assert sorted(asked) == ["as_written", "without_question"]
    assert blind == ["as_written"]


@pytest.mark.parametrize(
    ("answer", "reference", "question", "value"),
    [
        ("500 mg", "0.5 g", None, 1.0),
        ("Yes, it is.", "yes", "Is there a fracture?", 1.0),
        ("No", "yes", "Is there a fracture?", 0.0),
        ("B", "Pneumonia", "Which?\nA. Asthma\nB. Pneumonia", 1.0),
    ],
)
async def test_what_is_plain_is_settled_without_a_model(
    serve: Serve, answer: str, reference: str, question: str | None, value: float
) -> None:
    """Quantities, yes and no, and option letters are decided by rule."""
    judge = ScriptedJudge(default="NO" if value else "YES")
    async with serve(judge=judge) as client:
        judge.batches.clear()
        (result,) = await scored(client, sample(answer, reference, question=question))

    assert result["components"]["accuracy_llm"]["value"] == value
    assert not judge.batches


async def test_another_engines_yes_bears_witness(serve: Serve) -> None:
    """A cascade asks its second engine about a YES that nothing else supports, and pays if it agrees."""
    first = ScriptedJudge(default="YES")
    second = ScriptedJudge({("Basal consolidation", REFERENCE): "YES"}, default="NO")
    async with serve(judge=Cascade(first, second, escalates=True)) as client:
        agreed, alone = await scored(
            client, sample("Basal consolidation"), sample("Infiltrate at the base")
        )

    assert agreed["components"]["accuracy_llm"]["value"] == 1.0
    assert alone["error"]["kind"] == "judge_abstained"


async def test_the_second_engines_own_yes_needs_no_witness(serve: Serve) -> None:
    """It is what a YES of the first would be shown to, so it is not asked again."""
    first, second = ScriptedJudge(default="NO"), ScriptedJudge(default="YES")
    judge = Cascade(first, second, escalates=True, only_terms=True)
    async with serve(judge=judge) as client:
        second.batches.clear()
        (result,) = await scored(client, sample("Something white has filled the base"))

    assert result["components"]["accuracy_llm"]["value"] == 1.0
    assert result["components"]["accuracy_llm"]["answered_by"] == "second"
    assert [i.view for batch in second.batches for i in batch] == [View.AS_WRITTEN]


async def test_an_engine_for_terms_is_not_asked_about_answers_to_questions(serve: Serve) -> None:
    """A language model beside it judges them, by the pair as written alone."""
    first, second = ScriptedJudge(default="YES"), ScriptedJudge(default="YES")
    judge = Cascade(first, second, escalates=True, only_terms=True)
    async with serve(judge=judge) as client:
        first.batches.clear()
        second.batches.clear()
        await scored(client, sample("Pneumonia", question=QUESTION), sample("Pneumonia"))

    asked = [
        [(i.question, i.view) for batch in engine.batches for i in batch]
        for engine in (first, second)
    ]
    assert asked == [[(None, View.AS_WRITTEN)], [(QUESTION, View.AS_WRITTEN)]]


async def test_a_second_engine_is_a_fourth_vote(serve: Serve) -> None:
    """Where there is a cascade, votes may be four, and the fourth is the other engine's."""
    judge = Cascade(ScriptedJudge(default="YES"), ScriptedJudge(default="NO"), escalates=True)
    item = {"question": QUESTION, "reference": REFERENCE, "answer": "pneumonia"}
    async with serve(judge=judge) as client:
        reply = await client.post("/judge", json={"items": [item], "votes": 4})
    async with serve() as client:
        refused = await client.post("/judge", json={"items": [item], "votes": 4})

    votes = {vote["view"]: vote["verdict"] for vote in reply.json()["results"][0]["votes"]}
    assert votes.pop("other_engine") == "NO"
    assert set(votes.values()) == {"YES"}
    assert refused.status_code == 422
