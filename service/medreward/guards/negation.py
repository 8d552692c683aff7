"""Negations in a text: `no fracture`, `fracture is absent`, `pneumonia ruled out`."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from medreward.guards.normal import Word
from medreward.guards.polarity import lexicon, shape

_STOP = re.compile(r"[,;:.!?()\[\]\n]")
"""Punctuation between two words that ends the scope of a negation."""

MAX_SCOPE = 6
"""Words in the scope of one negation, at most."""


class Denial(NamedTuple):
    """Denied nouns by their stem, and the words that are left open."""

    denied: Mapping[str, Word]
    doubtful: frozenset[int]
    """Places of the words in a scope: neither asserted nor denied, except for the nouns."""
    is_lack: frozenset[str] = frozenset()
    """Stems denied by a word such as `absent`, which has many synonyms."""


NOTHING = Denial({}, frozenset())


def denial(words: Sequence[Word], text: str) -> Denial:
    """Find the nouns that a text denies."""
    uses = lexicon().negation
    triggers = [i for i, word in enumerate(words) if word.text in uses["triggers"]]
    if not triggers:
        return NOTHING
    reader = _Reader(words, text)
    for place in triggers:
        reader.read(place)
    return Denial(reader.denied, frozenset(reader.doubtful), frozenset(reader.lacks))


class _Reader:
    """Follows each negation to the noun that it denies."""

    def __init__(self, words: Sequence[Word], text: str) -> None:
        self._words = words
        self._text = text
        self._uses = lexicon().negation
        self.denied: dict[str, Word] = {}
        self.doubtful: set[int] = set()
        self.lacks: set[str] = set()

    def read(self, place: int) -> None:
        """Find the noun of the negation at *place*: it follows or precedes it."""
        word, uses = self._words[place].text, self._uses
        following = self._word(place + 1) if not self._stops(place) else ""
        if word in {"not", "cannot"}:
            self._read_not(place, following)
        elif (word == "negative" and following == "for") or (word == "free" and following == "of"):
            self._forward(place + 1)
        elif (word == "ruled" and following == "out") or (
            word in uses["behind"] and (not following or following in uses["ends"])
        ):
            self._back(place)
        elif word in uses["lack"] and following and following not in uses["idioms"]:
            self._forward(place, lacks=True)
        elif word in uses["before"] and not following.isdigit() and following not in uses["idioms"]:
            self._forward(place)

    def _read_not(self, place: int, following: str) -> None:
        if following in {"be", "been", "being"}:
            following = self._word(place + 2)
        if following in self._uses["seen"]:
            self._back(place)
        elif following in {"excluded", "ruled", "exclude", "rule"}:
            # `cannot be excluded` neither denies nor asserts, so the words on
            # both sides of it are left open.
            self.doubtful.update(range(max(0, place - MAX_SCOPE), place + 3))
        elif following not in self._uses["idioms"]:
            self._forward(place)

    def _forward(self, place: int, *, lacks: bool = False) -> None:
        """Deny the last word of the noun phrase after *place*."""
        noun: Word | None = None
        for i in range(place + 1, min(place + 1 + MAX_SCOPE, len(self._words))):
            word = self._words[i]
            if word.text in self._uses["ends"] or (word.text == "of" and noun is not None):
                break
            self.doubtful.add(i)
            if word.text in self._uses["seen"] and noun is not None:
                break
            if word.text not in self._uses["empty"]:
                noun = word
            if self._stops(i):
                break
        self._deny(noun, lacks=lacks)
        self._doubt_list(place)

    def _doubt_list(self, place: int) -> None:
        """Leave open the words of a list that a negation may govern: `no fever, cough or chills`."""
        for i in range(place + 1, min(place + 1 + 2 * MAX_SCOPE, len(self._words))):
            gap = self._gap(i - 1)
            if "." in gap or ";" in gap or self._words[i].text in {"but", "with", "however"}:
                break
            self.doubtful.add(i)

    def _back(self, place: int) -> None:
        """Deny the last word of the noun phrase before *place*."""
        noun: Word | None = None
        for i in range(place - 1, max(-1, place - 1 - MAX_SCOPE), -1):
            if self._stops(i) and not (i == place - 1 and self._gap(i).strip() == ","):
                break
            word = self._words[i]
            self.doubtful.add(i)
            is_empty = word.text in self._uses["empty"] or word.text in self._uses["ends"]
            if noun is None and not is_empty and word.text not in {"been", "be", "can"}:
                noun = word
            elif noun is not None and word.text in self._uses["ends"]:
                break
        self._deny(noun, lacks=False)

    def _deny(self, noun: Word | None, *, lacks: bool) -> None:
        if noun is None:
            return
        stem = shape(noun.text).stem
        self.denied.setdefault(stem, noun)
        if lacks:
            self.lacks.add(stem)

    def _word(self, place: int) -> str:
        return self._words[place].text if place < len(self._words) else ""

    def _gap(self, place: int) -> str:
        """Return the text between the word at *place* and the next."""
        if not 0 <= place < len(self._words) - 1:
            return ""
        return self._text[self._words[place].end : self._words[place + 1].start]

    def _stops(self, place: int) -> bool:
        return place >= len(self._words) - 1 or _STOP.search(self._gap(place)) is not None
