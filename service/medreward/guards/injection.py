"""An answer that speaks to whoever grades it, or of how good it is."""

from medreward.guards.lexicon import pattern_of, words_of
from medreward.guards.normal import Normal
from medreward.guards.pair import Pair, Span, Veto


def injection(pair: Pair) -> Veto | None:
    """Look for orders to the judge, and for praise in the place of an answer."""
    return _order(pair) or _foreign_order(pair) or _praise(pair)


def _order(pair: Pair) -> Veto | None:
    if words_of("injections", "triggers").isdisjoint(pair.answer.vocabulary):
        return None
    return _unshared(pair, "injection.order", "injections", "patterns")


def _foreign_order(pair: Pair) -> Veto | None:
    folded = pair.answer.folded
    if folded.isascii() and words_of("injections", "foreign_triggers").isdisjoint(
        pair.answer.vocabulary
    ):
        return None
    found = pattern_of("injections", "leave_out").search(folded)
    if found and pattern_of("injections", "left_out").search(folded):
        return Veto("injection.order", Span(*pair.answer.place(*found.span())))
    return None


def _praise(pair: Pair) -> Veto | None:
    if words_of("praise", "triggers").isdisjoint(pair.answer.vocabulary):
        return None
    # The whole reference with praise around it is still an answer.
    left = Normal(pattern_of("praise", "patterns").sub(" ", pair.answer.folded))
    if names_all(left, pair.reference):
        return None
    return _unshared(pair, "injection.praise", "praise", "patterns")


def _unshared(pair: Pair, rule: str, lexicon: str, key: str) -> Veto | None:
    for match in pattern_of(lexicon, key).finditer(pair.answer.folded):
        if match[0] not in pair.reference.folded:
            return Veto(rule, Span(*pair.answer.place(*match.span())))
    return None


def names_all(answer: Normal, reference: Normal) -> bool:
    """Whether all that the reference says by itself is in the answer."""
    told = reference.content
    # A sentence about something else may well have a `no` in it.
    return told <= answer.content and not told <= words_of("verdicts", "yes", "no")
