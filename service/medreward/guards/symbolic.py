"""Answers that need no model: the same words, yes or no, an option, a denial, a quantity.

Only plain cases are settled; the judge decides the rest.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from medreward.guards.absence import denied_alike, normal_alike
from medreward.guards.choice import NO_OPTIONS, option, read_options
from medreward.guards.decoration import plain, plain_of, undecorated
from medreward.guards.lexicon import lexicon, words_of
from medreward.guards.normal import Normal
from medreward.guards.pair import Pair, Span
from medreward.guards.quantities import same_quantity
from medreward.guards.yes_no import yes_no

MAX_WORDS = 24
"""Words of an answer that restates the question, at most."""

_INSIDE = re.compile(r"[,;:.!?()\[\]\n/<>=+]")
_COPULA = re.compile(r"\b(?:is|are|was|were)(?: the| an?)? {1,2}$")
_EMPTY = frozenset(["a", "an", "the", "is", "are", "was", "were", "in", "on", "at", "of", "within"])
"""Words around the reference that need not stand in the question."""

_IN_BRACKETS = re.compile(r"(\w[^()]{2,80}?) ?\(([A-Z]{2,8})\)")
_LISTED = re.compile(r"\s?[,;]\s(?:and )?|\s(?:and|&)\s")
_UNLISTED = re.compile(
    r"\d|[:()/.]|\b(?:or|no|not|without|with|than|then|from|to|of|but|neither|nor|both|respectively|followed)\b"
)
"""Matches what a list of equal items does not hold."""
_ORDERED = frozenset(
    ["order", "sequence", "respectively", "first", "then", "before", "after", "label", "labels"]
)
"""Words of a question that asks for an order."""


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
    decided = _equal(bare) or _ruled(option(pair, bare), "option")
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


def _equal(pair: Pair) -> Decision:
    answer, reference = pair.answer, pair.reference
    said, meant = answer.derived(plain_of), reference.derived(plain_of)
    if said and said == meant:
        return True, "equal"
    if said and answer.derived(_spelled_out) == reference.derived(_spelled_out):
        return True, "equal"
    items = reference.derived(_items)
    is_ordered = pair.question is not None and not _ORDERED.isdisjoint(pair.question.vocabulary)
    return (True, "equal") if items and not is_ordered and items == answer.derived(_items) else None


def _spelled_out(text: Normal) -> str:
    """Return the plain form of a text with its short forms of sides and places in full."""
    words, same = _short_forms()
    said = text.derived(plain_of)
    # `Left lower lobe (LLL)` says the same twice.
    if text.text.endswith(")") and (twice := _IN_BRACKETS.fullmatch(text.text)):
        term = plain(twice[1].lower())
        initials = "".join([word[0] for word in term.split()])
        said = term if initials == twice[2].lower() else said
    if not words.keys().isdisjoint(text.text.replace(",", " ").split()):
        said = " ".join(words.get(word, word.lower()) for word in text.text.split())
        said = plain(said)
    return same.get(said, said)


@lru_cache(maxsize=1)
def _short_forms() -> tuple[Mapping[str, str], Mapping[str, str]]:
    table = lexicon("short_forms")
    return table["words"], {text: side for side, same in table["texts"].items() for text in same}


def _items(text: Normal) -> frozenset[str]:
    """Return the items of a list whose order says nothing; empty if the text is no such list."""
    said = text.derived(plain_of)
    is_listed = " and " in said or "," in said or ";" in said or "&" in said
    if not is_listed or not _LISTED.search(said) or _UNLISTED.search(said):
        return frozenset()
    items = [plain(item) for item in _LISTED.split(said)]
    return frozenset(items) if all(items) and len(set(items)) == len(items) else frozenset()


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
    # An `a` before the end is an article.
    start = f" {said} ".find(f" {meant} ", len(said) - 1 if len(meant) == 1 else 0)
    if start < 0 or said == meant or any(sign.isdigit() for sign in meant):
        return None
    before, behind = said[:start], said[start + len(meant) :]
    if _INSIDE.search(before + behind):
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
