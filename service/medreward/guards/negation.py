"""Negations in a text: `no fracture`, `fracture is absent`, `pneumonia ruled out`."""

import re
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import NamedTuple

from medreward.guards.normal import STOPWORDS, Normal, Word
from medreward.guards.polarity import lexicon, shape

_STOP = re.compile(r"[,;:.!?()\[\]\n]")
"""Punctuation between two words that ends the scope of a negation."""

_LABEL = re.compile(r"\s*[:=]\s*")
"""What stands between a finding and its verdict: `perforation: no`."""

MAX_SCOPE = 6
"""Words in the scope of one negation, at most."""

_COPULAS = frozenset({"is", "are", "was", "were", "has", "have", "had", "shows", "show"})


class Denial(NamedTuple):
    """Denied nouns by their stem, and the words that are left open."""

    denied: Mapping[str, Word]
    doubtful: frozenset[int]
    """Places of the words in a scope: neither asserted nor denied, except for the nouns."""
    is_lack: frozenset[str] = frozenset()
    """Stems denied by a word such as `absent`, which has many synonyms."""
    scope: Mapping[int, bool] = {}
    """Places that a negation governs, each with whether nothing of meaning stands between."""
    qualified: Mapping[str, frozenset[str]] = {}
    """Stems denied with a qualifier only: `no suspicious lesion` leaves room for a lesion."""
    modified: Mapping[str, frozenset[str]] = {}
    """Stems denied with any other word before them: `no pleural effusion`."""


class Asides(NamedTuple):
    """Words of clauses that do not say what the answer is."""

    spared: frozenset[int]
    """Places in clauses that speak of what is normal: `the posterior one is spared`."""
    others: frozenset[int]
    """Places behind `rather than`, `unlike` and the like."""


NO_ASIDES = Asides(frozenset(), frozenset())
NOTHING = Denial({}, frozenset())


def denials(told: Normal) -> tuple[Denial, Asides]:
    """Find the nouns that a text denies, and the clauses about other things."""
    if lexicon().negation["cues"].isdisjoint(told.vocabulary):
        return NOTHING, NO_ASIDES
    return _denial(told), _asides(told)


def _denial(told: Normal) -> Denial:
    """Find the nouns that a text denies."""
    triggers = lexicon().negation["triggers"]
    if triggers.isdisjoint(told.vocabulary):
        return NOTHING
    reader = _Reader(told.words, told.text)
    for place, word in enumerate(told.tokens):
        if word in triggers and (word != "t" or _is_contraction(told, place)):
            reader.read(place)
    return Denial(
        reader.denied,
        frozenset(reader.doubtful),
        frozenset(reader.lacks),
        reader.scope,
        reader.qualified,
        reader.modified,
    )


def _is_contraction(told: Normal, place: int) -> bool:
    """Return whether a `t` is the end of `isn't`."""
    start = told.words[place].start
    return told.text[max(0, start - 2) : start].lower() in {"n'", "n’"}  # noqa: RUF001


def _asides(told: Normal) -> Asides:
    """Find the clauses that speak of other things than the answer."""
    uses = lexicon().negation
    if uses["aside"].isdisjoint(told.vocabulary):
        return NO_ASIDES
    words, text = told.words, told.text
    spared: set[int] = set()
    others: set[int] = set()
    start, is_spared, is_other = 0, False, False
    for i, word in enumerate(words):
        if i and (
            _STOP.search(text[words[i - 1].end : word.start]) or word.text in uses["clauses"]
        ):
            start, is_spared, is_other = i, False, False
        following = words[i + 1] if i + 1 < len(words) else None
        is_last = following is None or (
            following.text in uses["ends"] or _STOP.search(text[word.end : following.start])
        )
        if is_spared:
            spared.add(i)
        elif word.text in uses["spared"] and is_last and i > start:
            is_spared = True
            spared.update(range(start, i + 1))
        elif word.text == "not" and i > start and words[i - 1].text in _COPULAS:
            # What is not torn, needed or affected is not what was asked for.
            spared.update(range(max(start, i - 2 * MAX_SCOPE), i - 1))
        is_other = is_other or word.text in uses["instead"] or _turns_away(words, i, uses)
        if word.text == "but" and not uses["whole"].isdisjoint(told.vocabulary):
            # `All of the lung but its lower lobe`: no verb follows.
            behind = {other.text for other in words[i + 1 : i + 1 + MAX_SCOPE]}
            is_other = _COPULAS.isdisjoint(behind)
        if is_other:
            others.add(i)
    return Asides(frozenset(spared), frozenset(others))


def _turns_away(words: Sequence[Word], place: int, uses: Mapping[str, frozenset[str]]) -> bool:
    """Return whether a word begins what is not the case: `in contrast to`, `failure to`."""
    word = words[place].text
    if word == "contrast":
        return place > 0 and words[place - 1].text == "in"
    following = words[place + 1].text if place + 1 < len(words) else ""
    return word in uses["failing"] and following == "to"


class _Reader:
    """Follows each negation to the noun that it denies."""

    def __init__(self, words: Sequence[Word], text: str) -> None:
        self._words = words
        self._text = text
        self._uses = lexicon().negation
        self.denied: dict[str, Word] = {}
        self.doubtful: set[int] = set()
        self.lacks: set[str] = set()
        self.scope: dict[int, bool] = {}
        self.qualified: dict[str, frozenset[str]] = {}
        self.modified: dict[str, frozenset[str]] = {}

    def read(self, place: int) -> None:
        """Find the noun of the negation at *place*: it follows or precedes it."""
        word, uses = self._words[place].text, self._uses
        following = self._word(place + 1) if not self._stops(place) else ""
        if _LABEL.fullmatch(self._gap(place - 1)) and not following:
            self._back(place)
        elif word in {"not", "t", "cannot", "nicht"}:
            self._read_not(place, following)
        elif word == "free" and self._gap(place - 1) == "-":
            # A gluten-free diet does not say that gluten is there.
            self.doubtful.add(place - 1)
        elif (word == "negative" and following == "for") or (word == "free" and following == "of"):
            self._forward(place + 1)
        elif (word == "ruled" and following == "out") or (
            word in uses["behind"] and (not following or following in uses["ends"])
        ):
            self._back(place)
        elif not following or following in uses["idioms"]:
            return
        elif word in uses["lack"]:
            self._forward(place, lacks=True)
        elif word in uses["before"] and not following.isdigit():
            self._forward(place)
        elif word in uses["first"] or (word == "pas" and following in {"de", "d"}):
            self._forward(place, is_first=True)

    def _read_not(self, place: int, following: str) -> None:
        if following in {"be", "been", "being"}:
            following = self._word(place + 2)
        if following in self._uses["seen"]:
            self._back(place)
        elif following in {"excluded", "ruled", "exclude", "rule"}:
            # `cannot be excluded` neither denies nor asserts, so the words on
            # both sides of it are left open.
            self.doubtful.update(range(max(0, place - MAX_SCOPE), place + 3))
        elif following and following not in self._uses["idioms"]:
            self._forward(place)

    def _forward(self, place: int, *, lacks: bool = False, is_first: bool = False) -> None:
        """Deny the last word of the noun phrase after *place*, or the first in Romance languages."""
        uses = self._uses
        noun: Word | None = None
        is_direct, qualifiers = True, set[str]()
        is_first = is_first or self._word(place + 1) in uses["romance"]
        for i in range(place + 1, min(place + 1 + MAX_SCOPE, len(self._words))):
            word = self._words[i]
            if word.text in uses["ends"] or (word.text == "of" and noun is not None):
                # `Neither lung is consolidated` denies the predicate, not the lung.
                if word.text in _COPULAS and uses["seen"].isdisjoint(
                    (self._word(i + 1), self._word(i + 2))
                ):
                    noun = None
                if i == place + 1:
                    self.scope[i] = False
                break
            self.doubtful.add(i)
            if word.text in uses["seen"] and noun is not None:
                break
            self.scope[i] = is_direct
            if word.text in uses["besides"]:
                qualifiers.add("")
            elif word.text in uses["qualifiers"]:
                qualifiers.add(shape(word.text).stem)
            if word.text not in uses["empty"]:
                is_direct = is_direct and word.text in uses["between"]
                noun = noun if is_first and noun is not None else word
            if self._stops(i):
                break
        self._deny(noun, lacks=lacks, qualifiers=frozenset(qualifiers), behind=place)
        self._doubt_list(place)

    def _modifiers(self, place: int, noun: Word) -> frozenset[str]:
        """Return the stems of the words of meaning from *place* to the noun."""
        before = takewhile(noun.__ne__, self._words[place + 1 : place + MAX_SCOPE])
        empty = self._uses["empty"]
        return frozenset(
            shape(word.text).stem
            for word in before
            if word.text not in empty and word.text not in STOPWORDS
        )

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
            if self._stops(i) and not (i == place - 1 and self._gap(i).strip() in {",", ":"}):
                break
            word = self._words[i]
            self.doubtful.add(i)
            self.scope.setdefault(i, False)
            is_empty = word.text in self._uses["empty"] or word.text in self._uses["ends"]
            if noun is None and not is_empty and word.text not in {"been", "be", "can"}:
                noun = word
            elif noun is not None and word.text in self._uses["ends"]:
                break
        self._deny(noun, lacks=False)

    def _deny(
        self,
        noun: Word | None,
        *,
        lacks: bool,
        qualifiers: frozenset[str] = frozenset(),
        behind: int | None = None,
    ) -> None:
        known = None if noun is None else shape(noun.text)
        # `Bilateral absence of the thumb` denies no side.
        if noun is None or known is None or any(key[0] == "laterality" for key, _ in known.says):
            return
        stem = known.stem
        if qualifiers:
            self.qualified[stem] = qualifiers - {stem}
        self.denied.setdefault(stem, noun)
        if lacks:
            self.lacks.add(stem)
        if behind is not None and not noun.text[0].isdigit():
            self.modified[stem] = self._modifiers(behind, noun)

    def _word(self, place: int) -> str:
        return self._words[place].text if place < len(self._words) else ""

    def _gap(self, place: int) -> str:
        """Return the text between the word at *place* and the next."""
        if not 0 <= place < len(self._words) - 1:
            return ""
        return self._text[self._words[place].end : self._words[place + 1].start]

    def _stops(self, place: int) -> bool:
        return place >= len(self._words) - 1 or _STOP.search(self._gap(place)) is not None
