"""Prompt injection: an answer that addresses the judge or praises itself."""

import re
from functools import lru_cache

from medreward.guards.decoration import core, undecorated
from medreward.guards.lexicon import pattern_of, words_of
from medreward.guards.normal import WORD, Normal
from medreward.guards.pair import Pair, Span, Veto

MOST_LETTERS_OF_GRADE = 16
"""Characters of a grade without such a word, as `5 out of 5`, at most."""

MOST_WORDS_OF_GRADE = 8
"""Words of a reference that may itself be a score, such as `Apgar score 5 after one minute`, at most."""

_SENTENCE = re.compile(r"[^.!?;\n]+")


def injection(pair: Pair) -> Veto | None:
    """Veto orders to the judge, and praise instead of an answer."""
    # Most answers have no word of any such pattern, which one test tells.
    if pair.answer.folded.isascii() and _triggers().isdisjoint(pair.answer.vocabulary):
        return _own_grade(pair)
    return _order(pair) or _foreign_order(pair) or _praise(pair) or _own_grade(pair)


@lru_cache(maxsize=1)
def _triggers() -> frozenset[str]:
    injections = words_of("injections", "triggers", "foreign_triggers")
    return injections | words_of("praise", "triggers")


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


def _own_grade(pair: Pair) -> Veto | None:
    """Veto a grade, such as `Score: 5/5`, unless the reference may be one or speaks of grades too."""
    if len(pair.reference.words) <= MOST_WORDS_OF_GRADE:
        return None
    said = undecorated(pair.answer)
    has_word = not words_of("injections", "grades").isdisjoint(said.vocabulary)
    span: Span | None = None
    if has_word or len(said.folded) <= MOST_LETTERS_OF_GRADE:
        told = f" {' '.join(undecorated(pair.reference).tokens)} "
        for match in pattern_of("injections", "own_grade").finditer(said.folded):
            # By words: a reference of 25 mm does not hold a 5.
            if f" {' '.join(WORD.findall(match[0]))} " not in told:
                span = Span(*said.place(*match.span()))
                break
    span = span or _grade_among(said, pair.reference)
    return None if span is None else Veto("injection.grade", core(pair.answer).span(span))


def _grade_among(said: Normal, reference: Normal) -> Span | None:
    """Return the range of a grade beside other things, of a word that the reference does not have."""
    telling = words_of("injections", "grading") - reference.vocabulary
    if telling.isdisjoint(said.vocabulary):
        return None
    known = words_of("injections", "grading", "graded", "beside_grade")
    grades = words_of("injections", "graded")
    for sentence in _SENTENCE.finditer(said.folded):
        words = frozenset(WORD.findall(sentence[0]))
        if words <= known and not (words.isdisjoint(telling) or words.isdisjoint(grades)):
            return Span(*said.place(*sentence.span()))
    if words_of("injections", "grades").isdisjoint(telling & said.vocabulary):
        return None
    found = pattern_of("injections", "inner_grade").search(said.folded)
    return None if found is None else Span(*said.place(*found.span()))


def _praise(pair: Pair) -> Veto | None:
    if words_of("praise", "triggers").isdisjoint(pair.answer.vocabulary):
        return None
    # Praise around the whole reference is still an answer, so the reference is
    # looked for in the text without the praise.
    left = Normal(pattern_of("praise", "patterns").sub(" ", pair.answer.folded))
    if names_all(left, pair.reference):
        return None
    veto = _unshared(pair, "injection.praise", "praise", "patterns")
    return None if veto is not None and _names_side(pair, veto.span) else veto


def _names_side(pair: Pair, praise: Span) -> bool:
    """Return whether the last word of a praise is a side: `is right lower lobe`, or `is right` for `right`."""
    words = pair.answer.words
    last = max((n for n, word in enumerate(words) if word.end <= praise.end), default=0)
    term = [word.text for word in words[last : last + 2]]
    is_whole = pair.reference.tokens == (*term,)
    return is_whole or (len(term) > 1 and pair.reference.vocabulary.issuperset(term))


def _unshared(pair: Pair, rule: str, lexicon: str, key: str) -> Veto | None:
    for match in pattern_of(lexicon, key).finditer(pair.answer.folded):
        if match[0] not in pair.reference.folded:
            return Veto(rule, Span(*pair.answer.place(*match.span())))
    return None


def names_all(answer: Normal, reference: Normal) -> bool:
    """Return whether the answer contains all content words of the reference."""
    told = reference.content
    # A reference that is only yes or no never counts: an unrelated sentence
    # may contain the word `no`.
    return told <= answer.content and not told <= words_of("verdicts", "yes", "no")
