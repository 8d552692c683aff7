"""What a paid judge costs: tokens counted, priced, and stopped where the money ends."""

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime

from medreward.engines.judge import Inquiry, View
from medreward.errors import Problem, ProblemKind

RUNS_KEPT = 10_000
MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one reply."""

    prompt: int = 0
    completion: int = 0


@dataclass(frozen=True, slots=True)
class Prices:
    """Money for a million tokens."""

    prompt: float = 0.0
    completion: float = 0.0

    def cost(self, usage: Usage) -> float:
        """Price what was used."""
        return (usage.prompt * self.prompt + usage.completion * self.completion) / MILLION


@dataclass(frozen=True, slots=True)
class Caps:
    """The most that may be spent, in the money of the prices; None where there is no end."""

    per_run: float | None = None
    per_day: float | None = None


Count = Callable[[int, int, float], None]
"""Told of each reply: tokens of prompts, tokens of replies, cost."""


def _ignore(_prompt: int, _completion: int, _cost: float) -> None:
    """Count nothing."""


def _today() -> date:
    return datetime.now(UTC).date()


class Ledger:
    """Books what replies cost on the runs that asked, and says when a budget is spent.

    Requests that name no run share one. What is on its way when a budget ends is still paid, so a
    cap may be passed by the requests in flight. Each process has a ledger of its own.
    """

    def __init__(
        self,
        prices: Prices | None = None,
        caps: Caps | None = None,
        *,
        count: Count = _ignore,
        today: Callable[[], date] = _today,
    ) -> None:
        self._prices = prices or Prices()
        self._caps = caps or Caps()
        self._count = count
        self._today = today
        self._day = today()
        self._spent_today = 0.0
        self._spent: OrderedDict[str | None, float] = OrderedDict()
        self._asking: dict[Inquiry, Counter[str | None]] = {}

    @property
    def spent_today(self) -> float:
        """Spent since midnight, UTC."""
        self._turn_day()
        return self._spent_today

    def spent_on(self, run: str | None) -> float:
        """Spent on a run, as far as it is remembered."""
        return self._spent.get(run, 0.0)

    def refusal(self, run: str | None) -> Problem | None:
        """Tell why nothing more is asked for *run*, or None while there is money."""
        if self._caps.per_day is not None and self.spent_today >= self._caps.per_day:
            return _spent("for today (UTC)", self._caps.per_day, "MEDREWARD_JUDGE_MAX_COST_PER_DAY")
        if self._caps.per_run is not None and self.spent_on(run) >= self._caps.per_run:
            return _spent("for this run", self._caps.per_run, "MEDREWARD_JUDGE_MAX_COST_PER_RUN")
        return None

    def refusal_of(self, inquiry: Inquiry) -> Problem | None:
        """Tell why an inquiry is not asked: no run that waits for it has money left."""
        refusals = [self.refusal(run) for run in self._runs(inquiry)]
        return None if None in refusals else refusals[0]

    def open(self, run: str | None, inquiries: Sequence[Inquiry]) -> None:
        """Note that *run* is about to ask these."""
        for inquiry in inquiries:
            self._asking.setdefault(inquiry, Counter())[run] += 1

    def close(self, run: str | None, inquiries: Sequence[Inquiry]) -> None:
        """Note that *run* does not wait for these any longer."""
        for inquiry in inquiries:
            runs = self._asking.get(inquiry, Counter())
            runs[run] -= 1
            if runs[run] <= 0:
                del runs[run]
            if not runs:
                self._asking.pop(inquiry, None)

    @contextmanager
    def asking(self, run: str | None, inquiries: Sequence[Inquiry]) -> Iterator[None]:
        """Open these for *run*, and close them whatever happens."""
        self.open(run, inquiries)
        try:
            yield
        finally:
            self.close(run, inquiries)

    @contextmanager
    def until_booked(self, inquiries: Sequence[Inquiry]) -> Iterator[None]:
        """Keep the runs that wait for these now: they pay also where they leave before the reply."""
        waiting = [(run, i) for i in inquiries for run in self._waiting_for(i)]
        for run, inquiry in waiting:
            self.open(run, [inquiry])
        try:
            yield
        finally:
            for run, inquiry in waiting:
                self.close(run, [inquiry])

    def charge(self, inquiries: Sequence[Inquiry], usage: Usage) -> None:
        """Book one reply: in equal parts on its inquiries, and of each on the runs that wait for it."""
        cost = self._prices.cost(usage)
        self._count(usage.prompt, usage.completion, cost)
        self._turn_day()
        self._spent_today += cost
        for inquiry in inquiries:
            runs = self._runs(inquiry)
            for run in runs:
                self._book(run, cost / len(inquiries) / len(runs))

    def _runs(self, inquiry: Inquiry) -> list[str | None]:
        return self._waiting_for(inquiry) or [None]

    def _waiting_for(self, inquiry: Inquiry) -> list[str | None]:
        # A judge takes a second look of its own accord: who asked for the first one pays.
        first_look = inquiry._replace(view=View.AS_WRITTEN)
        return list(self._asking.get(inquiry, {}) or self._asking.get(first_look, {}))

    def _book(self, run: str | None, cost: float) -> None:
        self._spent[run] = self._spent.pop(run, 0.0) + cost
        if len(self._spent) > RUNS_KEPT:
            self._spent.popitem(last=False)

    def _turn_day(self) -> None:
        today = self._today()
        if today != self._day:
            self._day, self._spent_today = today, 0.0


def _spent(whose: str, cap: float, setting: str) -> Problem:
    message = f"the judge's budget {whose} ({cap:g}) is spent: raise {setting}"
    return Problem(ProblemKind.JUDGE_REFUSED, message)
