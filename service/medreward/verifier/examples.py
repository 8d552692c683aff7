"""The verifier's training pairs: texts that mean the same, and texts that do not.

Pairs are drawn bare and then put into phrases. What surrounds a pair is drawn without regard to
whether it is right, so that no carrier, denial or question tells the label.
"""

import itertools
import random
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal, NamedTuple

from medreward.audit.pairs import DRUGS as AUDITED_DRUGS
from medreward.audit.pairs import twins
from medreward.audit.vocabulary import (
    FAR,
    TRAIN,
    VALIDATION,
    Code,
    Term,
    TextSearch,
    folded,
    read_abbreviations,
    read_ambiguous,
    read_drugs,
    read_hpo,
    read_icd,
    shared_words,
    withheld,
    withheld_definitions,
)
from medreward.verifier import edits, quantities
from medreward.verifier.phrases import Phrases, choose, load_phrases

MOST_NAMES = 6
"""Most names of one term; a few terms have dozens, which would outnumber all others."""
MOST_WORDS = 60
"""Longest definition that is shown; more words than most have."""

ANSWER_CARRIED, REFERENCE_CARRIED = 0.5, 0.15
"""Shares of answers and of references that are put into a carrier."""
DESCRIBED, ASKED = 0.3, 0.25
"""Shares of pairs behind a question with the definition, and behind one without."""
WHOLE_DEFINITION = 0.5
"""Share of definitions that are shown whole; of the others only the first sentence."""


class Example(NamedTuple):
    """A reference, perhaps behind a question, an answer, and whether they mean the same."""

    reference: str
    answer: str
    equivalent: bool
    kind: str


Topic = Literal["finding", "drug", "quantity"]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two texts before anything is put around them."""

    reference: str
    answer: str
    equivalent: bool
    kind: str
    topic: Topic = "finding"
    definition: str = ""
    """The definition of the reference's term."""
    question: str = ""
    """The only question that the pair answers; else any of the topic does."""
    is_phrase: bool = False
    """True if it is not to be put into carriers."""


@dataclass(frozen=True, slots=True)
class Mixture:
    """The most pairs of each kind in an epoch."""

    synonyms: int = 4_800
    edited: int = 900
    abbreviations: int = 700
    layperson: int = 300
    drugs: int = 1_400
    siblings: int = 2_000
    parents: int = 700
    swaps: int = 1_700
    organs: int = 400
    neighbours: int = 1_700
    codes: int = 500
    unrelated: int = 500
    denials: int = 1_900
    absences: int = 250
    polar: int = 400
    numbers: int = 700
    several: int = 900
    hedges: int = 350
    empty: int = 500
    described: int = 500


def epoch(seed: int, mixture: Mixture, neighbours: Sequence[tuple[int, int]] = ()) -> list[Example]:
    """Draw one epoch from the training terms; *neighbours* are pairs of similar terms.

    No text of a reserved or validation term is in it, nor one that an edit makes by chance.
    """
    rng = random.Random(seed)  # noqa: S311 - reproducible, not secret
    source = _Source(TRAIN, rng, neighbours)
    drawn: list[Example] = []
    # All kinds draw from one generator, so the order of `_MAKERS` is part of the result: another
    # order gives other examples for the same seed.
    for kind, make in _MAKERS.items():
        wanted: int = getattr(mixture, kind)
        bare = (pair for pair in make(source) if source.may_show(pair.reference, pair.answer))
        dressed = (_dressed(pair, source.phrases, rng) for pair in bare)
        shown = (example for example in dressed if source.may_show(*example[:2]))
        drawn += itertools.islice(shown, wanted)
    rng.shuffle(drawn)
    return drawn


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
        self.phrases = load_phrases("training")
        all_terms = read_hpo()
        self.terms = [term for term in all_terms.values() if term.digit in digits]
        self.by_number = {term.number: term for term in self.terms}
        other = [term for term in all_terms.values() if term.digit not in digits]
        self.foreign = {folded(name) for term in other for name in term.names}
        self._unseen = _unseen() if digits is TRAIN else _reserved()
        self.names = {term.number: self._own(term) for term in self.terms}
        self.same = {term.number: {folded(n) for n in term.names} for term in self.terms}
        self._defined: dict[int, tuple[str, str]] = {}
        self.children: Mapping[int, list[Term]] = defaultdict(list)
        for term in self.terms:
            for parent in term.parents:
                self.children[parent].append(term)

    def may_show(self, *texts: str) -> bool:
        """Return False if a text belongs to a term that the pairs must not contain."""
        return not any(map(self._unseen.occur_in, texts))

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

    def definition(self, term: Term) -> str:
        """Return a term's definition or its first sentence; empty if it must not be shown."""
        return self._definitions(term)[self.rng.random() < WHOLE_DEFINITION]

    def _definitions(self, term: Term) -> tuple[str, str]:
        """Return the first sentence and the whole; empty if it must not be shown or is too long."""
        if term.number not in self._defined:
            first = _SENTENCES.split(term.definition)[0]
            self._defined[term.number] = (self._shown(first), self._shown(term.definition))
        return self._defined[term.number]

    def _shown(self, text: str) -> str:
        return text if len(text.split()) <= MOST_WORDS and self.may_show(text) else ""

    def near(self, term: Term) -> Term | None:
        """Draw a term that differs: mostly a sibling, sometimes any."""
        family = [t for p in term.parents for t in self.children[p] if t is not term]
        other = self.rng.choice(family if family and self.rng.random() < 0.7 else self.terms)  # noqa: PLR2004 - seven in ten
        is_same = self.same[term.number] & self.same[other.number]
        return None if is_same or not self.names[other.number] else other

    def different(self, a: Term, b: Term, kind: str) -> Iterator[Pair]:
        """Yield a pair of names of two terms, unless the terms share a name."""
        if not self.same[a.number] & self.same[b.number]:
            yield Pair(
                self.name(a),
                self.name(b),
                equivalent=False,
                kind=kind,
                definition=self.definition(a),
            )


_SENTENCES = re.compile(r"(?<=[a-z)]\.) (?=[A-Z])")


@cache
def _reserved() -> TextSearch:
    return TextSearch((*withheld(), *withheld_definitions()))


@cache
def _unseen() -> TextSearch:
    """Return all text of the terms that no training pair may contain: validation and reserved."""
    validation = [term for term in read_hpo().values() if term.split == "validation"]
    names = itertools.chain.from_iterable(term.names for term in validation)
    definitions = (term.definition for term in validation if term.definition)
    return TextSearch((*names, *definitions, *withheld(), *withheld_definitions()))


def _synonyms(source: _Source) -> Iterator[Pair]:
    pairs = [
        (number, pair)
        for number, names in source.names.items()
        for pair in itertools.combinations(names, 2)
        if folded(pair[0]) != folded(pair[1])
    ]
    for number, pair in source.rng.sample(pairs, len(pairs)):
        a, b = source.rng.sample(pair, 2)
        definition = source.definition(source.by_number[number])
        yield Pair(a, b, equivalent=True, kind="synonym", definition=definition)


def _edited(source: _Source) -> Iterator[Pair]:
    for term in source.shuffled():
        a, b = source.pair(term)
        text = source.rng.choice(edits.FAITHFUL)(b, source.rng)
        if text is not None and folded(text) != folded(a):
            definition = source.definition(term)
            yield Pair(a, text, equivalent=True, kind="edited", definition=definition)


def _abbreviations(source: _Source) -> Iterator[Pair]:
    table = [pair for pair in read_abbreviations() if not {*map(folded, pair)} & source.foreign]
    for number, pair in enumerate(source.rng.sample(table, len(table))):
        a, b = source.rng.sample(pair, 2)
        yield Pair(a, b, equivalent=True, kind="abbreviation")
        if number % 2:
            other = source.rng.choice(table)[1]
            if folded(other) != folded(pair[1]):
                yield Pair(pair[0], other, equivalent=False, kind="abbreviation")


def _layperson(source: _Source) -> Iterator[Pair]:
    """Yield groups of names.toml, and as many pairs across them."""
    for kind, topic in (("layperson", "finding"), ("drugs", "drug")) * 2:
        groups = edits.words_of(kind)
        for group in source.rng.sample(groups, len(groups)):
            a, b = source.rng.sample(group, 2)
            other = source.rng.choice(source.rng.choice([g for g in groups if g != group]))
            for answer, equivalent in ((b, True), (other, False)):
                yield Pair(a, answer, equivalent, "layperson", topic)  # type: ignore[arg-type]


def _drugs(source: _Source) -> Iterator[Pair]:
    """Yield two names of a substance, and two of substances that follow one another by name."""
    substances = sorted(
        (sorted(names, key=str.casefold) for names in read_drugs()), key=lambda n: n[0].casefold()
    )
    for at in source.rng.sample(range(len(substances) - 2), len(substances) - 2):
        names = substances[at]
        a, b = source.rng.sample(names, 2)
        yield Pair(a, b, equivalent=True, kind="drug", topic="drug")
        others = (
            substances[at + source.rng.randint(1, 2)],
            source.rng.choice(substances[:at] or [names]),
        )
        other = source.rng.choice(source.rng.choice(others))
        if other not in names:
            yield Pair(a, other, equivalent=False, kind="drug", topic="drug")


def _siblings(source: _Source) -> Iterator[Pair]:
    families = [family for family in source.children.values() if len(family) > 1]
    weights = [len(family) for family in families]
    for family in source.rng.choices(families, weights, k=4 * len(source.terms)):
        a, b = source.rng.sample(family, 2)
        if source.names[a.number] and source.names[b.number]:
            yield from source.different(a, b, "sibling")


def _parents(source: _Source) -> Iterator[Pair]:
    for term in source.shuffled():
        known = [source.by_number[p] for p in term.parents if p in source.by_number]
        known = [parent for parent in known if source.names[parent.number]]
        if known:
            both = [term, source.rng.choice(known)]
            source.rng.shuffle(both)
            yield from source.different(both[0], both[1], "parent")


def _changed(source: _Source, edit: edits.Edit, kind: str) -> Iterator[Pair]:
    for term in source.shuffled():
        a, b = source.pair(term)
        text = edit(b, source.rng)
        if text is not None and folded(text) not in source.same[term.number] | source.foreign:
            definition = source.definition(term)
            yield Pair(a, text, equivalent=False, kind=kind, definition=definition)


def _swaps(source: _Source) -> Iterator[Pair]:
    return _changed(source, edits.swap, "swap")


def _organs(source: _Source) -> Iterator[Pair]:
    return _changed(source, edits.replace_organ, "organ")


def _neighbours(source: _Source) -> Iterator[Pair]:
    for a, b in source.rng.sample(source.neighbours, len(source.neighbours)):
        if source.names[a] and source.names[b]:
            yield from source.different(source.by_number[a], source.by_number[b], "neighbour")


def _codes(source: _Source) -> Iterator[Pair]:
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
        yield Pair(a, b, equivalent=False, kind="code")
        if number % 2 == 0:
            yield Pair(a, a, equivalent=True, kind="code")


def _unrelated(source: _Source) -> Iterator[Pair]:
    for a, b in itertools.pairwise(source.shuffled()):
        yield from source.different(a, b, "unrelated")


def _denials(source: _Source) -> Iterator[Pair]:
    """Yield denials: on both sides the same is right; on one side, or of another finding, wrong."""
    denials = source.phrases.denials
    rng = source.rng
    for term in source.shuffled():
        other = source.near(term)
        if other is not None and not any(map(_denies, (*term.names, *other.names))):
            a, b = source.pair(term)
            denied_a, denied_b = choose(denials, rng, a), choose(denials, rng, b)
            definition = source.definition(term)
            denied_other = choose(denials, rng, source.name(other))
            stated = rng.choice((a, choose(source.phrases.statements, rng, a)))
            wrong = rng.choice(
                (
                    *((stated, denied_b), (denied_b, stated)),
                    *((denied_a, denied_other), (stated, denied_other)),
                )
            )
            for texts, equivalent in (((denied_a, denied_b), True), (wrong, False)):
                yield Pair(
                    *texts,
                    equivalent=equivalent,
                    kind="denial",
                    definition=definition,
                    is_phrase=True,
                )


_DENYING = re.compile(
    r"\b(?:no|not|without|absent|absence|missing|lack|loss|negative|free|aplas\w*)\b", re.IGNORECASE
)


def _denies(text: str) -> bool:
    return _DENYING.search(text) is not None


def _absences(source: _Source) -> Iterator[Pair]:
    """Yield answers to what is absent: the finding or its denial is right, its presence wrong."""
    rng, phrases = source.rng, source.phrases
    for term in source.shuffled():
        a, b = source.pair(term)
        question = rng.choice(phrases.absence_questions)
        other = source.near(term)
        answers = [(b, True), (choose(phrases.denials, rng, b), True)]
        answers.append((choose(phrases.statements, rng, b), False))
        if other is not None:
            answers.append((choose(phrases.denials, rng, source.name(other)), False))
        answer, equivalent = rng.choice(answers)
        yield Pair(a, answer, equivalent, "absence", question=question, is_phrase=True)


def _polar(source: _Source) -> Iterator[Pair]:
    """Yield questions for yes or no, answered by a word, a statement or both."""
    rng, phrases = source.rng, source.phrases
    for term in source.shuffled():
        a, b = source.pair(term)
        other = source.near(term)
        is_there, is_claimed = rng.random() < 0.5, rng.random() < 0.5  # noqa: PLR2004 - a coin
        word = rng.choice(("Yes", "yes") if is_claimed else ("No", "no"))
        said = choose(phrases.statements if is_claimed else phrases.denials, rng, b)
        answer = rng.choice((word, f"{word}.", said, f"{word}, {said[0].lower()}{said[1:]}"))
        equivalent = is_there == is_claimed
        if other is not None and rng.random() < 0.2:  # noqa: PLR2004 - one in five
            answer, equivalent = choose(phrases.statements, rng, source.name(other)), False
        reference = rng.choice(("Yes", "yes") if is_there else ("No", "no"))
        question = choose(phrases.polar_questions, rng, a)
        yield Pair(reference, answer, equivalent, "polar", question=question, is_phrase=True)


def _numbers(source: _Source) -> Iterator[Pair]:
    for number, term in enumerate(source.shuffled()):
        a, b = edits.measured(source.rng)
        yield Pair(a, b, equivalent=False, kind="number", topic="quantity")
        same = edits.remeasured(source.rng) if number % 3 else (a, a)
        yield Pair(*same, equivalent=True, kind="number", topic="quantity")
        name = source.name(term)
        text = edits.renumber(name, source.rng)
        if text is not None and folded(text) not in source.foreign:
            yield Pair(name, text, equivalent=False, kind="number")


def _several(source: _Source) -> Iterator[Pair]:
    """Yield lists of findings: in another order right; one left out, added or another one wrong."""
    rng = source.rng
    for terms in zip(*[source.shuffled()] * 4, strict=False):
        count = rng.choice((2, 2, 3))
        chosen, spare = terms[:count], terms[count]
        reference = [source.name(term) for term in chosen]
        same = [source.name(term) for term in chosen]
        rng.shuffle(same)
        wrong = rng.choice(
            (same[:-1], [*same[:-1], source.name(spare)], [*same, source.name(spare)])
        )
        denied = [choose(source.phrases.denials, rng, same[0]).rstrip("."), *same[1:]]
        for answer, equivalent in ((same, True), (rng.choice((wrong, wrong, denied)), False)):
            yield Pair(_listed(reference, rng), _listed(answer, rng), equivalent, "several")


def _listed(texts: Sequence[str], rng: random.Random) -> str:
    *before, last = texts
    if not before:
        return last
    link = rng.choice((" and ", ", ", ", and ", "; ", " with ", " as well as "))
    return f"{', '.join(before)}{link}{last[0].lower()}{last[1:]}"


def _hedges(source: _Source) -> Iterator[Pair]:
    for a, b in itertools.pairwise(source.shuffled()):
        both = [source.name(a), source.name(b)]
        source.rng.shuffle(both)
        answer = choose(source.phrases.hedges, source.rng, *both)
        yield Pair(source.name(a), answer, equivalent=False, kind="hedge", is_phrase=True)


def _empty(source: _Source) -> Iterator[Pair]:
    """Yield answers that say nothing, and nonsense in a carrier."""
    rng, phrases = source.rng, source.phrases
    for number, term in enumerate(source.shuffled()):
        text = rng.choice((*phrases.empty, *phrases.questions))
        if number % 2:
            text = choose(
                phrases.statements,
                rng,
                f"{rng.choice(('a', 'the'))} {rng.choice(phrases.nonsense)}",
            )
        yield Pair(source.name(term), text, equivalent=False, kind="empty", is_phrase=True)


def _described(source: _Source) -> Iterator[Pair]:
    """Yield a name and a definition, of one term or of two."""
    for term in source.shuffled():
        other = source.near(term)
        for defined in filter(None, (term, other)):
            text = source.definition(defined)
            if text:
                a, b = source.rng.sample((source.name(term), text), 2)
                yield Pair(a, b, equivalent=defined is term, kind="described", is_phrase=True)


_MAKERS: Mapping[str, Callable[[_Source], Iterator[Pair]]] = {
    "synonyms": _synonyms,
    "edited": _edited,
    "abbreviations": _abbreviations,
    "layperson": _layperson,
    "drugs": _drugs,
    "siblings": _siblings,
    "parents": _parents,
    "swaps": _swaps,
    "organs": _organs,
    "neighbours": _neighbours,
    "codes": _codes,
    "unrelated": _unrelated,
    "denials": _denials,
    "absences": _absences,
    "polar": _polar,
    "numbers": _numbers,
    "several": _several,
    "hedges": _hedges,
    "empty": _empty,
    "described": _described,
}


def _dressed(pair: Pair, phrases: Phrases, rng: random.Random) -> Example:
    """Put the texts of a pair into carriers, and the reference behind a question."""
    carriers, questions = {
        "finding": ((*phrases.carriers, *phrases.statements), phrases.questions),
        "drug": (phrases.drug_carriers, phrases.drug_questions),
        "quantity": (phrases.quantity_carriers, phrases.quantity_questions),
    }[pair.topic]
    reference, answer = pair.reference, pair.answer
    # The lots are drawn whether or not they are used, so that what is right and what is wrong are
    # dressed by one rule.
    answer_lot, reference_lot, question_lot = rng.random(), rng.random(), rng.random()
    if not pair.is_phrase and answer_lot < ANSWER_CARRIED:
        answer = choose(carriers, rng, answer)
    if not pair.is_phrase and reference_lot < REFERENCE_CARRIED:
        reference = choose(carriers, rng, reference)
    question = pair.question
    if not question and pair.definition and question_lot < DESCRIBED:
        question = rng.choice(phrases.described).format(pair.definition)
    elif not question and DESCRIBED <= question_lot < DESCRIBED + ASKED:
        question = rng.choice(questions)
    return Example(_behind(question, reference), answer, pair.equivalent, pair.kind)


def _behind(question: str, reference: str) -> str:
    """Put a question before a reference, as the template `equivalence` does."""
    return f"{question}\n{reference}" if question else reference


def held_out(seed: int = 0, size: int = 400, digits: Collection[int] = VALIDATION) -> list[Example]:
    """Draw the pairs to measure on, from the terms of the given digits.

    They are bare terms (*size* of each kind, half as many unrelated ones), terms in carriers and
    denials, terms behind a question with the definition, abbreviations, codes and quantities (each
    kind half as many). Carriers, denials, questions and what stands around a quantity are those
    held out. Far synonyms share under a quarter of their words.
    """
    rng = random.Random(seed)  # noqa: S311 - reproducible, not secret
    source = _Source(digits, rng)
    synonyms = list(_synonyms(source))
    far = [replace(e, kind="far") for e in synonyms if shared_words(e.reference, e.answer) < FAR]
    near = [replace(e, kind="near") for e in synonyms if shared_words(e.reference, e.answer) >= FAR]
    siblings, swaps, unrelated = (
        list(itertools.islice(make(source), 4 * size)) for make in (_siblings, _swaps, _unrelated)
    )
    bare = _first(
        ((far, size), (near, size), (siblings, size), (swaps, size), (unrelated, size // 2))
    )
    right, wrong = rng.sample(synonyms, size), rng.sample([*siblings, *swaps, *unrelated], size)
    carried = [_in_carrier(pair, rng) for pair in (*right[: size // 2], *wrong[: size // 2])]
    denials = [replace(p, definition="") for p in itertools.islice(_held_out_denials(source), size)]
    told = [
        replace(
            pair, question=rng.choice(load_phrases("held_out").described).format(pair.definition)
        )
        for pair in _first(
            ([p for p in pairs if p.definition], number)
            for pairs, number in (
                (far, size // 2),
                (siblings, size // 2),
                (swaps, size // 2),
                (unrelated, size // 4),
            )
        )
    ]
    return [
        *(Example(p.reference, p.answer, p.equivalent, p.kind) for p in bare),
        *carried,
        *(Example(p.reference, p.answer, p.equivalent, p.kind) for p in denials),
        *(
            Example(_behind(p.question, p.reference), p.answer, p.equivalent, f"defined_{p.kind}")
            for p in told
        ),
        *_special(source, size // 2, digits),
    ]


def _special(source: _Source, size: int, digits: Collection[int]) -> Iterator[Example]:
    """Yield abbreviations, codes and quantities, *size* right and *size* wrong ones of each.

    Training may have drawn one of these codes, among the thousand that a run sees.
    """
    source.phrases = load_phrases("held_out")
    drugs = _drugs_of(digits)
    kinds = {
        "abbreviation": _held_out_abbreviations(source, digits),
        "code": _held_out_codes(source, digits),
        "quantity": itertools.chain.from_iterable(
            _quantified(source, digits, drugs) for _ in itertools.count()
        ),
    }
    for kind, pairs in kinds.items():
        shown = (pair for pair in pairs if source.may_show(pair.reference, pair.answer))
        for pair in _balanced(shown, size):
            name = f"{kind}_{'right' if pair.equivalent else 'wrong'}"
            yield Example(pair.reference, pair.answer, pair.equivalent, name)


def _balanced(pairs: Iterable[Pair], size: int) -> Iterator[Pair]:
    """Yield the first *size* right and *size* wrong pairs, each once."""
    left = {True: size, False: size}
    seen: set[Pair] = set()
    for pair in pairs:
        if left[pair.equivalent] and pair not in seen:
            seen.add(pair)
            left[pair.equivalent] -= 1
            yield pair
        elif not any(left.values()):
            return


def _held_out_abbreviations(source: _Source, digits: Collection[int]) -> Iterator[Pair]:
    """Yield what no version was trained on: several meanings, and names of the digits' terms."""
    table = [(short, long) for short, long in read_ambiguous() if _half(short) in digits]
    table += [
        (synonym.text, (term.name,))
        for term in source.terms
        for synonym in term.synonyms
        if synonym.kind == "abbreviation"
    ]
    table.sort()
    # An abbreviation of several meanings comes several times.
    return itertools.chain.from_iterable(_abbreviated(table, source.rng) for _ in range(4))


def _held_out_codes(source: _Source, digits: Collection[int]) -> Iterator[Pair]:
    codes = [code for code in read_icd() if quantities.lot(code.code) in digits]
    opposed = [
        (twin.first, twin.second)
        for twin in twins("validation")
        if twin.source == "icd" and _half(twin.first) in digits
    ]
    return _coded(codes, opposed, source.rng)


def _abbreviated(
    table: Sequence[tuple[str, tuple[str, ...]]], rng: random.Random
) -> Iterator[Pair]:
    """Yield each abbreviation of a sorted table with a meaning, and with one of another.

    Of the others every second stands near it in the table, so that letters are shared.
    """
    for at in rng.sample(range(len(table)), len(table)):
        short, meanings = table[at]
        near = rng.choice(table[max(0, at - 3) : at + 4])
        other = rng.choice((near, rng.choice(table)))[1]
        for long, equivalent in ((rng.choice(meanings), True), (rng.choice(other), False)):
            if equivalent or all(shared_words(long, meaning) < FAR for meaning in meanings):
                a, b = rng.sample((short, long), 2)
                yield Pair(a, b, equivalent, "abbreviation")


def _coded(
    codes: Sequence[Code], opposed: Sequence[tuple[str, str]], rng: random.Random
) -> Iterator[Pair]:
    """Yield wrong pairs of two codes, and as many right ones of a code and an edit of it."""
    families: Mapping[str, list[str]] = defaultdict(list)
    for code in codes:
        families[code.parent].append(code.text)
    large = [family for family in families.values() if len(family) > 1]
    for family, twin in zip(
        rng.choices(large, k=len(codes)), rng.choices(opposed, k=len(codes)), strict=True
    ):
        a, b = rng.sample(rng.choice((rng.sample(family, 2), twin)), 2)
        yield Pair(a, b, equivalent=False, kind="code")
        same = rng.choice(edits.FAITHFUL)(a, rng) or a
        a, b = rng.sample((a, same), 2)
        yield Pair(a, b, equivalent=True, kind="code")


def _quantified(source: _Source, digits: Collection[int], drugs: Sequence[str]) -> Iterator[Pair]:
    """Yield a quantity in two of its writings, and one that differs in one part."""
    rng, phrases = source.rng, source.phrases
    quantity = quantities.draw(rng, digits, drugs)
    other = quantities.another(quantity, rng, drugs)
    for answer, equivalent in ((quantity, True), (other, False)):
        both = [quantities.write(one, phrases, rng) for one in (quantity, answer)]
        a, b = rng.sample(both, 2)
        yield Pair(a, b, equivalent, "number", topic="quantity")


def _drugs_of(digits: Collection[int]) -> list[str]:
    """Return names of drugs by the hash of the first; none is in the report card's quantities."""
    return [
        name
        for names in read_drugs()
        if quantities.lot(names[0]) in digits and not {*map(str.lower, names)} & {*AUDITED_DRUGS}
        for name in names
    ]


def _half(text: str) -> int:
    """Draw one of the validation digits for a text."""
    return VALIDATION[quantities.lot(text) % len(VALIDATION)]


def _first(kinds: Iterable[tuple[Iterable[Pair], int]]) -> list[Pair]:
    return [pair for pairs, number in kinds for pair in itertools.islice(pairs, number)]


def _in_carrier(pair: Pair, rng: random.Random) -> Example:
    """Put the answer, and sometimes the reference, into held-out phrases, half behind a question."""
    phrases = load_phrases("held_out")
    carriers = (*phrases.carriers, *phrases.statements)
    reference = pair.reference
    if rng.random() < REFERENCE_CARRIED:
        reference = choose(carriers, rng, reference)
    question = rng.choice(phrases.questions) if rng.random() < 0.5 else ""  # noqa: PLR2004 - a coin
    kind = "carried_right" if pair.equivalent else "carried_wrong"
    answer = choose(carriers, rng, pair.answer)
    return Example(_behind(question, reference), answer, pair.equivalent, kind)


def _held_out_denials(source: _Source) -> Iterator[Pair]:
    source.phrases = load_phrases("held_out")
    for pair in _denials(source):
        yield replace(pair, kind="denied_right" if pair.equivalent else "denied_wrong")
