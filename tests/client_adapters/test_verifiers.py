"""What the reward for verifiers promises; tests/real_trainers drives verifiers itself.

Here a trace is a fake, built from its contract.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from medreward_client import NoReward
from medreward_client.trainers.verifiers import medreward, reward_of
from tests.client_adapters.conftest import SCORED, UNSCORED

pytestmark = pytest.mark.anyio

DATA = SimpleNamespace(prompt_text="Which lobe?", answer="Left lower lobe")


@dataclass
class FakeTrace:
    """The part of a trace that a reward sees."""

    last_reply: str
    task: SimpleNamespace = field(
        default_factory=lambda: SimpleNamespace(key="t1", data=DATA),
    )
    metrics: dict[str, float] = field(default_factory=dict)

    def record_metrics(self, values: Mapping[str, float]) -> None:
        """Keep them."""
        self.metrics.update(values)


def trace(answer: str) -> FakeTrace:
    """Build the trace of a rollout that ended with an answer."""
    return FakeTrace(f"<thinking>Seen.</thinking><answer>{answer}</answer>")


async def test_a_trace_gets_its_reward_and_its_components(url: str) -> None:
    """The reward is returned, and its components are recorded as metrics."""
    scored = trace(SCORED)

    reward = await reward_of(scored, "Left lower lobe", base_url=url)

    assert reward == pytest.approx(0.64660, abs=1e-4)
    assert scored.metrics == {
        "medreward/accuracy_llm": 1.0,
        "medreward/accuracy_embed": 0.0,
        "medreward/format": 1.0,
    }


async def test_a_trace_without_a_reward_raises(url: str) -> None:
    """With the reason, and without a word of the patient."""
    with pytest.raises(NoReward, match="judge_refused") as caught:
        await reward_of(trace(UNSCORED), "Left lower lobe", base_url=url)

    assert "Roe" not in str(caught.value)


@pytest.mark.parametrize("name", ["reference", "answer"])
async def test_a_configured_reward_finds_the_reference(
    url: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the task's `reference`, or else its `answer`."""
    monkeypatch.setenv("MEDREWARD_URL", url)
    task = SimpleNamespace(**{name: SCORED})

    assert await medreward(task, trace(SCORED)) == pytest.approx(1.0)
