"""An answer that is too long for its reference, or says the same again and again."""

from collections import Counter

from medreward.guards.normal import Normal
from medreward.guards.pair import Pair, Span, Veto

MIN_CAP = 64
"""Words that any answer may have; more only beside a reference that is long itself."""

WORDS_PER_WORD = 8
"""Words of an answer for each of the reference."""

REPEATABLE = 12
"""From so many words on, the share of different ones tells something."""

MIN_DIFFERENT = 0.35
"""Share of different words in a short text; English reports of 100 words have 0.6 and more."""

ROW = 3
"""The same word so many times in a row is no sentence."""


def length(pair: Pair) -> Veto | None:
    """Look for a flood of words, and for a few of them repeated."""
    answer, reference = pair.answer, pair.reference
    # No text has more words than half its characters, and most are short.
    if len(answer.text) > 2 * MIN_CAP and answer.size > cap(reference):
        return Veto("length.flood", Span(0, len(answer.text)))
    if len(answer.tokens) >= ROW and _is_repetitive(answer) and not _is_repetitive(reference):
        return Veto("length.repetition", Span(0, len(answer.text)))
    return None


def cap(reference: Normal) -> int:
    """How many words an answer may have beside this reference."""
    return max(MIN_CAP, WORDS_PER_WORD * reference.size)


def _is_repetitive(text: Normal) -> bool:
    words, count = text.tokens, len(text.tokens)
    if len(text.vocabulary) == count:
        return False
    if any(
        a == b == c and len(a) > 1 for a, b, c in zip(words, words[1:], words[2:], strict=False)
    ):
        return True
    if count < REPEATABLE or count > MIN_CAP:
        return count > MIN_CAP and Counter(words).most_common(1)[0][1] > count / 4
    return len(text.vocabulary) < MIN_DIFFERENT * count
