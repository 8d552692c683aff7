"""Lexical evidence that an answer and its reference are related, independent of the judge."""

from math import sqrt

from medreward.guards.normal import STOPWORDS, Normal
from medreward.guards.pair import Pair

MIN_COSINE = 0.25
"""Least cosine of the sets of three letters in a row; chosen on synonyms that a judge accepts."""

SHORT = 3
"""Letters of a reference that has to be found as a word: `yes` is contained in `eyes`."""

ACRONYM = range(2, 8)
"""Numbers of letters of an acronym."""


def has_witness(pair: Pair) -> bool:
    """Return whether the texts share a word or many letters, or one abbreviates the other."""
    answer, reference = pair.answer, pair.reference
    if not answer.roots.isdisjoint(reference.roots):
        return True
    if sum(map(len, reference.tokens)) <= SHORT:
        is_said = bool(reference.vocabulary) and reference.vocabulary <= answer.vocabulary
        return is_said or _abbreviates(answer, reference)
    return (
        _cosine(answer, reference) >= MIN_COSINE
        or _abbreviates(answer, reference)
        or _abbreviates(reference, answer)
    )


def _cosine(one: Normal, other: Normal) -> float:
    ours, theirs = one.trigrams, other.trigrams
    return len(ours & theirs) / sqrt(len(ours) * len(theirs)) if ours and theirs else 0.0


def _abbreviates(long: Normal, short: Normal) -> bool:
    """Return whether a word of *short* consists of first letters of consecutive words of *long*."""
    letters, told = long.derived(_initials)
    if len(letters) < ACRONYM.start:
        return False
    short_forms = [word for word in short.tokens if len(word) in ACRONYM]
    return bool([word for word in short_forms if word in letters or word in told])


def _initials(text: Normal) -> tuple[str, str]:
    """Return the first letters of all words, and of those that are no stop words."""
    words = text.tokens
    return (
        "".join([word[0] for word in words]),
        "".join([word[0] for word in words if word not in STOPWORDS]),
    )
