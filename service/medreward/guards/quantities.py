"""Quantities that have another value or unit in the reference, and those that are the same."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import repeat
from typing import NamedTuple

from medreward.guards.comparison import SHARES, asked, asking, is_fall, listed, same
from medreward.guards.measures import (
    DOSING_WORDS,
    MONTHS,
    Quantity,
    has_number,
    measured,
)
from medreward.guards.normal import STOPWORDS, Normal, stem
from medreward.guards.numbered import value_of
from medreward.guards.numerals import ORDINALS, ROMAN, written
from medreward.guards.pair import Pair, Span, Veto
from medreward.guards.polarity import lexicon as contrasts
from medreward.guards.polarity import respelled, stemmed

MAX_QUANTITIES = 64
"""Quantities of one text that are compared, at most; the judge decides longer lists."""

MAX_WORDS = 32
"""Words of a text whose quantity is settled, at most."""


Found = tuple[str, Quantity, Quantity] | None
"""Rule, quantity of the answer, and quantity of the reference that contradicts it."""


def quantities(pair: Pair) -> Veto | None:
    """Veto an answer with a quantity that the reference contradicts."""
    reference = pair.reference.derived(_with_unit)
    if not reference:
        return None
    answer = pair.answer.derived(_with_unit)
    if not answer or max(len(answer), len(reference)) > MAX_QUANTITIES:
        return None
    for kind in dict.fromkeys(quantity.kind for quantity in answer):
        said = [quantity for quantity in answer if quantity.kind == kind]
        meant = [quantity for quantity in reference if quantity.kind == kind]
        # `0.4 mg daily` is met by 400 µg/day.
        found = _difference(
            _without(said, [*meant, *_each_day(reference, kind[0])]),
            _without(meant, [*said, *_each_day(answer, kind[0])]),
        )
        if found is not None and not is_fall(*found[1:], pair):
            return _veto(pair, *found)
    found = _of_another_dimension(answer, reference)
    return None if found is None else _veto(pair, *found)


def _veto(pair: Pair, rule: str, one: Quantity, other: Quantity) -> Veto:
    return Veto(rule, _place(pair.answer, one.span), _place(pair.reference, other.span))


_DIMENSIONS = frozenset({"mass", "amount", "volume", "length", "area", "share", "time"})
_BESIDE_DOSES = frozenset({"dosing", "time"})


def _of_another_dimension(answer: Sequence[Quantity], reference: Sequence[Quantity]) -> Found:
    """Return the only quantities of both, if the same digits have units that cannot be converted.

    15 mg for 15 mg/kg, 7 mg/dL for 7 mmol/L. A dose may leave out that it is for a day.
    """
    said, meant = (
        [one for one in found if one.dimension not in _BESIDE_DOSES]
        for found in (answer, reference)
    )
    if len(said) != 1 or len(meant) != 1:
        return None
    one, other = said[0], meant[0]
    dimensions = {text.dimension.removesuffix("/time") for text in (one, other)}
    if not one.digits or one.digits != other.digits or len(dimensions) < len("ab"):
        return None
    is_known = all(_DIMENSIONS.issuperset(dimension.split("/")) for dimension in dimensions)
    # 1 g/dL is 1 %, and 5 mL of a solution may hold 5 mg.
    is_solution = dimensions in ({"mass", "volume"}, {"share", "mass/volume"})
    return ("quantity.unit", one, other) if is_known and not is_solution else None


def _each_day(found: Sequence[Quantity], dimension: str) -> list[Quantity]:
    """Return the amounts of a dimension that are told for a day."""
    of_a_day = (one for one in found if one.dimension == f"{dimension}/time")
    return [one._replace(dimension=dimension) for one in of_a_day]


def _with_unit(text: Normal) -> tuple[Quantity, ...]:
    found = text.derived(measured)
    if any(one.form == "pair" for one in found) and _BLOOD_PRESSURE & text.vocabulary:
        found = tuple(
            one._replace(dimension="pressure") if _is_blood_pressure(one) else one for one in found
        )
    return tuple(one for one in found if one.dimension and one.dimension != "plus")


_BLOOD_PRESSURE = frozenset({"bp", "pressure"})
_LEAST_DIASTOLIC = 20


def _is_blood_pressure(quantity: Quantity) -> bool:
    """Return whether a pair without a unit can be one where a text speaks of pressure."""
    parts = quantity.parts
    return quantity.kind == ("", "pair") and parts[0] > parts[1] >= _LEAST_DIASTOLIC


def _place(text: Normal, span: Span) -> Span:
    return Span(*text.place(*text.derived(written).place(*span)))


def _without(some: Sequence[Quantity], others: Sequence[Quantity]) -> list[Quantity]:
    return [one for one in some if not any(one.agrees(other) for other in others)]


def _difference(said: list[Quantity], meant: list[Quantity]) -> Found:
    if not said or not meant:
        return None
    for one in said:
        for other in meant:
            if one.digits and one.digits == other.digits and one.size != other.size:
                return "quantity.unit", one, other
    return "quantity.value", said[0], meant[0]


class Stated(NamedTuple):
    """Quantities and words of a short text, in order."""

    items: tuple[Quantity | str, ...]
    quantities: tuple[Quantity, ...]
    words: tuple[str, ...]
    """Stems of the words that say something."""
    leads: frozenset[str]
    """Prepositions before the quantities that change their meaning."""
    joints: tuple[str, ...]
    """Prepositions next to the quantities, in order."""
    measures: frozenset[str]
    """Words such as `dose`, which say nothing unless the question asks for a change."""
    signs: tuple[str, ...]
    """Signs that turn a number and are no part of it: -(5), != 5."""


_TRIGGERS = frozenset({*DOSING_WORDS, *MONTHS, *ORDINALS}) | {
    roman + letter for roman in ROMAN for letter in ("", "a", "b", "c", "d")
}
"""Words of which a text without digits must have one to state a quantity."""

_TOKEN = re.compile(
    r"(?<!\w)(?P<from>[ctls]\d{1,2})\s?[-/]\s?(?P<to>[ctls]?\d{1,2})(?!\w)"
    r"|(?P<per>\b(?:an?|each|every)\s(?=(?:second|minute|hour|day|week|month|year)\b)|/)"
    r"|[^\W_]+|[^\w\s.,;:!()\[\]{}\"'`*_$=\\-]"
)
_NUMERAL = re.compile(r"(?:\d{1,2}|[ivx]{1,5})[a-d]?")
_ORDINAL = re.compile(r"(\d{1,3})(?:st|nd|rd|th)")
_COUNTED = re.compile(r"[ -](?P<of>of\s(?:the\s|all\s|these\s)?)?(?P<noun>[^\W\d_]+)")


def states_quantity(text: Normal) -> bool:
    """Return whether a text states a quantity that may be settled."""
    return text.derived(_stated) is not None


def same_quantity(pair: Pair) -> tuple[bool, str] | None:
    """Settle quantities with the same words; the rule is `quantity`, or `number` without a unit."""
    meant = pair.reference.derived(_stated)
    if meant is None:
        return None
    said = pair.answer.derived(_stated)
    if said is None:
        return None
    if len(said.quantities) != len(meant.quantities):
        said, meant = _a_day(said), _a_day(meant)
    if len(said.quantities) != len(meant.quantities):
        return None
    is_beside_same = _have_same_words(said, meant, pair.question)
    if is_beside_same and _have_same_leads(said, meant, pair):
        verdict = _compared(said, meant, pair)
        if verdict and not _is_certain(said, meant, pair):
            return None
    else:
        verdict = False if _is_missed(said, meant, pair) else None
    has_unit = any(quantity.dimension not in {"", "numeral"} for quantity in meant.quantities)
    return None if verdict is None else (verdict, "quantity" if has_unit else "number")


def _a_day(text: Stated) -> Stated:
    """Return `2 g daily` as 2 g/day; another text as it is."""
    dose, *rest = text.quantities
    if [(one.kind, one.low, one.noun) for one in rest] != [(("dosing", ""), 1.0, "")]:
        return text
    a_day = dose._replace(dimension=f"{dose.dimension}/time")
    items = tuple(a_day if item is dose else item for item in text.items if item is not rest[0])
    return text._replace(items=items, quantities=(a_day,))


def _is_missed(said: Stated, meant: Stated, pair: Pair) -> bool:
    """Return whether a reference is a share or stage alone, and the answer's only one is another."""
    if len(meant.items) > 1:
        return False
    one, other = said.quantities[0], meant.quantities[0]
    if other.dimension == "share":
        is_one_kind = one.dimension == "share" or one.form in SHARES
    else:
        is_one_kind = one.dimension == other.dimension == "numeral" and one.noun in asked(pair)
    return is_one_kind and same(one, other, pair) is False


def _stated(text: Normal) -> Stated | None:
    if not text.derived(has_number) and _TRIGGERS.isdisjoint(text.vocabulary):
        return None
    if len(text.tokens) > MAX_WORDS or "?" in text.folded:
        return None
    items = tuple(_items(text))
    found = tuple(item for item in items if isinstance(item, Quantity))
    words = tuple(item for item in items if isinstance(item, str))
    plain = text.derived(written).text
    leads = [_lead(quantity, plain) for quantity in text.derived(measured)]
    if not found:
        return None
    joints = tuple(_joints(plain, text.derived(measured)))
    signs = tuple(_SIGN.findall(text.folded))
    measures = listed("measures") & text.vocabulary
    return Stated(items, found, words, frozenset(filter(None, leads)), joints, measures, signs)


_SIGN = re.compile(
    r"-\s?[(\[{|]|(?<![\d%\s])\s{0,2}-\s{1,2}(?=[\d.])|!\s?=|=\s?!|[≠±¬]|(?<=\d)['\"](?!$)"
)
_JOINT = re.compile(
    r"\b(?:to|by|from|in|into|on|at|for|after|before|within|until|since|every|up)\b"
)
_NO_JOINT_ALONE = frozenset({"on", "at", "for", "in"})
"""Prepositions that say nothing new where the other text has none."""


def _joints(plain: str, found: Sequence[Quantity]) -> Iterator[str]:
    """Yield the prepositions outside quantities; in six months is after six months."""
    ahead = 0
    for match in _JOINT.finditer(plain):
        while ahead < len(found) and found[ahead].span.end <= match.start():
            ahead += 1
        following = found[ahead] if ahead < len(found) else None
        if following is None or match.start() < following.span.start:
            is_time = following is not None and following.dimension == "time"
            is_next = following is not None and following.span.start - match.end() <= len("  ")
            yield "after" if match[0] == "in" and is_time and is_next else match[0]


_LEAD = re.compile(r"\b(to|by|from|in|after|for)\s{1,2}$")


def _lead(quantity: Quantity, plain: str) -> str:
    """Return the preposition that a quantity depends on: by 20 % is not to 20 %."""
    start = quantity.span.start
    found = _LEAD.search(plain, max(0, start - len("after  ") - 1), start)
    if found is None or (quantity.dimension != "time" and found[1] not in _STEPS):
        return ""
    return "after" if found[1] == "in" else found[1]


_STEPS = frozenset({"to", "by", "from"})


def _have_same_leads(said: Stated, meant: Stated, pair: Pair) -> bool:
    if not said.leads or said.leads == meant.leads:
        return True
    question = asked(pair)
    if meant.leads or ("after" in said.leads and "when" not in question):
        return False
    steps = said.leads & _STEPS
    return not steps or bool(question & steps) or not question & _STEPS


def _items(text: Normal) -> Iterator[Quantity | str]:
    """Yield quantities, numerals and stems of content words, in order."""
    plain = text.derived(written).text
    found = [_counting(quantity, plain) for quantity in text.derived(measured)]
    is_dose = any(quantity.dimension.startswith(("mass", "volume")) for quantity in found)
    ahead, before = 0, ""
    for match in _TOKEN.finditer(plain):
        while ahead < len(found) and found[ahead].span.start <= match.start():
            yield (
                _numeral(found[ahead].digits, stemmed(before))
                if _is_counted(found[ahead], before)
                else found[ahead]
            )
            ahead, before = ahead + 1, ""
        if ahead and match.start() < found[ahead - 1].span.end:
            continue
        word = match[0]
        if word == "after" and ahead < len(found) and found[ahead].dimension == "time":
            # In six months is after six months.
            continue
        item = _item(match, before, is_dose=is_dose)
        is_noun = ahead and item == found[ahead - 1].noun
        if item and (is_noun or item not in _carriers()):
            # A word that says nothing elsewhere says what is counted: two doses.
            yield item
        before = word
    yield from found[ahead:]


def _counting(quantity: Quantity, plain: str) -> Quantity:
    """Name what a bare number counts: `36 patients`, `36 of the patients`."""
    found = None if quantity.dimension else _COUNTED.match(plain, quantity.span.end)
    # Half of the patients is a share of them; half a dose is a dose.
    is_share = found is not None and (quantity.form == "of" or (quantity.form and found["of"]))
    if found is None or is_share or found["noun"] in STOPWORDS:
        return quantity
    return quantity._replace(noun=stem(found["noun"]))


def _is_counted(quantity: Quantity, before: str) -> bool:
    """Return whether a number follows a word such as `stage`, so that it names rather than counts."""
    is_bare = not quantity.dimension and not quantity.form and quantity.is_point
    return is_bare and quantity.digits.isdigit() and stemmed(before) in contrasts().numbered


def _item(match: re.Match[str], before: str, *, is_dose: bool) -> Quantity | str | None:
    word = match[0]
    if match["per"]:
        return "per"
    if match["from"]:
        level = match["from"]
        to = match["to"] if match["to"][0].isalpha() else level[0] + match["to"]
        return _numeral(f"{level}-{to}")
    if word in STOPWORDS:
        return None
    if is_dose and word in _routes():
        return _routes()[word]
    value = _value(word, before)
    if value is None:
        return stem(respelled(word))
    noun = stemmed(before)
    return _numeral(value, noun if noun in contrasts().numbered else "")


def _value(word: str, before: str) -> str | None:
    """Parse a word that numbers rather than counts: `fourth`, `4th`, and after `stage` `IIa`."""
    if word in ORDINALS:
        return ORDINALS[word]
    if found := _ORDINAL.fullmatch(word):
        return found[1]
    is_named = stemmed(before) in contrasts().numbered
    if is_named and len(word) == 1:
        return value_of(word)
    is_numeral = _NUMERAL.fullmatch(word) and word != "via" and (is_named or len(word) > 1)
    return value_of(word) if is_numeral else None


def _numeral(value: str, noun: str = "") -> Quantity:
    digits = value.lstrip("0") or "0"
    return Quantity(
        *("numeral", 0.0, 0.0, digits, 1.0, False, Span(0, 0)), form="numeral", noun=noun
    )


@lru_cache(maxsize=1)
def _routes() -> Mapping[str, str]:
    names = ("intravenous", "intramuscular", "subcutaneous", "oral")
    return {word: name for name in names for word in listed(name)}


@lru_cache(maxsize=1)
def _carriers() -> frozenset[str]:
    return frozenset(map(stem, listed("carriers")))


def _have_same_words(said: Stated, meant: Stated, question: Normal | None) -> bool:
    """Return whether two texts say the same apart from their quantities.

    Words of the question may be said or left out.
    """
    extra = [word for word in said.words if word not in meant.words]
    missing = [word for word in meant.words if word not in said.words]
    if any(quantity.form == "pair" for quantity in meant.quantities):
        extra = [word for word in extra if word not in listed("pressure")]
        missing = [word for word in missing if word not in listed("pressure")]
    if not extra and not missing:
        return True
    free = question.derived(_free) if question is not None else {}
    places = [free.get(word, -1) for word in dict.fromkeys(extra)]
    # What is above what depends on the order.
    return free.keys() >= {*extra, *missing} and places == sorted(places)


def _is_certain(said: Stated, meant: Stated, pair: Pair) -> bool:
    """Return whether nothing but notation tells equal quantities apart."""
    asks = pair.question.derived(_asking_words) if pair.question is not None else _NOTHING_ASKED
    if said.signs != meant.signs or (
        asks.is_odd
        and any(
            "mass" in one.dimension or one.dimension == "temperature" for one in meant.quantities
        )
    ):
        return False
    nouns = (
        {one.noun for one in text.quantities if one.dimension != "numeral"}
        for text in (said, meant)
    )
    per_volume = all(one.dimension.endswith("/volume") for one in meant.quantities)
    known = asks.stems | {"", "cell"} if per_volume else asks.stems | {""}
    if not set.symmetric_difference(*nouns) <= known:
        return False
    is_named = {one.dimension == "numeral" for one in (*said.quantities, *meant.quantities)}
    if (asks.is_count and len(is_named) > 1) or (
        asks.is_change and said.measures != meant.measures
    ):
        # Stage IV is no count of stages, and the dose is not what it was lowered by.
        return False
    return (
        _are_beside_same(said, meant, asks)
        and _have_same_joints(said, meant, asks)
        and _are_as_assigned(said, meant)
    )


class Asks(NamedTuple):
    """What a question asks for."""

    stems: frozenset[str]
    content: tuple[str, ...]
    """Stems that an answer in a full sentence repeats."""
    counted: tuple[str, ...]
    """Stems of what is counted: those after `how many`."""
    head: tuple[str, ...]
    """Stems that name what is measured: `distance` in `What is the distance of …?`."""
    named: frozenset[str]
    """Words such as `stage`, of which numerals are the names."""
    joints: tuple[str, ...]
    first: str
    is_count: bool
    is_change: bool
    is_odd: bool
    """True if it asks for what has units of its own in the letters of others: 18 g of a needle."""


_NOTHING_ASKED = Asks(
    *(frozenset(), (), (), (), frozenset(), (), ""), is_count=False, is_change=False, is_odd=False
)
_HEAD = re.compile(
    r"(?:\b(?P<many>many)|^what (?:is|are|was|were) the|\bdos(?:e|age) of|^how(?: much)?(?! (?:much|many|often))) (?P<words>(?:\S+ ?){1,4}?)"
    r"(?=(?<= )(?:of|in|at|for|is|are|was|were|should|do|did|has|have|had)\b|$)"
)


def _asking_words(question: Normal) -> Asks:
    words = question.derived(asking)
    stems = [stem(respelled(word)) for word in words]
    found = _HEAD.search(" ".join(words))
    head = [stem(respelled(word)) for word in found["words"].split()] if found else []
    is_counted = found is not None and found["many"] is not None
    return Asks(
        frozenset(stems),
        _content([one for one, word in zip(stems, words, strict=True) if word not in STOPWORDS]),
        tuple(head) if is_counted else (),
        () if is_counted else _content(head),
        frozenset(stem(word) for word in words if stemmed(word) in contrasts().numbered),
        tuple(word for word in words if _JOINT.fullmatch(word)),
        words[0] if words else "",
        is_count="many" in words or "number" in words,
        is_change=not listed("changes").isdisjoint(words),
        is_odd=not listed("odd_units").isdisjoint(words),
    )


def _content(stems: Iterable[str]) -> tuple[str, ...]:
    return tuple(one for one in stems if one not in _carriers() and one not in _asking_stems())


@lru_cache(maxsize=1)
def _asking_stems() -> frozenset[str]:
    return frozenset(map(stem, listed("asking") | listed("percent")))


def _are_beside_same(said: Stated, meant: Stated, asks: Asks) -> bool:
    """Return whether two texts have the same words, or one has all that the question has besides."""
    for one, other in ((said, meant), (meant, said)):
        extra = [word for word in one.words if word not in other.words]
        if any(quantity.form == "pair" for quantity in meant.quantities):
            extra = [word for word in extra if word not in listed("pressure")]
        is_name = one.quantities[0].dimension == "numeral" and len(asks.named) == 1
        if is_name and len(extra) == 1 and extra[0] in asks.named:
            continue
        said_so = {(), asks.content, asks.head}
        if _content(extra) not in said_so and tuple(extra) != asks.counted:
            return False
    return True


def _have_same_joints(said: Stated, meant: Stated, asks: Asks) -> bool:
    ours, theirs = said.joints, meant.joints
    if ours == theirs:
        return True
    longer, shorter = (ours, theirs) if len(ours) > len(theirs) else (theirs, ours)
    # `By how much?` is answered by `by 20 %`.
    if shorter:
        return False
    is_restated = asks.content and asks.content in (_content(said.words), _content(meant.words))
    return (is_restated and longer == asks.joints) or all(
        one in _NO_JOINT_ALONE or one == asks.first for one in longer
    )


def _are_as_assigned(said: Stated, meant: Stated) -> bool:
    """Return whether several quantities stand with the same words each."""
    ours = [word for word in said.words if word in meant.words]
    is_in_order = ours == [word for word in meant.words if word in said.words]
    if len(meant.quantities) == 1:
        return is_in_order
    if said.words and (its := _labelled(said)) and its.keys() == _labelled(meant).keys():
        theirs = _labelled(meant)
        return all(its[label].kind == theirs[label].kind for label in its)
    kinds = [[one.kind for one in text.quantities] for text in (said, meant)]
    if kinds[0] != kinds[1] or not is_in_order:
        return False
    shapes = [[isinstance(item, str) for item in text.items] for text in (said, meant)]
    return shapes[0] == shapes[1] or all(_is_one_run(shape) for shape in shapes)


def _is_one_run(shape: Sequence[bool]) -> bool:
    """Return whether all words stand together, so that every quantity belongs to them."""
    starts = [
        is_word and not before for before, is_word in zip((False, *shape), shape, strict=False)
    ]
    return sum(starts) <= 1


def _are_in_order(said: Stated, meant: Stated) -> bool:
    """Return whether the words that two texts have in common follow in one order."""
    ours = [word for word in dict.fromkeys(said.words) if word in meant.words]
    return ours == [word for word in dict.fromkeys(meant.words) if word in said.words]


def _free(question: Normal) -> Mapping[str, int]:
    """Return the stems of the question that may stand next to a number, with their places.

    Those around `and`, `or`, `than` and `not` tell two things apart.
    """
    words = [word for word in question.derived(asking) if word not in STOPWORDS or word == "and"]
    parted: set[str] = set()
    for i, word in enumerate(words):
        if word in listed("parting"):
            parted.update(words[max(0, i - 1) : i + 1 + _PARTED])
    free: dict[str, int] = {}
    for i, word in enumerate(words):
        if word not in parted:
            free.setdefault(stem(respelled(word)), i)
    return free


_PARTED = 3
"""Words behind a word that parts two things, which belong to the second."""


def _compared(said: Stated, meant: Stated, pair: Pair) -> bool | None:
    kinds = [quantity.kind for quantity in meant.quantities]
    if len(set(kinds)) < len(kinds):
        return _compared_in_turn(said, meant, pair)
    mine = {quantity.kind: quantity for quantity in said.quantities}
    if len(kinds) == 1:
        mine = {kinds[0]: said.quantities[0]}
    if mine.keys() != set(kinds) or not _are_in_order(said, meant):
        return None
    return _all(same(mine[other.kind], other, pair) for other in meant.quantities)


def _compared_in_turn(said: Stated, meant: Stated, pair: Pair) -> bool | None:
    """Compare several quantities of a kind, which belong each to its words.

    Sensitivity 90 %, specificity 75 % is 75 % specificity, 90 % sensitivity.
    """
    mine, its = _labelled(said), _labelled(meant)
    if its and mine.keys() == its.keys():
        return _all(same(mine[label], its[label], pair) for label in its)
    ours, theirs = ([isinstance(item, str) for item in text.items] for text in (said, meant))
    if ours != theirs or said.words != meant.words:
        return None
    if _all(map(same, said.quantities, meant.quantities, repeat(pair))):
        return True
    differs = [{same(one, other, pair) for other in meant.quantities} for one in said.quantities]
    return False if {False} in differs else None


def _all(verdicts: Iterable[bool | None]) -> bool | None:
    found = {*verdicts}
    return False if False in found else None if None in found else True


def _labelled(text: Stated) -> dict[tuple[str, ...], Quantity]:
    """Return each quantity by the words before it, or by those after it; nothing if that is open."""
    items = text.items if isinstance(text.items[0], str) else text.items[::-1]
    found: dict[tuple[str, ...], Quantity] = {}
    label: list[str] = []
    for item in items:
        if isinstance(item, str):
            label.append(item)
        else:
            found[tuple(sorted(label))] = item
            label = []
    is_clear = not label and () not in found and len(found) == len(text.quantities)
    return found if is_clear else {}
