"""Quantities in a text: numbers with units, ranges, bounds, and how often a dose is taken."""

import math
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

from medreward.guards.lexicon import lexicon
from medreward.guards.pair import Span

_DIGITS = r"\d{1,15}(?:[.,]\d{1,15}){0,5}(?!\d)"
_QUANTITY = re.compile(
    rf"""
    (?P<about>about|around|approximately|approx\.?|roughly|ca\.|circa|[~≈])?\s{{0,2}}
    (?P<bound>[<>≤≥]=?|(?:less|fewer|lower|more|greater|higher)\ than|at\ least|at\ most|up\ to
      |under|over|below|above)?\s{{0,2}}
    (?<![\w^])(?<!\d[.,+])(?<![^\W\d_]-)
    (?P<sign>-)?
    (?P<number>{_DIGITS})
    (?:\s{{0,2}}[x×*·]\s{{0,2}}10\s?\^\s?(?P<power>[-+]?\d{{1,2}})|e(?P<exponent>[-+]?\d{{1,2}}))?
    (?:\s{{0,2}}(?:-|to)\s{{0,2}}(?P<last>{_DIGITS}))?
    (?:[\s-]{{0,2}}(?P<unit>°\s?[cf]\b|[%°]|[^\W\d_]{{1,16}}\^?[23]?))?
    (?P<per>(?:\s?(?:/|\bper\b)\s?(?:\d{{1,4}}\s?)?[^\W\d_]{{1,16}}\^?[23]?){{0,3}})
    """,  # noqa: RUF001 - signs as they are written
    re.VERBOSE,
)
"""Matches folded text, in which every dash is `-` and raised digits follow `^`."""
_DIVISOR = re.compile(r"(?:/|per)\s?(\d{1,4})?\s?([^\W\d_]+\^?[23]?)")

_WORDS = {"once": 1, "twice": 2, "thrice": 3, "one": 1, "two": 2, "three": 3, "four": 4, "six": 6}
_DOSING = re.compile(
    r"\b(?:(?P<short>q\.?o\.?d|q\.?i\.?d|t\.?i\.?d|b\.?i\.?d|qds|tds|bd|qd|qhs)\b"
    r"|(?P<times>once|twice|thrice|(?:one|two|three|four|six|\d{1,2})\s(?:times?|x))\s?"
    r"(?:a|an|per|each|every)?\s?(?P<span>day|daily|week|weekly|month|monthly)\b"
    r"|(?:every|each|q)\s?(?P<gap>\d{1,2})\s?(?P<hours>h|hr|hrs|hours?|days?|weeks?)\b)"
)
_DIGIT = re.compile(r"\d")
_SPANS = {"d": 1.0, "w": 7.0, "m": 30.0, "h": 1 / 24}
"""Days of each time span, by its first letter."""

ROUNDING = {"same": 1e-9, "other": 0.011, "about": 0.1}
"""Relative tolerance of two values: in one unit, in two units, and if one says `about`."""

ABSOLUTE_ZERO_F, F_PER_C = 32.0, 1.8


class Quantity(NamedTuple):
    """One quantity, in the base unit of its dimension."""

    dimension: str
    """`mass` or `mass/volume`, for instance; empty for a bare number."""
    low: float
    high: float
    digits: str
    """The number as written, which separates a wrong unit from a wrong value."""
    unit: str
    is_about: bool
    span: Span

    def agrees(self, other: "Quantity") -> bool:
        """Return whether both may describe the same thing."""
        kind = "about" if self.is_about or other.is_about else "other"
        rounding = ROUNDING["same" if kind == "other" and self.unit == other.unit else kind]
        slack = rounding * max(_size(self), _size(other))
        if math.inf in {self.high, other.high} and -math.inf in {self.low, other.low}:
            return self.low < other.high - slack and other.low < self.high - slack
        return self.low <= other.high + slack and other.low <= self.high + slack

    def is_same(self, other: "Quantity") -> bool:
        """Return whether both are equal, which is more than compatible."""
        return (
            self.is_about == other.is_about
            and math.isclose(self.low, other.low, rel_tol=1e-6)
            and math.isclose(self.high, other.high, rel_tol=1e-6)
        )

    @property
    def is_point(self) -> bool:
        """True for one exact number: no range, no bound, no `about`."""
        return self.low == self.high and not self.is_about


def _size(quantity: Quantity) -> float:
    return max(abs(end) for end in (quantity.low, quantity.high, 0.0) if math.isfinite(end))


@lru_cache(maxsize=1)
def units() -> Mapping[str, tuple[str, float]]:
    """Return the dimension and size of each unit by name."""
    return {
        name: (dimension, float(size))
        for dimension, sizes in lexicon("units").items()
        if dimension != "version"
        for size, names in sizes.items()
        for name in names
    }


def is_unit(word: str) -> bool:
    """Return whether a folded word names a unit."""
    return word in units() or word.startswith("mm")


def measured(folded: str) -> tuple[Quantity, ...]:
    """Find the quantities with a dimension in a folded text; spans refer to that text."""
    found = list(_doses(folded))
    if _DIGIT.search(folded):
        taken = {place for dose in found for place in range(dose.span.start, dose.span.end)}
        found += [
            quantity
            for match in _QUANTITY.finditer(folded)
            if match.start("number") not in taken and (quantity := _quantity(match)).dimension
        ]
    return tuple(found)


def alone(text: str) -> Quantity | None:
    """Parse a folded text that is a single quantity, with or without a unit; else None."""
    text = text.strip().removesuffix(".")
    match = _QUANTITY.fullmatch(text)
    if match is None or (match["unit"] and not _quantity(match).dimension):
        return None
    return _quantity(match)


def _quantity(match: re.Match[str]) -> Quantity:
    dimension, size = _unit(match)
    scale = size * 10.0 ** int(match["power"] or match["exponent"] or 0)
    first = number(match["number"]) * (-1 if match["sign"] else 1)
    last = number(match["last"]) if match["last"] else first
    low, high = sorted((first * scale, last * scale))
    if dimension == "temperature_f":
        dimension = "temperature"
        low, high = (low - ABSOLUTE_ZERO_F) / F_PER_C, (high - ABSOLUTE_ZERO_F) / F_PER_C
    low, high = _bounded(low, high, match["bound"] or "")
    return Quantity(
        dimension=dimension,
        low=low,
        high=high,
        digits=match["number"],
        unit=f"{match['unit'] or ''}{match['per'] or ''}".replace(" ", ""),
        is_about=match["about"] is not None,
        span=Span(match.start("number"), match.end()),
    )


def number(digits: str) -> float:
    """Parse a number: a comma is a decimal point unless it can separate thousands."""
    parts = re.split("[.,]", digits)
    if len(parts) == 1:
        return float(digits)
    marks = [mark for mark in digits if mark in ".,"]
    is_thousands = all(len(part) == len("000") for part in parts[1:]) and parts[0] != "0"
    if len(set(marks)) == 1 and is_thousands and (marks[0] == "," or len(marks) > 1):
        return float("".join(parts))
    return float("".join(parts[:-1]) + "." + parts[-1])


def _bounded(low: float, high: float, bound: str) -> tuple[float, float]:
    if not bound:
        return low, high
    if bound[0] in "<≤" or bound.startswith(("less", "fewer", "lower", "at most", "up", "under")):
        return -math.inf, high
    if bound == "below":
        return -math.inf, high
    return low, math.inf


def _unit(match: re.Match[str]) -> tuple[str, float]:
    name = (match["unit"] or "").replace(" ", "").replace("^", "")
    dimension, size = units().get(name, ("", 1.0))
    if dimension == "count":
        dimension = ""
    elif name and not dimension:
        return "", 1.0
    for divisor in _DIVISOR.finditer(match["per"] or ""):
        below, amount = units().get(divisor[2].replace("^", ""), ("", 1.0))
        parts = float(divisor[1] or 1)
        if not below or not parts:
            return "", 1.0
        dimension += f"/{below}"
        size /= amount * parts
    return dimension, size


def _doses(text: str) -> Iterator[Quantity]:
    for match in _DOSING.finditer(text):
        short = (match["short"] or "").replace(".", "")
        if short:
            rate = units()[short][1]
        elif match["gap"]:
            rate = 1 / (max(1, int(match["gap"])) * _SPANS[match["hours"][0]])
        else:
            first = match["times"].split()[0]
            rate = (_WORDS.get(first) or float(first)) / _SPANS[match["span"][0]]
        yield Quantity("dosing", rate, rate, "", match[0], False, Span(*match.span()))
