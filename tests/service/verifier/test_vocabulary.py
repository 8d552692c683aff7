"""Terms out of installed packages, without those that are reserved."""

import pytest

from medreward.audit import vocabulary
from medreward.audit.vocabulary import (
    RESERVED,
    TextSearch,
    folded,
    read_abbreviations,
    read_drugs,
    read_hpo,
    read_icd,
    withheld,
    withheld_definitions,
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
    assert term.definition.startswith("Multicystic dysplasia of the kidney is characterized by")
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


def test_definitions_of_reserved_terms_are_known_only_to_leave_them_out() -> None:
    """None of them defines a term that is read."""
    assert len(withheld_definitions()) > 4_000
    shared = withheld_definitions() & {term.definition for term in read_hpo().values()}
    assert len(shared) < 30  # definitions that HPO itself gives to several terms


def test_names_of_a_drug_are_those_of_one_substance() -> None:
    """Generic and brand names stand together, systematic names and codes are left out."""
    by_name = {name.casefold(): names for names in read_drugs() for name in names}

    assert {"acetaminophen", "paracetamol", "Tylenol"} <= set(by_name["acetaminophen"])
    assert {"furosemide", "frusemide", "Lasix"} <= set(by_name["furosemide"])
    assert by_name["prednisone"] != by_name["prednisolone"]
    assert sum(len(names) for names in read_drugs()) > 20_000


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        ("Renal cyst", True),
        ("The image shows a renal cyst.", True),
        ("RENAL-CYST", True),
        ("Renal cysts", False),
        ("cyst, renal", False),
        ("Edema.", True),
        ("pulmonary edema", False),  # a word of another term
        ("A cyst of the kidney that is lined by a thin wall and holds fluid", True),
    ],
)
def test_a_text_is_found_inside_others_by_its_words(text: str, is_found: bool) -> None:
    """Of a long text its first eight words are; of a single word only the whole text counts."""
    sought = ("renal cyst", "edema", "A cyst of the kidney that is lined by a thick wall.")

    assert TextSearch(sought).occur_in(text) is is_found
