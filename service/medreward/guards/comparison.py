"""Whether two quantities are the same, differ, or may be either.

A rule returns None where it does not apply, or where a reader could doubt.
"""

import math
import re
from functools import lru_cache

from medreward.guards.lexicon import lexicon
from medreward.guards.measures import BODY, WEEK, YEAR, Quantity, units
from medreward.guards.normal import Normal
from medreward.guards.pair import Pair
from medreward.guards.polarity import lexicon as contrasts
from medreward.guards.polarity import stemmed


def same(said: Quantity, meant: Quantity, pair: Pair) -> bool | None:
    """Return whether two quantities are the same or differ; None if that is open."""
    rules = (_numerals, _shares, _ratios, _gestations, _without_unit, _converted, _divided)
    is_one_kind = said.kind == meant.kind
    for compare in (_percentages,) if is_one_kind else (_percentages, *rules):
        for one, other in ((said, meant), (meant, said)):
            verdict = compare(one, other, pair)
            if verdict is not None:
                return verdict
    return _same_kind(said, meant, pair) if is_one_kind else None


def _same_kind(said: Quantity, meant: Quantity, pair: Pair) -> bool | None:
    if said.dimension == "numeral":
        return _same_numeral(said.digits, meant.digits)
    if said.is_same(meant) or (said.is_about != meant.is_about and _is_about_same(said, meant)):
        return True
    is_open = said.agrees(meant) and not _is_beyond(said, meant)
    return None if is_open or is_fall(said, meant, pair) else False


def is_fall(one: Quantity, other: Quantity, pair: Pair) -> bool:
    """Return whether two numbers may differ by their sign only: a fall of 20 % is -20 %."""
    return one.low == -other.low != 0 and _names(pair, "changes")


def _is_beyond(said: Quantity, meant: Quantity) -> bool:
    """Return whether a bound excludes another one of its way, or the very number that it names."""
    if said.bound and said.bound[0] == meant.bound[:1]:
        return said.is_about == meant.is_about and said.bound == meant.bound
    strict, point = (said, meant) if said.bound else (meant, said)
    limits = {strict.low, strict.high}
    return (
        _is_whole(point) and strict.bound in {"<", ">"} and point.is_point and point.low in limits
    )


def _is_about_same(said: Quantity, meant: Quantity) -> bool:
    is_fair = meant.is_about or said.dimension == "share"
    return is_fair and said._replace(is_about=meant.is_about).is_same(meant)


def _same_numeral(said: str, meant: str) -> bool | None:
    if said == meant:
        return True
    short, long = sorted((said, meant), key=len)
    # Stage III may be stage IIIA.
    return None if long.startswith(short) and long[len(short) :].isalpha() else False


def _asks(pair: Pair, name: str) -> bool:
    """Return whether the question has a word of a list."""
    return not listed(name).isdisjoint(asked(pair))


def _is_whole(quantity: Quantity) -> bool:
    return not quantity.dimension and not quantity.form and quantity.digits.isdigit()


def _numerals(one: Quantity, other: Quantity, pair: Pair) -> bool | None:
    """Compare a numeral with a bare number: `grade III` and `3`."""
    if one.dimension != "numeral" or not (_is_whole(other) and other.is_point):
        return None
    if other.noun or not _asks_numeral(pair):
        # Two stages are not stage 2.
        return None
    return _same_numeral(one.digits, other.digits.lstrip("0") or "0")


def _asks_numeral(pair: Pair) -> bool:
    """Return whether the question asks for a stage, grade or type."""
    return any(stemmed(word) in contrasts().numbered for word in asked(pair))


def _shares(one: Quantity, other: Quantity, pair: Pair) -> bool | None:
    """Compare a percentage with a bare number, a fraction or so many of a number."""
    if one.dimension != "share" or other.dimension or one.is_about or other.is_about:
        return None
    if one.bound != other.bound or not (one.bound or (one.is_point and other.is_point)):
        return None
    if one.bound:
        # More than half is more than 50 %.
        one, other = _limit(one), _limit(other)
    asks_percent = _asks(pair, "percent")
    # Nobody can tell whether 0.2 is a share or a figure in per cent.
    is_doubtful = not other.form and 0 < other.low < 1 and asks_percent
    if is_doubtful or (other.form not in SHARES and (other.form or other.noun)):
        return None
    is_bare = not other.form and other.low >= 1
    is_figure = is_bare and math.isclose(100 * one.low, other.low, rel_tol=_TINY)
    if is_figure and (asks_percent or _names(pair, "percentages")):
        return True
    difference = abs(one.low - other.low)
    if difference <= one.grain * (1 + _TINY) + _TINY and 0 < other.low < 1:
        # A third is 33 %.
        return True if difference <= _TINY or other.form else None
    is_count = is_bare and not asks_percent
    return None if is_figure or is_count or difference < 2 * one.grain else False


def _limit(quantity: Quantity) -> Quantity:
    value = quantity.low if math.isfinite(quantity.low) else quantity.high
    return quantity._replace(low=value, high=value, bound="")


SHARES = frozenset({"fraction", "of"})
"""Forms of a share without the sign of per cent."""
_TINY = 1e-9


def _percentages(one: Quantity, other: Quantity, pair: Pair) -> bool | None:
    """Compare so many of a number with the bare figure of a percentage that is asked for."""
    is_bare = one.kind == ("", "") and not one.form and not one.noun and one.is_point
    if other.form not in SHARES or other.dimension or not is_bare or not _asks(pair, "percent"):
        return None
    percent = one._replace(dimension="share", low=one.low / 100, high=one.high / 100)
    return _shares(percent._replace(grain=one.grain / 100), other, pair)


def _ratios(one: Quantity, other: Quantity, pair: Pair) -> bool | None:
    """Compare `8 out of 10` with 8/10, `7 and 9` with 7/9, 1:1000 with `1 in 1000`."""
    if one.dimension or other.dimension:
        return None
    forms, is_one = (one.form, other.form), one.parts == other.parts
    if forms in {("of", "pair"), ("of", "fraction"), ("pair", "fraction")}:
        quotients = [parts[0] / (parts[1] or 1.0) for parts in (one.parts, other.parts)]
        return True if is_one else None if quotients[0] == quotients[1] else False
    if forms == ("list", "pair"):
        is_swapped = one.parts == other.parts[::-1]
        return True if is_one else None if is_swapped else False
    if forms == ("ratio", "of"):
        # Odds of 1:1000 are one in 1001.
        is_rate = one.parts[1] >= _MANY and _ODDS.isdisjoint(asked(pair))
        return True if is_one and is_rate else None
    is_range = not other.form and not other.is_point and not other.bound
    if one.form == "ratio" and is_range:
        return True if one.parts == (other.low, other.high) else None
    return None


_ODDS = frozenset({"odds", "ratio", "dilution"})
"""Words of a question that asks for one part to so many others."""
_MANY = 100
"""Ratios from one to so many on are read as one in so many."""


def _gestations(one: Quantity, other: Quantity, pair: Pair) -> bool | None:
    """Compare weeks and days of a pregnancy with their short form, `32+4`."""
    if one.dimension != "time" or other.form != "plus" or not one.is_point:
        return None
    weeks, days = other.parts
    return one.low == weeks * WEEK + days if _names(pair, "pregnancy") else None


def _without_unit(one: Quantity, other: Quantity, pair: Pair) -> bool | None:
    """Compare a quantity with a number whose unit is plain from the question or the subject."""
    if other.dimension or other.noun or other.size != 1.0 or one.form != other.form:
        return None
    size = _meant_size(one, other, pair) if one.dimension else None
    if size is None:
        return None
    written_so = other._replace(
        dimension=one.dimension,
        low=other.low * size,
        high=other.high * size,
        size=size,
        parts=tuple(part * size for part in other.parts),
    )
    return _same_kind(written_so, one, pair)


def _meant_size(one: Quantity, other: Quantity, pair: Pair) -> float | None:
    """Return the size of the unit that is meant with a number that has none; None if that is open."""
    if one.dimension == "pressure" and one.form == "pair":
        is_over = any(" over " in text.folded for text in (pair.answer, pair.reference))
        is_plain = is_over or one.parts == other.parts or _names(pair, "pressure")
        return one.size if is_plain else None
    if one.dimension == "mass/area" and _names(pair, "body_mass"):
        return one.size
    if one.dimension == "time" and one.size == YEAR and _names(pair, "ages"):
        return one.size
    low, high = BODY["c"]
    is_body = low <= other.low <= high and low <= one.low <= high and one.size == 1.0
    if one.dimension == "temperature" and is_body and _names(pair, "temperature"):
        return one.size
    is_date = one.dimension == "time" and _DURATIONS.isdisjoint(asked(pair))
    if is_date or one.dimension == "share":
        # Day 3 is not 3 days.
        return None
    named = {units().get(word, ("", 0.0)) for word in asked(pair) if len(word) > 1}
    sizes = {size for dimension, size in named if dimension == one.dimension}
    return sizes.pop() if len(sizes) == 1 else None


_DURATIONS = frozenset({"many", "long"})
"""Words of a question of which one asks for a duration."""


def _names(pair: Pair, name: str) -> bool:
    """Return whether answer, reference or question has a word of a list."""
    words = listed(name)
    return any(not words.isdisjoint(text.vocabulary) for text in _texts(pair))


def _texts(pair: Pair) -> list[Normal]:
    return [text for text in (pair.answer, pair.reference, pair.question) if text is not None]


_PER_VOLUME = "/volume"


def _converted(one: Quantity, other: Quantity, pair: Pair) -> bool | None:
    """Compare grams or equivalents with moles of what the texts name."""
    if other.dimension != "amount" + _PER_VOLUME or not (one.is_point and other.is_point):
        return None
    factor = 0.0
    if one.dimension == "equivalents" + _PER_VOLUME:
        factor = float(_names(pair, "monovalent") and not _names(pair, "polyvalent"))
    elif one.dimension == "mass" + _PER_VOLUME:
        factor = _moles_in_a_gram(pair)
    if not factor:
        return None
    difference, close = abs(one.low * factor - other.low), _CONVERTED * other.low
    rounding = max(one.grain * factor, other.grain, close / 4) * (1 + _TINY)
    if difference <= rounding:
        return True if difference <= close else None
    return None if difference <= 2 * close else False


_CONVERTED = 0.02
"""Relative difference that the rounding of a converted value may make."""


def _moles_in_a_gram(pair: Pair) -> float:
    weights = {
        float(weight)
        for weight, names in lexicon("units")["molar"].items()
        if any(not text.vocabulary.isdisjoint(names) for text in _texts(pair))
    }
    return 1.0 / weights.pop() if len(weights) == 1 else 0.0


def _divided(one: Quantity, other: Quantity, _: Pair) -> bool | None:
    """Refuse the same number of another thing: 2 mg/kg is not 2 mg/m²."""
    ours, theirs = one.dimension.split("/"), other.dimension.split("/")
    is_other = len(ours) == len(theirs) > 1 and ours[0] == theirs[0] and one.form == other.form
    return False if is_other and one.digits == other.digits else None


_SENTENCE_END = re.compile(r"[?\n]|\.\s")
_MOST_CHARACTERS = 400
"""Characters before the question mark that are read, at most."""


def asking(question: Normal) -> tuple[str, ...]:
    """Return the words of the sentence that asks."""
    folded = question.folded.strip()
    end = folded.rfind("?")
    if end < 0 and "\n" in folded:
        return ()
    last = folded[:end] if end >= 0 else folded
    last = _SENTENCE_END.split(last[-_MOST_CHARACTERS:])[-1]
    return tuple(re.findall(r"[^\W_]+|%", last))


def asked(pair: Pair) -> frozenset[str]:
    """Return the words of the sentence that asks, if there is a question."""
    return frozenset() if pair.question is None else pair.question.derived(_asked)


def _asked(question: Normal) -> frozenset[str]:
    return frozenset(question.derived(asking))


@lru_cache(maxsize=16)
def listed(name: str) -> frozenset[str]:
    """Return a list of words from the lexicon of units."""
    return frozenset(lexicon("units")["words"][name])
