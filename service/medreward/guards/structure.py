"""Forbidden structure: parts of prompts, replies and chat templates, and disguised letters."""

import re

from medreward.guards.lexicon import pattern_of, words_of
from medreward.guards.normal import Normal, is_same
from medreward.guards.pair import Pair, Span, Veto

_PLAIN = re.compile(r"[a-z0-9 ,.()/'%+\-]*")
_MARKED = re.compile(r"[<>\[\]{}|:=`~\"_*#]|'''|---|\bend\b")

_TAG_SIGNS = re.compile("[\U000e0000-\U000e007f]")
_OVERRIDES = re.compile("[\u202d\u202e]")
_DIRECTIONS = re.compile("[\u202a-\u202c\u2066-\u2069]")
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
_HIDDEN_IN_WORD = re.compile(
    "(?<=[A-Za-z\u00c0-\u024f])"
    "[\u034f\u061c\u115f\u1160\u180b-\u180f\u200b-\u200f\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\U000e0100-\U000e01ef]+"
    "(?=[A-Za-z\u00c0-\u024f])"
)
_WRONG_DIVISION = re.compile(
    r"(?<![^\W\d_]{2})(?<=[^\W\d_])\u00ad(?=[^\W\d_])|\u00ad(?=[^\W\d_](?![^\W\d_]))"
)
"""Matches a soft hyphen with a single letter before or after it."""
_STYLED = re.compile(
    "[\U0001d400-\U0001d7ff\u249c-\u24e9\U0001f110-\U0001f189\uff10-\uff19\uff21-\uff3a\uff41-\uff5a]"
)
_EAST_ASIAN = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]")

_FIELDS = ("field", "heading")


def structure(pair: Pair) -> Veto | None:
    """Veto markers of prompts and templates, and disguised letters."""
    answer = pair.answer
    if answer.text.isascii() and _PLAIN.fullmatch(answer.folded):
        return None
    return _disguise(pair) or _marker(pair)


def _marker(pair: Pair) -> Veto | None:
    if not _MARKED.search(pair.answer.folded):
        return None
    return (
        _unshared(pair, "structure.token", "token")
        or _tag(pair)
        or _unshared(pair, "structure.fence", "fence")
        or _unshared(pair, "structure.json", "json")
        or _field(pair)
        or _graded(pair)
    )


def _unshared(pair: Pair, rule: str, *keys: str) -> Veto | None:
    """Veto a match of the lexicon's lists *keys* that the reference does not contain."""
    for match in pattern_of("markers", *keys).finditer(pair.answer.folded):
        if match[0] not in pair.reference.folded:
            return _veto(rule, pair.answer, match)
    return None


def _tag(pair: Pair) -> Veto | None:
    if "<" not in pair.answer.folded:
        return None
    allowed = words_of("markers", "allowed_tags")
    for match in pattern_of("markers", "tag").finditer(pair.answer.folded):
        if match["name"] not in allowed and match[0] not in pair.reference.folded:
            return _veto("structure.tag", pair.answer, match)
    return None


def _field(pair: Pair) -> Veto | None:
    """Veto the name of a field, unless the rest of the answer is exactly the reference."""
    veto = _unshared(pair, "structure.field", *_FIELDS)
    if veto is None:
        return None
    _, _, behind = pair.answer.folded.partition(":")
    return None if behind.split() == pair.reference.folded.split() else veto


def _graded(pair: Pair) -> Veto | None:
    for match in pattern_of("markers", "graded").finditer(pair.answer.folded):
        if match["value"] not in pair.reference.vocabulary:
            return _veto("structure.field", pair.answer, match)
    return None


def _veto(rule: str, answer: Normal, match: re.Match[str]) -> Veto:
    return Veto(rule, Span(*answer.place(*match.span())))


def _disguise(pair: Pair) -> Veto | None:
    """Veto hidden, look-alike and styled letters, unless the folded answer is the reference."""
    answer = pair.answer
    if answer.text.isascii():
        return None
    if (answer.hidden or answer.lookalikes or _STYLED.search(answer.text)) and not is_same(
        answer, pair.reference
    ):
        return _hidden(pair) or _lookalike(answer) or _styled(answer)
    return None


def _hidden(pair: Pair) -> Veto | None:
    text = pair.answer.text
    found = _TAG_SIGNS.search(text) or _OVERRIDES.search(text) or _HIDDEN_IN_WORD.search(text)
    if found is None and not _RIGHT_TO_LEFT.search(text):
        found = _DIRECTIONS.search(text)
    if found is not None and found[0] not in pair.reference.text:
        return Veto("structure.hidden", Span(*found.span()))
    return _soft_hyphen(text)


def _soft_hyphen(text: str) -> Veto | None:
    """Veto a soft hyphen that cannot divide a word; those inside long words come from web pages."""
    found = _WRONG_DIVISION.search(text)
    if found is None or _RIGHT_TO_LEFT.search(text):
        return None
    return Veto("structure.hidden", Span(*found.span()))


def _lookalike(answer: Normal) -> Veto | None:
    return Veto("structure.lookalike", Span(*answer.lookalikes[0])) if answer.lookalikes else None


def _styled(answer: Normal) -> Veto | None:
    """Veto styled letters if they are most of the text, except in East Asian scripts."""
    if _EAST_ASIAN.search(answer.text):
        return None
    styled = list(_STYLED.finditer(answer.text))
    if 2 * len(styled) < sum(map(len, answer.tokens)) or not styled:
        return None
    return Veto("structure.styled", Span(*styled[0].span()))
