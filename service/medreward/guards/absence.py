"""Texts that say that nothing is there: the same denial in other words, and normal findings."""

import re
from functools import lru_cache
from typing import Literal, NamedTuple, get_args

from medreward.guards.decoration import Phrase, plain_of
from medreward.guards.lexicon import lexicon, words_of
from medreward.guards.normal import STOPWORDS, Normal
from medreward.guards.pair import Pair
from medreward.guards.polarity import shape

MAX_WORDS = 16
"""Words of a text that is read, at most; a longer one says more."""

_INSIDE = re.compile(r"[,;:.!?()\[\]\n/]")
"""Punctuation that a text of one denial does not have."""

_PLURAL = re.compile(r"(?<=[aoy])ses\Z")
"""Ending of `metastases` and `stenoses`, whose stem is that of the singular."""

Kind = Literal["normal", "acute", "organ_acute", "negative", "none"]


class Statement(NamedTuple):
    """A way to say that all is normal."""

    kind: Kind
    organ: str = ""
    """Organ in which nothing acute is found; otherwise empty."""


def denied_alike(pair: Pair) -> bool | None:
    """Return True if both texts deny the same and say nothing else; otherwise None."""
    meant = pair.reference.derived(_denied)
    return True if meant and meant == pair.answer.derived(_denied) else None


def _denied(text: Normal) -> frozenset[tuple[str, ...]]:
    """Return the stems of what a text denies, by items of its list; empty if it says more."""
    words = text.tokens
    denials = words_of("normal", "denials")
    if len(words) > MAX_WORDS or denials.isdisjoint(text.vocabulary):
        return frozenset()
    if _INSIDE.search(text.folded) or not words_of("normal", "beyond").isdisjoint(words):
        return frozenset()
    found = [
        i
        for i, word in enumerate(words)
        if word in denials
        and (
            word not in {"negative", "free"}
            or words[i + 1 : i + 2] in {("for",), ("of",), ("from",)}
        )
    ]
    if len(found) != 1:
        return frozenset()
    idle = words_of("normal", "idle", "denials") | STOPWORDS
    items: list[list[str]] = [[]]
    for word in words:
        if word in {"or", "nor"}:
            items.append([])
        elif word not in idle:
            items[-1].append(shape(_PLURAL.sub("sis", word)).stem)
    return frozenset(map(tuple, items)) if all(items) else frozenset()


def normal_alike(pair: Pair) -> bool | None:
    """Return True if both texts say that all is normal; otherwise None."""
    meant = pair.reference.derived(_statement)
    if meant is None:
        return None
    said = pair.answer.derived(_statement)
    return True if said is not None and _implies(said, meant, pair.question) else None


def _implies(said: Statement, meant: Statement, question: Normal | None) -> bool:
    kinds = {said.kind, meant.kind}
    if kinds == {"none", "normal"}:
        asks = words_of("normal", "asks")
        return question is not None and not asks.isdisjoint(question.vocabulary)
    # Where all is normal, nothing is acute; where nothing is acute, no organ has anything acute.
    weaker = ("normal", "acute", "organ_acute")
    if kinds <= set(weaker):
        is_enough = weaker.index(said.kind) <= weaker.index(meant.kind)
        return is_enough and said.organ in {"", meant.organ}
    return said == meant


def _statement(text: Normal) -> Statement | None:
    said = text.derived(plain_of)
    if len(text.tokens) > MAX_WORDS or text.vocabulary.isdisjoint(words_of("normal", "cues")):
        return None
    for kind, pattern in _patterns().items():
        if pattern.fullmatch(said):
            organ = next((name for name in lexicon("normal")["parts"]["organ"] if name in said), "")
            return Statement(kind, organ if kind == "organ_acute" else "")
    return None


@lru_cache(maxsize=1)
def _patterns() -> dict[Kind, re.Pattern[str]]:
    table = lexicon("normal")
    kinds: tuple[Kind, ...] = get_args(Kind)
    return {
        kind: re.compile(
            "|".join(Phrase(line, table["parts"]).pattern for line in table["kinds"][kind])
        )
        for kind in kinds
    }
