"""The ways to ask, on a real server: point MEDREWARD_TEST_JUDGE_URL at a vLLM to run these.

Any model will do: it is the ways that are compared, not the verdicts judged.
"""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx
import pytest

from medreward.engines.judge import Inquiry, Judgement
from medreward.engines.judges.openai import OpenAiJudge, WayName
from medreward.engines.prompts.fence import Fence
from medreward.engines.remote.dialects import Scoring, all_choices
from medreward.engines.remote.discovery import Visit, Wanted
from medreward.engines.remote.http_client import Reply, json_of
from medreward.engines.templates import load_templates
from medreward.errors import Problem, ProblemKind, SetupError

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


async def test_scoring_agrees_where_it_is_taken() -> None:
    """It is refused for a model that spreads a label over several tokens, and says so."""
    try:
        scored = await told("scoring")
    except SetupError as exc:
        pytest.skip(str(exc))
    assert scored == pytest.approx(await told("completions"), abs=ROUNDING)


async def test_a_score_is_the_share_of_its_two_tokens() -> None:
    """Whatever the model: what scoring tells is what completions tell of the same two tokens."""
    async with httpx.AsyncClient(base_url=URL.removesuffix("/v1"), trust_env=False) as http:

        async def ask(method: str, path: str, body: Mapping[str, object] | None) -> Reply:
            url = path if path.startswith("/") else f"/v1/{path}"
            response = await http.request(method, url, json=body, timeout=60)
            return Reply(response.status_code, response.content)

        model = json_of(await ask("GET", "models", None))["data"][0]["id"]
        match, asked = TEMPLATES["match"], INQUIRIES[: len(ANSWERS)]
        completions = await Visit(Wanted(model, Fence(secret=""), 0.0, [match]), ask).completions()
        yes, no = (completions.ids[match][label][0] for label in ("YES", "NO"))
        scoring = Scoring(completions, {match: (yes, no)}, max_prompt_bytes=2000)
        scored, told = [
            json_of(await ask("POST", request.path, request.body))
            for way in (scoring, completions)
            for request in way.requests(asked)
        ]

    masses = [completions.masses(choice, match) or {} for choice in all_choices(told)]
    shares = [mass[yes] / (mass[yes] + mass[no]) for mass in masses]
    answers = [answer for answer in scoring.read(scored, asked) if isinstance(answer, Judgement)]
    assert [answer.p_yes for answer in answers] == pytest.approx(shares, abs=ROUNDING)


async def test_a_cheaper_way_than_chat_is_taken() -> None:
    """A vLLM knows how to take many prompts at once."""
    async with started("auto") as judge:
        assert judge.way in {"scoring", "completions"}
        assert judge.capacity.batch > 1


async def test_a_grade_is_had_by_every_way() -> None:
    """Six digits, whatever the way to ask for a verdict."""
    for way in ("auto", "chat"):
        async with started(way) as judge:
            (grade,) = await judge.decide([Inquiry(TEMPLATES["report"], "clear lungs", "clear")])
        assert isinstance(grade, Judgement)
        assert grade.coverage is not None


async def test_what_is_too_long_is_refused_and_costs_its_neighbours_nothing() -> None:
    """No way reads a part of an answer."""
    long = Inquiry(TEMPLATES["match"], "lobe " * 500_000, "left lower lobe")
    async with started("auto") as judge:
        before, refused, after = await judge.decide([INQUIRIES[0], long, INQUIRIES[1]])

    assert isinstance(before, Judgement)
    assert isinstance(after, Judgement)
    assert isinstance(refused, Problem)
    assert refused.kind is ProblemKind.TOO_LONG
