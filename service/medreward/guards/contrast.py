"""Contradictions between answer and reference: side, level, stage, negation.

If an answer only states less or more than its reference, the judge decides. A contrast is a group
of which each text states a member that the other does not: `left` against `right`, `hypo-` against
`hyper-`, `stage II` against `stage III`. A negation needs no such second member: `fracture` against
`no fracture`.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import product
from operator import ne
from typing import NamedTuple

from medreward.guards.lexicon import words_of
from medreward.guards.negation import Asides, Denial, denials
from medreward.guards.normal import AUXILIARIES, STOPWORDS, WORD, Normal, Word
from medreward.guards.numbered import names_digit, numbered, numeral
from medreward.guards.options import read_options
from medreward.guards.pair import Pair, Span, Veto
from medreward.guards.polarity import Key, Shape, lexicon, shape, shapes, stemmed

SHORT = 14
"""Words of a text about one thing, at most; in longer ones, members must belong to one noun."""

MAX_BARE = 8
"""Words of a text in which a look-alike is the answer, at most; in longer ones it may explain it."""

REACH = 3
"""Words of meaning next to a member among which its noun is searched."""

_SIDES = frozenset({"l", "r"})
_HYPHENS = frozenset({"-", "‐", "‑", "–"})  # noqa: RUF001 - as they are written
_STOP = re.compile(r"[,;:.!?()\[\]\n]")
"""Punctuation that ends a clause."""
_SENTENCE = re.compile(r"[.?!\n]")
_CHINESE_NO = re.compile("[不非无無未没沒][\u3400-\u9fff]{0,2}$")

MAX_MEMBERS = 8
"""Members of one group in one text that are compared, at most; a list of numbers has more."""

MIN_INITIALS = 3
"""Letters of an abbreviation that names a part of the reference, at least: `RCA`."""

Members = dict[str, list[int]]
"""Members of one group that a text states, each with the places of the words that state it."""


class Said(NamedTuple):
    """Statements of a text that can contradict those of another."""

    normal: Normal
    stems: tuple[str, ...]
    """Of each word the stem that is compared, which includes a prefix joined by a hyphen."""
    known: frozenset[str]
    members: Mapping[Key, Members]
    denied: Mapping[Key, Members]
    """Members that a negation governs; the text states none of them."""
    denial: Denial
    asides: Asides
    asserted: frozenset[str]
    """Stems of the words outside every negation's scope."""
    denies: Mapping[str, int]
    """Stems that a prefix may negate, each with the place of its word: `displaced` for `nondisplaced`."""

    @property
    def words(self) -> tuple[Word, ...]:
        """Words with their places in the text, which most texts are never asked for."""
        return self.normal.words

    def first(self, stem: str) -> Word | None:
        """Return the first word with that *stem*, if there is one."""
        return self.words[self.stems.index(stem)] if stem in self.known else None


def contrast(pair: Pair) -> Veto | None:
    """Veto an answer that contradicts the reference."""
    # Answers share their reference, and only what it states or denies can be contradicted. What an
    # answer states is not kept: it would be most of the memory that a text takes.
    reference = pair.reference.derived(_read)
    groups = {*reference.members, *reference.denied} if reference.denied else reference.members
    comparisons = _comparisons(pair, reference)
    answer = _read(pair.answer, {*groups, *dict(comparisons)} if comparisons else groups)
    is_one_group = not answer.members.keys().isdisjoint(reference.members)
    if pair.question is not None and pair.question.derived(asks_absence):
        # Who is asked what is missing may say that there is none of it.
        found = _exclusive(_turned(answer), _turned(reference)) or _present(answer, reference)
    else:
        asked = frozenset[str]() if pair.question is None else pair.question.vocabulary
        if is_one_group and not _compares_in_reverse(answer, reference, comparisons):
            found = _exclusive(answer, reference, asked)
        else:
            found = None
        found = found or _negated(answer, reference)
    found = found or (_swapped(answer, reference) if is_one_group else None)
    return found or _twin(answer, reference) or _relabelled(pair) or _partial(pair)


def asks_absence(question: Normal) -> bool:
    """Return whether a question asks for what is absent, deficient or to be avoided."""
    words = lexicon().negation["asks_absence"]
    if words.isdisjoint(question.vocabulary):
        return False
    if (options := read_options(question)).texts:
        question = options.stem
    # Options may follow the question, and a story come before it.
    told = question.folded[: question.folded.rfind("?") + 1] or question.folded.split("\n")[0]
    asked = WORD.findall(_SENTENCE.split(told.rstrip("?.: \n"))[-1])
    if not asked or asked[0] in AUXILIARIES:
        return False
    is_seizure = "absence" in asked and not lexicon().uses["seizure"].isdisjoint(asked)
    return not is_seizure and not words.isdisjoint(asked)


def _turned(text: Said) -> Said:
    """Return a text in which members of denied things are stated: it tells what is missing.

    What it says to be present does not count.
    """
    opposites = lexicon().opposites
    there: set[int] = set()
    for i in (i for i, stem in enumerate(text.stems) if stem == "present"):
        start = i
        while start > max(0, i - 2 * REACH) and not _stops(text, start - 1):
            start -= 1
        there.update(range(start, i))
    members: dict[Key, Members] = {}
    for key, stated in text.members.items():
        for member, places in stated.items():
            if left := [place for place in places if place not in there]:
                members.setdefault(key, {})[member] = left
    for key, denied in text.denied.items():
        places = [place for stated in members.get(key, {}).values() for place in stated]
        is_first = min(min(stated) for stated in denied.values()) < min(
            places, default=text.normal.size
        )
        if is_first and not any((key, member) in opposites for member in denied):
            members[key] = denied
    return text._replace(members=members)


def _stops(text: Said, place: int) -> bool:
    """Return whether a clause ends behind the word at *place*."""
    gap = text.normal.text[text.words[place].end : text.words[place + 1].start]
    return gap != " " and _STOP.search(gap) is not None


def _present(answer: Said, reference: Said) -> Veto | None:
    """Veto an answer by which the thing that is missing is there: `the gallbladder is in place`."""
    uses = lexicon().negation
    if not reference.stems:
        return None
    # The reference names the thing, or denies it: `gallbladder`, `There is no gallbladder`.
    denied = reference.denial.denied
    things = denied.keys() or {reference.stems[-1]}
    named = frozenset[str]() if denied else reference.known - STOPWORDS
    for i, stem in enumerate(answer.stems[:-1]):
        phrase = answer.stems[max(0, i - REACH) : i + 1]
        if stem not in things or i in answer.denial.doubtful or not named <= {*phrase}:
            continue
        following = [word.text for word in answer.words[i + 1 : i + 4]]
        is_there = following[0] in {"is", "are", "was", "were"} and (
            following[-1] == "place" or not (uses["seen"] | uses["spared"]).isdisjoint(following)
        )
        if is_there and "not" not in following and uses["lack"].isdisjoint(following):
            return _veto("negation", answer.words[i], denied.get(stem, reference.words[-1]))
    return None


def _read(text: Normal, groups: Collection[Key] | None = None) -> Said:
    """Read the statements of a text; of an answer, those about the reference's groups only."""
    stems: list[str] = []
    telling: list[tuple[int, Shape]] = []
    for i, word in enumerate(text.tokens):
        meaning = shapes[word]
        stems.append(meaning.stem)
        if meaning.tells:
            telling.append((i, meaning))
    joined: list[tuple[int, Shape]] = []
    if "-" in text.folded or "non" in text.vocabulary:
        joined = [(i, shapes[both]) for i, both in _joined(text)]
    # The word after a hyphen is compared with its prefix: `displaced` in
    # `non-displaced` has the stem of `nondisplaced`.
    for i, meaning in joined:
        stems[i + 1] = meaning.stem
    found, beside = denials(text)
    stated = _stated(text, telling, joined) if groups is None or groups else []
    if groups is not None:
        stated = [one for one in stated if one[1] in groups]
    if beside.others:
        stated = [one for one in stated if one[0] not in beside.others]
    members, denied = _members(stated, found) if stated else ({}, {})
    known = asserted = frozenset(stems)
    # In most texts nothing is open, and one set serves as both.
    if found.doubtful:
        asserted = frozenset([stem for i, stem in enumerate(stems) if i not in found.doubtful])
    denies = {
        rest: i
        for i, meaning in (*telling, *joined)
        if meaning.denies and i not in found.scope
        for rest in meaning.denies
    }
    return Said(
        text, tuple(stems), known, members, denied, found, beside, asserted=asserted, denies=denies
    )


Shapes = Sequence[tuple[int, Shape]]
"""Meanings of words, each with the place of its word."""

Statement = tuple[int, Key, str]
"""Place of a word, and the member that it states."""


def _stated(text: Normal, telling: Shapes, joined: Shapes) -> list[Statement]:
    # Single words come first, then numbers and abbreviations, then joined words:
    # of several contrasts, the first in this order is the one that a veto names.
    tokens, known = text.tokens, lexicon()
    stated: list[Statement] = []
    marks: list[Statement] = []
    is_weakened = not known.negation["weakening"].isdisjoint(text.vocabulary)
    for i, meaning in telling:
        word = tokens[i]
        if not meaning.is_open and not is_weakened:
            stated += [(i, *said) for said in meaning.says]
            continue
        if meaning.says and not _is_silent(tokens, i):
            stated += [(i, *said) for said in _amount_or_name(tokens, i) or meaning.says]
        if word in known.phrases and i + 1 < len(tokens):
            stated += [(i, *said) for said in known.phrases[word].get(tokens[i + 1], ())]
        if word in known.abbreviations and _is_side(text.words[i], text.text):
            marks += [(i, *said) for said in known.abbreviations[word]]
        elif len(word) == 1 and (name := _class_name(text.words, i, text.text)):
            marks.append((i, ("letter", name), word))
    counting = [i for i, meaning in telling if meaning.counts]
    if counting or not text.folded.isascii():
        starts = [word.start for word in text.words]
        numbers = numbered(text, counting)
        stated += [(bisect_left(starts, word.start), key, value) for key, value, word in numbers]
    stated += marks
    stated += [(i, *said) for i, meaning in joined for said in meaning.says]
    if not text.folded.isascii():
        stated += _signs(text, starts)
    return stated


def _is_silent(tokens: Sequence[str], place: int) -> bool:
    """Return whether the word before takes a word its meaning: `gall bladder`, `all right`."""
    known, before = lexicon(), tokens[place - 1] if place else ""
    return before in known.negation["weakening"] or (before, tokens[place]) in known.silent


def _members(
    stated: Sequence[Statement], found: Denial
) -> tuple[Mapping[Key, Members], Mapping[Key, Members]]:
    """Return the members that a text states, and those that it denies."""
    known, scope = lexicon(), found.scope
    members: dict[Key, Members] = {}
    denied: dict[Key, Members] = {}
    for place, key, member in stated:
        if place not in scope:
            members.setdefault(key, {}).setdefault(member, []).append(place)
        elif scope[place] and (key, member) in known.opposites:
            opposite = known.opposites[key, member]
            members.setdefault(key, {}).setdefault(opposite, []).append(place)
        else:
            denied.setdefault(key, {}).setdefault(member, []).append(place)
    for key, (whole, parts) in known.together.items():
        if key in members and parts <= members[key].keys():
            members[key].setdefault(whole, members[key][min(parts)])
    return members, denied


def _signs(text: Normal, starts: Sequence[int]) -> Iterator[tuple[int, Key, str]]:
    """Yield what the Chinese signs of a text state; one behind a `not` states the other member."""
    pattern, said = lexicon().signs
    for sign in pattern.finditer(text.text):
        key, member = said[sign[0]]
        if _CHINESE_NO.search(text.text, max(0, sign.start() - 3), sign.start()):
            member = lexicon().opposites.get((key, member), "")
        if member and (place := bisect_right(starts, sign.start()) - 1) >= 0:
            yield place, key, member


def _amount_or_name(tokens: Sequence[str], place: int) -> tuple[tuple[Key, str], ...]:
    """Return the key of a word that is part of a name: `decreased high-density lipoprotein` is low."""
    (after, nouns), word = lexicon().compounds, tokens[place]
    if names_digit(tokens, place):
        return ((("digit", word), word),)
    if word not in after or place + 1 >= len(tokens) or tokens[place + 1] not in nouns:
        return ()
    return ((("amount", tokens[place + 1]), word),)


MAX_NAME = 16
"""Characters of a text that is no more than a name with its class, at most."""


def _class_name(words: Sequence[Word], place: int, text: str) -> str:
    """Return the name of which a capital letter is a class: `Child-Pugh A`, `T cell`; empty if none."""
    word, uses = words[place], lexicon().uses
    if not text[word.start : word.end].isupper() or word.text == "i" or not word.text.isascii():
        return ""
    if place + 1 < len(words) and words[place + 1].text in uses["lettered"]:
        # A T lymphocyte is a T cell.
        return stemmed(words[place + 1].text).replace("lymphocyte", "cell")
    name = words[place - 1] if place else word
    is_name = (
        len(name.text) >= REACH
        and name.text.isalpha()
        and name.text not in STOPWORDS
        and name.text not in uses["unnamed"]
        and text[name.end : word.start] in {" ", "-"}
        and (len(text) <= MAX_NAME or not text[name.start : name.end].isupper())
    )
    return name.text if is_name else ""


def _is_side(word: Word, text: str) -> bool:
    """Return whether a word is an abbreviation; a single letter also needs a noun after it."""
    if not text[word.start : word.end].isupper():
        return False
    if word.text not in _SIDES:
        return True
    if len(text) <= MAX_NAME and text.strip(" .()*") == text[word.start : word.end]:
        return True
    before, behind = text[max(0, word.start - 2) : word.start], text[word.end : word.end + 2]
    before = before.rstrip()[-1:]
    is_unit = before.isdigit() or before in {"/", "^"}
    return not is_unit and (behind[:1] == ")" or (behind[:1] == " " and behind[1:].islower()))


def _joined(normal: Normal) -> Iterator[tuple[int, str]]:
    """Join prefixes to their words across a hyphen: `non-displaced`, `hyper-intense`."""
    known, text, words = lexicon(), normal.text, normal.words
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
    if len(answer.stems) != len(reference.stems):
        return None
    ours, theirs = answer.stems, reference.stems
    if sum(map(ne, ours, theirs)) > 2:  # noqa: PLR2004 - two words may be exchanged
        return None
    different = [i for i, stem in enumerate(ours) if stem != theirs[i]]
    if len(different) == 2:  # noqa: PLR2004 - see above
        return _exchanged(answer, reference, *different)
    if not different:
        return None
    word, against = answer.words[different[0]], reference.words[different[0]]
    rule = _rule(word.text, against.text)
    return _veto(rule, word, against) if rule else None


def _exchanged(answer: Said, reference: Said, one: int, other: int) -> Veto | None:
    """Veto two words exchanged around one that directs: `left-to-right shunt` and the reverse."""
    ours, theirs = answer.stems, reference.stems
    between = {word.text for word in answer.words[one + 1 : other]}
    is_exchange = (ours[one], ours[other]) == (theirs[other], theirs[one])
    if not is_exchange or lexicon().uses["directing"].isdisjoint(between):
        return None
    return _veto("order", answer.words[one], reference.words[one])


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


def _exclusive(answer: Said, reference: Said, asked: frozenset[str] = frozenset()) -> Veto | None:
    """Veto a group of which each text states a member that the other does not."""
    is_short = max(answer.normal.size, reference.normal.size) <= SHORT
    told, meant = _told(answer, reference), _told(reference, answer)
    for key in filter(meant.__contains__, told):
        ours, theirs = told[key], meant[key]
        if ours.keys() == theirs.keys() or max(len(ours), len(theirs)) > MAX_MEMBERS:
            continue
        is_sole = len(ours) == len(theirs) == 1
        for mine, other in product(ours, theirs):
            if mine not in theirs and other not in ours and not _may_agree(key, mine, other):
                place, against = ours[mine][0], theirs[other][0]
                one = answer, place, told[key]
                another = reference, against, meant[key]
                if _is_one_thing(
                    key, one, another, is_short=is_short, is_sole=is_sole
                ) and not _explains(key, one, reference, asked):
                    return _veto(key[0], answer.words[place], reference.words[against])
    return None


def _told(text: Said, other: Said) -> Mapping[Key, Members]:
    """Return the members that a text states; what it calls spared counts if the other does so too."""
    spared = text.asides.spared
    if not spared or other.asides.spared:
        return text.members
    words = lexicon().negation["spared"]
    told: dict[Key, Members] = {}
    for key, members in text.members.items():
        for member, places in members.items():
            left = [
                place
                for place in places
                if place not in spared or text.normal.tokens[place] in words
            ]
            if left:
                told.setdefault(key, {})[member] = left
    return told


Stated = tuple[Said, int, Members]
"""A text with the place of a member in it, and the members of its group."""


def _is_one_thing(key: Key, one: Stated, other: Stated, *, is_short: bool, is_sole: bool) -> bool:
    """Return whether two members are said of the same thing."""
    if key[0] in {"comparison", "laterality", "size"} and _turns(key, one[0], other[0]):
        return False
    ours, theirs = _nouns(*one), _nouns(*other)
    if key in lexicon().bound:
        ours, theirs = ours or _nouns(*one, step=-1), theirs or _nouns(*other, step=-1)
        return not ours.isdisjoint(theirs)
    if key[0] == "laterality" and (is_short or is_sole):
        return True
    is_explained = (
        key[0] == "lookalike" and max(one[0].normal.size, other[0].normal.size) > MAX_BARE
    )
    if not is_short or is_explained:
        ours |= _nouns(*one, step=-1)
        theirs |= _nouns(*other, step=-1)
        return not ours.isdisjoint(theirs)
    if key[0] == "amount":
        ours, theirs = ours or _nouns(*one, step=-1), theirs or _nouns(*other, step=-1)
    if key not in lexicon().groups or not ours or not theirs or not ours.isdisjoint(theirs):
        return True
    # Something else is large, late or increased: what the other text speaks of
    # has another word next to it here.
    return (
        key[0] != "amount" and theirs.isdisjoint(one[0].known) and ours.isdisjoint(other[0].known)
    )


def _comparisons(pair: Pair, reference: Said) -> list[tuple[Key, Members]]:
    """Return what question and reference compare by, if the answer compares two things."""
    if "than" not in pair.answer.vocabulary:
        return []
    stated = [*reference.members.items()]
    if pair.question is not None:
        stated += pair.question.derived(_read).members.items()
    return [(key, members) for key, members in stated if key[0] == "comparison"]


def _compares_in_reverse(
    answer: Said, reference: Said, comparisons: Sequence[tuple[Key, Members]]
) -> bool:
    """Return whether `the right one is smaller than the left` says that the left one is larger."""
    differs = any(
        key in answer.members and answer.members[key].keys() != members.keys()
        for key, members in comparisons
    )
    return differs and not ("than" in reference.known and _same_end(answer, reference))


def _turns(key: Key, one: Said, other: Said) -> bool:
    """Return whether a side or size may be told from the other end: `smaller than the right`."""
    turning = lexicon().negation["turning"] & (one.known | other.known)
    is_shared = "than" in one.known & other.known
    if (key[0] != "comparison" and not is_shared) or (is_shared and _same_end(one, other)):
        turning -= {"than"}
    return bool(turning)


def _same_end(one: Said, other: Said) -> bool:
    """Return whether both compare with the same thing: `lower than plasma`, `higher than in plasma`."""
    ends = []
    for text in (one, other):
        place = text.stems.index("than")
        behind = text.stems[place + 1 : place + 1 + 2 * REACH]
        ends.append({stem for stem in behind if stem not in STOPWORDS})
    return bool(ends[0]) and ends[0] == ends[1]


_ASIDE = re.compile(r"[;:.(\n]|\b(?:because|since|as|whereas|while)\b")
_JOINING = re.compile(_ASIDE.pattern + r"|,|\b(?:in|on|with|and|superimposed)\b")


def _explains(key: Key, one: Stated, reference: Said, asked: frozenset[str]) -> bool:
    """Return whether a member is told with another name of the reference: `low calcium; …`."""
    text, _, members = one
    written = text.normal.text
    first = min(place for places in members.values() for place in places)
    if not 0 < first <= 2 * SHORT:
        return False
    before, words = written[: text.words[first].start], text.words[:first]
    initials = "".join(word.text[0] for word in reference.words if word.text not in STOPWORDS)
    if any(
        len(word.text) > 1
        and (word.text == initials or (word.text in initials and len(word.text) >= MIN_INITIALS))
        and written[word.start : word.end].isupper()
        for word in words
    ):
        return _JOINING.search(before) is not None
    cut = (_JOINING if key[0] in {"amount", "time"} else _ASIDE).search(before)
    idle = STOPWORDS | asked | words_of("openers", "english")
    named = {
        text.stems[i]
        for i, word in enumerate(words)
        if cut is not None and word.end <= cut.start() and word.text not in idle
    }
    return bool(named) and named.isdisjoint(reference.known)


def _may_agree(key: Key, mine: str, other: str) -> bool:
    """Return whether two members may describe one thing: `stage III` and `stage IIIA`."""
    if mine == other or (key, mine, other) in lexicon().compatible:
        return True
    short, long = sorted((mine, other), key=len)
    return short[-1:].isdigit() and long.startswith(short) and long[len(short) :].isalpha()


def _nouns(text: Said, place: int, members: Members, step: int = 1) -> frozenset[str]:
    """Return the stems after a member, or before it, up to the clause's end or the next member."""
    tokens, found, hollow = text.normal.tokens, list[str](), lexicon().uses["hollow"]
    others = {other for places in members.values() for other in places}
    i = place
    while len(found) < REACH and abs(i - place) < 2 * REACH:
        i += step
        if not 0 <= i < len(tokens) or i in others:
            break
        if _stops(text, min(i, i - step)):
            break
        word = tokens[i]
        if word not in STOPWORDS and word not in hollow and not word[0].isdigit():
            found.append(text.stems[i])
    return frozenset(found)


def _swapped(answer: Said, reference: Said) -> Veto | None:
    """Veto members exchanged between two nouns: `right liver, left spleen` and the reverse."""
    for key in filter(reference.members.__contains__, answer.members):
        ours, theirs = answer.members[key], reference.members[key]
        if not 1 < len(ours) <= MAX_MEMBERS or ours.keys() != theirs.keys():
            continue
        mine = {m: _nouns(answer, places[0], ours) for m, places in ours.items()}
        other = {m: _nouns(reference, places[0], theirs) for m, places in theirs.items()}
        for member, opposite in product(ours, theirs):
            one, another = mine[member], mine[opposite]
            is_exchanged = one == other[opposite] and another == other[member]
            if is_exchanged and one and another and one != another:
                word = answer.words[ours[member][0]]
                return _veto(key[0], word, reference.words[theirs[opposite][0]])
    return None


def _negated(answer: Said, reference: Said) -> Veto | None:
    """Veto a noun that one text denies and the other asserts."""
    if (found := _denied(answer, reference)) is not None:
        return _veto("negation", *found)
    if (found := _denied(reference, answer)) is not None:
        return _veto("negation", *reversed(found))
    return None


def _denied(text: Said, other: Said) -> tuple[Word, Word] | None:
    denied, asserted = text.denial.denied, other.asserted
    if denied.keys().isdisjoint(asserted) and text.denies.keys().isdisjoint(asserted):
        return None
    uses, own, its = lexicon().negation, text.normal.vocabulary, other.normal.vocabulary
    absences = uses["absences"] & its
    if absences - own:
        return None
    is_weak = not uses["weak"].isdisjoint(its)
    for stem, word in denied.items():
        is_open = stem in text.asserted or stem in other.denial.denied
        is_lack = stem in text.denial.is_lack
        is_vague = is_weak or absences or other.denial.doubtful or not uses["weak"].isdisjoint(own)
        is_open = is_open or (is_lack and bool(is_vague))
        is_open = is_open or bool(text.denial.qualified.get(stem, frozenset()) - other.known)
        # `Blood around the heart, no pleural effusion` has its own name for the other one.
        if modifiers := text.denial.modified.get(stem, frozenset()) - other.known:
            named = text.asserted - STOPWORDS - uses["triggers"] - modifiers
            is_open = is_open or bool(named)
        if stem in asserted and not is_open and (against := other.first(stem)):
            return word, against
    if is_weak:
        return None
    for rest, place in text.denies.items():
        is_closed = (
            rest in asserted and rest not in other.denies and rest not in other.denial.denied
        )
        if is_closed and text.first(rest) is None and (against := other.first(rest)):
            return text.words[place], against
    return None


_LABEL = re.compile(
    r"(?<![^\W_])\(?([a-z1-9])(?:[)*]{0,3}\s?[:=]|\)|\s+(?:is|marks|shows|labels)\b)[*\s]{0,3}"
)
_LABELS = frozenset("abcdefghijklmnopqrstuvwxyz123456789")
_LABEL_END = re.compile(r"[;,.\n]|\band\b")


def _labels(text: Normal) -> Mapping[str, frozenset[str]]:
    """Read what letters stand for in a text: `A: aorta; B is the pulmonary trunk`."""
    if text.folded.isascii() and _LABELS.isdisjoint(text.vocabulary):
        return {}
    marks = list(_LABEL.finditer(text.folded))
    if len(marks) < 2:  # noqa: PLR2004 - one label cannot be exchanged
        return {}
    found: dict[str, frozenset[str]] = {}
    for mark, following in zip(marks, [*marks[1:], None], strict=True):
        behind = text.folded[mark.end() : following.start() if following else mark.end() + 80]
        named = WORD.findall(_LABEL_END.split(behind, maxsplit=1)[0])
        found[mark[1]] = frozenset(map(stemmed, named)) - STOPWORDS
    return found


def _relabelled(pair: Pair) -> Veto | None:
    """Veto an answer that exchanges what two labels stand for."""
    theirs = pair.reference.derived(_labels)
    if not theirs:
        return None
    ours = pair.answer.derived(_labels)
    for one, other in product(theirs, theirs):
        is_exchanged = (
            one < other and theirs[one] and theirs[other] and theirs[one] != theirs[other]
        )
        if is_exchanged and (ours.get(one), ours.get(other)) == (theirs[other], theirs[one]):
            return Veto("contrast.label", Span(0, len(pair.answer.text)))
    return None


_COMMA = re.compile(r"[,;\n]")
_LISTED = re.compile(r"[,;\n&]|\b(?:and|plus)\b")
MAX_LISTED = 6
"""Words of a member of a plain list, at most."""


def _listed(text: Normal) -> tuple[frozenset[str], ...]:
    """Read a plain list, each member as its words; empty if the text is anything else."""
    folded = text.folded.strip(" .!*\n")
    if (
        "(" in folded
        or not lexicon().uses["unlisted"].isdisjoint(text.vocabulary)
        or len(text.tokens) > 2 * SHORT
    ):
        return ()
    members = [
        frozenset(WORD.findall(part)) - STOPWORDS - _carried() for part in _LISTED.split(folded)
    ]
    named = tuple(frozenset(map(stemmed, member)) for member in members if member)
    return named if all(len(member) <= MAX_LISTED for member in named) else ()


def _several(text: Normal) -> tuple[frozenset[str], ...]:
    """Read a list of two members or more; empty if the text is anything else."""
    if {"and", "plus"}.isdisjoint(text.vocabulary) and not _COMMA.search(text.folded.strip(" .,;")):
        return ()
    members = text.derived(_listed)
    return members if len(set(members)) > 1 else ()


def _partial(pair: Pair) -> Veto | None:
    """Veto an answer that names some members of a listed reference, and nothing else."""
    meant = pair.reference.derived(_several)
    if not meant:
        return None
    asked = frozenset[str]() if pair.question is None else pair.question.vocabulary
    told = pair.answer.derived(_listed)
    if len(told) == 1 and told[0] not in meant:
        # `The splenic artery is occluded` repeats the question.
        idle = frozenset(map(stemmed, asked))
        told = tuple(member for member in meant if member - idle == told[0] - idle)
    if not told or not set(told) < set(meant):
        return None
    uses = lexicon().uses
    if not uses["single"].isdisjoint(asked):
        return None
    # With commas only, the members may be one finding or its names.
    is_list = (
        not {"and", "plus"}.isdisjoint(pair.reference.vocabulary) or ";" in pair.reference.folded
    )
    is_list = is_list or len(set(told)) > 1 or not uses["plural"].isdisjoint(asked)
    # `Pneumonia, right lower lobe` is one finding and its place.
    places = [not member.isdisjoint(words_of("generic", "regions")) for member in meant]
    is_list = is_list and (len(set(told)) > 1 or len(set(places)) == 1)
    is_list = is_list or all(len(word) == 1 for member in meant for word in member)
    return Veto("contrast.part", Span(0, len(pair.answer.text))) if is_list else None


@lru_cache(maxsize=1)
def _carried() -> frozenset[str]:
    return (
        words_of("openers", "english")
        | words_of("generic", "wide")
        | {"show", "shows", "picture", "are"}
    )


def _veto(rule: str, word: Word, against: Word) -> Veto:
    return Veto(f"contrast.{rule}", Span(word.start, word.end), Span(against.start, against.end))
