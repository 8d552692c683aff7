"""A judge too slow for a request: it is refused at once with what fits, and sent in parts."""

import asyncio
from dataclasses import asdict

import httpx
import orjson
import pytest
from starlette.types import ASGIApp

from medreward.app import create_app
from medreward.engines.embedders.hashed import HashedEmbedder
from medreward.settings import Settings
from medreward_client import AsyncRewardClient, Item, Sample, Scored
from medreward_client.pauses import Pauses
from tests.conftest import Serve
from tests.support.engines import PacedJudge
from tests.support.service import over_asgi

pytestmark = pytest.mark.anyio

LEAST = 32
"""Questions that are never refused: two batches."""
KNOWN = 2 * LEAST
"""Questions after which the speed of a judge is known."""
FASTER = 400.0
"""How much faster the service's time goes in the tests of a whole step."""
STEP = 512
PAUSES = Pauses(first_s=0.001, longest_s=0.01)


def samples(first: int, number: int, **more: object) -> list[dict[str, object]]:
    """Make samples that only a judge can decide; those of other numbers are other samples."""
    return [
        asdict(Sample(f"<answer>{word(n)}oma</answer>", f"{word(n)}itis", id=str(n))) | more
        for n in range(first, first + number)
    ]


def word(number: int) -> str:
    """Write a number in letters, since rules compare digits."""
    return "".join("abcdefghij"[int(digit)] for digit in str(number))


async def reward(
    client: httpx.AsyncClient, *asked: dict[str, object], deadline_ms: int = 60_000
) -> httpx.Response:
    """Send samples in one request."""
    return await client.post("/reward", json={"samples": asked, "deadline_ms": deadline_ms})


async def test_a_request_is_refused_at_once_with_what_fits(serve: Serve) -> None:
    """The judge is not asked; as many samples as the refusal names are accepted."""
    judge = PacedJudge(400.0)
    async with serve(judge=judge) as client:
        await reward(client, *samples(0, KNOWN))
        refused = await reward(client, *samples(100, 300), deadline_ms=500)
        asked, error = judge.asked, refused.json()["error"]
        part = await reward(client, *samples(100, error["fits"]), deadline_ms=500)

    assert (refused.status_code, error["kind"], error["retryable"]) == (
        429,
        "deadline_too_short",
        True,
    )
    assert refused.headers["Retry-After"] == "1"
    assert f"send at most {error['fits']} at once" in error["message"]
    assert asked == KNOWN
    assert LEAST <= error["fits"] < 200
    assert part.status_code == 200


async def test_nothing_is_refused_before_the_speed_is_known(serve: Serve) -> None:
    """A service that has just started answers with what it has by the deadline."""
    async with serve(judge=PacedJudge(400.0)) as client:
        reply = await reward(client, *samples(0, 300), deadline_ms=100)

    assert reply.status_code == 200
    assert {r["error"]["kind"] for r in reply.json()["results"] if r["error"]} == {"deadline"}


async def test_only_what_the_judge_must_be_asked_counts(serve: Serve) -> None:
    """Cached, settled and equal samples are free, however many they are."""
    settled = samples(100, 200, response="<answer>Left lung</answer>", reference="left lung")
    async with serve(judge=PacedJudge(400.0)) as client:
        await reward(client, *samples(0, KNOWN))
        reply = await reward(
            client, *samples(0, KNOWN), *settled, *samples(500, LEAST) * 9, deadline_ms=1000
        )

    assert reply.json()["counts"]["scored"] == KNOWN + 200 + 9 * LEAST


@pytest.mark.parametrize(
    ("number", "references", "fits"), [(LEAST, 1, None), (LEAST + 1, 1, LEAST), (LEAST, 2, 16)]
)
async def test_two_batches_are_never_refused(
    serve: Serve, number: int, references: int, fits: int | None
) -> None:
    """However slow the judge was, they pass, so that its speed is measured again."""
    names = [f"{word(n)}itis" for n in range(references)]
    async with serve(judge=PacedJudge(400.0)) as client:
        await reward(client, *samples(0, KNOWN))
        reply = await reward(client, *samples(100, number, reference=names), deadline_ms=5)

    assert (reply.status_code == 429) is (fits is not None)
    assert fits is None or reply.json()["error"]["fits"] == fits


async def test_one_item_is_never_refused(serve: Serve) -> None:
    """It cannot be divided, so it is asked even if it has more questions."""
    criteria = [{"text": word(n), "points": 1.0} for n in range(2 * LEAST)]
    body = {"template": "rubric", "items": [{"answer": "left", "criteria": criteria}]}
    async with serve(judge=PacedJudge(400.0)) as client:
        await reward(client, *samples(0, KNOWN))
        reply = await client.post("/judge", json=body | {"deadline_ms": 5})

    assert reply.status_code == 200


async def test_the_questions_of_others_count(serve: Serve) -> None:
    """What fits is what the judge can answer after those that wait already."""
    async with serve(judge=PacedJudge(400.0)) as client:
        await reward(client, *samples(0, KNOWN))
        alone = await reward(client, *samples(100, 300), deadline_ms=500)
        other = asyncio.create_task(reward(client, *samples(500, 100)))
        await asyncio.sleep(0.01)
        beside = await reward(client, *samples(100, 300), deadline_ms=500)
        await other

    assert beside.json()["error"]["fits"] < alone.json()["error"]["fits"] - 50


async def test_answers_to_judge_are_refused_likewise(serve: Serve) -> None:
    """The number that fits is of items."""
    items = [asdict(Item(f"{word(n)}oma", f"{word(n)}itis")) for n in range(100, 150)]
    async with serve(judge=PacedJudge(400.0)) as client:
        await reward(client, *samples(0, KNOWN))
        reply = await client.post("/judge", json={"items": items, "deadline_ms": 5})

    assert (reply.status_code, reply.json()["error"]["fits"]) == (429, LEAST)


async def test_a_trainer_that_cannot_split_is_not_refused(serve: Serve) -> None:
    """What is judged by its deadline is cached, so its repetitions finish the request."""
    asked = samples(100, 100)
    body = {
        "query": [sample["response"] for sample in asked],
        "prompts": [""] * len(asked),
        "labels": [sample["reference"] for sample in asked],
    }
    async with serve(judge=PacedJudge(400.0)) as client:
        await reward(client, *samples(0, KNOWN))
        replies = [
            await client.post("/compat/openrlhf?deadline_ms=150", json=body) for _ in range(4)
        ]

    assert (replies[0].status_code, replies[-1].status_code) == (503, 200)


class Hurried(httpx.ASGITransport):
    """The way to a service whose time goes faster: a deadline is that much shorter there."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(app)
        self.statuses: list[int] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request with its deadline in the service's time."""
        body = orjson.loads(request.content)
        body["deadline_ms"] = round(body["deadline_ms"] / FASTER)
        sent = httpx.Request("POST", request.url, content=orjson.dumps(body))
        reply = await super().handle_async_request(sent)
        self.statuses.append(reply.status_code)
        return reply


@pytest.mark.parametrize("is_one_call", [True, False], ids=["one call", "a call a sample"])
async def test_a_step_passes_by_default_at_two_judgements_a_second(*, is_one_call: bool) -> None:
    """All 512 samples are scored in order, by requests of two minutes, which fit 192 each."""
    step = [
        Sample(f"<answer>{word(n)}oma</answer>", f"{word(n)}itis", id=str(n)) for n in range(STEP)
    ]
    right: dict[tuple[str, str | None], str]
    right = {(f"{word(n)}oma", f"{word(n)}itis"): "YES" for n in range(0, STEP, 3)}
    judge = PacedJudge(2.0 * FASTER, right)
    settings = Settings(judge="scripted", embedder="hashed", recipe="medix-r1")
    app = create_app(settings, judge=judge, embedder=HashedEmbedder())
    async with over_asgi(app):
        hurried = Hurried(app)
        async with AsyncRewardClient(
            "http://localhost", transport=hurried, pauses=PAUSES
        ) as client:
            if is_one_call:
                results = list((await client.reward(step)).results)
            else:
                results = await asyncio.gather(*map(client.reward, step))

    assert [result.id for result in results] == [sample.id for sample in step]
    verdicts = [
        result.components["accuracy_llm"].value for result in results if isinstance(result, Scored)
    ]
    assert verdicts == [float(n % 3 == 0) for n in range(STEP)]
    assert 429 in hurried.statuses
    assert judge.asked == STEP
