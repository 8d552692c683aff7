"""Edits that keep the meaning of a term, and edits that change it, for the verifier's training."""

import random
import re
import tomllib
from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files

_SWAPS = """
left/right, left-sided/right-sided, upper/lower/middle, anterior/posterior, medial/lateral,
proximal/distal, dorsal/ventral, superior/inferior, unilateral/bilateral, increased/decreased,
increase/decrease, elevated/reduced/normal, high/low/normal, raised/lowered,
excessive/insufficient, acute/chronic, benign/malignant, open/closed, large/small, long/short,
wide/narrow, broad/narrow, thick/thin, deep/shallow, early/late, congenital/acquired,
infantile/juvenile/adult, male/female, maternal/paternal, primary/secondary, symmetric/asymmetric,
symmetrical/asymmetrical, complete/incomplete/partial, total/partial, present/absent,
presence/absence, positive/negative, arterial/venous, artery/vein, internal/external,
systolic/diastolic, central/peripheral, focal/generalized/diffuse, mild/moderate/severe/profound,
dominant/recessive, hyper/hypo, macro/micro, tachy/brady, poly/oligo, supra/infra, pre/post,
ante/post, endo/exo, eso/exo, inter/intra, upward/downward, gain/loss, over/under,
atrophy/hypertrophy, slow/fast/rapid, delayed/accelerated/premature, finger/toe, fingers/toes,
hand/foot, hands/feet, upper limb/lower limb, arm/leg, first/second/third/fourth/fifth,
1st/2nd/3rd/4th/5th, type i/type ii/type iii, type 1/type 2/type 3,
stage i/stage ii/stage iii/stage iv, grade 1/grade 2/grade 3, x-linked/y-linked/autosomal,
displaced/nondisplaced, with/without
"""
SWAPS = tuple(tuple(group.strip().split("/")) for group in _SWAPS.split(","))
"""Groups of words and prefixes whose members exclude one another."""

PREFIXES = frozenset(
    (
        *("hyper", "hypo", "macro", "micro", "tachy", "brady", "poly", "oligo", "supra", "infra"),
        *("pre", "post", "ante", "endo", "exo", "eso", "inter", "intra", "over", "under"),
    )
)

_MEMBERS = {member: group for group in SWAPS for member in group}
_SWAPPABLE = re.compile(
    "|".join(
        # A prefix must be followed by at least three letters, so that "pre" does not match as a
        # word; every other member must be a whole word.
        rf"\b{re.escape(member)}" + ("(?=[a-z]{3})" if member in PREFIXES else r"\b")
        for member in sorted(_MEMBERS, key=len, reverse=True)
    ),
    re.IGNORECASE,
)

SPELLINGS = (
    *(("haem", "hem"), ("aemia", "emia"), ("oesoph", "esoph"), ("oedema", "edema")),
    *(("paed", "ped"), ("tumour", "tumor"), ("colour", "color"), ("fibre", "fiber")),
    *(("anaem", "anem"), ("leuk", "leuc"), ("diarrhoea", "diarrhea")),
    *(("orthopaedic", "orthopedic"), ("isation", "ization"), ("ised", "ized")),
)

_NUMBER = re.compile(r"\b\d+(?:\.\d+)?\b")
_MEASURES = (
    *("{} mg", "{} mg daily", "{} mm", "{} cm", "{} mL", "{} weeks", "{} days", "{} %", "{} mmHg"),
    *("{} years", "{} mg/dL", "{} mmol/L", "{} beats per minute", "{} g", "{} units", "{} mcg"),
)
_UNITS = (("mg", "g"), ("mg", "mcg"), ("mm", "cm"), ("days", "weeks"), ("mL", "L"), ("g", "kg"))

Edit = Callable[[str, random.Random], str | None]
"""A function that returns an edited text, or None if there is nothing to edit."""


def swap(text: str, rng: random.Random) -> str | None:
    """Replace one word or prefix by another member of its group."""
    places = list(_SWAPPABLE.finditer(text))
    if not places:
        return None
    place = rng.choice(places)
    member = place[0].casefold()
    other = rng.choice([o for o in _MEMBERS[member] if o != member])
    return text[: place.start()] + _cased(other, place[0]) + text[place.end() :]


def respell(text: str, rng: random.Random) -> str | None:
    """Change British spelling to American, or the reverse."""
    both = [*SPELLINGS, *((b, a) for a, b in SPELLINGS)]
    fitting = [(a, b) for a, b in both if a in text and b not in text]
    if not fitting:
        return None
    a, b = rng.choice(fitting)
    return text.replace(a, b)


def renumber(text: str, rng: random.Random) -> str | None:
    """Change one of the numbers in a text."""
    places = list(_NUMBER.finditer(text))
    if not places:
        return None
    place = rng.choice(places)
    return text[: place.start()] + _another_number(place[0], rng) + text[place.end() :]


def measured(rng: random.Random) -> tuple[str, str]:
    """Return a quantity and a different one, with another number or another unit."""
    number = rng.choice([str(rng.randint(1, 30)), str(rng.randint(1, 200)), f"{rng.random():.1f}"])
    text = rng.choice(_MEASURES).format(number)
    fitting = [pair for pair in _UNITS if f" {pair[0]}" in text and "/" not in text]
    if fitting and rng.random() < 0.3:  # noqa: PLR2004 - three in ten change the unit
        a, b = rng.choice(fitting)
        other = re.sub(rf" {a}\b", f" {b}", text)
        # A unit that is only part of another ("mm" of "mmHg") is not replaced. The text is then
        # unchanged, so the number changes instead.
        unchanged = other == text
        return text, text.replace(number, f"{2 * float(number) + 1:g}", 1) if unchanged else other
    return text, text.replace(number, _another_number(number, rng), 1)


_SAME = (
    ("{} mg", "{}mg"), ("{} mg", "{} milligrams"), ("{} %", "{}%"), ("{}%", "{} percent"),
    ("{} cm", "{} centimetres"), ("{} mm", "{}mm"), ("{} mL", "{} ml"), ("{} mcg", "{} µg"),
    ("{} weeks", "{0}-week duration"), ("{} years", "{} years old"), ("{} days", "for {} days"),
    ("{} mmHg", "{} mm Hg"), ("{} beats per minute", "{} bpm"), ("{} units", "{} IU"),
)  # fmt: skip
_MULTIPLES = (
    ("weeks", "days", 7), ("g", "mg", 1000), ("cm", "mm", 10), ("days", "hours", 24),
    ("hours", "minutes", 60), ("L", "mL", 1000), ("years", "months", 12), ("mg", "mcg", 1000),
)  # fmt: skip
_SPELLED = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve"),
)


def remeasured(rng: random.Random) -> tuple[str, str]:
    """Return a quantity written in two ways: spacing, the unit's name, a word, another unit."""
    number = rng.randint(2, 60)
    way = rng.randrange(4)
    if way == 0:
        large, small, times = rng.choice(_MULTIPLES)
        few = rng.randint(2, 12)
        both = [f"{few} {large}", f"{few * times} {small}"]
    elif way == 1:
        few = rng.randint(1, 12)
        unit = rng.choice(("weeks", "days", "mm", "cm", "tablets", "times daily"))
        both = [f"{few} {unit}", f"{_SPELLED[few]} {unit}"]
    else:
        both = [text.format(number) for text in rng.choice(_SAME)]
    rng.shuffle(both)
    return both[0], both[1]


def reorder(text: str, _rng: random.Random) -> str | None:
    """Turn a text such as "abnormality of the kidney" into "kidney abnormality"."""
    found = re.fullmatch(r"([\w-]+) of (?:the )?([\w -]+)", text)
    return f"{found[2]} {found[1].lower()}" if found else None


def misspell(text: str, rng: random.Random) -> str | None:
    """Exchange two neighbouring letters inside one long word that no swap applies to."""
    words = [w for w in re.finditer(r"[A-Za-z]{7,}", text) if not _SWAPPABLE.search(w[0])]
    if not words:
        return None
    word = rng.choice(words)
    at = word.start() + rng.randint(3, len(word[0]) - 3)
    return text[:at] + text[at + 1] + text[at] + text[at + 2 :]


def reword(text: str, rng: random.Random) -> str | None:
    """Replace a word by another with the same meaning, such as "kidney" by "renal"."""
    return _exchanged(text, rng, words_of("words"), lambda group: group)


def replace_organ(text: str, rng: random.Random) -> str | None:
    """Replace an organ by another one."""
    organs = words_of("words")[:ORGANS]
    return _exchanged(text, rng, organs, lambda own: rng.choice([o for o in organs if o != own]))


@cache
def words_of(kind: str) -> tuple[tuple[str, ...], ...]:
    """Return the groups of one kind of names.toml."""
    file = files("medreward.verifier").joinpath("names.toml").read_text("utf-8")
    groups: list[str] = tomllib.loads(file)[kind]
    return tuple(tuple(group.split("/")) for group in groups)


ORGANS = 18
"""Groups of `words` that name organs; they are its first."""


Group = tuple[str, ...]


def _exchanged(
    text: str, rng: random.Random, groups: Sequence[Group], choose: Callable[[Group], Group]
) -> str | None:
    """Replace a word of one of the groups by a word of the group that is chosen for it."""
    found = [
        (place, group)
        for place in _WORD.finditer(text)
        for group in groups
        if place[0].casefold() in group
    ]
    if not found:
        return None
    place, group = rng.choice(found)
    others = [word for word in choose(group) if word != place[0].casefold()]
    other = _cased(rng.choice(others), place[0])
    return text[: place.start()] + other + text[place.end() :]


_WORD = re.compile(r"[A-Za-z-]+")

FAITHFUL: Sequence[Edit] = (respell, reorder, misspell, reword, reword, reword)
"""Edits that keep the meaning; `reword` has several groups of words for the others' one."""


def _another_number(number: str, rng: random.Random) -> str:
    value = float(number)
    others = (value * 10, value / 10, value + 1, value - 1, value * 2, rng.randint(1, 100))
    texts = [f"{other:g}" for other in others if other > 0 and f"{other:g}" != number]
    return rng.choice(texts)


def _cased(text: str, like: str) -> str:
    return text[0].upper() + text[1:] if like[0].isupper() else text
