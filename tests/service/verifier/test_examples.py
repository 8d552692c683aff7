"""The pairs that the verifier learns from and is measured on."""

from collections import Counter

import numpy as np
import pytest

from medreward.audit.vocabulary import folded, read_hpo, shared_words
from medreward.verifier.evaluate import measure
from medreward.verifier.examples import Example, Mixture, epoch, held_out

SMALL = Mixture(**dict.fromkeys(Mixture.__slots__, 120))


@pytest.fixture(scope="module")
def lessons() -> list[Example]:
    """A small epoch."""
    return epoch(0, SMALL)


def test_an_epoch_is_the_same_for_the_same_seed(lessons: list[Example]) -> None:
    """Pairs are drawn from the seed and nothing else."""
    assert epoch(0, SMALL) == lessons
    assert epoch(1, SMALL) != lessons


def test_no_name_of_a_validation_term_is_learnt_from(lessons: list[Example]) -> None:
    """Neither text of a pair is what a term of the validation split is called."""
    held = {
        folded(name)
        for term in read_hpo().values()
        if term.split == "validation"
        for name in term.names
    }
    texts = {folded(text.split("\n")[-1]) for example in lessons for text in example[:2]}

    assert not texts & held


def test_a_name_of_the_same_term_is_never_a_wrong_answer(lessons: list[Example]) -> None:
    """What HPO calls exact synonyms is nowhere labelled different."""
    same = {
        (folded(a), folded(b))
        for term in read_hpo().values()
        for a in term.names
        for b in term.names
    }
    wrong = [e for e in lessons if not e.equivalent]

    assert not [e for e in wrong if (folded(e.reference.split("\n")[-1]), folded(e.answer)) in same]


def test_held_out_pairs_are_of_the_digits_asked_for() -> None:
    """Thresholds and reports draw from different terms."""
    chosen, reported = (
        {e.reference for e in held_out(size=50, digits=(digit,)) if e.kind == "far"}
        for digit in (5, 6)
    )

    assert not chosen & reported
    assert Counter(e.kind for e in held_out(size=50)) == {
        "far": 50,
        "near": 50,
        "sibling": 50,
        "swap": 50,
        "unrelated": 25,
    }


def test_far_synonyms_share_few_words() -> None:
    """Under a quarter of the words of both stand in both."""
    assert all(shared_words(e.reference, e.answer) < 0.25 for e in held_out() if e.kind == "far")


def test_the_threshold_keeps_siblings_and_swaps_out() -> None:
    """The lowest that few enough wrong pairs pass is taken, whatever that costs the right ones."""
    rng = np.random.default_rng(0)

    found = measure(held_out(), lambda pairs: rng.random(len(pairs)))

    assert found.sibling <= 0.08
    assert found.swap <= 0.01
