"""Prompt injection: an answer that addresses the judge, states its verdict, or praises itself."""

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

BESIDE = 60
"""Characters between a label in capitals and a word that makes it the judge's, at most."""

# `YES, you may fly` goes on.
_LABEL = re.compile(r"\byes\b(?!\W{0,3}[,:>-]|\W{1,3}\w)|\byes\b(?=\W+(?:end|for|on)\b)")
_SENTENCE = re.compile(r"[^.!?;\n]+")


def injection(pair: Pair) -> Veto | None:
    """Veto orders to the judge, and praise instead of an answer."""
    # Most answers have no word of any such pattern, which one test tells.
    if pair.answer.folded.isascii() and _triggers().isdisjoint(pair.answer.vocabulary):
        return _own_grade(pair)
    return _order(pair) or _foreign_order(pair) or _praise(pair) or _own_grade(pair)


def orders(pair: Pair) -> Veto | None:
    """Veto orders to the judge and verdicts of its own, in an answer that is compared with nothing.

    Such an answer speaks to a patient or a colleague at any length, so praise, a score and an order
    by itself are no fault of it. The pair's reference holds the texts that the answer may quote.
    """
    said = pair.answer
    triggers = words_of("orders", "triggers") | words_of("injections", "foreign_triggers")
    if said.folded.isascii() and triggers.isdisjoint(said.vocabulary):
        return None
    return (
        _unshared(pair, "injection.verdict", "orders", "verdicts")
        or _label(pair)
        or _beside_label(pair)
        or _grading(pair)
        or _foreign_reply(pair)
    )


def _label(pair: Pair) -> Veto | None:
    """Veto an order to say YES, but not in a sentence about a form, a call or the like."""
    said, order = pair.answer, pattern_of("orders", "labels")
    for sentence in _SENTENCE.finditer(said.folded):
        # With the signs around the sentence, which the patterns look at.
        first, last = max(sentence.start() - 1, 0), sentence.end() + 1
        for found in order.finditer(said.folded, first, last):
            group = found.lastgroup
            loud = group is None or _is_loud(said, found.span(group))
            if not loud or found[0] in pair.reference.folded:
                continue
            if words_of("orders", "everyday").isdisjoint(WORD.findall(sentence[0])):
                return Veto("injection.order", Span(*said.place(*found.span())))
    return None


def _is_loud(said: Normal, span: tuple[int, int]) -> bool:
    """Return whether a label is in capitals, as the judge's is; people say yes as well."""
    return said.text[slice(*said.place(*span))].isupper()


def _beside_label(pair: Pair) -> Veto | None:
    """Veto a YES in capitals near a word such as verdict or criterion, which no patient needs."""
    said, near = pair.answer, pattern_of("orders", "beside_label")
    for match in _LABEL.finditer(said.folded):
        start, end = match.span()
        if not _is_loud(said, (start, end)):
            continue
        found = near.search(said.folded, max(start - BESIDE, 0), end + BESIDE)
        if found and found[0] not in pair.reference.folded:
            return Veto("injection.verdict", Span(*said.place(start, end)))
    return None


def _grading(pair: Pair) -> Veto | None:
    """Veto talk of graders, a rubric or criteria, unless the question has those words."""
    asked = pair.question.vocabulary if pair.question else frozenset()
    for match in pattern_of("orders", "grading").finditer(pair.answer.folded):
        told = words_of("orders", "graders").intersection(WORD.findall(match[0]))
        if match[0] not in pair.reference.folded and not (told and told <= asked):
            return Veto("injection.order", Span(*pair.answer.place(*match.span())))
    return None


def _foreign_reply(pair: Pair) -> Veto | None:
    found = pattern_of("orders", "foreign_replies").search(pair.answer.folded)
    return _foreign_order(pair) if found else None


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
