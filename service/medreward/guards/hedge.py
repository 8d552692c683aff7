"""Hedges: several alternative answers of which only one can be right."""

import re
from functools import lru_cache
from itertools import pairwise

from medreward.guards.contrast import asks_absence
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

MAX_TERM = 3
"""Words of a reference that is one diagnosis, at most."""

MAX_CHARACTERS = 120
"""Characters of a reference that is looked for word for word, at most."""

MAX_NAMED = 4
"""Places of the reference in an answer that are looked at, at most."""

CUE_LETTERS = 6
"""Letters by which a cue is found again in the question: `prevent` and `prevention`."""

REACH = 60
"""Characters before and behind the reference that are read."""

QUESTION_MARKS = ("?", "？")  # noqa: RUF001 - that of Chinese and Japanese

_EDGES = " \t\n\"'`*.!"
_ARTICLE = re.compile(r"\b(?:an?|the|any)$")
_CLAUSE = re.compile(r"[.;:!?\n]")
_APPOSITION = re.compile(
    r",? \(?or [^,()\n]{1,60}[,)] (?=(?:is|are|refers|means|denotes|describes)\b)"
    r"|, or [^\W\d_]{1,40}, (?=[^\W\d_]+)(?!(?:or|and|but|if|in|on|at|of|with|which|so|then|as|because|since"
    r"|could|can|may|might|both|neither|not|less|more|most)\b)"
    r"|\bone or (?:both|more|all|several)\b"
)
"""Matches another name of the same thing: `epistaxis, or nosebleed, is …`, `an axial, or transverse, plane`."""
_REJECTED = re.compile(
    r"\b(?:not(?! (?:sure|certain|clear|only|excluded|ruled))|unlike|rather than|instead of|"
    r"as opposed to|without|with few|with no) [^,.;:\n]{1,60} or [^,.;:\n]{1,60}"
)
"""Matches two other things that are turned down together: `unlike early or late ones`."""
_OTHER = re.compile(r"\bor (?:an?|any|some|the)?\s?other\b")
"""Matches what adds a class to one of its members: `lorazepam or another benzodiazepine`."""
_LATER = re.compile(r"\b(?:but|now|currently|today|later|closer|actually|yet|correct)\b")

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
    """Veto an answer that asks, offers the reference as one of several alternatives, or takes it back."""
    answer, reference = pair.answer, pair.reference
    if not reference.content or not answer.content >= reference.content:
        return None
    whole = Span(0, len(answer.text))
    if _asks(answer.text) and not _asks(reference.text):
        return Veto("hedge.question", whole)
    if answer.content == reference.content:
        return None
    if _CUE.search(answer.folded) and not _offers_a_choice(reference) and _is_hedged(pair):
        return Veto("hedge.alternatives", whole)
    return Veto("hedge.retracted", whole) if _is_taken_back(pair) else None


def _asks(text: str) -> bool:
    return text.rstrip(_EDGES).endswith(QUESTION_MARKS)


def _is_hedged(pair: Pair) -> bool:
    answer, reference = pair.answer, pair.reference
    around, told = _around(), reference.content
    folded = _APPOSITION.sub(" ", answer.folded)
    left = _REJECTED.sub(" ", folded)
    if left != folded and told <= Normal(left).content:
        folded = left
    if (other := _OTHER.search(folded)) and _begins_with(folded[other.end() :], told):
        folded = folded[other.end() :]
    skipped = around - told
    return (
        _is_between(folded, told, skipped)
        or _stands_beside(folded, told, skipped)
        or _is_list(folded, told, skipped)
        or _is_stroke(folded, told)
    )


def _begins_with(text: str, told: frozenset[str]) -> bool:
    return told <= Normal(_CLAUSE.split(text)[0]).content


@lru_cache(maxsize=1)
def _around() -> frozenset[str]:
    return frozenset(map(stem, words_of("hedges", "around")))


def _is_taken_back(pair: Pair) -> bool:
    """Return whether the reference is named only to be denied or put off: `risk of pneumonia`.

    A diagnosis with another one added to it counts too, if one was asked for.
    """
    answer, folded = pair.answer, pair.answer.folded
    asked = frozenset[str]() if pair.question is None else pair.question.vocabulary
    cues = words_of("hedges", "taking_back") & answer.vocabulary
    is_single = "diagnosis" in asked and len(pair.reference.tokens) <= MAX_TERM
    if not cues and not (is_single and len(answer.tokens) <= 2 * MAX_WORDS):
        return False
    term = pair.reference.folded.strip(_EDGES)
    if len(term) > MAX_CHARACTERS:
        return False
    places = _places(folded, term)
    if not places or len(places) > MAX_NAMED:
        return False
    if pair.question is not None and pair.question.derived(asks_absence):
        return False
    shared = {word[:CUE_LETTERS] for word in asked | pair.reference.vocabulary}
    if cues and shared.isdisjoint([cue[:CUE_LETTERS] for cue in cues]):
        is_to_do = not asked.isdisjoint(words_of("hedges", "to_do"))
        if all(_is_put_off(folded, place, len(term), is_to_do=is_to_do) for place in places):
            return True
    rest = folded[places[-1] + len(term) :]
    return is_single and pattern_of("hedges", "added").match(rest) is not None


def _places(folded: str, term: str) -> list[int]:
    """Return where a term stands as words of its own; one place too many ends the search."""
    places: list[int] = []
    place = folded.find(term)
    while place >= 0 and len(places) <= MAX_NAMED:
        before, behind = (
            folded[place - 1 : place],
            folded[place + len(term) : place + len(term) + 1],
        )
        if not before.isalnum() and not behind.isalnum():
            places.append(place)
        place = folded.find(term, place + len(term))
    return places


def _is_put_off(folded: str, place: int, size: int, *, is_to_do: bool) -> bool:
    """Return whether the words right before or behind the reference take it back."""
    behind = folded[place + size : place + size + REACH]
    before = _CLAUSE.split(folded[max(0, place - REACH) : place])[-1].rstrip()
    before = _ARTICLE.sub("", before).rstrip()
    if _ends_with("taken_back_before", before):
        return True
    if _ends_with("once", before) and _LATER.search(behind):
        return True
    following = _CLAUSE.split(behind)[0]
    if following[:1] not in {" ", "-"}:
        return False
    keys = ("taken_back_behind", "withheld") if is_to_do else ("taken_back_behind",)
    return pattern_of("hedges", *keys).match(following, 1) is not None


def _ends_with(key: str, words: str) -> bool:
    return any(found.end() == len(words) for found in pattern_of("hedges", key).finditer(words))


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
    if len(pieces) == 1:
        return False
    sides = [_parts(piece, skipped) for piece in pieces]
    return any(
        before and after and _differ(before[-1], after[0], told)
        for before, after in pairwise(sides)
    )


def _differ(one: frozenset[str], other: frozenset[str], told: frozenset[str]) -> bool:
    return (one <= told) != (other <= told)


def _stands_beside(text: str, told: frozenset[str], skipped: frozenset[str]) -> bool:
    """Return whether the reference is one phrase of a text that speaks of several answers."""
    if not pattern_of("hedges", "several").search(text):
        return False
    parts = _parts(text, skipped)
    # `If it is not …` names an alternative, so its `not` is ignored.
    parts = [part - {"not"} for part in parts] if "not" not in told else parts
    return told in parts and any(not part <= told for part in parts)


def _is_list(text: str, told: frozenset[str], skipped: frozenset[str]) -> bool:
    """Return whether the reference is one of several phrases that could each be the answer."""
    parts = _parts(text, skipped, "list_cuts")
    if told not in parts or any(len(part) > MAX_WORDS for part in parts):
        return False
    # What is listed behind a yes or no explains it, unless the other verdict is listed too.
    verdicts = words_of("verdicts", "yes", "no")
    if told <= verdicts and all(part <= told or not part <= verdicts for part in parts):
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
    for match in _STROKE.finditer(text):
        both = frozenset({match[1], match[2]})
        if both in _exclusive() and not frozenset(map(stem, both)) <= told:
            return True
        if told in ({stem(match[1])}, {stem(match[2])}) and len(_parts(text, frozenset())) == 1:
            return True
    return False


@lru_cache(maxsize=1)
def _exclusive() -> frozenset[frozenset[str]]:
    return frozenset(frozenset(line.split()) for line in lexicon("hedges")["exclusive"])
