"""Quantities that have another value or unit in the reference."""

from collections.abc import Sequence

from medreward.guards.measures import Quantity, measured
from medreward.guards.normal import Normal
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
