"""The verifier's training pairs: names that mean the same, and names that do not."""

import itertools
import random
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from medreward.audit.vocabulary import (
    FAR,
    TRAIN,
    VALIDATION,
    Term,
    folded,
    read_abbreviations,
    read_hpo,
    read_icd,
    shared_words,
)
from medreward.verifier import edits

MOST_NAMES = 6
"""Most names of one term; a few terms have dozens, which would outnumber all others."""
QUESTION_SHARE = 0.12
"""Share of pairs with a question before the reference, as in the template `equivalence`."""


class Example(NamedTuple):
    """A reference, an answer, and whether they mean the same."""

    reference: str
    answer: str
    equivalent: bool
    kind: str


@dataclass(frozen=True, slots=True)
class Mixture:
    """The most examples of each kind in an epoch."""

    synonyms: int = 26_000
    edited: int = 7_000
    abbreviations: int = 2_600
    siblings: int = 9_000
    parents: int = 3_500
    swaps: int = 9_000
    neighbours: int = 14_000
    codes: int = 3_000
    negations: int = 2_500
    numbers: int = 1_500
    hedges: int = 2_000
    empty: int = 1_500
    unrelated: int = 1_500


def epoch(seed: int, mixture: Mixture, neighbours: Sequence[tuple[int, int]] = ()) -> list[Example]:
    """Draw one epoch from the training terms; *neighbours* are pairs of similar terms."""
    rng = random.Random(seed)  # noqa: S311 - reproducible, not secret
    source = _Source(TRAIN, rng, neighbours)
    drawn: list[Example] = []
    # All kinds draw from one generator, so the order of `_MAKERS` is part of the result: another
    # order gives other examples for the same seed.
    for kind, make in _MAKERS.items():
        wanted: int = getattr(mixture, kind)
        drawn += itertools.islice(make(source), wanted)
    rng.shuffle(drawn)
    return [_behind_question(example, rng) for example in drawn]


class _Source:
    """The terms whose numbers end in given digits, with the random generator of one draw."""

    def __init__(
        self,
        digits: Collection[int],
        rng: random.Random,
        neighbours: Sequence[tuple[int, int]] = (),
    ) -> None:
        self.rng = rng
        self.neighbours = neighbours
        all_terms = read_hpo()
        self.terms = [term for term in all_terms.values() if term.digit in digits]
        self.by_number = {term.number: term for term in self.terms}
        other = (term for term in all_terms.values() if term.digit not in digits)
        self.foreign = {folded(name) for term in other for name in term.names}
        self.names = {term.number: self._own(term) for term in self.terms}
        self.same = {term.number: {folded(n) for n in term.names} for term in self.terms}

    def _own(self, term: Term) -> list[str]:
        names = [name for name in term.names if folded(name) not in self.foreign]
        return names[:1] + self.rng.sample(names[1:], min(len(names) - 1, MOST_NAMES - 1))

    def shuffled(self) -> Iterator[Term]:
        """Yield the terms with a name, six times over, each time in a new order."""
        for _ in range(6):
            for term in self.rng.sample(self.terms, len(self.terms)):
                if self.names[term.number]:
                    yield term

    def name(self, term: Term) -> str:
        """Draw one of a term's names."""
        return self.rng.choice(self.names[term.number])

    def pair(self, term: Term) -> tuple[str, str]:
        """Draw two names of a term, which may be the same."""
        return self.name(term), self.name(term)

    def different(self, a: Term, b: Term, kind: str) -> Iterator[Example]:
        """Yield a pair of names of two terms, unless the terms share a name."""
        if not self.same[a.number] & self.same[b.number]:
            yield Example(self.name(a), self.name(b), equivalent=False, kind=kind)


def _synonyms(source: _Source) -> Iterator[Example]:
    pairs = [
        pair
        for names in source.names.values()
        for pair in itertools.combinations(names, 2)
        if folded(pair[0]) != folded(pair[1])
    ]
    for pair in source.rng.sample(pairs, len(pairs)):
        a, b = source.rng.sample(pair, 2)
        yield Example(a, b, equivalent=True, kind="synonym")


def _edited(source: _Source) -> Iterator[Example]:
    for term in source.shuffled():
        a, b = source.pair(term)
        text = source.rng.choice(edits.FAITHFUL)(b, source.rng)
        if text is not None and folded(text) != folded(a):
            yield Example(a, text, equivalent=True, kind="edited")


def _abbreviations(source: _Source) -> Iterator[Example]:
    table = [pair for pair in read_abbreviations() if not {*map(folded, pair)} & source.foreign]
    for number, pair in enumerate(source.rng.sample(table, len(table))):
        a, b = source.rng.sample(pair, 2)
        yield Example(a, b, equivalent=True, kind="abbreviation")
        if number % 2:
            other = source.rng.choice(table)[1]
            if folded(other) != folded(pair[1]):
                yield Example(pair[0], other, equivalent=False, kind="abbreviation")


def _siblings(source: _Source) -> Iterator[Example]:
    children: Mapping[int, list[Term]] = defaultdict(list)
    for term in source.terms:
        for parent in term.parents:
            children[parent].append(term)
    families = [family for family in children.values() if len(family) > 1]
    weights = [len(family) for family in families]
    for family in source.rng.choices(families, weights, k=4 * len(source.terms)):
        a, b = source.rng.sample(family, 2)
        if source.names[a.number] and source.names[b.number]:
            yield from source.different(a, b, "sibling")


def _parents(source: _Source) -> Iterator[Example]:
    for term in source.shuffled():
        known = [source.by_number[p] for p in term.parents if p in source.by_number]
        known = [parent for parent in known if source.names[parent.number]]
        if known:
            both = [term, source.rng.choice(known)]
            source.rng.shuffle(both)
            yield from source.different(both[0], both[1], "parent")


def _swaps(source: _Source) -> Iterator[Example]:
    for term in source.shuffled():
        a, b = source.pair(term)
        text = edits.swap(b, source.rng)
        if text is not None and folded(text) not in source.same[term.number] | source.foreign:
            yield Example(a, text, equivalent=False, kind="swap")


def _neighbours(source: _Source) -> Iterator[Example]:
    for a, b in source.rng.sample(source.neighbours, len(source.neighbours)):
        if source.names[a] and source.names[b]:
            yield from source.different(source.by_number[a], source.by_number[b], "neighbour")


def _codes(source: _Source) -> Iterator[Example]:
    """Yield siblings of ICD-10-CM; every second pair differs by one swap, if such a code exists."""
    known = {folded(code.text) for code in read_icd()}
    families: Mapping[str, list[str]] = defaultdict(list)
    for code in read_icd():
        if folded(code.text) not in source.foreign:
            families[code.parent].append(code.text)
    large = [family for family in families.values() if len(family) > 1]
    for number, family in enumerate(source.rng.choices(large, k=4 * len(large))):
        a, b = source.rng.sample(family, 2)
        twin = edits.swap(a, source.rng)
        if number % 2 and twin is not None and folded(twin) in known:
            b = twin
        yield Example(a, b, equivalent=False, kind="code")
        if number % 4 == 0:
            same = edits.wrap(a, source.rng) or a
            yield Example(a, same, equivalent=True, kind="code")


def _negations(source: _Source) -> Iterator[Example]:
    for term in source.shuffled():
        both = list(source.pair(term))
        both[1] = edits.negate(both[1], source.rng) or ""
        source.rng.shuffle(both)
        yield Example(both[0], both[1], equivalent=False, kind="negation")


def _numbers(source: _Source) -> Iterator[Example]:
    for number, term in enumerate(source.shuffled()):
        a, b = edits.measured(source.rng)
        yield Example(a, b, equivalent=False, kind="number")
        if number % 3 == 0:
            yield Example(a, edits.wrap(a, source.rng) or a, equivalent=True, kind="number")
        name = source.name(term)
        text = edits.renumber(name, source.rng)
        if text is not None and folded(text) not in source.foreign:
            yield Example(name, text, equivalent=False, kind="number")


def _hedges(source: _Source) -> Iterator[Example]:
    for a, b in itertools.pairwise(source.shuffled()):
        text = edits.hedge(source.name(a), source.name(b), source.rng)
        yield Example(source.name(a), text, equivalent=False, kind="hedge")


def _empty(source: _Source) -> Iterator[Example]:
    for term in source.shuffled():
        text = source.rng.choice((*edits.EMPTY_ANSWERS, *edits.QUESTIONS))
        yield Example(source.name(term), text, equivalent=False, kind="empty")


def _unrelated(source: _Source) -> Iterator[Example]:
    for a, b in itertools.pairwise(source.shuffled()):
        yield from source.different(a, b, "unrelated")


_MAKERS: Mapping[str, Callable[[_Source], Iterator[Example]]] = {
    "synonyms": _synonyms,
    "edited": _edited,
    "abbreviations": _abbreviations,
    "siblings": _siblings,
    "parents": _parents,
    "swaps": _swaps,
    "neighbours": _neighbours,
    "codes": _codes,
    "negations": _negations,
    "numbers": _numbers,
    "hedges": _hedges,
    "empty": _empty,
    "unrelated": _unrelated,
}


def _behind_question(example: Example, rng: random.Random) -> Example:
    """Put a question before the reference of some pairs, as the template with a question does."""
    if rng.random() >= QUESTION_SHARE:
        return example
    return example._replace(reference=f"{rng.choice(edits.QUESTIONS)}\n{example.reference}")


def held_out(seed: int = 0, size: int = 400, digits: Collection[int] = VALIDATION) -> list[Example]:
    """Draw the pairs to measure on: *size* of each kind, from the terms of the given digits.

    Far synonyms share under a quarter of their words, near ones more; half as many are unrelated.
    """
    rng = random.Random(seed)  # noqa: S311 - reproducible, not secret
    source = _Source(digits, rng)
    synonyms = [e for e in _synonyms(source) if e.kind == "synonym"]
    far = [e._replace(kind="far") for e in synonyms if shared_words(*e[:2]) < FAR]
    near = [e._replace(kind="near") for e in synonyms if shared_words(*e[:2]) >= FAR]
    kinds: tuple[tuple[Iterable[Example], int], ...] = (
        (far, size),
        (near, size),
        (_siblings(source), size),
        (_swaps(source), size),
        (_unrelated(source), size // 2),
    )
    return [example for made, number in kinds for example in itertools.islice(made, number)]
