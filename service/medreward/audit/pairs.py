"""Suite T3: pairs of medical texts, each known to mean the same or not.

They are built from the packages of the extra `audit`, and the seed decides them. A family of
contrasts is held out if no word of the guard's lexicon was chosen by looking at its pairs. The
split was drawn before the guard was first measured, and the guard is not changed for its misses
there. `proximal/middle/distal` is known, since the guard was changed for it.
"""

import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from itertools import combinations, permutations
from typing import NamedTuple, TypeVar
from zlib import crc32

from medreward.audit.cases import Case
from medreward.audit.vocabulary import (
    FAR,
    TRAIN,
    VALIDATION,
    Split,
    Synonym,
    Term,
    folded,
    read_abbreviations,
    read_hpo,
    read_icd,
    shared_words,
)

T = TypeVar("T")

LIMIT = 2000
"""Most cases of a stratum; contrasts have no limit."""

KNOWN_WORDS = """
left/right upper/lower proximal/middle/distal anterior/posterior medial/lateral elevated/reduced acute/chronic
benign/malignant displaced/nondisplaced complete/incomplete bilateral/unilateral
mild/moderate/severe/profound deep/superficial extensor/flexor extension/flexion radial/ulnar
tibial/fibular focal/generalized localized/generalized female/male large/small narrow/wide
artery/vein expressive/receptive chronic/transient mandibular/maxillary external/internal
palmar/plantar/dorsal motor/sensory stable/unstable valgus/varus positive/negative
primary/secondary index/middle/ring/little finger/toe hand/foot arm/leg front/back major/minor
adult/child nontraumatic/traumatic controlled/uncontrolled relapse/remission bacterial/viral
cervical/thoracic/lumbar/sacral amplification/diminishment single/multiple simple/complex
blunt/sharp powered/unpowered hypertrophy/atrophy intermittent/persistent
mitral/tricuspid/aortic stenosis/insufficiency open/closed early/late congenital/acquired
dominant/recessive systolic/diastolic intentional/accidental ascending/descending
ischemic/hemorrhagic advanced/delayed prominent/underdeveloped convex/concave day/night light/dark
premature/delayed absent/present direct/indirect homozygous/heterozygous
obstructive/nonobstructive with/without i/ii/iii/iv 1/2/3/4/5 1st/2nd/3rd/4th/5th
first/second/third/fourth/fifth
"""

HELD_OUT_WORDS = """
superior/inferior increased/decreased high/low complete/partial long/short
broad/narrow arterial/venous horizontal/vertical inner/outer central/peripheral driver/passenger
greater/lesser oblique/transverse/spiral cortical/medullary nontraffic/traffic
symmetric/asymmetric metacarpal/metatarsal confirmed/suspected thick/thin fast/slow
conductive/sensorineural nasal/temporal ipsilateral/contralateral hard/soft antepartum/postpartum
"""

KNOWN_PREFIXES = """
macro/micro eso/exo ec/en over/under intra/extra supra/infra antero/retro mono/poly
hemi/para/quadri/tetra ab/ad iso/aniso endo/exo non/ in/ a/ epi/sub
"""

HELD_OUT_PREFIXES = """
hyper/hypo tachy/brady poly/oligo up/down pre/post brachy/dolicho homo/hetero dextro/levo un/
pro/retro inter/intra
"""

NEGATIONS = ("No {}", "Absence of {}", "{} ruled out", "Without {}", "{} absent")
HELD_OUT_NEGATIONS = (
    *("There is no evidence of {}", "Patient denies {}", "{} was not seen", "Negative for {}"),
    *("{} has been excluded", "Free of {}"),
)

DRUGS = (
    *("aspirin", "metformin", "amoxicillin", "furosemide", "levothyroxine", "warfarin"),
    *("prednisone", "digoxin", "morphine", "ceftriaxone", "enoxaparin", "ibuprofen"),
)
STRENGTHS = ("0.5", "2", "2.5", "5", "12.5", "20", "40", "75", "125", "250", "500", "750")

EQUAL_QUANTITIES = (
    *(("0.5 g", "500 mg"), ("1 g", "1000 mg"), ("2.5 mg", "2500 mcg"), ("250 mcg", "0.25 mg")),
    *(("1 L", "1000 mL"), ("2 dL", "200 mL"), ("1.5 kg", "1500 g"), ("1,000 mg", "1 g")),
    *(("125 µg", "125 mcg"), ("40 milligrams", "40 mg"), ("10 cc", "10 mL")),
    *(("5 mg twice daily", "5 mg bid"), ("5 mg every 8 hours", "5 mg tid")),
    *(("5 mg once a day", "5 mg daily"), ("250 mg qid", "250 mg four times a day")),
    *(("24 hours", "1 day"), ("2 weeks", "14 days"), ("90 minutes", "1.5 hours")),
    *(("3 cm", "30 mm"), ("2.5 cm", "25 mm"), ("0.5 mm", "500 µm")),
    *(("5 x 10^9/L", "5 × 10⁹/L"), ("5 mg/dL", "50 mg/L"), ("12 %", "12 percent")),  # noqa: RUF001
    *(("98.6 °F", "37 °C"), ("4-6 cm", "4 to 6 cm"), ("0,5 mg", "0.5 mg")),
)


class Twin(NamedTuple):
    """Two existing names that differ by one swap of a family."""

    family: str
    source: str
    """`hpo` or `icd`."""
    first: str
    second: str
    split: Split
    held_out: bool


def pairs(split: Split, limit: int = LIMIT, seed: int = 0) -> list[Case]:
    """Return the pairs of a split, stratum by stratum.

    Raises:
        SetupError: a package of the extra `audit` is missing.
    """
    cases: list[Case] = []
    # Each stratum gets its own generator from the seed, so that a change of one does not change
    # the draws of the others.
    for stratum in (_synonyms, _abbreviations, _contrasts, _siblings, _parents, _unrelated):
        cases += stratum(split, limit, random.Random(seed))  # noqa: S311 - a lot, no secret
    rng = random.Random(f"{seed} {split}")  # noqa: S311 - the same
    return cases + _negations(split, limit, rng) + _quantities(limit // 2, rng)


def families() -> dict[str, bool]:
    """Return the families of contrasts by name; the value is True for those held out."""
    return {
        name: held_out
        for (words, prefixes, held_out) in (
            (KNOWN_WORDS, KNOWN_PREFIXES, False),
            (HELD_OUT_WORDS, HELD_OUT_PREFIXES, True),
        )
        for name in (*words.split(), *(f"{one}-" for one in prefixes.split()))
    }


@cache
def twins(split: Split) -> tuple[Twin, ...]:
    """Find the names that become another concept's name by one swap."""
    terms = {folded(term.name): (term.name, term.split) for term in read_hpo().values()}
    codes = {folded(code.text): (code.text, code_split(code.code)) for code in read_icd()}
    held_out, found = families(), list[Twin]()
    for source, names in (("hpo", terms), ("icd", codes)):
        for family, first, second in _swaps(names):
            # A pair across two splits belongs to the later one, so that no text of the validation
            # split appears among the pairs of the training split.
            its = max((names[first][1], names[second][1]), key=_ORDER.index)
            if its == split:
                texts = names[first][0], names[second][0]
                found.append(Twin(family, source, *texts, split, held_out[family]))
    return tuple(found)


_ORDER = ("train", "validation", None)


def code_split(code: str) -> Split | None:
    """Return the split of a code of ICD-10-CM, drawn by its hash; None if the code is reserved."""
    lot = crc32(code.encode()) % 10
    return "train" if lot in TRAIN else "validation" if lot in VALIDATION else None


def _swaps(names: Mapping[str, object]) -> Iterator[tuple[str, str, str]]:
    """Yield each pair of names that differ by one swap, after the swap's family."""
    words, prefixes = _exchanges()
    seen: set[tuple[str, str]] = set()
    for name in names:
        for match in _WORD.finditer(name):
            before, word, behind = name[: match.start()], match[0], name[match.end() :]
            swaps = list(words.get(word, ()))
            for cut in range(1, min(len(word), LONGEST_PREFIX) + 1):
                for family, there in prefixes.get(word[:cut], ()):
                    swaps.append((family, there + word[cut:]))
            for family, there in swaps:
                other = before + there + behind
                if other in names and (other, name) not in seen:
                    seen.add((name, other))
                    yield family, name, other


Exchanges = Mapping[str, Sequence[tuple[str, str]]]
"""Replacements of each word or prefix, with their families."""


def _exchanges() -> tuple[Exchanges, Exchanges]:
    words: dict[str, list[tuple[str, str]]] = defaultdict(list)
    prefixes: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for family in families():
        table = prefixes if family.endswith("-") else words
        for here, there in permutations(family.removesuffix("-").split("/"), 2):
            table[here].append((family, there))
    return words, prefixes


_WORD = re.compile(r"\w+")

LONGEST_PREFIX = 8


def _contrasts(split: Split, _limit: int, rng: random.Random) -> list[Case]:
    cases = []
    for twin in twins(split):
        texts = rng.sample((twin.first, twin.second), 2)
        stratum = f"contrast_{twin.source}"
        cases.append(_case(stratum, texts, equivalent=False, held_out=twin.held_out))
    return cases


def _case(stratum: str, texts: Sequence[str], *, equivalent: bool, held_out: bool = False) -> Case:
    answer, reference = texts
    return Case("pair", stratum, answer, reference, equivalent, held_out=held_out)


def _terms(split: Split) -> list[Term]:
    return [term for term in read_hpo().values() if term.split == split]


def exact_synonyms(split: Split) -> Iterator[tuple[Term, Synonym]]:
    """Yield each term with each exact synonym that differs in more than case or hyphens."""
    for term in _terms(split):
        for synonym in term.synonyms:
            if folded(synonym.text) != folded(term.name):
                yield term, synonym


def _synonyms(split: Split, limit: int, rng: random.Random) -> list[Case]:
    strata: dict[str, list[Case]] = {"synonym_far": [], "synonym_near": [], "abbreviation": []}
    for term, synonym in exact_synonyms(split):
        is_near = shared_words(term.name, synonym.text) >= FAR
        stratum = "abbreviation" if synonym.kind == "abbreviation" else "synonym_far"
        stratum = "synonym_near" if is_near and stratum == "synonym_far" else stratum
        strata[stratum].append(Case("pair", stratum, synonym.text, term.name, equivalent=True))
    return [case for cases in strata.values() for case in _some(cases, limit, rng)]


def _abbreviations(split: Split, limit: int, rng: random.Random) -> list[Case]:
    cases = [
        _case("abbreviation", rng.sample(pair, 2), equivalent=True)
        for pair in read_abbreviations()
        if code_split(pair[0]) == split
    ]
    return _some(cases, limit, rng)


def _siblings(split: Split, limit: int, rng: random.Random) -> list[Case]:
    children: dict[int, list[str]] = defaultdict(list)
    for term in _terms(split):
        for parent in term.parents:
            children[parent].append(term.name)
    couples = [couple for names in children.values() for couple in combinations(names, 2)]
    return [
        _case("sibling", rng.sample(couple, 2), equivalent=False)
        for couple in _some(couples, limit, rng)
    ]


def _parents(split: Split, limit: int, rng: random.Random) -> list[Case]:
    terms = read_hpo()
    cases = [
        Case("pair", "parent", terms[parent].name, term.name, equivalent=False)
        for term in _terms(split)
        for parent in term.parents
        if parent in terms and terms[parent].split == split
    ]
    return _some(cases, limit, rng)


def _unrelated(split: Split, limit: int, rng: random.Random) -> list[Case]:
    names = [term.name for term in _terms(split)]
    couples = (rng.sample(names, 2) for _ in range(limit))
    return [_case("random", couple, equivalent=False) for couple in couples]


def _negations(split: Split, limit: int, rng: random.Random) -> list[Case]:
    names = [t.name for t in _terms(split) if not _DENYING.search(t.name)]
    templates = [(t, False) for t in NEGATIONS] + [(t, True) for t in HELD_OUT_NEGATIONS]
    cases = []
    for name in _some(names, limit, rng):
        template, held_out = rng.choice(templates)
        denied = template.format(name if template.startswith("{}") else name[0].lower() + name[1:])
        texts = rng.sample((denied, name), 2)
        cases.append(_case("negation", texts, equivalent=False, held_out=held_out))
    return cases


_DENYING = re.compile(
    r"\b(?:no|not|without|absent|absence|missing|lack|negative|free)\b", re.IGNORECASE
)


def _quantities(limit: int, rng: random.Random) -> list[Case]:
    """Build pairs of doses; the lists are short, so texts may recur with another drug."""
    edits: Sequence[Callable[[str, str], tuple[str, str]]] = (
        lambda n, drug: (f"{drug} {n} mg", f"{drug} {float(n) * 10:g} mg"),
        lambda n, drug: (f"{drug} {n} mg", f"{drug} {n} mcg"),
        lambda n, drug: (f"{drug} {n} mg bid", f"{drug} {n} mg qid"),
        lambda n, drug: (f"{drug} {n} mg once daily", f"{drug} {n} mg twice daily"),
        lambda n, drug: (f"{n} g of {drug}", f"{n} mg of {drug}"),
        lambda n, drug: (f"{drug} for {n} days", f"{drug} for {n} weeks"),
        lambda n, drug: (f"{drug} level < {n} ng/mL", f"{drug} level > {n} ng/mL"),
        lambda n, drug: (f"{drug}, {n} %", f"{drug}, {float(n) / 10:g} %"),
    )
    different, equal = [], []
    for _ in range(limit):
        texts = rng.choice(edits)(rng.choice(STRENGTHS), rng.choice(DRUGS))
        different.append(_case("quantity", rng.sample(texts, 2), equivalent=False))
        drug = rng.choice(DRUGS)
        texts = rng.choice(EQUAL_QUANTITIES)
        answer, reference = (f"{drug}, {text}" for text in rng.sample(texts, 2))
        equal.append(Case("pair", "quantity", answer, reference, equivalent=True))
    return list(dict.fromkeys([*different, *equal]))


def _some(items: Sequence[T], limit: int, rng: random.Random) -> list[T]:
    return list(items) if len(items) <= limit else rng.sample(list(items), limit)
