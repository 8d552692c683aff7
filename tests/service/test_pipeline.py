"""The pipeline of rewards: which of its work leaves the event loop free."""

import threading
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from medreward.admission import Caller, Deadline
from medreward.cache.memory import MemoryTier
from medreward.engines.embedders.hashed import HashedEmbedder
from medreward.engines.judge import Inquiry, Judgement
from medreward.engines.judges.cascade import Cascade
from medreward.engines.judges.scripted import ScriptedJudge
from medreward.inference.answers import Answers
from medreward.inference.bindings import JudgeBinding
from medreward.inference.resolver import Resolver
from medreward.offload import SMALL, Offloader
from medreward.pipeline import Trace, score
from medreward.recipes.recipe import load_recipes
from medreward.rewards.reward import Reward
from medreward.samples import Sample
from medreward.service import Service
from medreward.settings import Settings
from medreward.telemetry.metrics import Metrics

pytestmark = pytest.mark.anyio

T = TypeVar("T")

JUDGE = Cascade(ScriptedJudge(default="YES"), ScriptedJudge(default="YES"), escalates=True)


class WatchedResolver(Resolver[Inquiry, Judgement]):
    """A judge's resolver that keeps the thread of each look-up."""

    def __init__(self) -> None:
        super().__init__(JudgeBinding(JUDGE, timeout_s=60), MemoryTier(10**6), Metrics())
        self.threads: list[threading.Thread] = []

    def lookup(self, questions: Iterable[Inquiry], caller: Caller) -> Answers[Inquiry, Judgement]:
        """Note the thread, then look up."""
        self.threads.append(threading.current_thread())
        return super().lookup(questions, caller)


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    """A service with two judges that say YES."""
    service = Service(Settings(), judge=JUDGE, embedder=HashedEmbedder())
    await service.load()
    yield service
    await service.aclose()


@pytest.mark.parametrize(("number", "is_beside"), [(SMALL, False), (SMALL + 1, True)])
async def test_look_ups_of_a_large_request_leave_the_event_loop_free(
    service: Service, number: int, is_beside: bool
) -> None:
    """That of the second opinions too; those of a small one are made at once."""
    sample = {"reference": "left lower lobe pneumonia", "modality": "X_RAY"}
    said = "<X_RAY><thinking>Dense.</thinking><answer>Basal shadow {}</answer>"
    samples = [Sample(response=said.format(n), **sample) for n in range(number)]
    resolver = WatchedResolver()
    context = replace(service.context, judge_resolver=resolver)
    caller, recipe = Caller(Deadline.after(60)), service.recipe("medix-r1-guarded")

    results = await score(samples, recipe, context, caller=caller, trace=Trace())
    await resolver.aclose()

    here = threading.current_thread()
    assert [thread is not here for thread in resolver.threads] == [is_beside] * 2
    assert all(isinstance(result, Reward) for result in results)


class WatchedOffloader(Offloader):
    """An offloader that keeps how large each work was said to be."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    async def run(self, work: Callable[[], T], size: int) -> T:
        """Note the size, then run the work."""
        self.sizes.append(size)
        return await super().run(work, size)


BY_RULE = """
name = "accepted"
version = 1
description = "A signal that reads the whole response."
template = "equivalence"

[tags]

[signals.accept]
weight = 1.0
"""


@pytest.mark.parametrize("is_of_kind", [True, False])
async def test_signals_that_read_a_long_response_leave_the_event_loop_free(
    service: Service, tmp_path: Path, *, is_of_kind: bool
) -> None:
    """One long response is as much work as many samples; other signals have read theirs before."""
    file = tmp_path / "accepted.toml"
    file.write_text(BY_RULE)
    recipe = load_recipes([file])["accepted" if is_of_kind else "medix-r1"]
    sample = Sample(response="<answer>x</answer>" * 10_000, reference="left lower lobe")
    offload = WatchedOffloader()
    context = replace(service.context, offload=offload)

    await score([sample], recipe, context, caller=Caller(Deadline.after(60)), trace=Trace())
    offload.close()

    *_, composing = offload.sizes
    assert (composing > SMALL) is is_of_kind


CRITERIA = ({"text": "Names the side. " * 900, "points": 1},) * 4


@pytest.mark.parametrize(
    ("name", "more"),
    [("rubric", {"criteria": CRITERIA}), ("accepted", {"extra": {"hint": "left " * 13_000}})],
)
async def test_what_stands_beside_a_short_response_leaves_the_event_loop_free(
    service: Service, tmp_path: Path, name: str, more: dict[str, Any]
) -> None:
    """Criteria are read, and so is `extra`, however short the response is."""
    file = tmp_path / "accepted.toml"
    file.write_text(BY_RULE)
    sample = Sample.model_validate({"response": "left", "reference": "left lower lobe", **more})
    offload = WatchedOffloader()
    context = replace(service.context, offload=offload)
    caller = Caller(Deadline.after(60))

    await score([sample], load_recipes([file])[name], context, caller=caller, trace=Trace())
    offload.close()

    parsing, *_, composing = offload.sizes
    assert min(parsing, composing) > SMALL
