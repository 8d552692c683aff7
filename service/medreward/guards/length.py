"""Answers that are too long for their reference, or that repeat themselves."""

from collections import Counter

from medreward.guards.normal import Normal
from medreward.guards.pair import Pair, Span, Veto

MIN_CAP = 64
"""Words that any answer may have; a long reference allows more."""

WORDS_PER_WORD = 8
"""Words that an answer may have for each word of the reference."""

REPEATABLE = 12
"""Fewest words of a text for which the share of different words is tested."""

MIN_DIFFERENT = 0.35
"""Least share of different words in a text; English reports of 100 words have 0.6 and more."""

ROW = 3
"""Occurrences of one word in a row that count as repetition."""


def length(pair: Pair) -> Veto | None:
    """Veto an answer that is too long or repetitive."""
    answer, reference = pair.answer, pair.reference
    # A text has at most one word for every two characters, so short texts
    # need not be counted.
    if len(answer.text) > 2 * MIN_CAP and answer.size > cap(reference):
        return Veto("length.flood", Span(0, len(answer.text)))
    if len(answer.tokens) >= ROW and _is_repetitive(answer) and not _is_repetitive(reference):
        return Veto("length.repetition", Span(0, len(answer.text)))
    return None


def cap(reference: Normal) -> int:
    """Return the number of words that an answer may have for this reference."""
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
