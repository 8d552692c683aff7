"""Outcomes made by hand."""

from typing import Any

from medreward.audit.cases import Case, Suite
from medreward.audit.outcomes import Outcome
from medreward.audit.report import Audited, Card, make_card
from medreward.engines.judge import Verdict

AUDITED = Audited(
    date="2026-01-31",
    judge="scripted",
    embedder="hashed:256",
    recipe="medix-r1",
    recipe_fingerprint="sha256:aa",
    template_fingerprint="sha256:bb",
    service="0.1.0",
    cases="all",
)


def case(suite: Suite, stratum: str, *, equivalent: bool = False, **given: Any) -> Case:
    """A case whose texts do not matter."""
    known = Case(suite, stratum, "an answer", "a reference", equivalent)
    return known._replace(**given)


def outcome(case: Case, p_yes: float | None = 0.0, **given: Any) -> Outcome:
    """What a judge with that probability, and a recipe that follows it, make of a case."""
    verdict: Verdict | None = None if p_yes is None else "YES" if p_yes >= 0.5 else "NO"
    is_paid = verdict == "YES"
    known = Outcome(case, verdict, p_yes, None, is_paid, float(is_paid))
    return known._replace(**given)


def card(*outcomes: Outcome, examples: int = 5) -> Card:
    """The card of some outcomes."""
    return make_card(outcomes, AUDITED, examples=examples)
