"""Contradictions between answer and reference: side, level, stage, negation.

If an answer only states less or more than its reference, the judge decides. A contrast is a group
of which each text states a member that the other does not: `left` against `right`, `hypo-` against
`hyper-`, `stage II` against `stage III`. A negation needs no such second member: `fracture` against
`no fracture`.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import NamedTuple

from medreward.guards.negation import Denial, denial
from medreward.guards.normal import Normal, Word
from medreward.guards.numbered import names_digit, numbered, numeral
from medreward.guards.pair import Pair, Span, Veto
from medreward.guards.polarity import Key, Shape, lexicon, shape

SHORT = 14
"""Words of a text about one thing, at most; in longer ones, members must belong to one noun."""

REACH = 3
"""Words after a member among which its noun is searched."""

_SIDES = frozenset({"l", "r"})
_HYPHENS = frozenset({"-", "‐", "‑", "–"})  # noqa: RUF001 - as they are written

MAX_MEMBERS = 8
"""Members of one group in one text that are compared, at most; a list of numbers has more."""

Members = dict[str, list[int]]
"""Members of one group that a text states, each with the places of the words that state it."""


class Token(NamedTuple):
    """A word with the stem that is compared, which includes a prefix joined by a hyphen."""

    word: Word
    stem: str


class Said(NamedTuple):
    """Statements of a text that can contradict those of another."""

    tokens: tuple[Token, ...]
    members: Mapping[Key, Members]
    denial: Denial
    asserted: frozenset[str]
    """Stems of the words outside every negation's scope."""
    denies: Mapping[str, Word]
    """Stems that a prefix may negate, each with its word: `displaced` for `nondisplaced`."""
    absences: frozenset[str]
    """Words that may state an absence."""
    weak: frozenset[str]
    """Words that may state a near absence."""

    def first(self, stem: str) -> Word | None:
        """Return the first word with that *stem*, if there is one."""
        return next((token.word for token in self.tokens if token.stem == stem), None)


def contrast(pair: Pair) -> Veto | None:
    """Veto an answer that contradicts the reference."""
    answer, reference = said(pair.answer), said(pair.reference)
    return (
        _exclusive(answer, reference)
        or _negated(answer, reference)
        or _swapped(answer, reference)
        or _twin(answer, reference)
    )


def said(text: Normal) -> Said:
    """Return the statements of a text."""
    return text.derived(_read)


def _read(text: Normal) -> Said:
    words, uses = text.words, lexicon().negation
    shapes = [*enumerate(shape(word.text) for word in words)]
    joined = [(i, shape(both)) for i, both in _joined(words, text.text)]
    stems = [known.stem for _, known in shapes]
    # The word after a hyphen is compared with its prefix: `displaced` in
    # `non-displaced` has the stem of `nondisplaced`.
    for i, known in joined:
        stems[i + 1] = known.stem
    found, bare = denial(words, text.text), [word.text for word in words]
    return Said(
        tokens=tuple(map(Token, words, stems)),
        members=_members(words, text.text, shapes, joined),
        denial=found,
        asserted=frozenset([stem for i, stem in enumerate(stems) if i not in found.doubtful]),
        denies={rest: words[i] for i, known in shapes + joined for rest in known.denies},
        absences=uses["absences"].intersection(bare),
        weak=uses["weak"].intersection(bare),
    )


Shapes = Sequence[tuple[int, Shape]]
"""Meanings of words, each with the place of its word."""


def _members(
    words: Sequence[Word], text: str, shapes: Shapes, joined: Shapes
) -> Mapping[Key, Members]:
    # Single words come first, then numbers and abbreviations, then joined words:
    # of several contrasts, the first in this order is the one that a veto names.
    stated: list[tuple[int, Key, str]] = []
    for i, known in shapes:
        if known.says and not (i and (words[i - 1].text, words[i].text) in lexicon().silent):
            stated += [(i, *said) for said in _amount_or_name(words, i) or known.says]
    starts = [word.start for word in words]
    stated += [(bisect_left(starts, word.start), *said) for word, said in _found(words, text)]
    stated += [(i, *said) for i, known in joined for said in known.says]
    members: dict[Key, Members] = {}
    for place, key, member in stated:
        members.setdefault(key, {}).setdefault(member, []).append(place)
    for key, (whole, parts) in lexicon().together.items():
        if key in members and parts <= members[key].keys():
            members[key].setdefault(whole, members[key][min(parts)])
    return members


def _amount_or_name(words: Sequence[Word], place: int) -> tuple[tuple[Key, str], ...]:
    """Return the key of a word that is part of a name: `decreased high-density lipoprotein` is low."""
    after, nouns = lexicon().compounds
    word = words[place].text
    if names_digit(words, place):
        return ((("digit", word), word),)
    if word not in after or place + 1 >= len(words) or words[place + 1].text not in nouns:
        return ()
    return ((("amount", words[place + 1].text), word),)


def _found(words: Sequence[Word], text: str) -> Iterator[tuple[Word, tuple[Key, str]]]:
    """Yield numbers and abbreviations, whose meaning depends on the words around them."""
    for key, value, word in numbered(words, text):
        yield word, (key, value)
    abbreviations = lexicon().abbreviations
    for word in words:
        if word.text in abbreviations and _is_side(word, text):
            yield from ((word, said) for said in abbreviations[word.text])


def _is_side(word: Word, text: str) -> bool:
    """Return whether a word is an abbreviation; a single letter also needs a noun after it."""
    if not text[word.start : word.end].isupper():
        return False
    if word.text not in _SIDES:
        return True
    before, behind = text[max(0, word.start - 2) : word.start], text[word.end : word.end + 2]
    before = before.rstrip()[-1:]
    is_unit = before.isdigit() or before in {"/", "^"}
    return not is_unit and (behind[:1] == ")" or (behind[:1] == " " and behind[1:].islower()))


def _joined(words: Sequence[Word], text: str) -> Iterator[tuple[int, str]]:
    """Join prefixes to their words across a hyphen: `non-displaced`, `hyper-intense`."""
    known = lexicon()
    for i in range(len(words) - 1):
        word, following = words[i], words[i + 1]
        if word.text in known.prefixes or word.text in known.negating:
            gap = text[word.end : following.start]
            if gap in _HYPHENS or (gap == " " and word.text == "non"):
                yield i, word.text + following.text


def _twin(answer: Said, reference: Said) -> Veto | None:
    """Veto two texts that differ in a single word, if that word makes a contrast.

    This also finds contrasts whose members both occur elsewhere in both texts.
    """
    if len(answer.tokens) != len(reference.tokens):
        return None
    pairs = zip(answer.tokens, reference.tokens, strict=True)
    different = [(one.word, other.word) for one, other in pairs if one.stem != other.stem]
    if len(different) != 1:
        return None
    word, against = different[0]
    rule = _rule(word.text, against.text)
    return _veto(rule, word, against) if rule else None


def _rule(one: str, other: str) -> str | None:
    """Return the rule by which two words exclude each other in any context; None if none does."""
    if {one, other} == {"with", "without"}:
        return "negation"
    ours, theirs = shape(one), shape(other)
    if ours.stem in theirs.denies or theirs.stem in ours.denies:
        return "negation"
    for key, member in ours.says:
        for their_key, their_member in theirs.says:
            if key == their_key and not _may_agree(key, member, their_member):
                return key[0]
    mine, its = numeral(one), numeral(other)
    if not mine or not its or _may_agree(("number", ""), mine, its):
        return None
    # 0.5 equals 0.50, so trailing zeros are ignored; 5 mg against 50 mg is
    # left to the guard `quantities`.
    return "number" if mine.rstrip("0") != its.rstrip("0") else None


def _exclusive(answer: Said, reference: Said) -> Veto | None:
    """Veto a group of which each text states a member that the other does not."""
    is_short = max(len(answer.tokens), len(reference.tokens)) <= SHORT
    for key in filter(reference.members.__contains__, answer.members):
        ours, theirs = answer.members[key], reference.members[key]
        if ours.keys() == theirs.keys() or max(len(ours), len(theirs)) > MAX_MEMBERS:
            continue
        for mine, other in product(ours, theirs):
            if mine not in theirs and other not in ours and not _may_agree(key, mine, other):
                place, against = ours[mine][0], theirs[other][0]
                nouns = _nouns(answer, key, place), _nouns(reference, key, against)
                # At the end of a clause no noun follows a member, so none has
                # to agree: `the lesion is benign`.
                if is_short or not all(nouns) or nouns[0] & nouns[1]:
                    return _veto(key[0], answer.tokens[place].word, reference.tokens[against].word)
    return None


def _may_agree(key: Key, mine: str, other: str) -> bool:
    """Return whether two members may describe one thing: `stage III` and `stage IIIA`."""
    if mine == other or (key, mine, other) in lexicon().compatible:
        return True
    short, long = sorted((mine, other), key=len)
    return short[-1:].isdigit() and long.startswith(short) and long[len(short) :].isalpha()


def _nouns(text: Said, key: Key, place: int) -> frozenset[str]:
    """Return the stems after a member, up to the next member of its group."""
    others = [
        other
        for places in text.members[key].values()
        for other in places
        if place < other <= place + REACH
    ]
    end = min((place + 1 + REACH, *others))
    return frozenset([token.stem for token in text.tokens[place + 1 : end]])


_JOINING = frozenset({"and", "or"})
"""Words between two members with the same noun: `left and right lung`."""


def _swapped(answer: Said, reference: Said) -> Veto | None:
    """Veto members exchanged between two nouns: `right liver, left spleen` and the reverse."""
    for key in filter(reference.members.__contains__, answer.members):
        ours, theirs = answer.members[key], reference.members[key]
        if not 1 < len(ours) <= MAX_MEMBERS or ours.keys() != theirs.keys():
            continue
        mine = {m: _nouns(answer, key, places[0]) - _JOINING for m, places in ours.items()}
        other = {m: _nouns(reference, key, places[0]) - _JOINING for m, places in theirs.items()}
        for member, opposite in product(ours, theirs):
            one, another = mine[member], mine[opposite]
            is_exchanged = one == other[opposite] and another == other[member]
            if is_exchanged and one and another and one != another:
                word = answer.tokens[ours[member][0]].word
                return _veto(key[0], word, reference.tokens[theirs[opposite][0]].word)
    return None


def _negated(answer: Said, reference: Said) -> Veto | None:
    """Veto a noun that one text denies and the other asserts."""
    if (found := _denied(answer, reference)) is not None:
        return _veto("negation", *found)
    if (found := _denied(reference, answer)) is not None:
        return _veto("negation", *reversed(found))
    return None


def _denied(text: Said, other: Said) -> tuple[Word, Word] | None:
    if other.absences - text.absences:
        return None
    for stem, word in text.denial.denied.items():
        is_open = stem in text.asserted or stem in other.denial.denied
        is_open = is_open or (stem in text.denial.is_lack and bool(other.weak))
        if stem in other.asserted and not is_open and (against := other.first(stem)):
            return word, against
    if other.weak:
        return None
    for rest, word in text.denies.items():
        is_closed = rest in other.asserted and rest not in other.denies
        if is_closed and text.first(rest) is None and (against := other.first(rest)):
            return word, against
    return None


def _veto(rule: str, word: Word, against: Word) -> Veto:
    return Veto(f"contrast.{rule}", Span(word.start, word.end), Span(against.start, against.end))
