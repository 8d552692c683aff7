"""verifiers' own scoring of traces, against a running service; prime-rl trains on these traces."""

import asyncio
import json
import os
import subprocess
import sys
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import verifiers.v1 as vf

from medreward_client.trainers.verifiers import reward_of
from tests.support.judge_server import Models, failing_for
from tests.support.process import Service, dies_once

ANSWERS = ["pneumonia", "Pneumonia", "pneumothorax", "effusion"]
EXPECTED = [1.0, 0.6625, 0.145, 0.145]


class MedicalData(vf.TaskData):  # type: ignore[misc]
    """A row of a medical data set."""

    reference: str
    modality: str


class MedicalTask(vf.Task[MedicalData]):  # type: ignore[misc]
    """A task whose reward is a method, as docs/trainers/verifiers.md shows it."""

    address: str = ""
    """Where the service of the test is."""

    @vf.reward  # type: ignore[untyped-decorator]
    async def medical(self, trace: Any) -> float:
        """Reward the last reply."""
        data = self.data
        return await reward_of(
            trace, data.reference, modality=data.modality, base_url=self.address, deadline_s=60.0
        )


class PluggedTask(vf.Task[MedicalData]):  # type: ignore[misc]
    """A task without code for the reward: the configuration plugs it in."""


def trace_of(task: Any, answer: str) -> Any:
    """Give the trace of a rollout that ended with an answer."""
    return vf.Trace(
        task=vf.TraceTask(type=type(task).__name__, data=task.data, key=task.key, hash=task.hash),
        agent=vf.AgentInfo(config=vf.AgentConfig(model="policy")),
        root_reply=f"<X_RAY><thinking>Seen.</thinking><answer>{answer}</answer>",
    )


def data() -> MedicalData:
    """Give a row."""
    return MedicalData(prompt="What is seen?", reference="pneumonia", modality="X_RAY")


async def scored(task: Any) -> list[Any]:
    """Score a group of traces at once, as verifiers does; the outcome of each is in the trace."""
    traces = [trace_of(task, answer) for answer in ANSWERS]
    outcomes = await asyncio.gather(*(task.score(t) for t in traces), return_exceptions=True)
    for trace, outcome in zip(traces, outcomes, strict=True):
        if isinstance(outcome, Exception):
            # What verifiers' rollout does with what escapes from scoring.
            trace.record_error(outcome)
    return traces


def medical_task(service: Service) -> MedicalTask:
    """Build the task with the method."""
    task = MedicalTask(data())
    task.address = service.url
    return task


def test_a_method_rewards_traces(service: Service) -> None:
    """Each trace gets the service's reward under the method's name, and components as metrics."""
    traces = asyncio.run(scored(medical_task(service)))

    assert [trace.reward for trace in traces] == pytest.approx(EXPECTED)
    assert set(traces[0].rewards) == {"medical"}
    assert traces[2].metrics == {
        "medreward/accuracy_llm": 0.0,
        "medreward/accuracy_embed": 0.0,
        "medreward/modality": 1.0,
        "medreward/format": 1.0,
    }


def test_a_configuration_rewards_traces(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reward can be plugged into any task, and then needs no code."""
    monkeypatch.setenv("MEDREWARD_URL", service.url)
    plugged = {"medreward": {"fn": "medreward_client.trainers.verifiers:medreward"}}
    task = PluggedTask(data(), vf.TaskConfig(rewards=plugged))

    traces = asyncio.run(scored(task))

    assert [trace.reward for trace in traces] == pytest.approx(EXPECTED)
    assert set(traces[0].rewards) == {"medreward"}


def test_a_trace_without_a_reward_has_an_error(models: Models, service: Service) -> None:
    """It is marked as failed, its reward stays None, and no text of the sample is in the error."""
    models.rule = failing_for("effusion")

    traces = asyncio.run(scored(medical_task(service)))

    assert [bool(trace.errors) for trace in traces] == [False, False, False, True]
    assert traces[3].rewards == {"medical": None}
    assert "NoReward: 1 of 1 samples have no reward" in traces[3].last_error.message
    assert "effusion" not in traces[3].model_dump_json(include={"errors"})
    assert [trace.reward for trace in traces[:3]] == pytest.approx(EXPECTED[:3])


def test_a_service_that_is_killed_costs_no_reward(models: Models, service: Service) -> None:
    """It dies while it scores, comes back at its address, and every trace has its reward."""
    deaths: list[str] = []
    models.rule = dies_once(service, ANSWERS, deaths)

    traces = asyncio.run(scored(medical_task(service)))

    assert deaths
    assert [trace.reward for trace in traces] == pytest.approx(EXPECTED)


PACKAGE = """
import httpx
import verifiers.v1 as vf


class MedicalData(vf.TaskData):
    reference: str
    modality: str


class MedicalTask(vf.Task[MedicalData]):
    pass


class MedicalTaskset(vf.Taskset[MedicalTask, vf.TasksetConfig]):
    def load(self):
        data = MedicalData(prompt="What is seen?", reference="pneumonia", modality="X_RAY")
        return [MedicalTask(data, self.config.task)]


class OneCall(vf.Harness[vf.HarnessConfig]):
    EXECUTES_CODE = NEEDS_CONTAINER = False

    async def launch(self, ctx, trace, runtime, endpoint, secret, mcp_urls, data, **_):
        body = {"model": ctx.model, "messages": [{"role": "user", "content": data.prompt}]}
        async with httpx.AsyncClient(headers={"Authorization": f"Bearer {secret}"}) as http:
            (await http.post(f"{endpoint}/chat/completions", json=body)).raise_for_status()
        return vf.ProgramResult(exit_code=0, stdout="", stderr="")


__all__ = ["MedicalTaskset", "OneCall"]
"""


def test_an_evaluation_is_rewarded(models: Models, service: Service, tmp_path: Path) -> None:
    """`vf-eval` with the configuration of docs/trainers/verifiers.md, rollouts and all."""
    models.rule = failing_for("effusion")
    models.responses = cycle(
        f"<X_RAY><thinking>Seen.</thinking><answer>{answer}</answer>" for answer in ANSWERS
    )
    (tmp_path / "medical_v1.py").write_text(PACKAGE)
    (tmp_path / "eval.toml").write_text(f"""
        model = "policy"
        num_rollouts = {2 * len(ANSWERS)}
        output_dir = "out"
        push = false
        client = {{ base_url = "{models.url}", api_key_var = "NO_KEY" }}
        env.taskset.id = "medical_v1"
        env.agent.runtime.type = "subprocess"
        {table_of_the_page()}
    """)

    subprocess.run(  # noqa: S603 - the trainer's own command
        [Path(sys.executable).with_name("vf-eval"), "@", "eval.toml"],
        check=True,
        cwd=tmp_path,
        env=os.environ
        | {"MEDREWARD_URL": service.url, "NO_KEY": "none", "PYTHONPATH": str(tmp_path)},
    )

    (written,) = (tmp_path / "out").rglob("traces.jsonl")
    episodes = map(json.loads, written.read_text().splitlines())
    traces = [trace for episode in episodes for trace in episode["traces"]]
    rewards = [trace["rewards"]["medreward"] for trace in traces if trace["ok"]]
    assert sorted(reward["score"] for reward in rewards) == pytest.approx(sorted(2 * EXPECTED[:3]))
    failed = [trace for trace in traces if not trace["ok"]]
    assert [trace["rewards"] for trace in failed] == [{"medreward": None}] * 2


def table_of_the_page() -> str:
    """Read the configuration off the page that users read."""
    page = Path(__file__).parents[2] / "docs" / "trainers" / "verifiers.md"
    return page.read_text("utf-8").split("```toml\n")[1].split("```")[0]
