"""Same request, same versions: the same rewards, however samples are ordered, batched or crowded.

Under the default recipe, with the real models of the profile `embedded-small`.
"""

import asyncio
import json
import random
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest

from medreward.engines.judges.cascade import reader_for
from medreward.engines.templates import load_templates
from medreward.parsing.sample import parse_sample
from medreward.recipes.recipe import load_recipes
from medreward.samples import Limits, Sample
from medreward.settings import Settings
from tests.conftest import RealEngines, Serve

EXAMPLES = Path(__file__).parents[2] / "examples" / "rollouts.jsonl"
ROLLOUTS: list[dict[str, Any]] = [
    json.loads(line) for line in EXAMPLES.read_text("utf-8").splitlines()
]
A_BATCH = ROLLOUTS[::5]

pytestmark = [pytest.mark.anyio, pytest.mark.models]

Outcome = tuple[float | None, dict[str, float], dict[str, float]]


async def outcomes(
    client: httpx.AsyncClient, samples: Sequence[dict[str, Any]]
) -> dict[str, Outcome]:
    """Score samples: each one's reward, signal values, and probabilities and cosines."""
    reply = await client.post("/reward", json={"samples": samples}, timeout=300)
    return {result["id"]: outcome(result) for result in reply.json()["results"]}


def outcome(result: dict[str, Any]) -> Outcome:
    """What of a result has to be the same every time."""
    parts = result["components"]
    measured = {
        f"{name} {key}": part[key]
        for name, part in parts.items()
        for key in ("p_yes", "cosine")
        if part[key] is not None
    }
    return result["reward"], {name: part["value"] for name, part in parts.items()}, measured


def assert_same(one: dict[str, Outcome], other: dict[str, Outcome]) -> None:
    """Rewards and signals are identical; probabilities and cosines agree to 1e-4."""
    assert {i: o[:2] for i, o in one.items()} == {i: o[:2] for i, o in other.items()}
    for sample, (_, _, measured) in one.items():
        assert measured == pytest.approx(other[sample][2], abs=1e-4)


def serving(serve: Serve, engines: RealEngines) -> AbstractAsyncContextManager[httpx.AsyncClient]:
    """A service as it comes, but for the models, which are loaded already."""
    recipe = Settings().recipe
    return serve(judge=engines.judge, embedder=engines.embedder, recipe=recipe)


@pytest.fixture(scope="module")
def known() -> dict[str, Outcome]:
    """What the batch was worth the first time."""
    return {}


SEEDS = [0, 1, 2, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 10))]


@pytest.mark.parametrize("seed", SEEDS)
async def test_order_and_batch_size_change_nothing(
    serve: Serve, real_engines: RealEngines, known: dict[str, Outcome], seed: int
) -> None:
    """Ten orders, cut into requests of ten sizes, each with an empty cache: identical rewards."""
    shuffle = random.Random(seed)  # noqa: S311 - a test's order is no secret
    samples = shuffle.sample(A_BATCH, len(A_BATCH))
    size = shuffle.randint(1, len(samples))
    found: dict[str, Outcome] = {}
    async with serving(serve, real_engines) as client:
        for start in range(0, len(samples), size):
            found |= await outcomes(client, samples[start : start + size])

    assert len(found) == len(A_BATCH)
    assert_same(found, known or found)
    known.update(found)


async def test_a_crowd_of_requests_changes_nothing(
    serve: Serve, real_engines: RealEngines, known: dict[str, Outcome]
) -> None:
    """32 requests at once, each a random part of the batch: identical rewards in each."""
    shuffle = random.Random(32)  # noqa: S311 - as above
    crowd = [shuffle.sample(A_BATCH, shuffle.randint(1, len(A_BATCH))) for _ in range(32)]
    async with serving(serve, real_engines) as client:
        replies = await asyncio.gather(*(outcomes(client, samples) for samples in crowd))
        alone = known or await outcomes(client, A_BATCH)

    for reply in replies:
        assert_same(reply, {sample: alone[sample] for sample in reply})


async def test_the_judge_is_asked_each_distinct_question_once(
    serve: Serve, real_engines: RealEngines
) -> None:
    """Whoever asks at the same time, judge calls are the distinct questions, each in two views."""
    judge_alone = A_BATCH[:6]
    async with serving(serve, real_engines) as client:
        replies = await asyncio.gather(
            *(client.post("/reward", json={"samples": judge_alone}, timeout=300) for _ in range(8))
        )

    calls = [reply.json()["counts"]["judge_calls"] for reply in replies]
    recipe = load_recipes()[Settings().recipe]
    parsed_samples = [parse_sample(Sample(**sample), recipe, Limits()) for sample in judge_alone]
    can_read = reader_for(real_engines.judge, load_templates()[recipe.template])
    asked = {
        (r.question, r.references, r.answer)
        for r in parsed_samples
        # An answer in Japanese is settled without this judge, whose tokenizer does not know it.
        if r.needs_models and can_read(r.answer)
    }
    assert asked
    assert sum(calls) == 2 * len(asked)
