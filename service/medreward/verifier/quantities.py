"""Doses, durations and levels for the measurements: one written in two ways, and one that differs."""

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from zlib import crc32

from medreward.verifier.phrases import Phrases, choose

_WRITINGS: Mapping[str, Sequence[str]] = MappingProxyType(
    {
        "mcg": ("{} mcg", "{} µg", "{}mcg", "{} micrograms"),
        "mg": ("{} mg", "{}mg", "{} milligrams", "{} mg"),
        "g": ("{} g", "{}g", "{} grams", "{} g"),
        "mL": ("{} mL", "{} ml", "{}mL", "{} millilitres"),
        "L": ("{} L", "{} litres", "{} L"),
        "units": ("{} units", "{} IU", "{} U"),
        "tablets": ("{} tablets", "{} pills"),
        "minutes": ("{} minutes", "{} min", "{} minutes"),
        "hours": ("{} hours", "{} h", "{} hrs"),
        "days": ("{} days", "{} d", "{}-day course"),
        "weeks": ("{} weeks", "{} wk", "{} wks"),
        "months": ("{} months", "{} mo"),
        "years": ("{} years", "{} y", "{} yrs"),
        "mm": ("{} mm", "{}mm", "{} millimetres"),
        "cm": ("{} cm", "{}cm", "{} centimetres"),
        "%": ("{} %", "{}%", "{} percent", "{} per cent"),
        "mmHg": ("{} mmHg", "{} mm Hg", "{}mmHg"),
        "mg/dL": ("{} mg/dL", "{} mg/dl", "{} mg per dL"),
        "mmol/L": ("{} mmol/L", "{} mmol/l", "{} mmol per litre"),
        "ng/mL": ("{} ng/mL", "{} ng/ml", "{} ng per mL"),
        "g/dL": ("{} g/dL", "{} g/dl", "{} g per dL"),
        "bpm": ("{} bpm", "{} beats per minute", "{}/min"),
        "°C": ("{} °C", "{}°C", "{} degrees Celsius"),
    }
)
"""How a number is written with each unit."""

_MULTIPLES: Mapping[str, tuple[str, int]] = MappingProxyType(
    {
        "g": ("mg", 1000), "mg": ("mcg", 1000), "L": ("mL", 1000), "cm": ("mm", 10),
        "weeks": ("days", 7), "days": ("hours", 24), "hours": ("minutes", 60),
        "years": ("months", 12), "g/dL": ("mg/dL", 1000),
    }
)  # fmt: skip
"""What a unit is a multiple of."""

_DOSED = ("mcg", "mg", "mg", "mg", "g", "mL", "units", "tablets", "%")
_TIMED = ("minutes", "hours", "days", "days", "weeks", "months", "years")
_LEVELS = ("mm", "cm", "%", "mmHg", "mg/dL", "mmol/L", "ng/mL", "g/dL", "bpm", "°C")

_OFTEN: Sequence[Sequence[str]] = (
    ("once daily", "once a day", "daily", "qd", "every 24 hours", "o.d."),
    ("twice daily", "twice a day", "bid", "b.i.d.", "every 12 hours", "two times a day"),
    ("three times daily", "three times a day", "tid", "t.i.d.", "every 8 hours"),
    ("four times daily", "four times a day", "qid", "q.i.d.", "every 6 hours"),
    ("every other day", "every second day", "on alternate days"),
    ("once a week", "weekly", "once weekly", "every 7 days"),
    ("once a month", "monthly"),
)
_SIGNS: Sequence[Sequence[str]] = (
    ("<", "less than", "below", "under"),
    (">", "more than", "above", "over", "greater than"),
)
_SPELLED = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve"),
)
MEASURED = (
    *("sodium", "potassium", "creatinine", "glucose", "lactate", "calcium", "bilirubin", "albumin"),
    *("haemoglobin", "ferritin", "troponin", "cholesterol", "uric acid", "magnesium", "phosphate"),
    *("systolic pressure", "heart rate", "temperature", "oxygen saturation", "ejection fraction"),
    *("haematocrit", "nodule", "cyst", "tumour", "stone", "lesion", "ulcer", "effusion", "TSH"),
    *("aortic diameter", "cortisol", "urea", "ammonia", "body fat", "wall thickness", "polyp"),
)
"""What has a level or a size."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number with a unit, of something, perhaps with how often or a bound."""

    number: float
    unit: str
    of: str = ""
    often: int | None = None
    """Place in the list of frequencies."""
    sign: int | None = None
    """Place in the list of bounds."""


def draw(rng: random.Random, digits: Collection[int], drugs: Sequence[str]) -> Quantity:
    """Draw a quantity of a drug or a measure; *digits* decide what numbers and measures there are."""
    kind = rng.choice(("dose", "dose", "time", "level"))
    number = rng.choice(_NUMBERS)
    while lot(f"{number:g}") not in digits:
        number = rng.choice(_NUMBERS)
    of = rng.choice(drugs) if rng.random() < 0.8 else ""  # noqa: PLR2004 - four in five
    if kind == "dose":
        often = rng.choice((None, None, *range(len(_OFTEN))))
        return Quantity(number, rng.choice(_DOSED), of, often)
    if kind == "time":
        return Quantity(number, rng.choice(_TIMED), of)
    measures = [name for name in MEASURED if lot(name) in digits]
    of = rng.choice((of, *rng.sample(measures, 2))) if measures else of
    return Quantity(number, rng.choice(_LEVELS), of, sign=rng.choice((None, None, 0, 1)))


_NUMBERS = (
    *map(float, (*range(1, 31), *range(1, 31), *range(35, 200, 5), *range(200, 1001, 50))),
    *(tenth / 10 for tenth in range(1, 100)),
    *(62.5, 12.5, 37.5, 0.25, 0.75, 1.25, 112, 137, 1500, 2000, 1000),
)


def lot(text: str) -> int:
    """Draw a digit for a text by its hash."""
    return crc32(text.encode()) % 10


def another(quantity: Quantity, rng: random.Random, drugs: Sequence[str]) -> Quantity:
    """Change the number, the unit, how often, the bound, or what it is of."""
    changed = [
        *[replace(quantity, number=_other_number(quantity.number, rng))] * 2,
        replace(quantity, unit=_other_unit(quantity.unit, rng)),
    ]
    if quantity.often is not None:
        other = rng.choice([n for n in range(len(_OFTEN)) if n != quantity.often])
        changed += [replace(quantity, often=other)] * 2
    if quantity.sign is not None:
        changed += [replace(quantity, sign=1 - quantity.sign)] * 2
    if quantity.of in drugs and rng.random() < 0.3:  # noqa: PLR2004 - three in ten
        changed.append(replace(quantity, of=rng.choice([d for d in drugs if d != quantity.of])))
    return rng.choice(changed)


def _other_number(number: float, rng: random.Random) -> float:
    others = (number * 10, number / 10, number + 1, number - 1, number * 2, number / 2)
    return rng.choice([o for o in (*others, float(rng.randint(1, 100))) if o > 0 and o != number])


def _other_unit(unit: str, rng: random.Random) -> str:
    groups = (("mcg", "mg", "g"), ("mL", "L"), _TIMED, ("mm", "cm"), ("mg/dL", "g/dL", "mmol/L"))
    fitting = next((group for group in groups if unit in group), (*_DOSED, *_LEVELS))
    return rng.choice([other for other in fitting if other != unit])


def write(quantity: Quantity, phrases: Phrases, rng: random.Random) -> str:
    """Write a quantity in one of its ways, whatever it is compared with."""
    number, unit = quantity.number, quantity.unit
    if unit in _MULTIPLES and rng.random() < 0.3 and quantity.number <= 100:  # noqa: PLR2004 - a lot
        unit, times = _MULTIPLES[unit]
        number *= times
    text = rng.choice(_WRITINGS[unit]).format(_numeral(number, rng))
    if quantity.sign is not None:
        text = f"{rng.choice(_SIGNS[quantity.sign])} {text}"
    often = "" if quantity.often is None else f" {rng.choice(_OFTEN[quantity.often])}"
    if not quantity.of:
        return text + often
    frames = phrases.doses
    if quantity.unit in _TIMED:
        frames = phrases.durations
    elif quantity.sign is not None or quantity.of in MEASURED:
        frames = phrases.levels
    return choose(frames, rng, quantity.of, text) + often


def _numeral(number: float, rng: random.Random) -> str:
    if number in range(len(_SPELLED)) and rng.random() < 0.2:  # noqa: PLR2004 - one in five
        return _SPELLED[int(number)]
    if number >= 1000 and rng.random() < 0.5:  # noqa: PLR2004 - a coin
        return f"{number:,.10g}"
    return f"{number:.10g}"
