"""The recipe medix-r1 over HTTP against the published rules, written anew with their expressions."""

import itertools
import math
import re
from collections.abc import Sequence

import httpx
import numpy as np
import pytest

from medreward.engines.capacity import Capacity
from medreward.engines.embedder import Vector
from medreward.engines.judges.scripted import ScriptedJudge
from medreward.errors import Problem
from tests.conftest import Serve

REFERENCE = "left lower lobe"
TAG = "<X_RAY>"

HEADINGS = ["<X_RAY>", "<x_ray>\n", "<CT_SCAN>", "", "An image. <X_RAY>"]
THINKING = [
    "<thinking>Dense.</thinking>",
    "<thinking>Never closed",
    "",
    "<thinking></thinking>\n\n",
]
ANSWERS = [
    "<answer>left lower lobe</answer>",
    "<answer> Left lower lobe. </answer>",
    "<answer>right lower lobe</answer>",
    "<answer>L</answer>",
    "<answer></answer>",
    "<answer>lobe: left lower?</answer>",
    "<answer>left lower lobe</answer><answer>right</answer>",
    "<answer>basal left",
    "left lower lobe",
]
TAILS = ["", "\n", " done"]

OPINIONS = {  # answer -> (the judge says YES, cosine)
    "Left lower lobe": (True, 0.97),
    "right lower lobe": (False, 0.95),
    "basal left": (True, 0.5),
}


class TableEmbedder:
    """An embedder whose cosines with the reference are a table's."""

    identity = "table"
    capacity = Capacity(batch=1024)

    async def start(self) -> None:
        """Nothing is left to do."""

    async def embed(self, texts: Sequence[str]) -> Sequence[Vector | Problem]:
        """Put the reference on the first axis, and each text at its angle to it."""
        return [self._vector(1.0 if text == REFERENCE else cosine_of(text)) for text in texts]

    async def aclose(self) -> None:
        """Nothing is held."""

    @staticmethod
    def _vector(cosine: float) -> Vector:
        return np.array([cosine, math.sqrt(1 - cosine**2)], dtype=np.float32)


def table_judge() -> ScriptedJudge:
    """A judge whose verdicts are the table's."""
    script: dict[tuple[str, str | None], str] = {
        (answer, REFERENCE): "YES" if yes else "NO" for answer, (yes, _) in OPINIONS.items()
    }
    return ScriptedJudge(script, default="NO")


def cosine_of(answer: str) -> float:
    """What the table says of an answer; a text that it does not know is far away."""
    return OPINIONS.get(answer, (False, 0.1))[1]


def says_yes(answer: str) -> bool:
    """What the table's judge says of an answer."""
    return OPINIONS.get(answer, (False, 0.1))[0]


def published_reward(response: str, modality: str) -> float:
    """MediX-R1's reward (arXiv 2602.23363), rule by rule, as docs/recipes.md has it."""
    text = re.sub(r"\s*(<|>|/)\s*", r"\1", response)
    block = re.search(r"<answer>(.*?)</answer>", text, re.DOTALL)
    answer = (block[1] if block else text).strip().strip(".")
    if len(answer) <= 1 or any(sign in answer for sign in ("__", ":", "?")):
        judge = embedding = 0.0
    elif answer == REFERENCE:
        judge = embedding = 1.0
    else:
        judge, embedding = float(says_yes(answer)), float(cosine_of(answer) >= 0.8)
    start = text.find("<thinking>")
    body = text[start:].strip() if start >= 0 else ""
    shape = re.fullmatch(r"<thinking>.*?</thinking>\s*<answer>.*?</answer>", body, re.DOTALL)
    heading = start >= 0 and text[:start].upper() == f"<{modality}>"
    accuracy = 0.575 * judge + 0.375 * embedding + 0.05 * heading
    return 0.9 * accuracy + 0.1 * bool(shape)


@pytest.mark.anyio
async def test_response_shapes_get_the_published_reward(serve: Serve) -> None:
    """540 shapes of a response get the published reward to 1e-12, over HTTP."""
    shapes = ["".join(parts) for parts in itertools.product(HEADINGS, THINKING, ANSWERS, TAILS)]
    samples = [{"response": s, "reference": f"{TAG}{REFERENCE}"} for s in shapes]
    async with serve(judge=table_judge(), embedder=TableEmbedder()) as client:
        reply = await client.post("/reward", json={"samples": samples})

    rewards = [result["reward"] for result in reply.json()["results"]]
    expected = [published_reward(shape, "X_RAY") for shape in shapes]
    assert len(shapes) == 540
    assert rewards == pytest.approx(expected, abs=1e-12, rel=0)
    assert len({round(reward, 6) for reward in expected}) > 10


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("response", "reward"),
    [
        ("<X_RAY><thinking>t</thinking><answer>Left lower lobe</answer>", 1.0),
        ("<X_RAY><thinking>t</thinking><answer>right lower lobe</answer>", 0.4825),
        ("<X_RAY><thinking>t</thinking><answer>pneumothorax</answer>", 0.145),
        ("left lower lobe", 0.855),
    ],
)
async def test_the_worked_values(serve: Serve, response: str, reward: float) -> None:
    """The four worked values of the recipe's documentation hold."""
    async with serve(judge=table_judge(), embedder=TableEmbedder()) as client:
        reply: httpx.Response = await client.post(
            "/reward", json={"samples": [{"response": response, "reference": f"{TAG}{REFERENCE}"}]}
        )

    (result,) = reply.json()["results"]
    assert math.isclose(result["reward"], reward, abs_tol=1e-12)
    weighted = [part["weight"] * part["value"] for part in result["components"].values()]
    assert math.isclose(math.fsum(weighted), reward, abs_tol=1e-12)
