"""Which pairs of texts are terms, which a verifier compares; all others are for a language model.

Terms behind a question are not: on answers to questions a language model tells right from wrong
better (docs/local_engines.md), since what a term has to say depends on what was asked. Nor are
abbreviations, whose letters say little to a verifier.
"""

import re

from medreward.engines.judge import Inquiry

MOST_WORDS = 8
"""Words of a term; nearly all names of findings in HPO have at most as many."""

VERBS = frozenset(
    [
        "is",
        "are",
        "was",
        "were",
        "be",
        "been",
        "being",
        "am",
        "has",
        "have",
        "had",
        "having",
        "do",
        "does",
        "did",
        "can",
        "could",
        "may",
        "might",
        "must",
        "shall",
        "should",
        "will",
        "would",
        "cannot",
        "isn't",
        "aren't",
        "wasn't",
        "weren't",
        "hasn't",
        "haven't",
        "doesn't",
        "don't",
        "didn't",
        "can't",
        "show",
        "shows",
        "showed",
        "shown",
        "see",
        "sees",
        "saw",
        "seen",
        "look",
        "looks",
        "looked",
        "appear",
        "appears",
        "appeared",
        "seem",
        "seems",
        "indicate",
        "indicates",
        "indicated",
        "suggest",
        "suggests",
        "suggested",
        "reveal",
        "reveals",
        "revealed",
        "demonstrate",
        "demonstrates",
        "demonstrated",
        "represent",
        "represents",
        "depict",
        "depicts",
        "contain",
        "contains",
        "contained",
        "cause",
        "causes",
        "caused",
        "lead",
        "leads",
        "led",
        "found",
        "think",
        "believe",
        "means",
        "reflects",
        "remains",
        "lies",
        "lie",
        "it's",
        "that's",
        "there's",
        "i'm",
        "i'd",
        "i",
    ]
)
"""Words that make a sentence of a text, whether or not it is a correct one."""

_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")  # noqa: RUF001 - a typographic apostrophe
_ABBREVIATION = re.compile(r"[^\W\d_]{2,7}")
_OF_SENTENCES = re.compile(r"[\d:;?!=<>\[\]{}|\n]|\.(?=\s)|,.*,")
"""Digits, the marks of sentences and labels, and lists of three."""


def is_about_terms(inquiry: Inquiry) -> bool:
    """Return True if answer and reference are terms, without a question, and none an abbreviation.

    A term has few words, no verb and no digit, and is no sentence.
    """
    if inquiry.shown_question is not None:
        return False
    texts = (inquiry.answer, inquiry.reference or "")
    return all(is_term(text) and not is_abbreviation(text) for text in texts)


def is_term(text: str) -> bool:
    """Return True if a text is a term."""
    if _OF_SENTENCES.search(text):
        return False
    words = _WORD.findall(text.lower().replace("’", "'"))  # noqa: RUF001 - the same
    return 0 < len(words) <= MOST_WORDS and VERBS.isdisjoint(words)


def is_abbreviation(text: str) -> bool:
    """Return True if a text is one short word with two capitals, such as `MS` or `HbA`."""
    word = text.strip().rstrip(".")
    return bool(_ABBREVIATION.fullmatch(word)) and sum(map(str.isupper, word)) > 1
