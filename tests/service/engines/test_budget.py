"""What a paid judge costs, and where the money ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from typing import Any

import pytest
from dirty_equals import IsApprox

from medreward.engines.judge import Inquiry, Judgement
from medreward.engines.judges.openai import OpenAiJudge
from medreward.engines.remote.budget import Caps, Ledger, Prices, Usage
from medreward.engines.templates import load_templates
from medreward.errors import Problem, ProblemKind
from medreward.telemetry.metrics import Metrics
from tests.service.engines.judge_servers import MODEL, FakeServer, Hosts

MATCH = load_templates()["match"]
INQUIRIES = [Inquiry(MATCH, f"answer {n}", "ref") for n in range(8)]
PRICES = Prices(prompt=2.0, completion=10.0)
DOLLAR = Usage(prompt=450_000, completion=10_000)
"""Costs exactly one."""


def ledger(**caps: float) -> Ledger:
    """A ledger with these caps."""
    return Ledger(PRICES, Caps(**caps))


def test_tokens_are_priced_by_the_million() -> None:
    """Prompts and replies each at their own price."""
    assert PRICES.cost(DOLLAR) == IsApprox(1.0)
    assert PRICES.cost(Usage()) == 0.0


def test_a_reply_is_booked_on_the_run_that_asked() -> None:
    """And on the day."""
    book = ledger()

    with book.asking("run-a", INQUIRIES[:2]):
        book.charge(INQUIRIES[:2], DOLLAR)

    assert [book.spent_on("run-a"), book.spent_on("run-b")] == [IsApprox(1.0), 0.0]
    assert book.spent_today == IsApprox(1.0)


def test_what_several_runs_wait_for_is_shared() -> None:
    """An inquiry that is asked once for two runs costs each the half; a third pays nothing."""
    book = ledger()

    with book.asking("a", INQUIRIES[:2]), book.asking("b", INQUIRIES[:1]), book.asking("c", []):
        book.charge(INQUIRIES[:2], DOLLAR)

    spent = [book.spent_on(run) for run in ("a", "b", "c")]
    assert spent == [IsApprox(0.75), IsApprox(0.25), 0.0]


def test_what_nobody_waits_for_any_longer_is_paid_all_the_same() -> None:
    """Probes, and answers whose callers have gone, count for the day."""
    book = ledger(per_day=1.0)

    book.charge(INQUIRIES, DOLLAR)

    assert book.refusal("any") is not None


@pytest.mark.parametrize(
    ("caps", "setting"),
    [
        ({"per_run": 1.0}, "MEDREWARD_JUDGE_MAX_COST_PER_RUN"),
        ({"per_day": 1.0}, "MEDREWARD_JUDGE_MAX_COST_PER_DAY"),
    ],
)
def test_when_a_budget_is_spent_the_reason_names_the_setting(
    caps: dict[str, float], setting: str
) -> None:
    """It is a refusal, not a verdict, and trying again later does not help."""
    book = ledger(**caps)
    with book.asking("run", INQUIRIES):
        assert book.refusal("run") is None
        book.charge(INQUIRIES, DOLLAR)

    refusal = book.refusal("run")
    assert refusal is not None
    assert refusal.kind is ProblemKind.JUDGE_REFUSED
    assert not refusal.retryable
    assert setting in refusal.message
    assert "is spent" in refusal.message


def test_one_runs_budget_is_not_anothers() -> None:
    """A run that has spent its own stops; the others go on. Requests without a run share one."""
    book = ledger(per_run=1.0)
    with book.asking("greedy", INQUIRIES), book.asking(None, []):
        book.charge(INQUIRIES, DOLLAR)

    assert book.refusal("greedy") is not None
    assert book.refusal("modest") is None
    assert book.refusal(None) is None


def test_what_a_run_with_money_waits_for_is_asked() -> None:
    """An inquiry is refused only where no run that waits for it has money left."""
    book = ledger(per_run=1.0)
    with book.asking("greedy", INQUIRIES):
        book.charge(INQUIRIES, DOLLAR)

    with book.asking("greedy", INQUIRIES[:2]), book.asking("modest", INQUIRIES[:1]):
        assert book.refusal_of(INQUIRIES[0]) is None
        assert book.refusal_of(INQUIRIES[1]) is not None


def test_a_new_day_has_new_money() -> None:
    """The day turns at midnight UTC; a run's budget does not turn."""
    days = [date(2026, 1, 1)]
    book = Ledger(PRICES, Caps(per_run=5.0, per_day=1.0), today=lambda: days[0])
    with book.asking("run", INQUIRIES):
        book.charge(INQUIRIES, DOLLAR)
    assert book.refusal("run") is not None

    days[0] = date(2026, 1, 2)

    assert book.refusal("run") is None
    assert [book.spent_today, book.spent_on("run")] == [0.0, IsApprox(1.0)]


def test_without_caps_nothing_is_refused() -> None:
    """Tokens are counted all the same."""
    book = ledger()
    book.charge(INQUIRIES, Usage(10**12, 10**12))

    assert book.refusal("run") is None


def test_runs_are_remembered_up_to_a_bound() -> None:
    """A service that lives for months does not grow with every run it served."""
    book = ledger()
    for n in range(10_050):
        with book.asking(f"run {n}", INQUIRIES[:1]):
            book.charge(INQUIRIES[:1], DOLLAR)

    remembered = [n for n in range(10_050) if book.spent_on(f"run {n}")]
    assert remembered == list(range(50, 10_050))


def test_closing_leaves_nothing_behind() -> None:
    """Also what was opened twice, or never."""
    book = ledger()
    book.open("a", INQUIRIES)
    book.open("a", INQUIRIES[:2])
    book.open("b", INQUIRIES)
    for run, inquiries in (("a", INQUIRIES), ("a", INQUIRIES[:2]), ("b", INQUIRIES), ("c", [])):
        book.close(run, inquiries)
    book.close("never", INQUIRIES)

    book.charge(INQUIRIES, DOLLAR)

    assert [book.spent_on(run) for run in ("a", "b", "never")] == [0.0, 0.0, 0.0]


@asynccontextmanager
async def paid(server: FakeServer, book: Ledger, **options: Any) -> AsyncIterator[OpenAiJudge]:
    """A judge that costs money."""
    judge = OpenAiJudge(
        "http://judge/v1", model=MODEL, ledger=book, transport=Hosts(judge=server), **options
    )
    try:
        await judge.start()
        yield judge
    finally:
        await judge.aclose()


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("kind", "way"), [("vllm", "completions"), ("llamacpp", "completions"), ("openai", "chat")]
)
async def test_the_judge_books_the_tokens_that_its_server_counts(kind: str, way: str) -> None:
    """Whatever the way: a hundred tokens a prompt, on the run that asked."""
    metrics = Metrics()
    book = Ledger(Prices(prompt=1.0), count=metrics.count_judge_usage)
    async with paid(FakeServer(kind), book, way=way) as judge:
        with book.asking("run", INQUIRIES):
            await judge.decide(INQUIRIES)

    assert book.spent_on("run") == IsApprox(8 * 100 / 1_000_000)
    counted = metrics.registry.get_sample_value(
        "medreward_judge_tokens_total", {"direction": "prompt"}
    )
    assert counted is not None
    assert counted >= 800
    assert metrics.registry.get_sample_value("medreward_judge_cost_total") is not None


@pytest.mark.anyio
async def test_a_judge_whose_budget_is_spent_asks_nothing() -> None:
    """Its server hears no more; each inquiry has its reason."""
    server, book = FakeServer("openai"), Ledger(Prices(prompt=1_000.0), Caps(per_run=0.5))
    async with paid(server, book) as judge:
        with book.asking("run", INQUIRIES):
            answers = [(await judge.decide([inquiry]))[0] for inquiry in INQUIRIES]
            server.asked.clear()
            refused = await judge.decide(INQUIRIES)
        with book.asking("other", INQUIRIES):
            others = await judge.decide(INQUIRIES)

    assert [isinstance(answer, Judgement) for answer in answers] == [True] * 5 + [False] * 3
    assert {p.kind for p in refused if isinstance(p, Problem)} == {ProblemKind.JUDGE_REFUSED}
    assert all(isinstance(answer, Judgement) for answer in others)
    assert len(server.asked) == len(others)


@pytest.mark.anyio
async def test_a_run_that_leaves_pays_for_what_it_asked() -> None:
    """A caller whose deadline passes first is not asked for its money in the name of another."""
    server, book = FakeServer("openai"), Ledger(Prices(prompt=1_000.0))
    async with paid(server, book) as judge:
        with book.asking("hasty", INQUIRIES):
            asking = asyncio.create_task(judge.decide(INQUIRIES))
            await asyncio.sleep(0)
        await asking

    assert [book.spent_on("hasty"), book.spent_on(None)] == [IsApprox(0.8), 0.0]


@pytest.mark.anyio
@pytest.mark.parametrize("tokens", [10**400, 10**30, -5, True, "100", None, 1.5])
async def test_a_number_of_tokens_that_cannot_be_costs_nothing(tokens: object) -> None:
    """The verdict counts, is asked for once, and no budget is spent on nonsense."""
    server, book = FakeServer("openai"), Ledger(Prices(prompt=1_000.0), Caps(per_day=5.0))
    async with paid(server, book) as judge:
        told = server.chat({"messages": [{"role": "user", "content": "?"}]})
        server.says = {**told, "usage": {"prompt_tokens": tokens}}  # type: ignore[dict-item]
        server.asked.clear()
        (answer,) = await judge.decide(INQUIRIES[:1])

    assert isinstance(answer, Judgement)
    assert len(server.asked) == 1
    assert book.refusal(None) is None
