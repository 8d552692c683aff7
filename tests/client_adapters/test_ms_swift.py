"""What ms-swift's reward functions promise; tests/real_trainers drives ms-swift itself.

Here its registry is a fake, built from its contract: a dictionary `swift.rewards.orms`.
"""

import asyncio
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from medreward_client import NoReward
from medreward_client.trainers.ms_swift import register
from tests.client_adapters.conftest import SCORED, UNSCORED
from tests.client_adapters.told_service import RANKED, ToldService


@pytest.fixture
def orms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The registry of the fake ms-swift."""
    (tmp_path / "swift").mkdir()
    (tmp_path / "swift" / "__init__.py").touch()
    (tmp_path / "swift" / "rewards.py").write_text("orms = {'math': object}\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry: dict[str, Any] = importlib.import_module("swift.rewards").orms
    yield registry
    for name in ("swift", "swift.rewards"):
        del sys.modules[name]


def step(functions: list[Any], *answers: str, number: int = 0) -> list[list[float | None]]:
    """Call functions as a step of ms-swift does: with rows as columns, in a loop of its own."""
    completions = [f"<thinking>Seen.</thinking><answer>{answer}</answer>" for answer in answers]
    columns = {
        "messages": [
            [{"role": "user", "content": "Which?"}, {"role": "assistant", "content": completion}]
            for completion in completions
        ],
        "solution": ["Left lower lobe"] * len(answers),
        "trainer_state": SimpleNamespace(global_step=number),
    }

    async def together() -> list[list[float | None]]:
        return list(await asyncio.gather(*(func(completions, **columns) for func in functions)))

    return asyncio.run(together())


def test_functions_work_in_the_loop_of_each_step(url: str, orms: dict[str, Any]) -> None:
    """The reward and its components, named as they are registered, step after step."""
    register(base_url=url)
    functions = [orms[name](args=None) for name in ("medreward", "medreward_accuracy_llm")]

    for number in range(3):
        rewards = step(functions, SCORED, "right lower lobe", number=number)
        assert rewards == [pytest.approx([0.64660, 0.10471], abs=1e-4), [1.0, 0.0]]
    assert [function.__name__ for function in functions] == ["medreward", "medreward_accuracy_llm"]
    assert "math" in orms


def test_what_cannot_be_said_is_raised(url: str, orms: dict[str, Any]) -> None:
    """A None would become a 0 there, so a sample without a reward raises, without its text."""
    register(base_url=url)

    with pytest.raises(NoReward, match="judge_refused") as caught:
        step([orms["medreward"]()], SCORED, UNSCORED)

    assert "Roe" not in str(caught.value)


def test_a_reward_may_be_imputed(url: str, orms: dict[str, Any]) -> None:
    """Imputing the mean of a group changes none of its advantages."""
    register(base_url=url, on_unscored="impute")

    (rewards,) = step([orms["medreward"]()], SCORED, "right lower lobe", UNSCORED)

    assert rewards[2] == pytest.approx((0.64660 + 0.10471) / 2, abs=1e-4)


def test_groups_are_declared_for_recipes_that_compare_them(
    service: ToldService, orms: dict[str, Any]
) -> None:
    """By their number of samples, and all functions of a step share the request."""
    register(base_url=service.url, num_generations=3)
    functions = [orms[name]() for name in ("medreward", "medreward_format")]
    columns = {"messages": [[{"role": "user", "content": "?"}]] * 6, "solution": ["left"] * 6}

    async def together() -> list[list[float | None]]:
        return list(await asyncio.gather(*(func([RANKED] * 6, **columns) for func in functions)))

    assert asyncio.run(together()) == [[0.5] * 6, [1.0] * 6]
    assert [sample["group_size"] for sample in service.samples] == [3] * 6
    assert len({sample["group"] for sample in service.samples}) == 2
