"""What a paid judge costs, and where the money ends."""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import date

import pytest
from dirty_equals import IsApprox

from medreward.engines.judge import Inquiry, Judgement
from medreward.engines.judges.openai import OpenAiJudge, WayName
from medreward.engines.remote.budget import CostTracker, Prices, Usage
from medreward.engines.templates import load_templates
from medreward.errors import Problem, ProblemKind
from medreward.telemetry.metrics import Metrics
from tests.service.engines.judge_servers import MODEL, FakeServer, Hosts
from tests.support.problems import judgement, problem

MATCH = load_templates()["match"]
INQUIRIES = [Inquiry(MATCH, f"answer {n}", "ref") for n in range(8)]
PRICES = Prices(prompt=2.0, completion=10.0)
DOLLAR = Usage(prompt=450_000, completion=10_000)
"""Costs exactly one."""


def test_tokens_are_priced_by_the_million() -> None:
    """Prompts and replies each at their own price."""
    assert PRICES.cost(DOLLAR) == IsApprox(1.0)
    assert PRICES.cost(Usage()) == 0.0


def test_when_the_budget_is_spent_the_reason_names_the_setting() -> None:
    """It is a refusal, not a verdict, and trying again later does not help; without a cap there is none."""
    costs, free = CostTracker(PRICES, 2.0), CostTracker(PRICES)
    free.charge(Usage(10**12, 10**12))
    assert free.refusal() is None
    costs.charge(DOLLAR)
    assert costs.refusal() is None
    costs.charge(DOLLAR)

    refusal = problem(costs.refusal(), ProblemKind.JUDGE_REFUSED)
    assert not refusal.retryable
    assert "MEDREWARD_JUDGE_MAX_COST_PER_DAY" in refusal.message
    assert "is spent" in refusal.message


def test_a_new_day_has_new_money() -> None:
    """The day turns at midnight UTC."""
    days = [date(2026, 1, 1)]
    costs = CostTracker(PRICES, 1.0, today=lambda: days[0])
    costs.charge(DOLLAR)
    assert costs.refusal() is not None

    days[0] = date(2026, 1, 2)

    assert costs.refusal() is None
    assert costs.spent_today == 0.0


@asynccontextmanager
async def paid(
    server: FakeServer, costs: CostTracker, way: WayName = "auto"
) -> AsyncIterator[OpenAiJudge]:
    """A judge that costs money."""
    hosts = Hosts(judge=server)
    built = OpenAiJudge("http://judge/v1", model=MODEL, costs=costs, way=way, transport=hosts)
    async with aclosing(built) as judge:
        await judge.start()
        yield judge


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("kind", "way"), [("vllm", "completions"), ("llamacpp", "completions"), ("openai", "chat")]
)
async def test_the_tokens_that_a_server_counts_are_added_up(kind: str, way: WayName) -> None:
    """A hundred tokens a prompt, by every way; the metrics have them too."""
    metrics = Metrics()
    costs = CostTracker(Prices(prompt=1.0), count=metrics.count_judge_usage)
    async with paid(FakeServer(kind), costs, way) as judge:
        await judge.decide(INQUIRIES)

    assert costs.spent_today == IsApprox(8 * 100 / 1_000_000)
    counted = metrics.registry.get_sample_value(
        "medreward_judge_tokens_total", {"direction": "prompt"}
    )
    assert counted == 800
    assert metrics.registry.get_sample_value("medreward_judge_cost_total") is not None


@pytest.mark.anyio
async def test_a_judge_whose_budget_is_spent_asks_nothing() -> None:
    """Its server gets no further request; each inquiry has its reason."""
    server, costs = FakeServer("openai"), CostTracker(Prices(prompt=1_000.0), 0.5)
    async with paid(server, costs) as judge:
        answers = [(await judge.decide([inquiry]))[0] for inquiry in INQUIRIES]
        server.asked.clear()
        refused = await judge.decide(INQUIRIES)

    assert [isinstance(answer, Judgement) for answer in answers] == [True] * 5 + [False] * 3
    assert [p.kind for p in refused if isinstance(p, Problem)] == [ProblemKind.JUDGE_REFUSED] * 8
    assert server.asked == []


@pytest.mark.anyio
@pytest.mark.parametrize("tokens", [10**400, 10**30, -5, True, "100", None, 1.5])
async def test_a_number_of_tokens_that_cannot_be_costs_nothing(tokens: object) -> None:
    """The verdict counts, is asked for once, and no budget is spent on nonsense."""
    server, costs = FakeServer("openai"), CostTracker(Prices(prompt=1_000.0), 5.0)
    async with paid(server, costs) as judge:
        told = server.chat({"messages": [{"role": "user", "content": "?"}]})
        server.says = {**told, "usage": {"prompt_tokens": tokens}}  # type: ignore[dict-item]
        server.asked.clear()
        (answer,) = await judge.decide(INQUIRIES[:1])

    judgement(answer)
    assert len(server.asked) == 1
    assert costs.refusal() is None
