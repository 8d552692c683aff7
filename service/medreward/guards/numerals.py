"""Numbers as words, ordinals and Roman numerals, and a text with digits in place of its numbers."""

import re
from bisect import bisect_right
from typing import NamedTuple

from medreward.guards.normal import Normal

_ONES = ("i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix")
ROMAN = {
    ten + one: str(10 * tens + ones)
    for tens, ten in enumerate(("", "x"))
    for ones, one in enumerate(("", *_ONES))
    if ten + one
} | {"xx": "20"}
"""Roman numerals from 1 to 20."""

_BELOW_TWENTY = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    "nineteen",
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
CARDINALS = {word: str(value) for value, word in enumerate(_BELOW_TWENTY)} | {
    word: str(10 * (tens + 2)) for tens, word in enumerate(_TENS)
}
"""Numbers of one word below a hundred."""

ORDINALS = {
    word: str(number + 1)
    for number, word in enumerate(
        [
            *("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth"),
            *("ninth", "tenth", "eleventh", "twelfth"),
        ]
    )
}

_PARTS = {"half": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "eighth": 8, "tenth": 10}
_SPANS = ("hour", "day", "week", "month", "year")
"""Units of which `a` may be the number."""
_HUNDRED, _DOZEN = 100, 12

NUMBER_WORDS = frozenset({*CARDINALS, *_PARTS, "hundred", "dozen", *_SPANS}) | {
    f"{word}s" for word in _PARTS
}
"""Words that may state a number; a text without them and without digits states none."""

_SMALL = "|".join(sorted(_BELOW_TWENTY, key=len, reverse=True))
_LOW = rf"(?:(?:{'|'.join(_TENS)})(?:[ -](?:{'|'.join(_BELOW_TWENTY[1:10])})\b)?|{_SMALL})\b"
_SPELLED = re.compile(
    rf"""
    ^(?P<single>an?)(?=\ (?:hour|day|week|month|year)\b\W*$)
    |\b(?P<whole>an?|{_SMALL})\ (?P<span>{"|".join(_SPANS)})s?\ and\ (?:a|one)\ half\b
    |(?:\b(?:a|an|one)[ -])?\b(?P<half>half)\b(?!-|\ (?:a\ )?dozen)(?:\ of\ an?\b|\ an?\b)?
    |\b(?P<over>a|[1-9]|{_SMALL})[ -](?P<under>(?:third|quarter|fourth|fifth|eighth|tenth)s
      |(?:third|quarter|fourth|fifth|eighth|tenth)(?=\ of\b|[.,;]?\s*$)|quarter)\b(?:\ of\ an?\b)?
    |\b(?P<number>(?:a|one|half\ a)\ dozen\b|(?:a|{_SMALL})[ -]hundred\b(?:[ -](?:and\ )?{_LOW})?
      |{_LOW})(?P<more>\ and\ (?:a|one)[ -]half\b)?
    """,
    re.VERBOSE,
)


class Written(NamedTuple):
    """A folded text with digits in place of its numbers."""

    text: str
    edits: tuple[tuple[int, int, int, int], ...] = ()
    """Range of each replacement in the text, and of what it replaced in the folded text."""

    def place(self, start: int, end: int) -> tuple[int, int]:
        """Map a range of the text to the folded text."""
        return self._old(start, is_end=False), self._old(end, is_end=True)

    def _old(self, place: int, *, is_end: bool) -> int:
        i = bisect_right(self.edits, place - is_end, key=lambda edit: edit[0]) - 1
        if i < 0:
            return place
        _, end, old_start, old_end = self.edits[i]
        if place < end or (is_end and place == end):
            return old_end if is_end else old_start
        return place - end + old_end


def written(text: Normal) -> Written:
    """Replace the numbers that a text spells by digits: `twenty-eight`, `half a`, `two thirds`."""
    folded = text.folded
    if "\\" in folded:
        # LaTeX marks the sign of per cent.
        folded = folded.replace("\\%", " %")
    if NUMBER_WORDS.isdisjoint(text.vocabulary):
        return Written(folded)
    pieces, edits, old, new = [], [], 0, 0
    for match in _SPELLED.finditer(folded):
        digits = _digits(match)
        new += match.start() - old
        pieces += [folded[old : match.start()], digits]
        edits.append((new, new + len(digits), *match.span()))
        new, old = new + len(digits), match.end()
    return Written("".join([*pieces, folded[old:]]), tuple(edits))


def _digits(match: re.Match[str]) -> str:
    if match["single"]:
        return "1"
    if whole := match["whole"]:
        return f"{CARDINALS.get(whole, '1')}.5 {match['span']}"
    if match["half"]:
        return "1/2"
    if over := match["over"]:
        part = _PARTS[match["under"].removesuffix("s")]
        return f"{1 if over == 'a' else CARDINALS.get(over, over)}/{part}"
    total, words = 0, re.split("[ -]", match["number"])
    for word in words:
        if word == "hundred":
            total = max(total, 1) * _HUNDRED
        elif word == "dozen":
            total = _DOZEN // 2 if words[0] == "half" else _DOZEN
        elif word in CARDINALS:
            total += int(CARDINALS[word])
    return f"{total}.5" if match["more"] else str(total)
