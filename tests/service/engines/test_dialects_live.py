"""The ways to ask, on a real server: point MEDREWARD_TEST_JUDGE_URL at a vLLM to run these.

Any model will do: it is the ways that are compared, not the verdicts judged.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from medreward.engines.judge import Inquiry, Judgement
from medreward.engines.judges.openai import OpenAiJudge, WayName
from medreward.engines.templates import load_templates
from medreward.errors import ProblemKind
from tests.support.problems import judgement, problem

URL = os.environ.get("MEDREWARD_TEST_JUDGE_URL", "")

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.vllm,
    pytest.mark.skipif(not URL, reason="MEDREWARD_TEST_JUDGE_URL names no server"),
]

TEMPLATES = load_templates()
ANSWERS = ["left lower lobe", "right lower lobe", "basal left lung", "no effusion", "Herz: größer"]
INQUIRIES = [
    *(Inquiry(TEMPLATES["match"], answer, "left lower lobe") for answer in ANSWERS),
    *(Inquiry(TEMPLATES["equivalence"], a, "left lower lobe", "Which lobe?") for a in ANSWERS),
]
ROUNDING = 0.02
"""What half precision and other batch sizes move."""


@asynccontextmanager
async def started(way: WayName) -> AsyncIterator[OpenAiJudge]:
    """A judge of the live server; the first model that it serves."""
    async with httpx.AsyncClient(trust_env=False) as http:
        served = (await http.get(f"{URL.rstrip('/')}/models")).json()
    judge = OpenAiJudge(URL, model=served["data"][0]["id"], way=way, coverage_floor=0.0)
    try:
        await judge.start()
        yield judge
    finally:
        await judge.aclose()


async def told(way: WayName) -> list[float]:
    """What each judgement gives to YES, by one way."""
    async with started(way) as judge:
        answers = await judge.decide(INQUIRIES)
    assert all(isinstance(answer, Judgement) for answer in answers), answers
    return [answer.p_yes for answer in answers if isinstance(answer, Judgement)]


async def test_completions_and_chat_agree() -> None:
    """The prompt is the same to the token, whoever applies the chat template."""
    assert await told("chat") == pytest.approx(await told("completions"), abs=ROUNDING)


async def test_a_cheaper_way_than_chat_is_taken() -> None:
    """A vLLM knows how to take many prompts at once."""
    async with started("auto") as judge:
        assert judge.way == "completions"
        assert judge.capacity.batch > 1


async def test_a_grade_is_had_by_every_way() -> None:
    """Six digits, whatever the way to ask for a verdict."""
    for way in ("auto", "chat"):
        async with started(way) as judge:
            (grade,) = await judge.decide([Inquiry(TEMPLATES["report"], "clear lungs", "clear")])
        assert judgement(grade).coverage is not None


async def test_what_is_too_long_is_refused_and_costs_its_neighbours_nothing() -> None:
    """No way reads a part of an answer."""
    long = Inquiry(TEMPLATES["match"], "lobe " * 500_000, "left lower lobe")
    async with started("auto") as judge:
        before, refused, after = await judge.decide([INQUIRIES[0], long, INQUIRIES[1]])

    judgement(before)
    judgement(after)
    problem(refused, ProblemKind.TOO_LONG)
