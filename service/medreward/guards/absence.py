"""Texts that say that nothing is there: the same denial in other words, and normal findings."""

import re
from functools import lru_cache
from typing import Literal, NamedTuple, get_args

from medreward.guards.decoration import Phrase, plain_of
from medreward.guards.lexicon import lexicon, words_of
from medreward.guards.normal import STOPWORDS, Normal
from medreward.guards.pair import Pair

MAX_WORDS = 16
"""Words of a text that is read, at most; a longer one says more."""

_INSIDE = re.compile(r"[,;:.!?()\[\]\n/]")
"""Punctuation that a text of one denial does not have."""

_PLURAL = re.compile(r"(?<=[aoy])s(?P<sis>es)\Z|(?<=ss)es\Z|(?<=[^aius]s)es\Z|(?<=\w{3}[^aius])s\Z")
"""Ending of a plural: `metastases`, `masses`, `fractures`."""

_ARTICLES = frozenset(["a", "an", "the", "any"])
_COPULAS = frozenset(["is", "are", "was", "were"])
_HERE = _COPULAS | {"there", "it", "has", "have"}

Kind = Literal["normal", "acute", "organ_acute", "negative", "none"]


class Statement(NamedTuple):
    """A way to say that all is normal."""

    kind: Kind
    names: frozenset[str]
    """Studies, organs and processes that it names."""


def denies(text: Normal) -> bool:
    """Return whether a text only denies something."""
    return bool(text.derived(_denied))


def denied_alike(pair: Pair) -> bool | None:
    """Return True if both texts deny the same and say nothing else; otherwise None."""
    meant = pair.reference.derived(_denied)
    return True if meant and meant == pair.answer.derived(_denied) else None


def _denied(text: Normal) -> frozenset[tuple[str, ...]]:
    """Return the words of what a text denies, by items of its list; empty if it says more.

    What is denied is one phrase, with its prepositions: `no spread from the liver` and `no spread
    to the liver` are two denials.
    """
    denials = words_of("normal", "denials")
    if len(text.tokens) > MAX_WORDS or denials.isdisjoint(text.vocabulary):
        return frozenset()
    if _INSIDE.search(text.folded) or not words_of("normal", "beyond").isdisjoint(text.vocabulary):
        return frozenset()
    words = [word for word in text.tokens if word not in _ARTICLES]
    followers = {"negative": "for", "free": "of", "absence": "of"}
    # `Free air` denies nothing.
    at = next(
        (
            i
            for i, (word, follower) in enumerate(zip(words, [*words[1:], ""], strict=True))
            if word in denials and followers.get(word, follower) == follower
        ),
        None,
    )
    if at is None:
        return frozenset()
    denial, before, behind = words[at], words[:at], words[at + 1 :]
    seen = words_of("normal", "seen")
    if denial in {"absent", "not"}:
        is_whole = not behind if denial == "absent" else bool(behind) and seen.issuperset(behind)
        is_whole = is_whole and bool(before) and before[-1] in _COPULAS
        words = before[:-1]
    else:
        is_whole = _HERE.issuperset(before)
        words = behind[1:] if denial in followers else behind
        words = words[2:] if words[:2] == ["evidence", "of"] else words
        while words and words[-1] in seen:
            words.pop()
        if words and words[-1] in _COPULAS:
            words.pop()
    if not is_whole or not denials.isdisjoint(set(words) - {"free", "negative"}):
        return frozenset()
    items: list[list[str]] = [[]]
    for word in words:
        if word in {"or", "nor"}:
            items.append([])
        else:
            items[-1].append(_PLURAL.sub(lambda found: "sis" if found["sis"] else "", word))
    return frozenset(map(tuple, items)) if all(items) else frozenset()


def is_normal(text: Normal) -> bool:
    """Return whether a text only says that all is normal."""
    return text.derived(_statement) is not None


def normal_alike(pair: Pair) -> bool | None:
    """Return True if both texts say that all is normal; otherwise None."""
    meant = pair.reference.derived(_statement)
    if meant is None:
        return None
    said = pair.answer.derived(_statement)
    return True if said is not None and _implies(said, meant, pair.question) else None


def _implies(said: Statement, meant: Statement, question: Normal | None) -> bool:
    kinds = {said.kind, meant.kind}
    asked = frozenset[str]() if question is None else question.vocabulary
    if kinds == {"none", "normal"}:
        asks = words_of("normal", "asks")
        is_asked = bool(asks & asked) and asked <= asks | _idle()
        return is_asked and (said.names ^ meant.names) <= asked
    # What one alone names may be something else: an ECG and a mammogram are two studies.
    if not (said.names ^ meant.names) <= asked:
        return False
    # Where all is normal, nothing is acute; where nothing is acute, no organ has anything acute.
    weaker = ("normal", "acute", "organ_acute")
    if kinds <= set(weaker):
        return weaker.index(said.kind) <= weaker.index(meant.kind)
    return said.kind == meant.kind


def _statement(text: Normal) -> Statement | None:
    if len(text.tokens) > MAX_WORDS or text.vocabulary.isdisjoint(words_of("normal", "cues")):
        return None
    said = text.derived(plain_of)
    for kind, pattern in _patterns().items():
        if pattern.fullmatch(said):
            return Statement(kind, text.vocabulary & words_of("normal", "names"))
    return None


@lru_cache(maxsize=1)
def _idle() -> frozenset[str]:
    """Return the words of a question that asks what is abnormal, and nothing else."""
    return STOPWORDS | words_of("normal", "names", "seen", "asking")


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
