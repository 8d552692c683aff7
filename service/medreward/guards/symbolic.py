"""Answers that need no model: the same words, yes or no, an option, a denial, a quantity.

Only plain cases are settled; the judge decides the rest.
"""

from typing import NamedTuple

from medreward.guards.absence import denied_alike, normal_alike
from medreward.guards.choice import option
from medreward.guards.decoration import plain_of, undecorated
from medreward.guards.normal import Normal
from medreward.guards.pair import Pair, Span
from medreward.guards.quantities import same_quantity
from medreward.guards.yes_no import yes_no


class Settled(NamedTuple):
    """A verdict that needs no model."""

    says_yes: bool
    rule: str
    """One of `equal`, `option`, `yes_no`, `denied`, `normal`, `quantity`, `number`."""
    span: Span
    """Range in the answer."""
    reference_span: Span | None = None


def settle(pair: Pair) -> Settled | None:
    """Settle a plain case; None if a model has to decide.

    Answer and reference are compared without their decoration.
    """
    bare = pair._replace(answer=undecorated(pair.answer), reference=undecorated(pair.reference))
    answer, reference = bare.answer, bare.reference
    decided = _equal(answer, reference) or _ruled(option(pair, bare), "option")
    decided = decided or _ruled(yes_no(bare), "yes_no") or _ruled(denied_alike(bare), "denied")
    decided = decided or _ruled(normal_alike(bare), "normal") or same_quantity(bare)
    if decided is None:
        return None
    says_yes, rule = decided
    whole, against = Span(0, len(pair.answer.text)), Span(0, len(pair.reference.text))
    return Settled(says_yes, rule, whole, against)


Decision = tuple[bool, str] | None
"""True for yes and False for no, with the rule; None if undecided."""


def _equal(answer: Normal, reference: Normal) -> Decision:
    said = answer.derived(plain_of)
    return (True, "equal") if said and said == reference.derived(plain_of) else None


def _ruled(agree: bool | None, rule: str) -> Decision:
    return None if agree is None else (agree, rule)
