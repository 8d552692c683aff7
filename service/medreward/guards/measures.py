"""Quantities in a text: numbers with units, ranges, bounds, pairs, dates, and how often a dose is taken."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

from medreward.guards.lexicon import lexicon
from medreward.guards.normal import Normal
from medreward.guards.numerals import NUMBER_WORDS, written
from medreward.guards.pair import Span

_NUMBER = re.compile(
    r"""(?<![\w^])(?<!\d[.,+])
    (?P<digits>\d{1,15}(?:[.,]\d{1,15}){0,5}|(?<!\.)\.\d{1,15})(?!\d)
    (?:[ ](?P<over>[1-9]\d?)/(?P<under>[1-9]\d?)(?![\d/]))?
    (?:\s{0,2}[x×*·]\s{0,2}10\s?\^\s?(?P<power>[-+]?\d{1,2})|[e^](?P<exponent>[-+]?\d{1,2}))?
    """,  # noqa: RUF001 - signs as they are written
    re.VERBOSE,
)
"""Matches folded text, in which every dash is `-` and raised digits follow `^`."""

_BEFORE = re.compile(
    r"""
    (?P<about>(?<!\w)(?:about|around|approximately|approx\.?|roughly|nearly|almost|ca\.|circa)\s|[~≈])?
    \s{0,2}(?P<bound>[<>≤≥]=?|(?<!\w)(?:(?:not?\s)?(?:less|fewer|lower|more|greater|higher)\sthan(?:\sor\sequal\sto)?
      |at\sleast|at\smost|up\sto|within|under|(?<!\d\s)over|below|above|between))?\s{0,2}(?P<sign>(?<![\w%)])[-+])?$
    """,
    re.VERBOSE,
)
_BEFORE_LENGTH = 40
_LEADING = frozenset(
    {"about", "around", "approximately", "approx", "approx.", "roughly", "nearly", "almost", "ca."}
    | {
        "circa",
        "than",
        "to",
        "least",
        "most",
        "within",
        "under",
        "over",
        "below",
        "above",
        "between",
    }
)
_SIGNS = frozenset("<>≤≥=~≈-+")
"""Last words and signs of what `_BEFORE` matches: most numbers have none before them."""
_BEHIND = re.compile(
    r"\s(?:or|and)\s(?P<way>more|greater|higher|above|over|less|fewer|lower|below)\b"
)

_LOWER = frozenset({"less", "fewer", "lower", "under", "below", "most", "up", "within"})
"""Words of an upper bound."""

_UNIT = re.compile(
    r"""[\s-]{0,2}(?P<unit>
    (?:°|degrees?|deg)\s?(?P<scale>c|f)(?:elsius|ahrenheit)?(?!\w)
    |(?P<pressure>mm|millimet(?:er|re)s?)\s?(?:of\s)?(?:hg|mercury)(?!\w)
    |cm\s?h2o(?!\w)|per\s?cent(?!\w)|(?P<inch>in)(?=\s?[x×*]|\.?\s*$)
    |[%°]|\+(?![\w+])|[^\W\d_]{1,16}(?:\^?[23])?(?!\w))""",  # noqa: RUF001 - as written
    re.VERBOSE,
)
_DIVISOR = re.compile(r"\s?(?:/|\bper\b)\s?(\d{1,4}\s?)?([^\W\d_]{1,16}(?:\^?[23])?)(?!\w)")
_JOINT = re.compile(
    r"\s?(?:(?P<range>-|to)|(?P<list>and|&)|(?P<extent>[x×*]|by)|(?P<pair>/|over)|(?P<ratio>:)"  # noqa: RUF001
    r"|(?P<of>in(?: every)?|out of|of|on a scale (?:to|of)))\s?"
)
_MONTHS = {
    month: number // 2 + 1
    for number, month in enumerate(
        [
            *("january", "jan", "february", "feb", "march", "mar", "april", "apr", "may", "may"),
            *("june", "jun", "july", "jul", "august", "aug", "september", "sep", "october", "oct"),
            *("november", "nov", "december", "dec"),
        ]
    )
} | {"sept": 9}
_DECEMBER = 12
MONTHS = frozenset(_MONTHS)
_MONTH = "|".join(sorted(_MONTHS, key=len, reverse=True))
_DATE = re.compile(
    rf"""(?<![\w/.-])(?:
    (?P<month>{_MONTH})\.?\s(?P<day>\d{{1,2}})(?:st|nd|rd|th)?(?:,?\s(?P<year>\d{{4}}))?
    |(?:the\s)?(?P<day2>\d{{1,2}})(?:st|nd|rd|th)?(?:\sof)?\s(?P<month2>{_MONTH})\b\.?(?:,?\s(?P<year2>\d{{4}}))?
    |(?P<month3>{_MONTH})\.?\s(?P<year3>\d{{4}})
    |(?P<year4>\d{{4}})(?P<dash>[-/.])(?P<month4>\d{{1,2}})(?P=dash)(?P<day4>\d{{1,2}})
    |(?P<one>\d{{1,2}})(?P<mark>[-/.])(?P<other>\d{{1,2}})(?P=mark)(?P<year5>\d{{4}})
    )(?![\w/-])""",
    re.VERBOSE,
)
_MAYBE_DATE = re.compile(r"\d{4}[-/.]\d|\d[-/.]\d{4}")

_PLUS = re.compile(
    r"(?<![\w.,+])(\d{1,2})\s?\+\s?(\d)(?![\w,+]|\.\d)(?P<weeks>\s?(?:weeks?|wks?)\b)?"
)
"""Weeks and days of a pregnancy, 32+4, or the two grades of Gleason's score."""

_SYSTOLIC = re.compile(
    r"\bsystolic\D{0,20}(\d{2,3})\D{0,24}\bdiastolic\D{0,20}(\d{2,3})(?![\d.,]\d)(?:\s?mm\s?hg)?"
    r"|\bdiastolic\D{0,20}(\d{2,3})\D{0,24}\bsystolic\D{0,20}(\d{2,3})(?![\d.,]\d)(?:\s?mm\s?hg)?"
)

_TIMES = {"once": 1, "twice": 2, "thrice": 3}
_DOSING = re.compile(
    r"\b(?:(?P<short>q\.?o\.?d|q\.?i\.?d|t\.?i\.?d|b\.?i\.?d|qds|tds|bd|qd|qhs)\b"
    r"|(?:(?P<times>once|twice|thrice)|(?P<count>\d{1,2})\s?(?:times?|x))\s?"
    r"(?:a|an|per|each|every)?\s?(?P<span>day|daily|night|nightly|week|weekly|month|monthly)\b"
    r"|(?:every|each|q)\s?(?:(?P<gap>\d{1,2})\s?)?(?P<hours>h|hr|hrs|hours?|days?|weeks?)\b"
    r"|every\s(?P<other>other|second)\s(?P<skipped>day|week)\b"
    r"|(?P<hourly>\d{1,2})[\s-]?hourly\b"
    r"|(?P<plain>daily|nightly|weekly|monthly)\b(?!\s(?:dose|dosage|activit|living|life|basis|total)))"
)
_SPANS = {"d": 1.0, "n": 1.0, "w": 7.0, "m": 30.0, "h": 1 / 24}
"""Days of each time span, by its first letter."""
DOSING_WORDS = frozenset(
    {"once", "twice", "thrice", "every", "each", "hourly", "daily", "nightly"}
) | {*("weekly", "monthly", "qod", "qid", "tid", "bid", "qds", "tds", "bd", "qd", "qhs")}

ROUNDING = {"same": 1e-9, "other": 0.02, "calendar": 0.1, "about": 0.1}
"""Relative tolerance of two values: in one unit, in two, of the calendar, and if one says `about`."""

FRACTIONS = frozenset({2, 3, 4, 8})
"""Denominators of what is taken in parts, as half a tablet; other strokes part two numbers."""

ABSOLUTE_ZERO_F, F_PER_C = 32.0, 1.8
BODY = {"c": (25.0, 45.0), "f": (80.0, 113.0)}
"""Numbers before a bare C or F that are temperatures of a body."""

YEAR, MONTH, WEEK = 365.2425, 30.436875, 7.0
"""Days of a year, a month and a week, as in the lexicon."""

_ACUITY = frozenset({6.0, 20.0})
"""Metres and feet from which a chart is read."""

MAX_NUMBERS = 128
"""Numbers of a text that is read, at most; the judge decides longer ones."""

_TENTH_OF_A_DEGREE = 0.11
"""Degrees that a thermometer's other scale may round away."""
_MOST_PARTS, _MOST_DIVISORS, _MOST_MONTHS = 4, 3, 6
_QUARTER = 3
"""Months that are counted in fours of weeks, at most: twelve weeks are three months."""


class Quantity(NamedTuple):
    """One quantity, in the base unit of its dimension."""

    dimension: str
    """`mass` or `mass/volume`, for instance; empty for a bare number."""
    low: float
    high: float
    digits: str
    """The number as written, which separates a wrong unit from a wrong value."""
    size: float
    """Base units in one of the unit it is written in."""
    is_about: bool
    span: Span
    """Range in the text with digits in place of spelled numbers."""
    grain: float = 0.0
    """Half of what the last digit counts."""
    form: str = ""
    """`pair` (120/80), `list` (7 and 9), `extent` (3 x 4), `ratio` (1:4), `of` (1 in 4), `plus` (3+4),
    `fraction` (1/4), or `date`."""
    parts: tuple[float, ...] = ()
    """Numbers of such a form, in base units."""
    bound: str = ""
    """`<`, `<=`, `>` or `>=`."""
    noun: str = ""
    """What is counted, if it is named: beats or breaths; or `night` of a dose."""

    @property
    def kind(self) -> tuple[str, str]:
        """What another quantity must share to be compared by value."""
        return self.dimension, "" if self.form == "fraction" else self.form

    def agrees(self, other: "Quantity") -> bool:
        """Return whether both, of one kind, may describe the same thing."""
        if self.form == "date":
            return any(_is_one_day(self.parts, day) for day in _days(other)) or any(
                _is_one_day(day, other.parts) for day in _days(self)
            )
        slack = self._rounding(other) * max(_size(self), _size(other))
        if self.kind[1]:
            return self._fits(other, slack)
        if math.inf in {self.high, other.high} and -math.inf in {self.low, other.low}:
            return self.low < other.high - slack and other.low < self.high - slack
        return self.low <= other.high + slack and other.low <= self.high + slack

    def _rounding(self, other: "Quantity") -> float:
        if self.is_about or other.is_about:
            return ROUNDING["about"]
        if self.dimension == "dosing":
            return ROUNDING["calendar"]
        if self.size == other.size:
            # 28.3 % may be said as 28 %.
            least = max(self.grain, other.grain) / (_size(self) or 1.0)
            return min(least, ROUNDING["other"]) if self.grain != other.grain else ROUNDING["same"]
        is_calendar = self.dimension == "time" and max(self.size, other.size) >= WEEK
        return ROUNDING["calendar" if is_calendar else "other"]

    def _fits(self, other: "Quantity", slack: float) -> bool:
        ours, theirs = self.parts, other.parts
        if self.form == "extent":
            ours, theirs = tuple(sorted(ours)), tuple(sorted(theirs))
        if len(ours) != len(theirs):
            return True
        if not self.dimension and ours[0] * theirs[-1] == ours[-1] * theirs[0]:
            # 2:8 is 1:4, and in acuity 20/20 is 6/6.
            is_acuity = self.form == "pair" and {ours[0], theirs[0]} == _ACUITY
            return is_acuity or self.form == "ratio" or ours == theirs
        # Two drugs of one tablet may be named in either order.
        is_free = self.dimension == "mass" or self.form == "list"
        orders = (theirs, theirs[::-1]) if is_free else (theirs,)
        return any(
            all(abs(a - b) <= slack for a, b in zip(ours, order, strict=True)) for order in orders
        )

    def is_same(self, other: "Quantity") -> bool:
        """Return whether both, of one kind, are equal, which is more than compatible."""
        if self.form == "date":
            return self.parts == other.parts and self.digits == other.digits
        if (self.is_about, self.bound) != (other.is_about, other.bound):
            return False
        if self.noun != other.noun and ((self.noun and other.noun) or self.dimension == "dosing"):
            return False
        ours, theirs = self.parts, other.parts
        if not self.kind[1]:
            ours, theirs = (self.low, self.high), (other.low, other.high)
        elif self.form == "extent":
            ours, theirs = tuple(sorted(ours)), tuple(sorted(theirs))
        if self._is_calendar(other):
            return True
        slack = self._slack(other)
        return len(ours) == len(theirs) and all(
            a == b or abs(a - b) <= max(slack, 1e-6 * abs(a))
            for a, b in zip(ours, theirs, strict=True)
        )

    def _is_calendar(self, other: "Quantity") -> bool:
        """Return whether these are whole months and the weeks or days that are said for them."""
        if self.dimension != "time" or (self.size == MONTH) is (other.size == MONTH):
            return False
        months, rest = (self, other) if self.size == MONTH else (other, self)
        if not (months.is_point and rest.is_point):
            return False
        count, days = months.low / MONTH, rest.low
        is_whole = count.is_integer() and 1 <= count <= _MOST_MONTHS
        if rest.size == WEEK:
            weeks = days / WEEK
            is_in_fours = count <= _QUARTER and weeks == 4 * count
            return is_whole and (is_in_fours or weeks == round(MONTH / WEEK * count))
        return is_whole and rest.size == 1 and days == 30 * count

    def _slack(self, other: "Quantity") -> float:
        """Return by how much a value may differ after a conversion that rounds."""
        tens = math.log10(self.size / other.size)
        is_long = [size in {MONTH, YEAR} for size in (self.size, other.size)]
        if math.isclose(tens, round(tens), abs_tol=1e-9) or (
            self.dimension == "time" and is_long[0] is is_long[1]
        ):
            return 0.0
        if self.dimension == "temperature":
            return _TENTH_OF_A_DEGREE
        return min(max(self.grain, other.grain), ROUNDING["other"] * _size(self))

    @property
    def is_point(self) -> bool:
        """True for one exact number: no range, no bound, no `about`."""
        return self.low == self.high and not self.is_about


def _size(quantity: Quantity) -> float:
    ends = quantity.parts if quantity.kind[1] else (quantity.low, quantity.high)
    return max([abs(end) for end in ends if math.isfinite(end)], default=0.0)


def _days(date: Quantity) -> Iterator[tuple[float, ...]]:
    yield date.parts
    if date.digits:
        year, month, day = date.parts
        yield year, day, month


def _is_one_day(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(not a or not b or a == b for a, b in zip(one, other, strict=True))


@lru_cache(maxsize=1)
def units() -> Mapping[str, tuple[str, float]]:
    """Return the dimension and size of each unit by name."""
    return {
        name: (dimension, float(size))
        for dimension, sizes in lexicon("units").items()
        if dimension not in {"version", "words", "molar"}
        for size, names in sizes.items()
        for name in names
    }


def is_unit(word: str) -> bool:
    """Return whether a folded word names a unit."""
    return word in units() or word.startswith("mm")


class _Atom(NamedTuple):
    """One number with its unit."""

    span: Span
    """Range with its sign, bound or `about`."""
    digits: str
    value: float
    grain: float
    dimension: str
    size: float
    about: bool
    bound: str
    noun: str

    @property
    def has_unit(self) -> bool:
        """True if it says of what it is a number."""
        return bool(self.dimension) or self.size != 1.0


def has_number(text: Normal) -> bool:
    """Return whether a text may hold a number: a cheap test that most texts fail."""
    folded = text.folded
    is_plain = _DIGIT.search(folded) is None and _ABBREVIATED not in folded
    return not is_plain or not NUMBER_WORDS.isdisjoint(text.vocabulary)


_ABBREVIATED = ".d"
"""Last letters of `b.i.d.`, whose letters stand alone."""


def measured(text: Normal) -> tuple[Quantity, ...]:
    """Find the quantities and bare numbers of a text, in order; none if they are too many."""
    if not text.derived(has_number) and DOSING_WORDS.isdisjoint(text.vocabulary):
        return ()
    folded = text.derived(written).text
    has_digits = _DIGIT.search(folded) is not None
    may_dose = "q" in folded or _ABBREVIATED in folded or not _DOSED.isdisjoint(text.vocabulary)
    found = [*_doses(folded)] if may_dose else []
    if has_digits:
        if not MONTHS.isdisjoint(text.vocabulary) or _MAYBE_DATE.search(folded):
            found += _dates(folded)
        if "diastolic" in folded:
            found += _pressures(folded)
        if "+" in folded:
            found += _sums(folded)
        taken = sorted(quantity.span for quantity in found)
        found += islice(_joined(_atoms(folded, taken), folded), MAX_NUMBERS + 1)
    if len(found) > MAX_NUMBERS:
        return ()
    if not text.text.islower():
        found = [_cased(quantity, text) for quantity in found]
    return tuple(sorted(found, key=lambda quantity: quantity.span))


_CASED = re.compile(r"(?:(?<=\d)|(?<=[\s-]))(?:(?:[GMDSTHY]|[fpnuμµm]M|M[VU])(?![^\W_])|K$)")
"""Matches a unit in capitals whose lower case is another one: mM and mm, G and g."""


def _cased(quantity: Quantity, text: Normal) -> Quantity:
    """Give a quantity its own dimension where only its case tells its unit: 5 mM is not 5 mm."""
    if not quantity.dimension and quantity.size == 1.0:
        return quantity
    start, end = text.place(*text.derived(written).place(*quantity.span))
    found = _CASED.search(text.text[start:end])
    if found is None or quantity.form == "date":
        return quantity
    size = quantity.size
    return quantity._replace(
        dimension=found[0],
        low=quantity.low / size,
        high=quantity.high / size,
        size=1.0,
        grain=quantity.grain / size,
        parts=tuple(part / size for part in quantity.parts),
    )


def number(digits: str) -> float:
    """Parse a number: a comma is a decimal point unless it can separate thousands."""
    if digits.isdigit():
        return float(digits)
    parts = re.split("[.,]", digits)
    return float("".join(parts) if _has_thousands(digits, parts) else _decimal(parts))


def _has_thousands(digits: str, parts: Sequence[str]) -> bool:
    marks = [mark for mark in digits if mark in ".,"]
    is_thousands = all(len(part) == len("000") for part in parts[1:]) and parts[0] != "0"
    return len(set(marks)) == 1 and is_thousands and (marks[0] == "," or len(marks) > 1)


def _decimal(parts: Sequence[str]) -> str:
    return "".join(parts[:-1]) + "." + parts[-1]


def _grain(digits: str) -> float:
    if digits.isdigit():
        return 0.5
    parts = re.split("[.,]", digits)
    return 0.5 if _has_thousands(digits, parts) else 0.5 * 10.0 ** -len(parts[-1])


def _atoms(text: str, taken: Sequence[Span]) -> Iterator[_Atom]:
    end, ahead = 0, 0
    for match in _NUMBER.finditer(text):
        start = match.start()
        while ahead < len(taken) and taken[ahead].end <= start:
            ahead += 1
        is_taken = ahead < len(taken) and taken[ahead].start <= start
        if start < end or is_taken or _is_in_name(text, start, end):
            continue
        atom = _atom(match, text, end)
        if atom is not None:
            end = atom.span.end
            yield atom


def _is_in_name(text: str, start: int, end: int) -> bool:
    """Return whether the number at *start* is part of a name: `IL-2`, `L4/5`."""
    if start <= len("-") or text[start - 1] not in "-/" or start - 1 == end:
        return False
    return (
        text[start - 2].isalpha()
        or _LETTER_DIGIT.search(text[max(0, start - 6) : start - 1]) is not None
    )


_DIGIT = re.compile(r"\d")
_DOSED = DOSING_WORDS | {"day", "week", "month"}
"""Words of which a text has one that says how often, if it has no `q` and no `b.i.d.`."""
_LETTER_DIGIT = re.compile(r"[^\W\d_]\d{1,3}$")


def _atom(match: re.Match[str], text: str, last: int) -> _Atom | None:
    start, end = match.span()
    value, scale = number(match["digits"]), 10.0 ** int(match["power"] or match["exponent"] or 0)
    if match["over"]:
        value += int(match["over"]) / int(match["under"])
    if match["exponent"] and text[match.end("digits")] == "^":
        # `10^5`, but no other number is raised to a power.
        if match["digits"] != "10":
            return None
        value = 1.0
    unit = _unit(text, end, value)
    if unit is None:
        return None
    dimension, size, noun, end = unit
    before = _before(text, max(last, start - _BEFORE_LENGTH), start)
    prefix = before[0].lstrip() if before else ""
    bound = _bound(before["bound"] or "") if before else ""
    if not bound and (behind := _BEHIND.match(text, end)):
        bound, end = "<=" if behind["way"] in _LOWER else ">=", behind.end()
    return _Atom(
        Span(start - len(prefix), end),
        match["digits"],
        value * scale * (-1 if before and before["sign"] == "-" else 1),
        _grain(match["digits"]) * scale,
        dimension,
        size,
        before is not None and before["about"] is not None,
        bound,
        noun,
    )


def _before(text: str, first: int, start: int) -> re.Match[str] | None:
    """Match the sign, bound or `about` in front of a number."""
    words = text[first:start].split()
    if not words or (words[-1] not in _LEADING and words[-1][-1] not in _SIGNS):
        return None
    return _BEFORE.search(text, first, start)


def _bound(said: str) -> str:
    """Return the sign of a bound: `less than` is `<`."""
    words = said.split()
    if not words or words[0] == "between":
        return said
    if said[0] in "<>≤≥":
        return {"≤": "<=", "≥": ">="}.get(said, said)
    is_upper = not _LOWER.isdisjoint(words)
    if words[0] in {"no", "not"}:
        return "<=" if not is_upper else ">="
    is_closed = words[0] in {"at", "up", "within"} or "equal" in words
    return ("<" if is_upper else ">") + ("=" if is_closed else "")


def _unit(text: str, end: int, value: float) -> tuple[str, float, str, int] | None:
    """Read the unit behind a number: its dimension, size, counted noun and end.

    Returns None for a name such as `3a`.
    """
    dimension, size, name = "", 1.0, ""
    if match := _UNIT.match(text, end):
        name = _unit_name(match, value)
        dimension, size = units().get(name, ("", 1.0))
        if dimension:
            end = match.end()
        elif match.start("unit") == end and text[end].isalpha():
            return None
    elif end < len(text) and (text[end].isalpha() or text[end] == "_"):
        return None
    noun = name.removesuffix("s") if dimension == "count" and size == 1.0 else ""
    noun = {"bpm": "beat", "rpm": "breath"}.get(name, noun)
    dimension = dimension.removeprefix("count")
    for _ in range(_MOST_DIVISORS):
        divisor = _DIVISOR.match(text, end)
        below, amount = units().get(divisor[2].replace("^", ""), ("", 1.0)) if divisor else ("", 1)
        if divisor is None or not below:
            break
        parts = float(divisor[1] or 1)
        # Two numbers with a stroke and one unit are a pair: 120/80 mmHg, 25 mg/100 mg.
        if not parts or (divisor[1] and dimension in {"", below}):
            break
        dimension, size, end = f"{dimension}/{below}", size / (amount * parts), divisor.end()
    return dimension, size, noun, end


def _unit_name(match: re.Match[str], value: float) -> str:
    name = match["unit"].replace(" ", "").replace("^", "")
    if match["scale"]:
        return f"°{match['scale']}"
    if match["pressure"]:
        return "mmhg"
    if name in BODY and BODY[name][0] <= value <= BODY[name][1]:
        return f"°{name}"
    return "inch" if match["inch"] else name


def _joined(atoms: Iterator[_Atom], text: str) -> Iterator[Quantity]:
    """Join numbers that are one quantity: ranges, pairs, dimensions, ratios, weeks and days."""
    group: list[_Atom] = []
    form = ""
    for atom in atoms:
        joint = _joint(group, form, atom, text) if group else ""
        if joint:
            form = joint
        elif group:
            yield from _grouped(group, form)
            group, form = [], ""
        group.append(atom)
    if group:
        yield from _grouped(group, form)


def _joint(group: Sequence[_Atom], form: str, atom: _Atom, text: str) -> str:
    """Return the form that a number makes with those before it; empty if it stands alone."""
    last = group[-1]
    gap = text[last.span.end : atom.span.start]
    if atom.about or atom.bound or len(group) >= _MOST_PARTS:
        return ""
    if form in {"", "sum"} and _is_rest_of_time(last, atom, gap.strip()):
        return "sum"
    match = _JOINT.fullmatch(gap)
    if match is None:
        return ""
    joint = match.lastgroup or ""
    if last.bound == "between":
        joint = "range" if joint in {"list", "range"} else ""
    is_one = form in {"", joint} and form not in {"range", "of"}
    return joint if is_one and _have_one_unit(last, atom, gap.strip(), joint) else ""


def _is_rest_of_time(last: _Atom, atom: _Atom, gap: str) -> bool:
    is_time = last.dimension == atom.dimension == "time" and gap in {"", "and", ","}
    return is_time and atom.size < last.size and atom.value * atom.size < last.size


def _have_one_unit(last: _Atom, atom: _Atom, gap: str, joint: str) -> bool:
    if joint in {"of", "ratio", "list"}:
        is_bare = not last.has_unit and not atom.has_unit
        return is_bare and (joint != "of" or last.value <= atom.value)
    if joint == "extent" and atom.dimension not in {"", "length"}:
        return False
    if gap == "over" and atom.dimension not in {"", "pressure"}:
        return False
    return not last.dimension or not atom.dimension or last.dimension == atom.dimension


def _grouped(group: Sequence[_Atom], form: str) -> Iterator[Quantity]:
    """Make a quantity of numbers that belong together."""
    first, last = group[0], group[-1]
    given = next((atom for atom in (*group[::-1],) if atom.has_unit), first)
    sizes = [atom.size if atom.has_unit else given.size for atom in group]
    parts = [atom.value * size for atom, size in zip(group, sizes, strict=True)]
    dimension, grain = given.dimension, last.grain * sizes[-1]
    if dimension == "temperature_f":
        dimension, grain = "temperature", grain / F_PER_C
        parts = [(part - ABSOLUTE_ZERO_F) / F_PER_C for part in parts]
    low, high = min(parts), max(parts)
    form = _form(group, form, parts)
    grain = 0.0 if form == "fraction" else grain
    if form == "sum":
        low = high = sum(parts)
    elif form in {"fraction", "of"}:
        low = high = parts[0] / parts[1] * (sizes[1] if form == "fraction" else 1.0)
    bound = first.bound.removeprefix("between")
    if bound and not form:
        low, high = (-math.inf, high) if bound[0] == "<" else (low, math.inf)
    yield Quantity(
        dimension=dimension,
        low=low,
        high=high,
        digits=first.digits,
        size=given.size if given.dimension != "temperature_f" else 1 / F_PER_C,
        is_about=first.about,
        span=Span(first.span.start, last.span.end),
        grain=grain,
        form="" if form in {"range", "sum"} else form,
        parts=tuple(parts) if form not in {"", "range", "sum"} else (),
        bound=bound,
        noun=given.noun or last.noun,
    )


def _form(group: Sequence[_Atom], form: str, parts: Sequence[float]) -> str:
    if form == "range" and parts[0] > parts[-1] and not group[-1].dimension:
        # Two to one.
        return "ratio"
    if form == "of" and not parts[1]:
        return "ratio"
    if form != "pair":
        return form
    over, under, *more = (atom.value for atom in group)
    is_fraction = (
        not more
        and under in FRACTIONS
        and 0 < over < under
        and over.is_integer()
        and math.gcd(int(over), int(under)) == 1
        and not group[0].has_unit
        and group[1].dimension != "pressure"
    )
    return "fraction" if is_fraction else form


def _dates(text: str) -> Iterator[Quantity]:
    for match in _DATE.finditer(text):
        said = {name: part for name, part in match.groupdict().items() if part}
        named = {name.rstrip("2345"): part for name, part in said.items()}
        month = named.get("month", "0")
        year, day = int(named.get("year", 0)), int(named.get("day", 0))
        parts = [year, _MONTHS[month] if month in _MONTHS else int(month), day]
        order = ""
        if "one" in named:
            one, other = int(named["one"]), int(named["other"])
            parts[1:] = (other, one) if one > _DECEMBER else (one, other)
            is_open = one != other and max(one, other) <= _DECEMBER
            # Nobody can tell whether 3/5/2021 is in March or in May.
            order = match[0] if is_open else ""
        yield Quantity(
            *("date", 0.0, 0.0, order, 1.0, False, Span(*match.span()), 0.0, "date"),
            parts=tuple(map(float, parts)),
        )


def _sums(text: str) -> Iterator[Quantity]:
    for match in _PLUS.finditer(text):
        parts = float(match[1]), float(match[2])
        if match["weeks"]:
            days = parts[0] * WEEK + parts[1]
            yield Quantity("time", days, days, match[0], 1.0, False, Span(*match.span()))
            continue
        yield Quantity(
            *("", 0.0, 0.0, match[0], 1.0, False, Span(*match.span())), form="plus", parts=parts
        )


def _pressures(text: str) -> Iterator[Quantity]:
    for match in _SYSTOLIC.finditer(text):
        parts = tuple(map(float, (match[1] or match[4], match[2] or match[3])))
        yield Quantity(
            *("pressure", min(parts), max(parts), match[1] or match[4], 1.0, False),
            Span(*match.span()),
            form="pair",
            parts=parts,
        )


def _doses(text: str) -> Iterator[Quantity]:
    for match in _DOSING.finditer(text):
        short = (match["short"] or match["plain"] or "").replace(".", "")
        if short:
            rate = units()[short][1]
        elif match["hourly"]:
            rate = 24 / max(1, int(match["hourly"]))
        elif match["other"]:
            rate = 1 / (2 * _SPANS[match["skipped"][0]])
        elif match["hours"]:
            rate = 1 / (max(1, int(match["gap"] or 1)) * _SPANS[match["hours"][0]])
        else:
            times = _TIMES.get(match["times"]) or float(match["count"])
            rate = times / _SPANS[match["span"][0]]
        at_night = "night" if match[0] == "qhs" or "night" in match[0] else ""
        yield Quantity("dosing", rate, rate, "", 1.0, False, Span(*match.span()), noun=at_night)
