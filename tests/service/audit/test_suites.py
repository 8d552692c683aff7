"""Which cases an audit has."""

from collections import Counter

import pytest

from medreward.audit.cases import Suite
from medreward.audit.page import ATTACKS
from medreward.audit.suites import cases_of, some_of_each
from tests.service.audit.outcomes import case

CASES = [
    *(case("attack", "A01", answer=str(number)) for number in range(30)),
    *(case("attack", "A02", answer=str(number)) for number in range(3)),
    *(
        case("pair", "quantity", answer=str(number), equivalent=bool(number % 2))
        for number in range(20)
    ),
]


def test_a_limit_is_one_of_each_kind() -> None:
    """Both sides of a stratum count, what is rarer is kept whole, and the order stays."""
    few = some_of_each(CASES, 5, seed=0)
    sizes = Counter((found.stratum, found.equivalent) for found in few)

    assert set(sizes.values()) == {5, 3}
    assert sizes["quantity", True] == sizes["quantity", False] == 5
    assert [CASES.index(found) for found in few] == sorted(CASES.index(found) for found in few)


def test_the_seed_decides_which() -> None:
    """Once chosen, always chosen; another seed chooses others."""
    assert some_of_each(CASES, 5, seed=0) == some_of_each(CASES, 5, seed=0)
    assert some_of_each(CASES, 5, seed=0) != some_of_each(CASES, 5, seed=1)


@pytest.mark.parametrize("suite", ["attack", "benign"])
def test_a_suite_holds_its_own(suite: Suite) -> None:
    """Attacks are wrong and have a name; twins are right."""
    found = cases_of([suite, suite], seed=0, limit=2)

    assert {one.suite for one in found} == {suite}
    assert {one.equivalent for one in found} == {suite == "benign"}
    assert suite == "benign" or {one.stratum for one in found} <= set(ATTACKS)
    assert max(Counter(one.stratum for one in found).values()) == 2
