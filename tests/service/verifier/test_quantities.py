"""Quantities: one that is written in two ways stays the same, a changed one does not."""

import random

from hypothesis import given
from hypothesis import strategies as st

from medreward.verifier.phrases import load_phrases
from medreward.verifier.quantities import Quantity, another, draw, lot, write

DRUGS = ("heparin", "colchicine")
PHRASES = load_phrases("held_out")


def test_a_quantity_is_written_in_many_ways() -> None:
    """Units are spelled and converted, numbers too, and a drug stands before or behind."""
    rng = random.Random(0)  # noqa: S311 - reproducible, not secret
    drawn = {write(Quantity(2, "g", "heparin", often=1), PHRASES, rng) for _ in range(600)}

    assert {"heparin, given as 2 g bid", "2 g worth of heparin twice daily"} <= drawn
    assert any("2,000" in text for text in drawn)
    assert any("two" in text for text in drawn)


@given(st.integers())
def test_a_changed_quantity_differs_in_one_part(seed: int) -> None:
    """One of number, unit, frequency, bound and drug is another, the rest is as it was."""
    rng = random.Random(seed)  # noqa: S311 - reproducible, not secret
    quantity = draw(rng, range(10), DRUGS)
    other = another(quantity, rng, DRUGS)

    parts = ("number", "unit", "of", "often", "sign")
    assert sum(getattr(quantity, part) != getattr(other, part) for part in parts) == 1
    assert other.number > 0


def test_the_digits_decide_the_numbers() -> None:
    """Thresholds and reports draw from different numbers."""
    rng = random.Random(0)  # noqa: S311 - reproducible, not secret
    numbers = {draw(rng, (5, 6), DRUGS).number for _ in range(100)}

    assert {lot(f"{number:g}") for number in numbers} == {5, 6}
