"""Quantities that have another value or unit in the reference, and those that are the same."""

import re
from collections.abc import Sequence

from medreward.guards.measures import Quantity, alone, measured
from medreward.guards.normal import Normal
from medreward.guards.numbered import CARDINALS
from medreward.guards.pair import Pair, Span, Veto

MAX_QUANTITIES = 64
"""Quantities of one text that are compared, at most; the judge decides longer lists."""


def quantities(pair: Pair) -> Veto | None:
    """Veto an answer with a quantity that the reference contradicts."""
    answer, reference = pair.answer.derived(_read), pair.reference.derived(_read)
    if not answer or not reference or max(len(answer), len(reference)) > MAX_QUANTITIES:
        return None
    for dimension in dict.fromkeys(quantity.dimension for quantity in answer):
        said = [quantity for quantity in answer if quantity.dimension == dimension]
        meant = [quantity for quantity in reference if quantity.dimension == dimension]
        found = _difference(_without(said, meant), _without(meant, said))
        if found is not None:
            rule, one, other = found
            span = Span(*pair.answer.place(*one.span))
            return Veto(rule, span, Span(*pair.reference.place(*other.span)))
    return None


def _read(text: Normal) -> tuple[Quantity, ...]:
    return measured(text.folded)


def _without(some: Sequence[Quantity], others: Sequence[Quantity]) -> list[Quantity]:
    return [one for one in some if not any(one.agrees(other) for other in others)]


Found = tuple[str, Quantity, Quantity] | None
"""Rule, quantity of the answer, and quantity of the reference that contradicts it."""


def _difference(said: list[Quantity], meant: list[Quantity]) -> Found:
    if not said or not meant:
        return None
    for one in said:
        for other in meant:
            if one.digits and one.digits == other.digits and one.unit != other.unit:
                return "quantity.unit", one, other
    return "quantity.value", said[0], meant[0]


_DIGIT = re.compile(r"\d")


def same_quantity(pair: Pair) -> tuple[bool, str] | None:
    """Settle an answer and a reference that are one quantity each, with the rule's name."""
    meant = pair.reference.derived(_number)
    if meant is None:
        return None
    said = pair.answer.derived(_number)
    if said is None or said.dimension != meant.dimension:
        return None
    if said.is_same(meant):
        return True, "quantity" if said.dimension else "number"
    is_plain = not said.dimension and said.is_point and meant.is_point
    return (False, "number") if is_plain else None


def _number(text: Normal) -> Quantity | None:
    bare = text.folded.strip(" \t\n\"'`*.!")
    said = CARDINALS.get(bare, text.folded)
    return alone(said) if _DIGIT.search(said) else None
