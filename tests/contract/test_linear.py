"""No text takes the square of its length: twice the bytes are twice the CPU time, on every route.

CPU time of this process alone, the least of several rounds, so that a busy machine changes nothing.
"""

import asyncio
import gc
import json
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from medreward.admission import Caller, Deadline
from medreward.engines.embedders.hashed import HashedEmbedder
from medreward.engines.judges.scripted import ScriptedJudge
from medreward.guards.chain import GRADING
from medreward.guards.normal import clear_cache
from medreward.http.bodies import Weight, parse
from medreward.http.compat.texts import response_in, without_end
from medreward.http.schemas import RewardRequest
from medreward.pipeline import Trace, grade, score
from medreward.samples import Item, Sample
from medreward.service import Service
from medreward.settings import Settings

MOST = 2.5
ROUNDS = 20
"""At most: a machine with other work may need many until one is undisturbed."""
SMALLEST_S = 0.002
"""Less CPU time is no matter, and not measured well."""

UNITS = {
    "combining marks": "e\u0345\u0301",
    "marks behind what is hidden": "\u200b\u0301\u0345",
    "marks that are letters": "\uff9e\u0301",
    "numbers": "12.5 ",
    "powers": "10\u2079/L ",
    "nested arrays": "[[1]],",
    "repeated units": "5 mg/kg ",
    "lexicon words": "no left mass or effusion, possibly ",
    "tags": "<thinking></thinking><answer>",
    "options": "A. x ",
    "entities": "&lt;",
    "words of graders": "the verdict on each criterion, yes ",
}
QUICK = ("combining marks", "repeated units", "tags")
ANSWER_BYTES, RESPONSE_BYTES = 8_000, 120_000
"""Half of what a text and a response may have."""


def of_bytes(unit: str, size: int) -> str:
    """A text of about so many bytes, of one unit."""
    return unit * (size // len(unit.encode()))


async def rewarded(service: Service, sample: Sample) -> None:
    """Score one sample."""
    caller = Caller(Deadline.after(3600))
    await score([sample], service.recipe(None), service.context, caller=caller, trace=Trace())


async def in_the_answer(service: Service, unit: str, factor: int) -> None:
    """`/reward`, with the text in answer, reference and question."""
    text = of_bytes(unit, factor * ANSWER_BYTES)
    response = f"<answer>{text}</answer>"
    await rewarded(service, Sample(response=response, reference=f"{text} x", question=text))


async def in_the_response(service: Service, unit: str, factor: int) -> None:
    """`/reward`, with the text around the answer."""
    text = of_bytes(unit, factor * RESPONSE_BYTES)
    await rewarded(service, Sample(response=text, reference="left"))


async def in_front_of_criteria(service: Service, unit: str, factor: int) -> None:
    """`/reward` by the recipe `rubric`."""
    text = of_bytes(unit, factor * ANSWER_BYTES)
    criteria = [{"text": f"Says {text}.", "points": 1}]
    told = {"response": text, "reference": "", "question": text, "criteria": criteria}
    caller, recipe = Caller(Deadline.after(3600)), service.recipe("rubric")
    sample = Sample.model_validate(told)
    await score([sample], recipe, service.context, caller=caller, trace=Trace())


async def graded(service: Service, unit: str, factor: int) -> None:
    """`/judge`."""
    text = of_bytes(unit, factor * ANSWER_BYTES)
    item = Item(answer=text, reference=f"{text} x", question=text)
    template, caller = service.templates["equivalence"], Caller(Deadline.after(3600))
    rules = GRADING[template.name]
    await grade([item], template, 1, rules, service.context, caller=caller, trace=Trace())


async def in_a_prompt(_: Service, unit: str, factor: int) -> None:
    """`/compat/openrlhf`, with a query that differs from its prompt at the end."""
    text = of_bytes(unit, factor * RESPONSE_BYTES)
    response_in(f"{text}x{text}", f"{text}y")
    without_end(text)


async def as_a_body(_: Service, unit: str, factor: int) -> None:
    """A body, weighed and parsed."""
    text = of_bytes(unit, 4 * factor * RESPONSE_BYTES)
    extra = f"[{text}1]" if unit.startswith("[") else json.dumps(text)
    body = f'{{"samples":[{{"response":"\\ud83d","reference":"b","extra":{{"a":{extra}}}}}]}}'
    Weight().add(body.encode())
    parse(RewardRequest, bytearray(body.encode()), max_samples=1)


ROUTES: tuple[Callable[[Service, str, int], Coroutine[Any, Any, None]], ...] = (
    in_the_answer,
    in_the_response,
    in_front_of_criteria,
    graded,
    in_a_prompt,
    as_a_body,
)


@pytest.mark.xdist_group("alone")
@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in UNITS],
)
@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.__name__)
def test_twice_the_bytes_take_twice_the_time(
    route: Callable[[Service, str, int], Coroutine[Any, Any, None]], name: str
) -> None:
    """Whatever a text is made of, and wherever it stands."""

    async def measured() -> tuple[float, float]:
        settings = Settings(judge="scripted", embedder="hashed", recipe="medix-r1-guarded")
        service = Service(settings, judge=ScriptedJudge(), embedder=HashedEmbedder())
        await service.load()
        # The first reading of any text loads lexicons and compiles patterns.
        await route(service, UNITS[name], 1)
        least = {1: float("inf"), 2: float("inf")}
        for _ in range(ROUNDS):
            for factor, before in least.items():
                clear_cache()
                # A collection scans all that other tests have left; the server collects by the clock.
                gc.collect()
                gc.disable()
                started = time.process_time()
                await route(service, UNITS[name], factor)
                least[factor] = min(before, time.process_time() - started)
                gc.enable()
            if least[2] <= MOST * least[1]:
                break
        await service.aclose()
        return least[1], least[2]

    once, twice = asyncio.run(measured())

    assert twice <= MOST * max(once, SMALLEST_S)
