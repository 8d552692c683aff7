"""Hedges: several alternative answers of which only one can be right."""

import re
from collections.abc import Sequence
from itertools import pairwise

from medreward.guards.lexicon import lexicon, pattern_of, words_of
from medreward.guards.normal import Normal, stem
from medreward.guards.pair import Pair, Span, Veto

MIN_CHOICES = 3
"""Short phrases with an `or`, one of them the reference, that count as guesses."""

MIN_NUMBERED = 4
"""Numbered phrases that count as guesses."""

MIN_LISTED = 6
"""Phrases with only commas between them that count as guesses: fewer may be parts of one finding."""

MAX_WORDS = 6
"""Words of a phrase in such a list, at most."""

_CUE = re.compile(
    r"\b(?:or|vs|versus|either|alternatively|otherwise|differential|perhaps|maybe|possibly|be|if|"
    r"excluded|ruled|distinguished|one of|any of|possibilit\w+|both)\b|[/,;|\n]|\d\)"
)
_NUMBER = re.compile(r"(?<!\w)\(?\d\)\s")
_STROKE = re.compile(r"\b([a-z]{2,})/([a-z]{2,})\b")
_NEGATIONS = frozenset(
    ("no", "not", "without", "absent", "negative", "normal", "unremarkable", "free")
)


def hedge(pair: Pair) -> Veto | None:
    """Veto an answer that offers the reference as one of several alternatives."""
    answer, reference = pair.answer, pair.reference
    if not answer.content > reference.content or not _CUE.search(answer.folded):
        return None
    if not reference.content or _offers_a_choice(reference):
        return None
    around = frozenset(map(stem, words_of("hedges", "around")))
    told = reference.content
    parts = _parts(answer.folded, around - told)
    is_hedged = (
        _is_between(answer.folded, told, around - told)
        or (pattern_of("hedges", "several").search(answer.folded) and _stands_beside(parts, told))
        or _is_list(answer.folded, told, around - told)
        or _is_stroke(answer.folded, told)
    )
    return Veto("hedge.alternatives", Span(0, len(answer.text))) if is_hedged else None


def _offers_a_choice(reference: Normal) -> bool:
    return bool(pattern_of("hedges", "between").search(reference.folded)) or (
        "/" in reference.folded and _STROKE.search(reference.folded) is not None
    )


def _parts(text: str, skipped: frozenset[str], cuts: str = "cuts") -> list[frozenset[str]]:
    """Return the content words of each phrase of a text; phrases without any are left out."""
    phrases = pattern_of("hedges", cuts).split(text)
    parts = (Normal(phrase).content - skipped for phrase in phrases)
    return [part for part in parts if part]


def _is_between(text: str, told: frozenset[str], skipped: frozenset[str]) -> bool:
    """Return whether one side of an `or` agrees with the reference and the other does not."""
    pieces = pattern_of("hedges", "between").split(text)
    sides = [_parts(piece, skipped) for piece in pieces]
    return any(
        before and after and _differ(before[-1], after[0], told)
        for before, after in pairwise(sides)
    )


def _differ(one: frozenset[str], other: frozenset[str], told: frozenset[str]) -> bool:
    return (one <= told) != (other <= told)


def _stands_beside(parts: Sequence[frozenset[str]], told: frozenset[str]) -> bool:
    # `If it is not …` names an alternative, so its `not` is ignored.
    parts = [part - {"not"} for part in parts] if "not" not in told else parts
    return told in parts and any(not part <= told for part in parts)


def _is_list(text: str, told: frozenset[str], skipped: frozenset[str]) -> bool:
    """Return whether the reference is one of several phrases that could each be the answer."""
    parts = _parts(text, skipped, "list_cuts")
    if told not in parts or any(len(part) > MAX_WORDS for part in parts):
        return False
    is_choice = pattern_of("hedges", "between").search(text) is not None
    # `No effusion` is another finding of the same report and not counted; a
    # lone `no` is an alternative answer.
    others = [
        part
        for part in parts
        if not part <= told and (is_choice or len(part) == 1 or part.isdisjoint(_NEGATIONS))
    ]
    return len(others) + 1 >= _min_listed(text, is_choice=is_choice)


def _min_listed(text: str, *, is_choice: bool) -> int:
    if is_choice:
        return MIN_CHOICES
    return MIN_NUMBERED if len(_NUMBER.findall(text)) >= MIN_CHOICES else MIN_LISTED


def _is_stroke(text: str, told: frozenset[str]) -> bool:
    """Return whether a slash joins the reference to another answer, or joins opposites."""
    if "/" not in text:
        return False
    pairs = [frozenset(line.split()) for line in _exclusive()]
    for match in _STROKE.finditer(text):
        both = frozenset({match[1], match[2]})
        if both in pairs and not frozenset(map(stem, both)) <= told:
            return True
        if told in ({stem(match[1])}, {stem(match[2])}) and len(_parts(text, frozenset())) == 1:
            return True
    return False


def _exclusive() -> tuple[str, ...]:
    return tuple(lexicon("hedges")["exclusive"])
