"""The cost of a paid judge: tokens are counted and priced, and a day's spending can be capped."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime

from medreward.errors import Problem, ProblemKind

MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one reply."""

    prompt: int = 0
    completion: int = 0


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices of a million tokens, in any currency."""

    prompt: float = 0.0
    completion: float = 0.0

    def cost(self, usage: Usage) -> float:
        """Compute the cost of one reply."""
        return (usage.prompt * self.prompt + usage.completion * self.completion) / MILLION


Count = Callable[[int, int, float], None]
"""Receives each reply's prompt tokens, completion tokens, and cost."""


def _ignore(_prompt: int, _completion: int, _cost: float) -> None:
    """Count nothing."""


def _today() -> date:
    return datetime.now(UTC).date()


class CostTracker:
    """Adds up the cost of replies, and refuses further requests once the day's cap is reached.

    Requests in flight when the cap is reached are still paid. Each process has a tracker of its own.
    """

    def __init__(
        self,
        prices: Prices | None = None,
        max_per_day: float | None = None,
        *,
        count: Count = _ignore,
        today: Callable[[], date] = _today,
    ) -> None:
        self._prices = prices or Prices()
        self._max_per_day = max_per_day
        self._count = count
        self._today = today
        self._day = today()
        self._spent_today = 0.0

    @property
    def spent_today(self) -> float:
        """Money spent since midnight, UTC."""
        today = self._today()
        if today != self._day:
            self._day, self._spent_today = today, 0.0
        return self._spent_today

    def refusal(self) -> Problem | None:
        """Return why no further request is sent, or None while the day has money left."""
        cap = self._max_per_day
        if cap is None or self.spent_today < cap:
            return None
        message = f"the judge's budget for today (UTC) ({cap:g}) is spent"
        raising = "raise MEDREWARD_JUDGE_MAX_COST_PER_DAY"
        return Problem(ProblemKind.JUDGE_REFUSED, f"{message}: {raising}")

    def charge(self, usage: Usage) -> None:
        """Add the cost of one reply."""
        cost = self._prices.cost(usage)
        self._count(usage.prompt, usage.completion, cost)
        self._spent_today = self.spent_today + cost
