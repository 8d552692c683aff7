"""How the tests of guards write a pair."""

from medreward.guards.normal import normal
from medreward.guards.pair import Guard, Pair


def pair(answer: str, reference: str, question: str | None = None) -> Pair:
    """Put an answer beside its reference."""
    return Pair(normal(answer), normal(reference), None if question is None else normal(question))


def rule(guard: Guard, answer: str, reference: str, question: str | None = None) -> str | None:
    """Tell which rule of a guard an answer breaks."""
    veto = guard(pair(answer, reference, question))
    return None if veto is None else veto.rule
