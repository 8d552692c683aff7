"""Terms out of installed packages, without those that are reserved."""

import pytest

from medreward.audit import vocabulary
from medreward.audit.vocabulary import (
    RESERVED,
    folded,
    read_abbreviations,
    read_hpo,
    read_icd,
    withheld,
)


def test_no_reserved_term_is_read() -> None:
    """Terms whose number ends in 7, 8 or 9 are not there, and they are three in ten."""
    digits = [number % 10 for number in read_hpo()]

    assert len(digits) > 13_000
    assert not set(digits) & set(RESERVED)


def test_what_a_reserved_term_is_called_is_in_no_other_source() -> None:
    """Names of reserved terms stand in no term, code or abbreviation."""
    named = {folded(name) for term in read_hpo().values() for name in term.names}
    coded = {folded(code.text) for code in read_icd()}
    short = {folded(text) for pair in read_abbreviations() for text in pair}

    assert len(withheld()) > 5_000
    assert not withheld() & (named | coded | short)


def test_a_term_has_its_exact_synonyms_and_parents() -> None:
    """What HPO says of a term is what is read."""
    term = read_hpo()[3]

    assert term.name == "Multicystic kidney dysplasia"
    assert "Multicystic renal dysplasia" in term.names
    assert term.parents == (107,)
    assert term.split == "train"


def test_a_code_knows_the_category_above_it() -> None:
    """Codes come with their parent, so that siblings can be told."""
    by_code = {code.code: code for code in read_icd()}

    assert by_code["A01.03"].text == "Typhoid pneumonia"
    assert by_code["A01.03"].parent == "A01.0"


@pytest.mark.parametrize(
    ("a", "b"), [("X-linked", "x linked"), ("Renal  cyst.", "renal cyst"), ("ABC", "abc")]
)
def test_folding_leaves_what_makes_a_difference(a: str, b: str) -> None:
    """Case, hyphens, spaces and a final stop make no other text."""
    assert folded(a) == folded(b)
    assert vocabulary.folded("left lung") != vocabulary.folded("right lung")
