"""The rewards of all examples under the shipped recipes: recorded, and the same to the bit ever since.

After a deliberate change of a recipe: `python -m tests.contract.test_example_rewards`.
"""

import asyncio
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from medreward.app import create_app
from medreward.engines.embedders.hashed import HashedEmbedder
from medreward.engines.judge import Inquiry, Judgement
from medreward.engines.judges.scripted import ScriptedJudge
from medreward.errors import Problem
from medreward.settings import Settings
from tests.support.service import over_asgi

EXAMPLES = Path(__file__).parents[2] / "examples"
RECORDED = Path(__file__).with_name("recorded") / "example_rewards.json"
RECIPES = ("medix-r1", "medix-r1-guarded")
SHAPE = "<OTHER><thinking>Seen before.</thinking><answer>{}</answer>"


class DrawingJudge(ScriptedJudge):
    """A judge whose probabilities are drawn by a hash of the inquiry, so that all verdicts occur."""

    async def decide(self, inquiries: Sequence[Inquiry]) -> Sequence[Judgement | Problem]:
        """Draw a probability for each inquiry."""
        return [Judgement(("YES", "NO"), (p, 1 - p), 0.9) for p in map(_drawn, inquiries)]


def _drawn(inquiry: Inquiry) -> float:
    texts = (inquiry.answer, inquiry.reference, inquiry.question, inquiry.view)
    return hashlib.sha256(json.dumps(texts).encode()).digest()[0] / 255


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """Read the lines of an example file."""
    yield from map(json.loads, path.read_text("utf-8").splitlines())


def samples() -> list[dict[str, Any]]:
    """Make a sample of each line of `examples/` that has an answer and a reference."""
    found: list[dict[str, Any]] = list(rows(EXAMPLES / "rollouts.jsonl"))
    for row in rows(EXAMPLES / "answers.jsonl"):
        if row.get("reference"):
            said = SHAPE.format(row["answer"])
            found.append({"response": said, "reference": row["reference"]})
    for name in ("medical_questions", "medical_questions_val", "warm_up"):
        for row in rows(EXAMPLES / f"{name}.jsonl"):
            said = row.get("response", SHAPE.format(row["solution"].partition(">")[2]))
            texts = {"question": row["problem"], "reference": row["solution"]}
            found.append({"response": said, **texts})
    for row in rows(EXAMPLES / "evaluation" / "choice.jsonl"):
        for option in row["options"]:
            texts = {"question": row["question"], "reference": row["answer"]}
            found.append({"response": SHAPE.format(option), **texts})
    return found


async def scored(recipe: str) -> Mapping[str, Any]:
    """Score the examples; gives fingerprint, rewards and a digest of the reply without its timings."""
    settings = Settings(judge="scripted", embedder="hashed", recipe=recipe)
    app = create_app(settings, judge=DrawingJudge(), embedder=HashedEmbedder())
    async with over_asgi(app) as client:
        reply = await client.post("/reward", json={"samples": samples()})
    body = reply.json()
    assert body.keys() == {"results", "counts", "provenance", "timings_ms"}
    for part in (p for result in body["results"] for p in result["components"].values()):
        # A processor may add up the last digits of a product in another order.
        part["cosine"] = part["cosine"] and round(part["cosine"], 4)
    told = json.dumps([body["results"], body["counts"]])
    return {
        "fingerprint": body["provenance"]["fingerprint"],
        "rewards": [result["reward"] for result in body["results"]],
        "sha256": hashlib.sha256(told.encode()).hexdigest(),
    }


@pytest.mark.anyio
@pytest.mark.parametrize("recipe", RECIPES)
async def test_every_example_keeps_its_reward_and_its_reply(recipe: str) -> None:
    """Fingerprint, rewards and components of all examples are those that were recorded."""
    recorded = json.loads(RECORDED.read_text("utf-8"))[recipe]

    assert await scored(recipe) == recorded
    assert len(set(recorded["rewards"])) > 4


async def _record() -> None:
    found = {recipe: await scored(recipe) for recipe in RECIPES}
    RECORDED.write_text(json.dumps(found) + "\n", "utf-8")


if __name__ == "__main__":
    asyncio.run(_record())
