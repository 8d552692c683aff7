"""Answers that need no model: the same words, yes or no, an option, a denial, a quantity.

Only plain cases are settled; the judge decides the rest.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from medreward.guards.absence import denied_alike, normal_alike
from medreward.guards.choice import NO_OPTIONS, option, read_options
from medreward.guards.decoration import plain_of, undecorated
from medreward.guards.lexicon import words_of
from medreward.guards.normal import Normal
from medreward.guards.pair import Pair, Span
from medreward.guards.quantities import same_quantity
from medreward.guards.yes_no import yes_no

MAX_WORDS = 24
"""Words of an answer that restates the question, at most."""

_INSIDE = re.compile(r"[,;:.!?()\[\]\n/<>=+]")
_GAPS = frozenset({"", " "})
_COPULA = re.compile(r"\b(?:is|are|was|were)(?: the| an?)? {1,2}$")
_EMPTY = frozenset(["a", "an", "the", "is", "are", "was", "were", "in", "on", "at", "of", "within"])
"""Words around the reference that need not stand in the question."""



class Settled(NamedTuple):
    """A verdict that needs no model."""

    says_yes: bool
    rule: str
    """One of `equal`, `option`, `yes_no`, `denied`, `normal`, `restated`, `quantity`, `number`."""
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
    decided = decided or _ruled(normal_alike(bare), "normal")
    decided = decided or _ruled(_restated(bare), "restated") or same_quantity(bare)
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


def _restated(pair: Pair) -> bool | None:
    """Return True if an answer is the reference with words of the question around it.

    Either side may have such words, in the question's order: `The central vein is occluded` to
    `Which vessel is occluded?`. The other order may say the reverse.
    """
    question = pair.question
    if question is None or len(pair.answer.tokens) > MAX_WORDS or not pair.reference.tokens:
        return None
    said, meant = pair.answer.derived(plain_of), pair.reference.derived(plain_of)
    start = said.find(meant)
    if start < 0 or said == meant or any(sign.isdigit() for sign in meant):
        return None
    before, behind = said[:start], said[start + len(meant) :]
    if _INSIDE.search(before + behind) or before[-1:] not in _GAPS or behind[:1] not in _GAPS:
        return None
    asked = question.derived(_asked)
    around = [[word for word in side.split() if word not in _EMPTY] for side in (before, behind)]
    # `Is the left lobe affected` is a question.
    is_question = bool(around[1]) and _COPULA.search(f"{before} ") is not None
    if asked is None or all(around) or is_question or "non" in around[0]:
        return None
    words = around[0] or around[1]
    if _is_in_order(words, asked):
        return True
    # `The affected lobe is …` says the same as `Which lobe is affected?`.
    is_turned = bool(around[0]) and _COPULA.search(before) is not None and len(words) == len("ab")
    return True if is_turned and set(words) <= set(asked) else None


def _asked(question: Normal) -> tuple[str, ...] | None:
    """Return the words of a question in order; None if it asks for what is not, or offers several."""
    against = words_of("yes_no", "denials", "doubts", "back") | words_of("carriers", "comparing")
    is_usable = against.isdisjoint(question.vocabulary) and read_options(question) is NO_OPTIONS
    return tuple(plain_of(question).replace("?", " ").split()) if is_usable else None


def _is_in_order(words: Sequence[str], asked: Sequence[str]) -> bool:
    left = iter(asked)
    return all(word in left for word in words)
