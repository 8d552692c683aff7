"""Lexical evidence that an answer and its reference are related, independent of the judge."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from math import sqrt
from typing import NamedTuple

from medreward.guards.lexicon import words_of
from medreward.guards.normal import STOPWORDS, WORD, Normal, stem
from medreward.guards.pair import Pair

MIN_COSINE = 0.25
"""Least cosine of the sets of three letters in a row; chosen on synonyms that a judge accepts."""

SHORT = 3
"""Letters of a reference that has to be found as a word: `yes` is contained in `eyes`."""

ACRONYM = range(2, 8)
"""Numbers of letters of an acronym."""

ROOT_LETTERS = 5
"""First letters of a stem that are compared."""


class _Traces(NamedTuple):
    """What of a reference may be found again in an answer; a group of answers shares it."""

    roots: frozenset[str]
    trigrams: frozenset[str]
    initials: Sequence[str]


def has_witness(pair: Pair) -> bool:
    """Return whether the texts share a word or many letters, or one abbreviates the other."""
    answer, reference = pair.answer, pair.reference
    traces = reference.derived(_traces)
    # Of an answer nothing is kept: it is asked about once, and its letters take much memory.
    if not traces.roots.isdisjoint(_roots(answer)):
        return True
    if sum(map(len, reference.tokens)) <= SHORT:
        is_said = bool(reference.vocabulary) and reference.vocabulary <= answer.vocabulary
        return is_said or _abbreviates(_initials(answer), reference)
    return (
        _cosine(frozenset(_trigrams(answer)), traces.trigrams) >= MIN_COSINE
        or _abbreviates(_initials(answer), reference)
        or _abbreviates(traces.initials, answer)
    )


def _traces(reference: Normal) -> _Traces:
    return _Traces(
        frozenset(_roots(reference)), frozenset(_trigrams(reference)), _initials(reference)
    )


def _roots(text: Normal) -> list[str]:
    """Return the first letters of the stems that are not generic; of all stems if all are generic."""
    return [said[:ROOT_LETTERS] for said in text.content - _wide() or text.content]


@lru_cache(maxsize=1)
def _wide() -> frozenset[str]:
    return frozenset(map(stem, words_of("generic", "wide")))


def _trigrams(text: Normal) -> Iterable[str]:
    """Return every three characters in a row of the words, which are padded with single spaces."""
    words = text.tokens if text.folded.isascii() else WORD.findall(text.plain)
    spaced = f" {' '.join(words)} "
    return map("".join, zip(spaced, spaced[1:], spaced[2:], strict=False))


def _cosine(ours: frozenset[str], theirs: frozenset[str]) -> float:
    return len(ours & theirs) / sqrt(len(ours) * len(theirs)) if ours and theirs else 0.0


def _initials(text: Normal) -> tuple[str, str]:
    """Return the first letters of all words, and of those that are no stop words."""
    words = text.tokens
    letters = "".join([word[0] for word in words])
    if STOPWORDS.isdisjoint(text.vocabulary):
        return letters, letters
    return letters, "".join([word[0] for word in words if word not in STOPWORDS])


def _abbreviates(initials: Sequence[str], short: Normal) -> bool:
    """Return whether a word of *short* consists of first letters of consecutive words of a text."""
    letters, told = initials
    if len(letters) < ACRONYM.start:
        return False
    short_forms = [word for word in short.tokens if len(word) in ACRONYM]
    return bool([word for word in short_forms if word in letters or word in told])
