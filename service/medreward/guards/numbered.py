"""Numbered terms: stage II, type 1, L4, CD25, the fifth finger."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from medreward.guards.measures import MONTHS, is_unit
from medreward.guards.normal import Normal, Word
from medreward.guards.numerals import CARDINALS, ORDINALS, ROMAN
from medreward.guards.polarity import Key, lexicon, stemmed

_NAME = re.compile(r"([a-z]{1,6})(\d{1,3})([a-z]?)")
_FORMULA = re.compile(r"(?:[a-z]{1,3}\d{1,2}){2,4}")
_LETTERS = re.compile("[a-z]+")
_ORDINAL = re.compile(r"(\d{1,3})(?:st|nd|rd|th)")
_NUMERAL = re.compile(r"(\d{1,4}|[ivx]{1,5})([a-d]?)")
_SPINE = re.compile(r"c[1-8]|t(?:[1-9]|1[0-2])|l[1-5]|s[1-5]")
_JOINT = re.compile(r"\s*[-–—/,&]\s*|\s+")  # noqa: RUF001 - dashes as they are written
_LINK = frozenset({"and", "or", "to", "through"})
_RANGES = frozenset({"-", "–", "—", "to"})  # noqa: RUF001 - dashes as they are written

_SMALL = frozenset({"of", "in", "and", "or", "to", "with", "by", "at", "the", "a", "is", "was"})

MAX_LIST = 6
"""Words after a term that may be its numbers, and numbers in a range, at most."""


class Numbered(NamedTuple):
    """A number, the word that states it, and the key of the numbered term."""

    key: Key
    value: str
    word: Word


def numbered(told: Normal, places: Iterable[int]) -> Iterator[Numbered]:
    """Yield the numbered terms of a text; *places* are those of the words that may belong to one."""
    known, words, text = lexicon(), told.words, told.text
    for i in places:
        word = words[i]
        folded = word.text
        if folded in known.digits and not any(
            one.text == "from" for one in words[max(0, i - 2) : i]
        ):
            # Nobody says the thumb who counts from it.
            yield Numbered(("digit", ""), known.digits[folded], word)
        elif names_digit(told.tokens, i):
            yield Numbered(("digit", ""), known.which[folded], word)
        elif (key := known.numbered.get(stemmed(folded))) is not None:
            yield from _behind(words, text, i, key)
        elif folded[-1].isdigit() and not folded.isdigit():
            yield from _named(words, text, i)
        elif folded in ORDINALS or (folded[0].isdigit() and not folded.isdigit()):
            yield from _ordinal(words, text, i)
        elif folded in ROMAN and len(folded) > 1 and i and words[i - 1].text.isalpha():
            yield from _roman(words, i)
        elif folded.isdigit() and folded.isascii():
            yield from _plain(words, text, i)


def names_digit(tokens: Sequence[str], place: int) -> bool:
    """Return whether a word identifies the finger or toe that follows it: `middle finger`."""
    if tokens[place] not in lexicon().which or place + 1 >= len(tokens):
        return False
    return stemmed(tokens[place + 1]) in {"finger", "toe"}


def _behind(words: Sequence[Word], text: str, place: int, key: Key) -> Iterator[Numbered]:
    """Read the numerals after a word such as `stage`: `stage II or III`."""
    for i in range(place + 1, min(place + 1 + MAX_LIST, len(words))):
        if not _JOINT.fullmatch(text[words[i - 1].end : words[i].start]):
            break
        value = value_of(words[i].text)
        if value is not None and not is_measured(words, text, i):
            yield Numbered(key, value, words[i])
        elif words[i].text not in _LINK:
            break


def value_of(word: str) -> str | None:
    """Parse a numeral in any notation of grades; None if the word is not one."""
    if word in CARDINALS:
        return CARDINALS[word]
    if found := _NUMERAL.fullmatch(word):
        return _number(found[1]) + found[2] if _number(found[1]) else word
    return word if len(word) == 1 or word == "ab" or _NAME.fullmatch(word) else None


def numeral(word: str) -> str | None:
    """Parse a word that is a number without context; a single letter is too ambiguous."""
    if word in ORDINALS:
        return ORDINALS[word]
    if found := _ORDINAL.fullmatch(word):
        return found[1]
    if _SPINE.fullmatch(word):
        # L4-L5 is L4-5.
        return word[1:]
    if _NAME.fullmatch(word):
        return word
    return value_of(word) if word[:1].isdigit() or len(word) > 1 else None


def _number(digits: str) -> str:
    return (digits.lstrip("0") or "0") if digits.isdigit() else ROMAN.get(digits, "")


def _named(words: Sequence[Word], text: str, place: int) -> Iterator[Numbered]:
    """Read a name that ends in a number: `L4`, `L4-5`, `CD25`."""
    word = words[place]
    if _SPINE.fullmatch(word.text):
        yield Numbered(("level", "vertebra"), word.text, word)
        following = words[place + 1] if place + 1 < len(words) else None
        if (
            following is not None
            and following.text.isdigit()
            and text[word.end : following.start].strip() in {"-", "–", "/"}  # noqa: RUF001
        ):
            yield Numbered(("level", "vertebra"), word.text[0] + following.text, following)
    elif found := _NAME.fullmatch(word.text):
        yield Numbered(("number", found[1]), found[2] + found[3], word)
    elif _FORMULA.fullmatch(word.text):
        # G2P1 or T3N1M0: the letters name it, the numbers are its value.
        letters = "".join(filter(str.isalpha, word.text))
        yield Numbered(("number", letters), _LETTERS.sub(".", word.text), word)


def _ordinal(words: Sequence[Word], text: str, place: int) -> Iterator[Numbered]:
    """Read `3rd` or `third`, with the noun that follows as its key."""
    word = words[place]
    found = _ORDINAL.fullmatch(word.text)
    value = ORDINALS.get(word.text) or (found[1] if found else None)
    if _is_of_date(words, place):
        return
    if value is not None and (key := _noun(words, text, place)):
        yield Numbered(key, value, word)


def _noun(words: Sequence[Word], text: str, place: int) -> Key | None:
    """Return the key of the counted noun: a known term within reach, otherwise the next word."""
    known, nearest = lexicon(), ""
    for i in range(place + 1, min(place + 1 + MAX_LIST, len(words))):
        gap = text[words[i - 1].end : words[i].start]
        if "." in gap or ";" in gap:
            break
        folded = words[i].text
        stem = stemmed(folded)
        if stem in known.numbered:
            return known.numbered[stem]
        is_noun = folded.isalpha() and folded not in _SMALL and folded not in _LINK
        if not nearest and is_noun and folded not in ORDINALS:
            nearest = stem
    return ("number", f"{nearest}-") if nearest else None


def _roman(words: Sequence[Word], place: int) -> Iterator[Numbered]:
    """Read a Roman numeral after any word: `Le Fort II`."""
    before = stemmed(words[place - 1].text)
    if before not in lexicon().numbered and before not in _SMALL:
        yield Numbered(("number", before), ROMAN[words[place].text], words[place])


def _plain(words: Sequence[Word], text: str, place: int) -> Iterator[Numbered]:
    """Read a bare number with the word before it, `GCS 7`, or the noun after it, `3 vessels`."""
    word = words[place]
    if is_measured(words, text, place):
        return
    value = word.text.lstrip("0") or "0"
    key = _noun(words, text, place)
    if key == ("digit", ""):
        yield from (Numbered(key, one, word) for one in _reach(words, text, place))
    elif _opens_range(words, text, place):
        # What stands before `80-90 mg` is not its name.
        if key is not None:
            yield Numbered(key, value, word)
    elif before := _before(words, place):
        if before not in lexicon().numbered:
            yield Numbered(("number", before), value, word)
    elif key is not None and not place:
        yield Numbered(key, value, word)


def _opens_range(words: Sequence[Word], text: str, place: int) -> bool:
    """Return whether a number is the first of a range with a unit."""
    if place + 2 >= len(words) or not words[place + 1].text.isdigit():
        return False
    gap = text[words[place].end : words[place + 1].start].strip()
    return gap in _RANGES and is_measured(words, text, place + 1)


def _before(words: Sequence[Word], place: int) -> str:
    """Return the stem of the word before a number, as in `score of 5`."""
    place -= 2 if place > 1 and words[place - 1].text == "of" else 1
    before = words[place].text if place >= 0 else ""
    return stemmed(before) if before.isalpha() and before not in _SMALL else ""


def _reach(words: Sequence[Word], text: str, place: int) -> Iterator[str]:
    """Yield a number, and those of a range after it: `3-5`."""
    first = int(words[place].text[:2])
    yield str(first)
    if place + 1 < len(words) and words[place + 1].text.isdigit():
        gap = text[words[place].end : words[place + 1].start].strip()
        last = int(words[place + 1].text[:2])
        if gap in _RANGES and last - first <= MAX_LIST:
            yield from map(str, range(first + 1, last))


def _is_of_date(words: Sequence[Word], place: int) -> bool:
    """Return whether a number belongs to a month: 5 March is no numbered term."""
    return any(word.text in MONTHS for word in words[max(0, place - 1) : place + 3])


def is_measured(words: Sequence[Word], text: str, place: int) -> bool:
    """Return whether a number has a unit or is part of a longer one: the guard `quantities` reads it."""
    word = words[place]
    if not word.text.isdigit():
        return False
    before, behind = text[max(0, word.start - 1) : word.start], text[word.end : word.end + 2]
    if before in {".", "^", "<", ">", "/", "%"} or behind[:1] in {"%", "°", "^", "/"}:
        return True
    if (behind[:1] in {".", ","} and behind[1:].isdigit()) or _is_of_date(words, place):
        return True
    return place + 1 < len(words) and is_unit(words[place + 1].text)
